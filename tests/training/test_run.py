"""Training runs: what they leave behind, and that none of it depends on luck."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bireal_keras import recipes, training, zoo
from bireal_keras._keras import keras, tf
from bireal_keras.training import checkpoints, data, image_folder, run_folder
from bireal_keras.training import run as run_module

CLASSES = ["blue", "green", "red"]
SECOND_RUN = r"^Another process trains in `output_dir`: .*\. Wait until it has ended, or choose"


@pytest.fixture
def config(tiny_recipe):
    return recipes.load(tiny_recipe)


@pytest.fixture(scope="module")
def finished(tiny_recipe, photos, tmp_path_factory):
    """A run of three epochs: its folder and what train_and_evaluate returned."""
    run_dir = tmp_path_factory.mktemp("runs") / "new" / "finished"
    config = recipes.load(tiny_recipe)
    metrics = training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir)
    return run_dir, metrics


def rows(run_dir):
    with (run_dir / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
class TestAFinishedRun:
    def test_leaves_these_files_and_no_partial_one(self, finished):
        run_dir, _ = finished
        assert sorted(path.name for path in run_dir.iterdir()) == [
            "checkpoints",
            "config.json",
            "confusion.png",
            "curve.png",
            "held_out.json",
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

    def test_lists_the_images_that_were_held_out(self, finished, photos):
        folder = image_folder.read(photos)
        expected = sorted(str(folder.paths[i].relative_to(photos)) for i in folder.validation)
        assert json.loads((finished[0] / "held_out.json").read_text()) == expected

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


def bireal_train(*arguments, **variables):
    command = [sys.executable, "-m", "bireal_keras.commands.train", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As the command sets it where nobody has; the tests' own process has another level.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
    )


def assert_same_run(run_dir, straight_dir):
    """Equal weights, and equal logs but for the time they took."""
    straight = keras.models.load_model(straight_dir / "model.keras")
    resumed = keras.models.load_model(run_dir / "model.keras")
    for expected, weight in zip(straight.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=expected.name)
    columns = sorted(set(rows(run_dir)[0]) - {"seconds"})
    np.testing.assert_allclose(
        [[float(row[column]) for column in columns] for row in rows(run_dir)],
        [[float(row[column]) for column in columns] for row in rows(straight_dir)],
        atol=1e-6,
    )


@pytest.mark.proof
def test_a_run_that_is_terminated_and_then_killed_ends_with_the_same_weights(
    tiny_recipe, photos, tmp_path
):
    run_dir = tmp_path / "stopped"
    common = [f"--config={tiny_recipe}", f"--dataset={photos}", "--deterministic"]
    arguments = [*common, f"--output_dir={run_dir}", "--checkpoint_steps=1"]
    saved = run_dir / "checkpoints"
    straight = bireal_train(*common, f"--output_dir={tmp_path / 'straight'}")

    def stop(process, epoch, number):
        """Sends a signal in the middle of an epoch."""
        pattern = f"epoch-{epoch:04}-step-0000*[1-9].npz"
        while process.poll() is None and not any(saved.glob(pattern)):
            time.sleep(0.001)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    status, _, err = stop(bireal_train(*arguments), 0, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    newest = max(saved.iterdir())
    assert re.fullmatch(
        rf"bireal-train: Terminated at epoch 1, step \d+: saved {newest}\. "
        r"Continue with --resume\.\n",
        err,
    )

    # Ctrl-C.
    status, out, err = stop(bireal_train(*arguments, "--resume"), 1, signal.SIGINT)
    assert status == 128 + signal.SIGINT
    assert "epoch 1/3: " in out
    newest = max(saved.iterdir())
    assert re.fullmatch(
        rf"bireal-train: Interrupted at epoch 2, step \d+: saved {newest}\. "
        r"Continue with --resume\.\n",
        err,
    )

    status, out, _ = stop(bireal_train(*arguments, "--resume"), 2, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert "epoch 2/3: " in out
    assert not list(saved.glob("epoch-0003-*"))
    # The folder is as if the kill had come between an epoch's log and its checkpoint.
    lines = (run_dir / "log.csv").read_text().splitlines()
    (run_dir / "log.csv").write_text("\n".join([*lines, "2,0.5,0.01,9.9"]))

    process = bireal_train(*arguments, "--resume")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "epoch 2/3" not in out
    assert "epoch 3/3" in out
    assert straight.wait(timeout=300) == 0
    assert_same_run(run_dir, tmp_path / "straight")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_left_for_the_one_before(finished, config, photos, tmp_path):
    run_dir = tmp_path / "damaged"
    for path, content in contents(finished[0]).items():
        copy = run_dir / path.relative_to(finished[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    newest = run_dir / "checkpoints" / "epoch-0003-step-000000.npz"
    newest.write_bytes(newest.read_bytes()[:1000])

    with pytest.warns(UserWarning, match=f"Cannot read the checkpoint {newest}"):
        training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir, resume=True)
    assert_same_run(run_dir, finished[0])


class FakeFit:
    """In place of training: notes each stage's first weights, and leaves others behind."""

    def __init__(self, monkeypatch):
        self.started, self.ended, self.optimizers = [], [], []
        monkeypatch.setattr(run_module._Run, "_fit", self)

    def __get__(self, run, _):
        return self.fit

    def fit(self, model, index, start, end, request, best):
        rng = np.random.default_rng(index)
        self.started.append(by_name(model))
        model.set_weights([rng.uniform(0.1, 1, weight.shape) for weight in model.weights])
        self.ended.append(by_name(model))
        self.optimizers.append((index, start.epoch, end, model.optimizer.get_config()))


