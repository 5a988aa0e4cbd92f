"""Training: from a recipe and a dataset to a model, its logs and its figures."""

import csv
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

import bireal_keras
from bireal_keras import data, optimizers, preprocessing, recipes, zoo
from bireal_keras._keras import keras, lq, tf

_CHECKPOINTS_TO_KEEP = 3


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    *,
    dataset: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    download: bool = False,
) -> dict[str, Any]:
    """Trains a recipe's model on a dataset and evaluates it on the validation split.

    Writes into `output_dir`, which is made once everything has been checked:

        config.json    the recipe as it is run, and the dataset
        labels.txt     class names, one a line, in the order of the model's output
        log.csv        per epoch: loss, accuracy, val_loss, val_accuracy, the learning_rate
                       of its last step, and seconds, validation included
        tensorboard/   the same for TensorBoard
        checkpoints/   weights and optimizer after each of the last three epochs
        model.keras    the trained model: float32 images in [-1, 1] to probabilities
        metrics.json   what this function returns

    Args:
        config: a recipe's config; see `bireal_keras.recipes`.
        dataset: see `data.load`.
        output_dir: a folder that is new or empty or, to resume, that of the run.
        data_dir: see `data.load`.
        resume: whether to continue from the newest checkpoint. Every epoch sees the images
            in the order and with the augmentation it would have had without the break.
        download: see `data.load`.

    Returns:
        {"train": {"loss", "accuracy"}, "validation": {"loss", "accuracy"}, "epochs",
        "seconds", "seed", "versions", "git"}. The train figures are means over the last
        epoch, while the weights changed; None for a finished run whose log.csv is gone.

    Raises:
        ValueError: the recipe, the dataset or `output_dir` cannot be used, or the run to
            resume is another one. Nothing has been written.
        FloatingPointError: the loss became NaN or infinite.
    """
    recipes.check(config)
    run_dir = Path(output_dir).expanduser()
    _check_output_dir(run_dir, resume)
    git_state = _git_state()
    keras.utils.set_random_seed(config.seed)

    images = data.load(dataset, data_dir=data_dir, download=download)
    model = create_model(config, images.class_names)
    steps_per_epoch = data.steps_per_epoch(images.train, config.batch_size)
    optimizer = optimizers.create_optimizer(config, steps_per_epoch)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
    )
    epochs_done = tf.Variable(0, dtype=tf.int64, name="epochs_done")
    checkpoints = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model, optimizer=optimizer, epochs_done=epochs_done),
        run_dir / "checkpoints",
        max_to_keep=_CHECKPOINTS_TO_KEEP,
        checkpoint_name="epoch",
    )
    description = {
        "recipe": config.to_dict(),
        "dataset": {
            "name": images.name,
            "classes": len(images.class_names),
            "train_images": images.train.size,
            "validation_images": images.validation.size,
        },
    }
    if resume:
        _check_same_run(run_dir, description)
        _restore(checkpoints, optimizer, model)
    image_size, num_classes = config.dataset.image_size, config.model.num_classes
    train = data.train_batches(
        images.train,
        augment=preprocessing.create_augmentation(
            **config.dataset.augmentation, image_size=image_size
        ),
        num_classes=num_classes,
        batch_size=config.batch_size,
        seed=config.seed,
        initial_epoch=int(epochs_done),
        epochs=config.epochs,
    )
    validation = data.evaluation_batches(
        images.validation,
        image_size=image_size,
        num_classes=num_classes,
        batch_size=config.batch_size,
    )

    run_dir.mkdir(parents=True, exist_ok=True)
    _write(run_dir / "config.json", _to_json(description))
    _write(run_dir / "labels.txt", "\n".join(images.class_names) + "\n")
    log = run_dir / "log.csv"
    _keep_epochs(log, int(epochs_done))

    interactive = sys.stdout.isatty()
    model.fit(
        train,
        initial_epoch=int(epochs_done),
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        verbose=int(interactive),
        callbacks=[
            StopOnInvalidLoss(),
            EpochFigures(print_them=not interactive),
            keras.callbacks.CSVLogger(log, append=True),
            keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
            # Last: an epoch that has a checkpoint is complete in every log.
            SaveCheckpoint(checkpoints, epochs_done),
        ],
    )

    rows = _read_log(log)
    metrics = {
        "train": {name: float(rows[-1][name]) for name in ("loss", "accuracy")} if rows else None,
        "validation": model.evaluate(validation, verbose=0, return_dict=True),
        "epochs": config.epochs,
        "seconds": sum(float(row["seconds"]) for row in rows),
        "seed": config.seed,
        "versions": _versions(),
        "git": git_state,
    }
    # Without the optimizer, which `compile` would tie to the file.
    finished = keras.Model(model.inputs, model.outputs, name=model.name)
    finished.save(run_dir / "partial.keras")
    os.replace(run_dir / "partial.keras", run_dir / "model.keras")
    _write(run_dir / "metrics.json", _to_json(metrics))
    return metrics


