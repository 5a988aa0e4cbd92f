"""The folder of a run: who may start in it, and what commands read from it."""

import json
import subprocess
import sys

import pytest

from bireal_keras import _file_lock
from bireal_keras.training import run_folder


@pytest.fixture
def folder(tmp_path):
    """What a run and an export leave, as far as it is read."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.keras").touch()
    (folder / "model.tflite").touch()
    (folder / "labels.txt").write_text("blue\ngrün\n", encoding="utf-8")
    write_config(folder, {"dataset": {"center_crop": 0.875}}, {"name": "photos"})
    return folder


def write_config(folder, recipe, dataset):
    content = {"recipe": recipe, "dataset": dataset}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


class TestOpenRun:
    def test_everything(self, folder):
        run = run_folder.open_run(str(folder))
        assert (run.folder, run.model) == (folder, folder / "model.keras")
        assert run.tflite == folder / "model.tflite"
        assert run.labels == ["blue", "grün"]
        assert (run.center_crop, run.dataset) == (0.875, "photos")

    def test_what_is_not_there(self, tmp_path):
        run = run_folder.open_run(tmp_path)
        assert (run.labels, run.center_crop, run.dataset) == (None, 1.0, None)
        with pytest.raises(ValueError, match=rf"There is no {tmp_path}/model.keras\.$"):
            run.model  # noqa: B018
        with pytest.raises(
            ValueError,
            match=rf"no {tmp_path}/model.tflite. bireal-export --model_dir={tmp_path} writes it",
        ):
            run.tflite  # noqa: B018

    def test_what_was_held_out(self, folder):
        run = run_folder.open_run(folder)
        assert (run.held_out, run.training_images) == (None, None)
        # A name that is no UTF-8, as Python reads it from the folder.
        names = ["a/1.png", "b/caf\udce9\n.png"]
        (folder / "held_out.json").write_text(run_folder.to_json(names))
        write_config(folder, {"dataset": {}}, {"train_images": 9, "validation_images": 1})
        assert (run.held_out, run.training_images) == (names, 9)
        run_folder.check_same_held_out(folder, tuple(names))
        with pytest.raises(ValueError, match="the dataset's images have changed"):
            run_folder.check_same_held_out(folder, names[:1])
        # Parts of the training images validated.
        config = {"dataset": {"held_out": 0.1}}
        write_config(folder, config, {"train_images": 9, "validation_images": 1})
        assert run.training_images == 10
        for text in ("[", '{"a": 1}', "[1]"):
            (folder / "held_out.json").write_text(text)
            with pytest.raises(ValueError, match=r"held_out\.json is damaged: "):
                run.held_out  # noqa: B018

    def test_a_recipe_without_the_field(self, folder):
        write_config(folder, {"dataset": {"image_size": 32}}, {"name": "photos"})
        assert run_folder.open_run(folder).center_crop == 1.0

    def test_in_the_home_folder(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder.parent))
        assert run_folder.open_run("~/run").model == folder / "model.keras"
        assert run_folder.is_run("~/run")

    def test_no_folder(self, folder):
        with pytest.raises(ValueError, match=r"There is no folder .*elsewhere"):
            run_folder.open_run(folder / "elsewhere")

    @pytest.mark.parametrize(
        "text", ["{", "[]", "{}", '{"recipe": 3, "dataset": 3}', '{"recipe": {"dataset": []}}']
    )
    def test_damaged(self, folder, text):
        (folder / "config.json").write_text(text)
        run = run_folder.open_run(folder)
        for name in ("center_crop", "dataset"):
            with pytest.raises(ValueError, match=r"config\.json is damaged: "):
                getattr(run, name)
        assert run.labels == ["blue", "grün"]

    def test_a_crop_that_is_none(self, folder):
        write_config(folder, {"dataset": {"center_crop": 7}}, {"name": "photos"})
        with pytest.raises(ValueError, match=r"config\.json is damaged: .*center_crop=7"):
            run_folder.open_run(folder).center_crop  # noqa: B018

    @pytest.mark.parametrize(
        ("text", "labels"),
        [
            ("blue\ngreen\n", ["blue", "green"]),
            ("blue\ngreen", ["blue", "green"]),
            # As an editor on Windows leaves it.
            ("\ufeffblue\r\ngreen\r\n", ["blue", "green"]),
            ("a\u2028b\x1cc\x85d\n\ne\n", ["a\u2028b\x1cc\x85d", "", "e"]),
            ("", []),
        ],
    )
    def test_lines_end_where_editors_show_it(self, folder, text, labels):
        (folder / "labels.txt").write_bytes(text.encode())
        assert run_folder.open_run(folder).labels == labels

    def test_labels_in_another_encoding(self, folder):
        (folder / "labels.txt").write_bytes("grün\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"labels\.txt is not text in UTF-8: .*can't decode"):
            run_folder.open_run(folder).labels  # noqa: B018

    def test_is_run(self, folder, tmp_path):
        assert run_folder.is_run(folder)
        assert not run_folder.is_run(tmp_path)
        assert not run_folder.is_run(folder / "model.keras")

    def test_needs_no_tensorflow(self, folder):
        script = (
            "import sys; from bireal_keras.training import run_folder\n"
            "run = run_folder.open_run(sys.argv[1])\n"
            "print(run.labels, run.center_crop, run.dataset, run.tflite)\n"
            "print(sorted({'tensorflow', 'tf_keras', 'larq', 'ml_collections'} & {*sys.modules}))"
        )
        out = subprocess.check_output([sys.executable, "-c", script, folder], text=True)
        assert out.splitlines()[1] == "[]"


class TestCheckOutputDir:
    def test_a_run_starts_where_nothing_is(self, tmp_path):
        run_folder.check_output_dir(tmp_path, resume=False)
        run_folder.check_output_dir(tmp_path / "new" / "run", resume=False)

    def test_a_run_is_resumed_where_one_is(self, folder):
        run_folder.check_output_dir(folder, resume=True)

    @pytest.mark.parametrize(
        ("where", "resume", "message"),
        [
            ("model.keras", False, "is not a folder: .*model.keras"),
            (".", False, "holds a run already: .*Resume it, or choose another folder"),
            ("..", False, "is not empty: "),
            ("..", True, "holds no run to resume: "),
        ],
    )
    def test_elsewhere_not(self, folder, where, resume, message):
        with pytest.raises(ValueError, match=f"`output_dir` {message}"):
            run_folder.check_output_dir((folder / where).resolve(), resume)


class TestAloneIn:
    def test_another_process_is_told(self, tmp_path):
        """And no longer once it has ended, if only by being killed. Nothing is left there."""
        script = (
            "import pathlib, sys; from bireal_keras.training import run_folder\n"
            "with run_folder.alone_in(pathlib.Path(sys.argv[1])):\n"
            "    print(flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout.readline() == b"\n"
            message = rf"^Another process trains in `output_dir`: {tmp_path}\. Wait .*, or choose"
            with pytest.raises(ValueError, match=message), run_folder.alone_in(tmp_path):
                pass
            other.kill()
        for _ in range(2):
            with run_folder.alone_in(tmp_path):
                assert list(tmp_path.iterdir()) == []

    def test_where_nothing_can_be_locked(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_file_lock, "fcntl", None)
        with run_folder.alone_in(tmp_path), run_folder.alone_in(tmp_path):
            pass


RECIPE = {"epochs": 3, "milestones": (0.5, 0.75), "stages": [{"name": "a", "epochs": 1}]}


class TestCheckSameRun:
    @pytest.fixture
    def started(self, folder):
        write_config(folder, RECIPE, {"name": "photos"})
        return folder

    def test_the_same(self, started):
        description = {"recipe": RECIPE, "dataset": {"name": "photos"}}
        run_folder.check_same_run(started, description)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"epochs": 4}, r"with recipe.epochs=3, it cannot be resumed with recipe.epochs=4"),
            ({"stages": [{"name": "a", "epochs": 2}]}, r"recipe.stages\[0\].epochs=1, .*=2"),
            ({"milestones": (0.5,)}, r"recipe.milestones=\[0.5, 0.75\], .*=\[0.5\]"),
            ({"seed": 1}, r"recipe.seed=None, .*=1"),
        ],
    )
    def test_another(self, started, changes, message):
        description = {"recipe": {**RECIPE, **changes}, "dataset": {"name": "photos"}}
        with pytest.raises(ValueError, match=message):
            run_folder.check_same_run(started, description)

    def test_damaged(self, started):
        (started / "config.json").write_text("{")
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            run_folder.check_same_run(started, {})


class TestLog:
    TEXT = "epoch,loss\n0,0.5\n1,0.25\n2,0.125\n"

    @pytest.mark.parametrize(("epochs", "rows"), [(2, 2), (3, 3), (5, 3), (0, 0)])
    def test_what_came_after_the_checkpoint_is_dropped(self, tmp_path, epochs, rows):
        log = tmp_path / "log.csv"
        log.write_text(self.TEXT)
        run_folder.keep_epochs(log, epochs)
        assert [row["loss"] for row in run_folder.read_log(log)] == ["0.5", "0.25", "0.125"][:rows]

    def test_a_stage_that_ended_early_leaves_out_numbers(self, tmp_path):
        log = tmp_path / "log.csv"
        log.write_text("epoch,loss\n0,0.5\n1,0.25\n5,0.125\n6,0.1\n7")
        run_folder.keep_epochs(log, 6)
        assert [row["epoch"] for row in run_folder.read_log(log)] == ["0", "1", "5"]

    def test_no_log(self, tmp_path):
        run_folder.keep_epochs(tmp_path / "log.csv", 1)
        assert run_folder.read_log(tmp_path / "log.csv") == []
        assert list(tmp_path.iterdir()) == []