def by_name(model):
    return {
        (layer.name, index): weight
        for layer in model.layers
        for index, weight in enumerate(layer.get_weights())
    }


@pytest.mark.slow
def test_one_run_trains_in_a_folder(config, photos, tmp_path, monkeypatch):
    """The second one is told so before it has written or forgotten anything."""
    started = []

    def start(resume):
        training.train_and_evaluate(config, dataset=photos, output_dir=tmp_path, resume=resume)

    def fit(*_):
        started.append(contents(tmp_path))
        with pytest.raises(ValueError, match=SECOND_RUN):
            start(resume=True)
        assert contents(tmp_path) == started[-1]
        raise KeyboardInterrupt  # What comes after training takes seconds.

    monkeypatch.setattr(run_module._Run, "_fit", fit)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            start(resume)
    assert len(started) == 2


@pytest.mark.slow
def test_one_run_begins_in_a_folder(config, photos, tmp_path, monkeypatch):
    """Two that begin at once both find it empty, and the other one is faster."""

    def load(*args, **options):
        held.enter_context(run_folder.alone_in(tmp_path))
        return load_images(*args, **options)

    load_images = data.load
    monkeypatch.setattr(data, "load", load)
    with contextlib.ExitStack() as held, pytest.raises(ValueError, match=SECOND_RUN):
        training.train_and_evaluate(config, dataset=photos, output_dir=tmp_path)
    assert contents(tmp_path) == {}


def with_stages(config, *stages):
    with config.unlocked():
        config.stages = tuple(map(ml_collections.ConfigDict, stages))
        config.epochs = ml_collections.config_dict.placeholder(int)
    return config