def create_model(config: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> keras.Model:
    """Builds a recipe's model for images of a dataset.

    Raises:
        ValueError: the zoo has no such model, or it does not end in one probability for
            each of `class_names`.
    """
    arguments = dict(config.model)
    if arguments["num_classes"] != len(class_names):
        some = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
        raise ValueError(
            "The recipe's `model.num_classes` must be the dataset's number of classes, "
            f"{len(class_names)} ({some}). Received: {arguments['num_classes']}."
        )
    size = config.dataset.image_size
    model = zoo.create_model(arguments.pop("name"), input_shape=(size, size, 3), **arguments)
    if model.output_shape != (None, len(class_names)):
        raise ValueError(
            "The recipe's model must end in class probabilities. "
            f"Received a model with the output shape {model.output_shape}."
        )
    return model


class StopOnInvalidLoss(keras.callbacks.Callback):
    """Raises a FloatingPointError at the first step whose loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"The loss became {logs['loss']} at step {int(self.model.optimizer.iterations)}. "
                "A lower learning rate may help."
            )


class EpochFigures(keras.callbacks.Callback):
    """Adds learning_rate and seconds to an epoch's logs, and prints them on one line."""

    def __init__(self, *, print_them: bool):
        super().__init__()
        self._print_them = print_them

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["learning_rate"] = float(keras.backend.get_value(self.model.optimizer.learning_rate))
        logs["seconds"] = time.perf_counter() - self._start
        if self._print_them:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
            print(f"epoch {epoch + 1}/{self.params['epochs']}: {figures}", flush=True)


class SaveCheckpoint(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch, numbered by the epochs done."""

    def __init__(self, checkpoints: tf.train.CheckpointManager, epochs_done: tf.Variable):
        super().__init__()
        self._checkpoints = checkpoints
        self._epochs_done = epochs_done

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epochs_done.assign(epoch + 1)
        self._checkpoints.save(checkpoint_number=epoch + 1)


def _restore(
    checkpoints: tf.train.CheckpointManager,
    optimizer: keras.optimizers.Optimizer,
    model: keras.Model,
) -> None:
    """Restores the newest checkpoint, if there is one."""
    path = checkpoints.latest_checkpoint
    if path is None:
        return
    # Its variables are made at the first step otherwise: too late to check them here.
    optimizer.build(model.trainable_variables)
    try:
        checkpoints.checkpoint.restore(path).assert_consumed()
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
        raise ValueError(f"Cannot resume from the checkpoint {path}: {error}") from error


def _check_output_dir(run_dir: Path, resume: bool) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"`output_dir` is not a folder: {run_dir}.")
    is_run = (run_dir / "config.json").is_file()
    if resume and not is_run:
        raise ValueError(f"`output_dir` holds no run to resume: {run_dir}.")
    if not resume and is_run:
        raise ValueError(
            f"`output_dir` holds a run already: {run_dir}. Resume it, or choose another folder."
        )
    if not resume and run_dir.is_dir() and any(run_dir.iterdir()):
        raise ValueError(f"`output_dir` is not empty: {run_dir}.")


def _check_same_run(run_dir: Path, description: dict[str, Any]) -> None:
    path = run_dir / "config.json"
    try:
        before = _flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    now = _flatten(json.loads(_to_json(description)))
    for field in sorted({*before, *now}):
        if before.get(field) != now.get(field):
            raise ValueError(
                f"The run in {run_dir} was started with {field}={before.get(field)!r}, it "
                f"cannot be resumed with {field}={now.get(field)!r}."
            )


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat = {}
    for key, value in fields.items():
        inner = _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat.update(inner if inner is not None else {f"{prefix}{key}": value})
    return flat


def _keep_epochs(log: Path, epochs: int) -> None:
    """Drops from log.csv what came after the checkpoint: it will be trained again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        _write(log, "".join(lines[: epochs + 1] if epochs else []))


def _read_log(log: Path) -> list[dict[str, str]]:
    with log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"partial.{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _versions() -> dict[str, str]:
    return {
        "bireal_keras": bireal_keras.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": importlib.metadata.version("tf_keras"),
        "larq": lq.__version__,
        "numpy": np.__version__,
    }


def _git_state() -> dict[str, Any] | None:
    """Revision of this package's source tree, or None where it is in no repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # Installed into a virtual environment inside someone's project, it is not theirs.
        git("ls-files", "--error-unmatch", "__init__.py")
        status = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(status)}
    except (OSError, subprocess.CalledProcessError):
        return None
