"""Training runs: what they leave behind, and that none of it depends on luck."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bireal_keras import data, recipes, run_folder, training
from bireal_keras._keras import keras, tf

CLASSES = ["blue", "green", "red"]

RECIPE = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({
        "model": {"name": "BiRealNet18", "num_classes": 3, "width": 4, "stem": "cifar"},
        "dataset": {"image_size": 8, "augmentation": {"name": "pad_crop_flip", "pad": 1}},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "linear", "interval": "step"},
        "epochs": 3,
        "batch_size": 8,
        "label_smoothing": 0.1,
        "seed": 0,
    })
"""


def write_photos(folder):
    """Forty 8x8 images of each of three classes, which differ in their bright channel."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            pixels[..., channel] += 56
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.py"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def config(recipe):
    return recipes.load(recipe)


@pytest.fixture(scope="module")
def finished(recipe, photos, tmp_path_factory):
    """A run of three epochs: its folder and what train_and_evaluate returned."""
    run_dir = tmp_path_factory.mktemp("runs") / "new" / "finished"
    config = recipes.load(recipe)
    metrics = training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir)
    return run_dir, metrics


def rows(run_dir):
    with (run_dir / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestAFinishedRun:
    def test_leaves_these_files_and_no_partial_one(self, finished):
        run_dir, _ = finished
        assert sorted(path.name for path in run_dir.iterdir()) == [
            "checkpoints",
            "config.json",
            "labels.txt",
            "log.csv",
            "metrics.json",
            "model.keras",
            "tensorboard",
        ]
        assert (run_dir / "labels.txt").read_text().splitlines() == CLASSES
        kept = sorted(path.name for path in (run_dir / "checkpoints").glob("*"))
        assert kept == [f"epoch-{epoch:04}-step-000000.npz" for epoch in (1, 2, 3)]

    def test_records_the_recipe_and_the_dataset(self, finished, config, photos):
        recorded = json.loads((finished[0] / "config.json").read_text())
        assert recorded["recipe"] == config.to_dict()
        assert recorded["dataset"] == {
            "name": str(photos),
            "classes": 3,
            "train_images": 108,
            "validation_images": 12,
        }

    def test_returns_and_writes_its_figures(self, finished):
        run_dir, metrics = finished
        assert json.loads((run_dir / "metrics.json").read_text()) == metrics
        last = rows(run_dir)[-1]
        assert metrics["train"] == {
            "loss": float(last["loss"]),
            "accuracy": float(last["accuracy"]),
        }
        for name in ("loss", "accuracy"):
            assert metrics["validation"][name] == pytest.approx(float(last[f"val_{name}"]))
        assert metrics["seconds"] == pytest.approx(
            sum(float(row["seconds"]) for row in rows(run_dir))
        )
        assert (metrics["epochs"], metrics["seed"]) == (3, 0)
        assert metrics["versions"]["tensorflow"] == tf.__version__

    def test_logs_every_epoch(self, finished):
        log = rows(finished[0])
        assert [row["epoch"] for row in log] == ["0", "1", "2"]
        # 13 steps each; the rate of a step counts the steps before it.
        np.testing.assert_allclose(
            [float(row["learning_rate"]) for row in log],
            [0.01 * (1 - step / 39) for step in (12, 25, 38)],
            rtol=1e-5,
        )
        for split, prefix in (("train", ""), ("validation", "val_")):
            events = EventAccumulator(str(finished[0] / "tensorboard" / split))
            events.Reload()
            values = [tf.make_ndarray(e.tensor_proto) for e in events.Tensors("epoch_loss")]
            np.testing.assert_allclose(
                values, [float(row[f"{prefix}loss"]) for row in log], rtol=1e-6
            )

    def test_saves_a_model_that_has_the_accuracy_it_reports(self, finished, photos):
        run_dir, metrics = finished
        held_out = data.load(photos).validation.examples.as_numpy_iterator()
        paths, labels = zip(*held_out)
        paths = [Path(path.decode()) for path in paths]
        assert [path.parent.name for path in paths] == [CLASSES[label] for label in labels]
        images = np.stack([np.asarray(Image.open(path)) for path in paths])
        model = keras.models.load_model(run_dir / "model.keras")
        probabilities = model.predict(images / np.float32(127.5) - 1, verbose=0)

        accuracy = np.mean(probabilities.argmax(axis=1) == labels)
        assert metrics["validation"]["accuracy"] == pytest.approx(accuracy)
        smooth = 0.9 * np.eye(3)[list(labels)] + 0.1 / 3
        loss = -np.mean(np.sum(smooth * np.log(probabilities), axis=1))
        assert metrics["validation"]["loss"] == pytest.approx(loss, rel=1e-4)

    def test_is_not_overwritten(self, finished, config, photos):
        run_dir, _ = finished
        before = contents(run_dir)
        with pytest.raises(ValueError, match="holds a run already"):
            training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir)
        assert contents(run_dir) == before

    def test_is_not_resumed_with_another_recipe(self, finished, config, photos):
        run_dir, _ = finished
        before = contents(run_dir)
        config.optimizer.learning_rate = 0.02
        with pytest.raises(
            ValueError,
            match=r"started with recipe.optimizer.learning_rate=0.01, .* resumed with .*=0.02",
        ):
            training.train_and_evaluate(
                config, dataset=str(photos), output_dir=run_dir, resume=True
            )
        assert contents(run_dir) == before


def bireal_train(*arguments):
    command = [sys.executable, "-m", "bireal_keras.train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(finished, recipe, photos, tmp_path):
    run_dir = tmp_path / "killed"
    arguments = [f"--config={recipe}", f"--dataset={photos}", f"--output_dir={run_dir}"]
    checkpoints = run_dir / "checkpoints"

    process = bireal_train(*arguments)
    while process.poll() is None and not (checkpoints / "checkpoint").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (checkpoints / "epoch-3.index").exists()
    # As if the kill had come between an epoch's log and its checkpoint.
    lines = (run_dir / "log.csv").read_text().splitlines()
    (run_dir / "log.csv").write_text("\n".join([*lines, "2,0.5,0.01,9.9"]))

    process = bireal_train(*arguments, "--resume")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "epoch 1/3" not in out
    assert "epoch 3/3" in out
    assert f"validation accuracy {finished[1]['validation']['accuracy']:.2%}" in out

    straight = keras.models.load_model(finished[0] / "model.keras")
    resumed = keras.models.load_model(run_dir / "model.keras")
    for expected, weight in zip(straight.weights, resumed.weights):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=expected.name)
    columns = sorted(set(rows(run_dir)[0]) - {"seconds"})
    np.testing.assert_allclose(
        [[float(row[column]) for column in columns] for row in rows(run_dir)],
        [[float(row[column]) for column in columns] for row in rows(finished[0])],
        atol=1e-6,
    )


def test_a_checkpoint_that_cannot_be_read_is_named(finished, config, photos, tmp_path):
    run_dir = tmp_path / "damaged"
    for path, content in contents(finished[0]).items():
        copy = run_dir / path.relative_to(finished[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    newest = next((run_dir / "checkpoints").glob("epoch-3.data*"))
    newest.write_bytes(newest.read_bytes()[:1000])
    before = contents(run_dir)

    with pytest.raises(ValueError, match=r"Cannot resume from the checkpoint .*epoch-3"):
        training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir, resume=True)
    assert contents(run_dir) == before


def test_an_invalid_loss_stops_the_run(config, photos, tmp_path):
    config.optimizer.learning_rate = 1e30
    with pytest.raises(FloatingPointError, match=r"The loss became (nan|inf) at step \d+\."):
        training.train_and_evaluate(config, dataset=str(photos), output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "model.keras").exists()


class TestBeforeAnythingIsWritten:
    @pytest.fixture
    def refused(self, config, photos, tmp_path):
        """Calls train_and_evaluate and expects an error, and nothing written."""

        def refused(match, dataset=str(photos), output_dir=tmp_path / "run", **options):
            before = contents(tmp_path)
            with pytest.raises(ValueError, match=match):
                training.train_and_evaluate(
                    config, dataset=dataset, output_dir=output_dir, **options
                )
            assert contents(tmp_path) == before
            assert not (tmp_path / "run").exists()

        return refused

    def test_the_recipe_is_checked(self, config, refused):
        config.epochs = 0
        refused("`epochs` must be a positive int")

    def test_the_number_of_classes_is_checked(self, config, refused):
        config.model.num_classes = 4
        refused(r"`model.num_classes` must be .*, 3 \(blue, green, red\). Received: 4")

    def test_the_model_is_checked(self, config, refused):
        config.model.name = "BiRealNet19"
        refused(r"`name` must be one of .*BiRealNet19")

    def test_the_models_output_is_checked(self, config, refused):
        with config.unlocked():
            config.model.include_top = False
        refused(r"must end in class probabilities.*\(None, 1, 1, 32\)")

    def test_the_batch_size_is_checked(self, config, refused):
        config.batch_size = 109
        refused(r"`batch_size` must be .* at most 108")

    def test_the_augmentation_is_checked(self, config, refused):
        config.dataset.augmentation.name = "flip"
        refused(r"`augmentation.name` must be one of")

    def test_the_dataset_is_checked(self, refused, tmp_path):
        refused("Near: cifar10", dataset="cifar11")
        (tmp_path / "photos" / "a").mkdir(parents=True)
        (tmp_path / "photos" / "a" / "0.png").write_text("no image")
        (tmp_path / "photos" / "a" / "1.png").write_text("no image")
        refused(r"Cannot decode the image .*/a/0.png", dataset=str(tmp_path / "photos"))

    def test_the_output_folder_is_checked(self, refused, tmp_path):
        (tmp_path / "file").touch()
        refused("is not a folder", output_dir=tmp_path / "file")
        refused("is not empty", output_dir=tmp_path)
        refused("no run to resume", resume=True)


def test_the_git_state_is_this_packages(repository):
    if not (repository / ".git").exists():
        pytest.skip("needs a git checkout")
    state = run_folder.git_state()
    git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    assert state["revision"] == subprocess.check_output(git, text=True).strip()


def test_without_git_there_is_no_git_state(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert run_folder.git_state() is None