REAL = {"name": "BiRealNet18Float"}
PAPER = (
    {"name": "relu", "epochs": 4, "model": REAL, "optimizer": {"l2": 1e-4}},
    {"name": "leaky_clip", "epochs": 2, "model": {**REAL, "activation": "leaky_clip"}},
    {"name": "clip", "epochs": 2, "model": {**REAL, "activation": "clip"}},
    {"name": "one_bit", "epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
)
REACTNET = (
    {"name": "activations", "epochs": 1, "binary_weights": False},
    {"name": "weights", "epochs": 1},
)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [PAPER, REACTNET], ids=["paper", "ReActNet"])
def test_each_stage_starts_with_exactly_the_weights_of_the_last(
    stages, config, photos, tmp_path, monkeypatch
):
    fake = FakeFit(monkeypatch)
    config = with_stages(config, *stages)
    metrics = training.train_and_evaluate(config, dataset=str(photos), output_dir=tmp_path / "run")

    assert len(fake.started) == len(stages)
    for ended, started in zip(fake.ended, fake.started[1:]):
        assert ended.keys() == started.keys()
        # These are kernels, BatchNorm's gamma, beta, moving mean and variance, the classifier.
        assert ("stage3_block2_bn", 3) in started
        for name, weight in started.items():
            np.testing.assert_array_equal(weight, ended[name], err_msg=str(name))
    ends = np.cumsum([stage["epochs"] for stage in stages])
    assert [(start, end) for _, start, end, _ in fake.optimizers] == [*zip([0, *ends], ends)]
    assert metrics["epochs"] == ends[-1]
    assert sorted(path.stem for path in (tmp_path / "run" / "stages").iterdir()) == sorted(
        stage["name"] for stage in stages[:-1]
    )
    final = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert final.name == "BiRealNet18"
    for name, weight in by_name(final).items():
        np.testing.assert_array_equal(weight, fake.ended[-1][name])


@pytest.mark.slow
def test_stages_have_optimizers_of_their_own(config, photos, tmp_path, monkeypatch):
    fake = FakeFit(monkeypatch)
    training.train_and_evaluate(
        with_stages(config, *PAPER), dataset=str(photos), output_dir=tmp_path / "run"
    )
    names = [optimizer["name"] for *_, optimizer in fake.optimizers]
    assert names == ["Adam", "Adam", "Adam", "SGD"]
    # 13 steps an epoch.
    decays = [o["learning_rate"]["config"]["decay_steps"] for *_, o in fake.optimizers]
    assert decays == [4 * 13, 2 * 13, 2 * 13, 3 * 13]


@pytest.mark.slow
def test_stages_may_start_from_scratch_another_stage_or_a_file(
    finished, config, photos, tmp_path, monkeypatch
):
    fake = FakeFit(monkeypatch)
    stages = (
        {"name": "a", "epochs": 1},
        {"name": "b", "epochs": 1, "start": "scratch"},
        {"name": "c", "epochs": 1, "start": "a"},
        {"name": "d", "epochs": 1, "start": str(finished[0] / "model.keras")},
    )
    training.train_and_evaluate(
        with_stages(config, *stages), dataset=str(photos), output_dir=tmp_path / "run"
    )
    a, b, c, d = fake.started
    file = by_name(keras.models.load_model(finished[0] / "model.keras"))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])  # They have the same seed.
        np.testing.assert_array_equal(c[name], fake.ended[0][name])
        np.testing.assert_array_equal(d[name], file[name])


@pytest.mark.slow
def test_validation_sees_the_part_that_the_recipe_says(config, photos, tmp_path, monkeypatch):
    """The centre of an image, made larger: bilinear, as Pillow does it."""
    monkeypatch.setattr(run_module._Run, "_fit", lambda *_: None)
    config.dataset.center_crop = 0.5
    config.label_smoothing = 0.0
    metrics = training.train_and_evaluate(config, dataset=str(photos), output_dir=tmp_path / "run")

    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    paths, labels = zip(*data.load(photos).validation.examples.as_numpy_iterator())
    pixels = [np.float32(Image.open(path.decode())) for path in paths]

    def loss(box):
        images = [
            np.stack(
                [
                    np.asarray(Image.fromarray(channel).crop(box).resize((8, 8), Image.BILINEAR))
                    for channel in np.moveaxis(image, -1, 0)
                ],
                axis=-1,
            )
            for image in pixels
        ]
        probabilities = model.predict(np.stack(images) / 127.5 - 1, verbose=0)
        return -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))

    whole, centre = loss((0, 0, 8, 8)), loss((2, 2, 6, 6))
    assert abs(whole - centre) > 0.01
    assert metrics["validation"]["loss"] == pytest.approx(centre, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 3)])
def test_the_weights_of_the_best_epoch_are_kept(
    keep, epoch, config, photos, tmp_path, monkeypatch, capsys
):
    calls = []

    def fit(run, model, index, start, end, request, best):
        """Epoch e leaves e / 8 in every weight; the second one is the best."""
        calls.append((start.epoch, end))
        for epoch, accuracy in ((1, 0.5), (2, 0.75), (3, 0.25)):
            model.set_weights([np.full_like(weight, epoch / 8) for weight in model.get_weights()])
            if best is not None:
                best.offer(model, epoch - 1, accuracy)
        model.optimizer.build(model.trainable_variables)
        run.saved.save(checkpoints.state_of(model, model.optimizer), checkpoints.Position(0, 3))

    monkeypatch.setattr(run_module._Run, "_fit", fit)
    config.keep = keep
    run_dir = tmp_path / "run"
    # The second time as if it had been killed when all epochs were done.
    for resume in (False, True):
        training.train_and_evaluate(config, dataset=photos, output_dir=run_dir, resume=resume)
        model = keras.models.load_model(run_dir / "model.keras")
        assert {value for weight in model.get_weights() for value in weight.flat} == {epoch / 8}
        said = "keeping the weights of epoch 2, the best: validation accuracy 75.00%\n"
        assert (said in capsys.readouterr().out) == (keep == "best")
        (run_dir / "model.keras").unlink()
    assert calls == [(0, 3)]


@pytest.mark.slow
def test_the_first_line_says_what_is_trained_on_what(config, photos, tmp_path, monkeypatch, capsys):
    FakeFit(monkeypatch)
    training.train_and_evaluate(config, dataset=str(photos), output_dir=tmp_path / "run")
    first = capsys.readouterr().out.splitlines()[0]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert first == (
        f"{photos}: 3 classes (blue 40, green 40, red 40), 108 images to train and 12 to "
        f"validate; BiRealNet18, {model.count_params():,} parameters"
    )


@pytest.fixture(scope="module")
def four_kinds(photos, tmp_path_factory):
    """`photos`, and a fourth class."""
    folder = tmp_path_factory.mktemp("four")
    for name in ("red", "green", "blue"):
        (folder / name).symlink_to(photos / name)
    shutil.copytree(photos / "red", folder / "scarlet")
    return folder


@pytest.mark.slow
def test_another_number_of_classes_starts_with_a_new_head(
    finished, config, four_kinds, tmp_path, monkeypatch, capsys
):
    fake = FakeFit(monkeypatch)
    config.start = str(finished[0])
    with config.unlocked():
        del config.model.num_classes
    training.train_and_evaluate(config, dataset=four_kinds, output_dir=tmp_path / "run")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(
        f" parameters; starts with the weights of {finished[0]} but for head_fc: the head is new, "
        "for 4 classes in place of 3"
    )
    source = by_name(keras.models.load_model(finished[0] / "model.keras"))
    [started] = fake.started
    assert started.keys() == source.keys()
    for name, weight in started.items():
        if name[0] == "head_fc":
            assert weight.shape[-1] == 4
        else:
            np.testing.assert_array_equal(weight, source[name], err_msg=str(name))


@pytest.mark.slow
def test_a_folder_that_has_changed_is_noticed(config, photos, tmp_path, monkeypatch):
    """Neither a run that is resumed nor one that starts from it validates in silence with images
    that the weights were trained on.
    """
    FakeFit(monkeypatch)
    folder = shutil.copytree(photos, tmp_path / "photos")
    training.train_and_evaluate(config, dataset=folder, output_dir=tmp_path / "run")
    first = json.loads((tmp_path / "run" / "held_out.json").read_text())[0]
    # As many images as before.
    (folder / first).rename((folder / first).with_name("0a.png"))
    with pytest.raises(ValueError, match="cannot be resumed: the dataset's images have changed"):
        training.train_and_evaluate(
            config, dataset=folder, output_dir=tmp_path / "run", resume=True
        )
    config.start = str(tmp_path / "run")
    seen = {*image_folder.held_out_names(folder, image_folder.read(folder))}
    seen -= {*json.loads((tmp_path / "run" / "held_out.json").read_text())}
    with pytest.warns(UserWarning, match=rf"trained on {len(seen)} of the 12 images that are held"):
        training.train_and_evaluate(config, dataset=folder, output_dir=tmp_path / "next")


@pytest.fixture(scope="module")
def other_names(finished, tmp_path_factory):
    """The finished run, as if of as many classes with other names."""
    folder = tmp_path_factory.mktemp("other") / "run"
    folder.mkdir()
    shutil.copy(finished[0] / "model.keras", folder)
    (folder / "labels.txt").write_text("blue\ngrey\nred\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("file", ["", "model.keras"])
def test_as_many_other_classes_start_with_a_new_head(
    other_names, config, photos, tmp_path, monkeypatch, capsys, file
):
    fake = FakeFit(monkeypatch)
    config.start = str(other_names / file)
    training.train_and_evaluate(config, dataset=photos, output_dir=tmp_path / "run")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(" but for head_fc: the head is new, for 'green' in place of 'grey'")
    source = by_name(keras.models.load_model(other_names / "model.keras"))
    [started] = fake.started
    for name, weight in started.items():
        is_new = name == ("head_fc", 0)  # The bias is 0 at first, and hardly anything later.
        if name[0] != "head_fc" or is_new:
            assert np.array_equal(weight, source[name]) != is_new, name


@pytest.mark.slow
def test_published_weights_are_a_start(config, photos, tmp_path, monkeypatch, capsys):
    fake = FakeFit(monkeypatch)
    config.start = "BiRealNet18:cifar10"
    config.model.width = 32
    training.train_and_evaluate(config, dataset=photos, output_dir=tmp_path / "run")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(
        "; starts with the weights of BiRealNet18:cifar10 but for head_fc: the head is new, for 3 "
        "classes in place of 10"
    )
    [started] = fake.started
    source = by_name(zoo.BiRealNet18(weights="cifar10"))
    assert sum(np.array_equal(started[name], source[name]) for name in source) == len(source) - 2


@pytest.mark.slow
def test_what_is_frozen_stays_and_a_users_callback_can_stop(
    finished, config, photos, tmp_path, monkeypatch
):
    """With everything else that few photos want: class weights, mixup and patience."""

    class StopAfterTwo(keras.callbacks.Callback):
        seen = ()

        def on_epoch_end(self, epoch, logs):
            self.seen = (*self.seen, (epoch, sorted(logs)))
            self.model.stop_training = epoch == 1

    mine = StopAfterTwo()
    config.start, config.freeze = str(finished[0]), "body"
    config.balance, config.mixup, config.patience, config.keep = True, 0.2, 5, "best"
    metrics = training.train_and_evaluate(
        config, dataset=photos, output_dir=tmp_path / "run", callbacks=[mine]
    )
    figures = ["accuracy", "learning_rate", "loss", "seconds", "val_accuracy", "val_loss"]
    assert mine.seen == ((0, figures), (1, figures))
    assert (metrics["epochs"], len(rows(tmp_path / "run"))) == (2, 2)
    before = by_name(keras.models.load_model(finished[0] / "model.keras"))
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert all(layer.trainable for layer in model.layers)
    for name, weight in by_name(model).items():
        assert np.array_equal(weight, before[name]) == (name[0] != "head_fc"), name


@pytest.mark.slow
def test_a_signal_after_the_last_step_is_not_forgotten(finished, config, photos, tmp_path):
    """It may come in the seconds that Keras takes to leave `fit`; a study would go on otherwise."""

    class Signal(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            signal.raise_signal(signal.SIGTERM)

    run_dir = tmp_path / "run"
    newest = run_dir / "checkpoints" / "epoch-0003-step-000000.npz"
    message = f"Terminated after stage 1 of 1: the newest checkpoint is {newest}."
    with pytest.raises(training.Terminated, match=f"^{re.escape(message)}$"):
        training.train_and_evaluate(
            config, dataset=str(photos), output_dir=run_dir, callbacks=[Signal()]
        )
    training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir, resume=True)
    assert_same_run(run_dir, finished[0])


@pytest.mark.slow
def test_a_run_that_is_out_of_patience_is_not_trained_on(config, photos, tmp_path, monkeypatch):
    calls = []

    def fit(run, model, index, start, end, request, best):
        """Epoch e leaves e / 8 in every weight; the first one is the best, the third the last."""
        calls.append((start.epoch, end))
        for epoch, accuracy in ((1, 0.75), (2, 0.5), (3, 0.25)):
            model.set_weights([np.full_like(weight, epoch / 8) for weight in model.get_weights()])
            best.offer(model, epoch - 1, accuracy)
        model.stop_training = True
        model.optimizer.build(model.trainable_variables)
        run.saved.save(checkpoints.state_of(model, model.optimizer), checkpoints.Position(0, 3))

    monkeypatch.setattr(run_module._Run, "_fit", fit)
    config.epochs, config.patience = 20, 2
    for resume in (False, True):
        training.train_and_evaluate(
            config, dataset=photos, output_dir=tmp_path / "run", resume=resume
        )
        # Not the best: that is what `keep` is for.
        model = keras.models.load_model(tmp_path / "run" / "model.keras")
        assert {value for weight in model.get_weights() for value in weight.flat} == {3 / 8}
    assert calls == [(0, 20)]


@pytest.mark.slow
def test_a_run_of_an_older_version_is_resumed(finished, config, photos, tmp_path):
    """Its config.json says nothing of the fields that the recipe leaves out."""
    run_dir = tmp_path / "old"
    shutil.copytree(finished[0], run_dir)
    path = run_dir / "config.json"
    recorded = json.loads(path.read_text())
    new = ("keep", "start", "precision", "distillation", "reestimate_epochs")
    for field in (*new, "freeze", "balance", "mixup", "patience"):
        del recorded["recipe"][field]
    del recorded["recipe"]["optimizer"]["l2"]
    del recorded["recipe"]["dataset"]["center_crop"], recorded["recipe"]["dataset"]["held_out"]
    path.write_text(json.dumps(recorded))
    training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir, resume=True)
    assert_same_run(run_dir, finished[0])
    path.write_text(json.dumps(recorded))
    config.keep = "best"
    with pytest.raises(ValueError, match=r"started with recipe.keep='last', .*keep='best'"):
        training.train_and_evaluate(config, dataset=str(photos), output_dir=run_dir, resume=True)


@pytest.mark.proof
def test_a_staged_run_that_breaks_off_ends_with_the_same_weights(
    config, photos, tmp_path, monkeypatch, capsys
):
    with config.unlocked():
        config.reestimate_epochs = 1
    config = with_stages(
        config,
        {"name": "twin", "epochs": 1, "model": REAL, "optimizer": {"l2": 1e-3}},
        {
            **{"name": "one_bit", "epochs": 2, "start": "scratch", "precision": "mixed_bfloat16"},
            "distillation": {"teacher": "twin", "weight": 0.5},
        },
    )
    straight = tmp_path / "straight"
    metrics = training.train_and_evaluate(config, dataset=str(photos), output_dir=straight)
    out = capsys.readouterr().out
    assert "stage 1/2 twin, epoch 1/3: " in out
    assert "stage 2/2 one_bit, epoch 3/3: " in out
    assert re.search(
        r"re-estimated with the weights of 16 layers at \+-1: .* before, .* after", out
    )
    assert [row["stage"] for row in rows(straight)] == ["1", "2", "2"]
    assert metrics["epochs"] == 3
    model = keras.models.load_model(straight / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}

    broken = tmp_path / "broken"
    save, saved = checkpoints.Checkpoints.save, []

    def save_until(self, arrays, position):
        saved.append(position)
        path = save(self, arrays, position)
        if (position.epoch, position.step) == (1, 8):
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_until)
    options = {"dataset": str(photos), "output_dir": broken, "checkpoint_steps": 4}
    with pytest.raises(KeyboardInterrupt):
        training.train_and_evaluate(config, **options)
    assert [(p.stage, p.epoch, p.step) for p in saved] == [
        *((0, 0, 4), (0, 0, 8), (0, 0, 12), (0, 1, 0)),
        *((1, 1, 4), (1, 1, 8)),
    ]
    monkeypatch.undo()
    training.train_and_evaluate(config, **options, resume=True)
    assert_same_run(broken, straight)


# Weights that are not finite are not saved, and that is said.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No checkpoint at")
def test_an_invalid_loss_stops_the_run(config, photos, tmp_path):
    config.optimizer.learning_rate = 1e30
    run_dir = tmp_path / "run"
    options = {"dataset": str(photos), "output_dir": run_dir, "checkpoint_steps": 1}
    with pytest.raises(FloatingPointError) as error:
        training.train_and_evaluate(config, **options)
    assert not (run_dir / "model.keras").exists()
    said = re.match(
        r"The loss became (?:nan|inf) at step (\d+)\. The last good checkpoint is (.*?\.npz)\. ",
        str(error.value),
    )
    good = Path(said[2])
    assert good == max((run_dir / "checkpoints").iterdir())
    with np.load(good) as arrays:
        assert all(np.isfinite(arrays[n]).all() for n in arrays.files if n.startswith("model/"))
    assert int(good.stem[-6:]) < int(said[1])


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
        refused(r"`model.num_classes` must be .*, 3 \(blue, green, red\), .*\. Received: 4")

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

    @pytest.mark.slow
    def test_the_statistics_that_stay_are_checked(self, config, refused, finished):
        config.start, config.freeze, config.reestimate_epochs = str(finished[0]), "body", 1
        refused("`reestimate_epochs` must be 0 where `freeze` keeps BatchNorm's statistics")

    @pytest.mark.slow
    def test_every_stage_is_checked(self, config, refused, finished, tmp_path):
        with_stages(config, {"name": "a", "epochs": 1}, {"name": "b", "epochs": 0})
        refused(r"`stages\[1\].epochs` must be a positive int")
        config.stages[1].epochs = 1
        config.stages[1].start = str(tmp_path / "nothing.keras")
        refused(r"`start` must be the name of an earlier stage, .*nothing.keras")
        (tmp_path / "damaged.keras").write_text("no model")
        config.stages[1].start = str(tmp_path / "damaged.keras")
        refused(r"`start` must be .*, and .*damaged.keras cannot be loaded")
        config.stages[1].start = "a"
        config.stages[1].model = ml_collections.ConfigDict({"width": 8})
        refused(r"cannot start from the weights .* layer 'stem_conv' .*3, 8\).*3, 4\)")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("teacher", "message"),
        [
            (
                lambda: [keras.layers.GlobalAvgPool2D(), keras.layers.Dense(4, "softmax")],
                r"must end in probabilities of the same 3 classes .* the shape \(None, 4\)",
            ),
            (
                lambda: [keras.layers.GlobalAvgPool2D(), keras.layers.Dense(3)],
                r"must end in probabilities, as after a softmax",
            ),
            (
                lambda: [keras.layers.Flatten(), keras.layers.Dense(3)],
                r"must take images of the shape \(8, 8, 3\)\. It takes \(9, 9, 3\)",
            ),
        ],
    )
    def test_the_teacher_is_checked(self, config, refused, tmp_path, teacher, message):
        size = 9 if "9, 9" in message else 8
        model = keras.Sequential([keras.Input((size, size, 3)), *teacher()])
        model.save(tmp_path / "teacher.keras")
        with config.unlocked():
            config.distillation = {"teacher": str(tmp_path / "teacher.keras")}
        refused(rf"The teacher {tmp_path / 'teacher.keras'} {message}")

    @pytest.mark.slow
    def test_the_teachers_classes_are_checked(self, config, refused, other_names):
        with config.unlocked():
            config.distillation = {"teacher": str(other_names)}
        refused(
            rf"The teacher {other_names} must have the classes of the dataset, in the same order\. "
            r"It has 'grey' in place of 'green'\."
        )

    def test_the_dataset_is_checked(self, refused, tmp_path):
        refused("Near: cifar10", dataset="cifar11")
        for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_text("no image")
        refused(
            r"(?s)Cannot decode 4 images of 4:.*/a/0.png: .*/b/1.png: ",
            dataset=str(tmp_path / "photos"),
        )

    def test_the_output_folder_is_checked(self, refused, tmp_path):
        (tmp_path / "file").touch()
        refused("is not a folder", output_dir=tmp_path / "file")
        refused("is not empty", output_dir=tmp_path)
        refused("no run to resume", resume=True)
