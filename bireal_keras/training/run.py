"""Training: from a recipe and a dataset to a model, its logs and its figures."""

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from bireal_keras import _files, _keras_model, _safe_load, batch_norm, pictures
from bireal_keras._keras import keras, tf
from bireal_keras.training import (
    callbacks,
    checkpoints,
    curve,
    data,
    distribution,
    optimizers,
    preprocessing,
    provenance,
    recipe,
    run_folder,
    stages,
    step,
)
from bireal_keras.training.callbacks import Terminated
from bireal_keras.training.checkpoints import Position

__all__ = ["Terminated", "train_and_evaluate"]

# With more, the line at the start does not say how many images each has.
_MAX_CLASSES = 12


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    *,
    dataset: str | os.PathLike[str] | data.ImageDataset,
    output_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    download: bool = False,
    strategy: str = "one",
    deterministic: bool = False,
    checkpoint_minutes: float | None = 10.0,
    checkpoint_steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any] | None:
    """Trains a recipe's model on a dataset and evaluates it on the validation split.

    With the recipe's `dataset.held_out` that is a part of the training images, see
    `data.hold_out`.

    Writes into `output_dir`, which is made once everything has been checked:

        config.json    the recipe as it is run, and the dataset
        held_out.json  of a folder of images, the paths of those that validate, see `data.load`:
                       the folder may change, and `bireal-evaluate` must not take others
        labels.txt     class names, one a line, in the order of the model's output
        log.csv        per epoch: loss, accuracy, val_loss, val_accuracy, the learning_rate
                       of its last step, and seconds, validation included; the stage, from 1,
                       where there are several
        tensorboard/   the same for TensorBoard
        checkpoints/   weights, optimizer and position after each epoch and in between; the
                       newest three, and the best epoch's weights if the recipe keeps them
        stages/        in a run of several stages, the model that each but the last ended with
        model.keras    the trained model: float32 images in [-1, 1] to probabilities
        metrics.json   what this function returns
        curve.png      accuracy over epochs
        confusion.png  which class of the validation split was taken for which, see
                       `bireal-evaluate`

    Args:
        config: a recipe's config; see `bireal_keras.recipes`.
        dataset: see `data.load`; or what it returned, whose images several runs then read
            once.
        output_dir: a folder that is new or empty or, to resume, that of the run.
        data_dir: see `data.load`.
        resume: whether to continue from the newest checkpoint that can be read. Every step
            sees the images and the augmentation it would have seen without the break.
        download: see `data.load`.
        strategy: where to train; see `distribution.create_strategy`.
        deterministic: whether TensorFlow, from now on in this process, may only use
            operations that repeat to the last bit.
        checkpoint_minutes: save a checkpoint this often, besides that after each epoch; None
            for never. Several machines, whose clocks differ, only save after epochs and
            `checkpoint_steps`.
        checkpoint_steps: save one after each multiple of this many steps of an epoch, too.
        callbacks: Keras callbacks of your own, which every stage's `fit` gets. They are called
            once an epoch's figures are complete and before its checkpoint is saved. One that
            sets `model.stop_training` ends the stage.

    Returns:
        {"train": {"loss", "accuracy"}, "validation": {"loss", "accuracy"}, "epochs",
        "seconds", "seed", "versions", "git"}. The train figures are means over the last
        epoch, while the weights changed; None for a finished run whose log.csv is gone.
        On several machines, None but on the one that writes.

    Raises:
        ValueError: the recipe, the dataset, `output_dir` or the strategy cannot be used, the
            run to resume is another one, or another process trains in `output_dir`. Nothing has
            been written.
        FloatingPointError: the loss became NaN or infinite.
        Terminated: SIGTERM or Ctrl-C came while training. The run has been saved, to be
            resumed.
    """
    recipe.check(config)
    run_dir = Path(output_dir).expanduser()
    run_folder.check_output_dir(run_dir, resume)
    git_state = provenance.git_state()
    # Before TensorFlow's first operation.
    devices = distribution.create_strategy(strategy)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)

    with contextlib.ExitStack() as held:
        if resume and distribution.is_chief(devices):
            # Before its checkpoints are read: another process may be about to write newer ones.
            held.enter_context(run_folder.alone_in(run_dir))
        if isinstance(dataset, data.ImageDataset):
            images = dataset
        else:
            images = data.load(dataset, data_dir=data_dir, download=download)
        if config.dataset.get("held_out"):
            images = data.hold_out(images, config.dataset.held_out)
        run = _Run(
            images=images,
            run_dir=run_dir,
            stages=recipe.stages(config),
            strategy=devices,
            saved=checkpoints.Checkpoints(run_dir / "checkpoints"),
            checkpoint_minutes=checkpoint_minutes,
            checkpoint_steps=checkpoint_steps,
            own_callbacks=callbacks,
        )
        description = {
            "recipe": recipe.to_dict(config),
            "dataset": {
                "name": images.name,
                "classes": len(images.class_names),
                "train_images": images.train.size,
                "validation_images": images.validation.size,
            },
        }
        arrays, position = None, Position()
        if resume:
            run_folder.check_same_run(run_dir, description, recipe.DEFAULTS)
            run_folder.check_same_held_out(run_dir, images.held_out)
            arrays, position = run.saved.load() or (arrays, position)
        run.check(position)

        if run.writes:
            run_dir.mkdir(parents=True, exist_ok=True)
            if not resume:
                held.enter_context(run_folder.alone_in(run_dir))
                # Another run may have come and gone since.
                run_folder.check_output_dir(run_dir, resume)
            _files.write(run_dir / "config.json", run_folder.to_json(description))
            _files.write(run_dir / "labels.txt", "\n".join(images.class_names) + "\n")
            if images.held_out is not None:
                held_out = run_folder.to_json(images.held_out)
                _files.write(run_dir / run_folder.HELD_OUT, held_out)
            run_folder.keep_epochs(run_dir / "log.csv", position.epoch)
            print(_describe(images, run.models[-1]) + run.describe_start(), flush=True)
        for index in range(position.stage, len(run.stages)):
            run.train(index, position, arrays)
            arrays, position = None, Position(index + 1, run.end_of(index))
        return _finish(run, config, git_state) if run.writes else None


def _finish(
    run: "_Run", config: ml_collections.ConfigDict, git_state: dict[str, Any] | None
) -> dict[str, Any]:
    """Writes what a run whose stages have ended leaves, and returns its metrics."""
    model, images, run_dir = run.models[-1], run.images, run.run_dir
    if config.get("reestimate_epochs"):
        run.reestimate_batch_norm(config.reestimate_epochs)
    rows = run_folder.read_log(run_dir / "log.csv")
    validation, confusion = run.evaluate()
    metrics = {
        "train": {name: float(rows[-1][name]) for name in ("loss", "accuracy")} if rows else None,
        "validation": validation,
        # Fewer than the recipe's where a stage ended early.
        "epochs": len(rows) or run.epochs,
        "seconds": sum(float(row["seconds"]) for row in rows),
        "seed": config.seed,
        "versions": provenance.versions(),
        "git": git_state,
    }
    _save(model, run_dir / "model.keras")
    _files.write(run_dir / "metrics.json", run_folder.to_json(metrics))
    if rows:
        title = f"{model.name} on {Path(images.name).name}"
        curve.draw_curve(run_dir / "log.csv", run_dir / "curve.png", title)
    with _files.replacing(run_dir / "confusion.png") as partial:
        pictures.confusion_matrix(confusion, images.class_names).save(partial)
    return metrics


@dataclasses.dataclass
class _Run:
    """A run that has begun. `models` holds what each stage trains, on this machine's device."""

    images: data.ImageDataset
    run_dir: Path
    stages: list[ml_collections.ConfigDict]
    strategy: tf.distribute.Strategy
    saved: checkpoints.Checkpoints
    checkpoint_minutes: float | None
    checkpoint_steps: int | None
    own_callbacks: Sequence[keras.callbacks.Callback]

    def __post_init__(self) -> None:
        # All of them at once: a stage that cannot be built shall not be found after days.
        self.models = [stages.create_model(s, self.images.class_names) for s in self.stages]
        self.writes = distribution.is_chief(self.strategy)
        self._others: dict[str, keras.Model] = {}

    def check(self, position: Position) -> None:
        """Checks all stages, and reads the models that they need from files.

        Raises:
            ValueError: a stage cannot be trained.
        """
        for index, stage in enumerate(self.stages):
            distribution.check_batch_size(stage.batch_size, self.strategy)
            optimizers.create_optimizer(stage, self._steps(stage))
            self._augmentation(stage)
            self._class_weights(stage)
            stages.frozen_layers(self.models[index], stage)
            if index + 1 == len(self.stages):
                stages.check_reestimation(stage)
            if stage.start != "scratch":
                source = self._source(index, "start")
                new = self._new_head(index)
                _keras_model.check_fits(source, self.models[index], but=new)
                self._warn_of_seen(stage.start)
            if _has_teacher(stage):
                teacher = self._source(index, "distillation.teacher")
                step.check_teacher(teacher, self.models[index], stage.distillation.teacher)
                self._check_teachers_classes(index)
        for index in range(position.stage):
            try:
                ended = _safe_load.load_model(self._stage_path(index))
            except ValueError as error:
                raise ValueError(f"Cannot resume: {error}.") from error
            _keras_model.carry_weights(ended, self.models[index])

    def _warn_of_seen(self, start: str) -> None:
        """Warns if weights to start from may have been trained on what validates now."""
        before, now = stages.run_of(start), self.images.held_out
        if before is None or now is None or before.dataset != self.images.name:
            return
        held_out = before.held_out
        seen = len({*now} - {*held_out}) if held_out is not None else 0
        if seen and self.writes:
            warnings.warn(
                f"{self.images.name} has changed since the run {start}: its weights may have been "
                f"trained on {seen:,} of the {len(now):,} images that are held out now, so that "
                "the validation accuracy is too good.",
                stacklevel=2,
            )

    def end_of(self, index: int) -> int:
        """How many epochs the run has had when a stage ends."""
        return sum(stage.epochs for stage in self.stages[: index + 1])

    @property
    def epochs(self) -> int:
        return self.end_of(len(self.stages))

    def train(self, index: int, position: Position, arrays: checkpoints.Arrays | None) -> None:
        """Trains a stage from a position on, whose checkpoint held `arrays`, if any."""
        stage, model = self.stages[index], self.models[index]
        steps = self._steps(stage)
        if arrays is None and stage.start != "scratch":
            source = self._source(index, "start")
            _keras_model.carry_weights(source, model, but=self._new_head(index))
        with self.strategy.scope():
            trained = distribution.replicate(model, self.strategy)
            trained = _keras_model.with_frozen(trained, stages.frozen_layers(model, stage))
            trained = _keras_model.with_precision(trained, stage.get("precision", "float32"))
            teacher = None
            if _has_teacher(stage):
                teacher = distribution.replicate(
                    self._source(index, "distillation.teacher"), self.strategy
                )
            trained = step.create_training_model(trained, stage, teacher)
            optimizer = optimizers.create_optimizer(stage, steps)
            trained.compile(optimizer, _loss(stage), metrics=["accuracy"])
            if arrays is not None:
                checkpoints.restore(arrays, trained, optimizer)
        best, patience = None, stage.get("patience", 0)
        if stage.get("keep") == "best" or patience:
            best = checkpoints.BestEpoch(self.saved.folder, index, writes=self.writes)
        with callbacks.TerminationRequest() as request:
            # An epoch that is resumed in its middle, then whole ones.
            middle = position.epoch + 1 if position.step else position.epoch
            for start, end in ((position, middle), (Position(index, middle), self.end_of(index))):
                # A run that is resumed may have run out of patience before.
                is_over = patience and best is not None and best.waited(start.epoch) >= patience
                if start.epoch < end and not is_over:
                    self._fit(trained, index, start, end, request, best)
                if trained.stop_training:
                    break
            # Keras takes seconds to leave `fit` after the last epoch has been saved.
            newest = f"the newest checkpoint is {self.saved.newest()}"
            request.obey(f"after stage {index + 1} of {len(self.stages)}", newest)
        if stage.get("keep") == "best" and best is not None and best.epoch is not None:
            trained.set_weights(best.weights)
            if self.writes:
                print(
                    f"keeping the weights of epoch {best.epoch + 1}, the best: validation accuracy "
                    f"{best.accuracy:.2%}",
                    flush=True,
                )
        _keras_model.carry_weights(trained, model)
        if self.writes and index + 1 < len(self.stages):
            self._stage_path(index).parent.mkdir(exist_ok=True)
            _save(model, self._stage_path(index))

    def _fit(
        self,
        model: keras.Model,
        index: int,
        start: Position,
        end: int,
        request: callbacks.TerminationRequest,
        best: checkpoints.BestEpoch | None,
    ) -> None:
        """Trains from a position to the end of epoch `end` - 1, with everything around it."""
        stage, steps = self.stages[index], self._steps(self.stages[index])
        batches = distribution.distribute(
            lambda context: self._train_batches(
                stage,
                initial_epoch=start.epoch,
                initial_step=start.step,
                epochs=end,
                input_context=context,
            ),
            self.strategy,
        )
        interactive = self.writes and sys.stdout.isatty()
        minutes, name = self.checkpoint_minutes, None
        if len(self.stages) > 1:
            name = (index + 1, f"{index + 1}/{len(self.stages)} {stage.name}")
        model.fit(
            batches,
            initial_epoch=start.epoch,
            epochs=end,
            steps_per_epoch=steps - start.step,
            validation_data=self._validation_batches(stage),
            verbose=int(interactive),
            callbacks=callbacks.create(
                self.run_dir,
                self.saved,
                start,
                steps=steps,
                epochs=self.epochs,
                stage=name,
                interactive=interactive,
                best=best,
                patience=stage.get("patience", 0),
                others=self.own_callbacks,
                every_seconds=None if minutes is None else 60 * minutes,
                every_steps=self.checkpoint_steps,
                writes=self.writes,
                request=request,
                alone=distribution.num_machines(self.strategy) == 1,
            ),
        )

    def reestimate_batch_norm(self, epochs: int) -> None:
        """Fixes the last model's 1-bit weights at +-1 and re-estimates BatchNorm's statistics."""
        stage, model = self.stages[-1], self.models[-1]
        before, _ = self.evaluate()
        layers = batch_norm.fix_signs(model)
        end = self.epochs
        batches = self._train_batches(stage, initial_epoch=end, epochs=end + epochs, mixup=0.0)
        batch_norm.reestimate(model, (images for images, *_ in batches))
        after, _ = self.evaluate()
        print(
            f"BatchNorm re-estimated with the weights of {len(layers)} layers at +-1: validation "
            f"accuracy {before['accuracy']:.2%} before, {after['accuracy']:.2%} after",
            flush=True,
        )

    def evaluate(self) -> tuple[dict[str, float], np.ndarray]:
        """Loss and accuracy of the last model on the validation split, and its confusion matrix."""
        stage, model = self.stages[-1], self.models[-1]
        # Another object, which `compile` ties to no file.
        evaluated = keras.Model(model.inputs, model.outputs)
        confusion = _Confusion(model.output_shape[-1])
        evaluated.compile(loss=_loss(stage), metrics=["accuracy", confusion])
        figures = evaluated.evaluate(self._validation_batches(stage), verbose=0, return_dict=True)
        del figures[confusion.name]
        return figures, confusion.matrix.numpy()

    def _steps(self, stage: ml_collections.ConfigDict) -> int:
        return data.steps_per_epoch(self.images.train, stage.batch_size)

    def _augmentation(self, stage: ml_collections.ConfigDict) -> Any:
        return preprocessing.create_augmentation(
            **stage.dataset.augmentation, image_size=stage.dataset.image_size
        )

    def _class_weights(self, stage: ml_collections.ConfigDict) -> list[float] | None:
        return data.class_weights(self.images.train) if stage.get("balance") else None

    def _train_batches(self, stage: ml_collections.ConfigDict, **options: Any) -> tf.data.Dataset:
        return data.train_batches(
            self.images.train,
            augment=self._augmentation(stage),
            num_classes=len(self.images.class_names),
            batch_size=stage.batch_size,
            seed=stage.seed,
            class_weights=self._class_weights(stage),
            **{"mixup": stage.get("mixup", 0.0), **options},
        )

    def _validation_batches(self, stage: ml_collections.ConfigDict) -> tf.data.Dataset:
        split = self.images.validation
        batches = data.evaluation_batches(
            split,
            image_size=stage.dataset.image_size,
            num_classes=len(self.images.class_names),
            batch_size=distribution.evaluation_batch_size(
                split.size, stage.batch_size, self.strategy
            ),
            center_crop=stage.dataset.get("center_crop", 1.0),
        )
        options = tf.data.Options()
        # Machines share the images, not the files, of which there may be fewer.
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return batches.with_options(options)

    def _stage_path(self, index: int) -> Path:
        return self.run_dir / "stages" / f"{self.stages[index].name}.keras"

    def _source(self, index: int, field: str) -> keras.Model:
        """The model that a stage's `start` or `distillation.teacher` names."""
        stage = self.stages[index]
        name = stage.start if field == "start" else stage.distillation.teacher
        names = [earlier.name for earlier in self.stages[:index]]
        if name == "previous" and index:
            return self.models[index - 1]
        if name in names:
            return self.models[names.index(name)]
        if name not in self._others:
            try:
                self._others[name] = stages.load_model(name, stage.dataset.image_size)
            except ValueError as error:
                raise ValueError(
                    f"The recipe's `{field}` must be the name of an earlier stage, a model and its "
                    "weights as BiRealNet18:cifar10, or the path of a run's folder or of a Keras "
                    f"model. Received: {name!r}, and {str(error).rstrip('.')}."
                ) from error
        return self._others[name]

    def _check_teachers_classes(self, index: int) -> None:
        """Raises a ValueError if a teacher's outputs are known to mean other classes."""
        name = self.stages[index].distillation.teacher
        there = self._other_classes(index, name)
        if there:
            raise ValueError(
                f"The teacher {name} must have the classes of the dataset, in the same order. It "
                f"has {stages.replaced_classes(there, self.images.class_names)}."
            )

    def _other_classes(self, index: int, name: str) -> tuple[str, ...]:
        """The class names of a model that a stage names, if they are not the dataset's.

        It has none if it is an earlier stage's, or if nothing says how its classes are called.
        """
        earlier = [stage.name for stage in self.stages[:index]]
        if name in earlier or (name == "previous" and index):
            return ()
        there = stages.class_names(name)
        return () if there in (None, self.images.class_names) else there

    def _new_head(self, index: int) -> frozenset[str]:
        """What a stage does not get from the model that it starts from: its head, or nothing."""
        source, model = self._source(index, "start"), self.models[index]
        if self._other_classes(index, self.stages[index].start):
            return frozenset({_keras_model.head(model).name})
        return _keras_model.new_head(source, model)

    def describe_start(self) -> str:
        """Where the weights of the first stage come from; nothing of one from scratch."""
        name = self.stages[0].start
        if name == "scratch":
            return ""
        new, here = self._new_head(0), self.images.class_names
        if not new:
            return f"; starts with all weights of {name}"
        classes = self._source(0, "start").output_shape[-1]
        if classes == len(here):
            told = stages.replaced_classes(here, self._other_classes(0, name))
        else:
            told = f"{len(here)} classes in place of {classes}"
        return (
            f"; starts with the weights of {name} but for {', '.join(new)}: the head is new, for "
            f"{told}"
        )


class _Confusion(keras.metrics.Metric):
    """Counts in `matrix` which class, a row, was taken for which, a column."""

    def __init__(self, classes: int):
        super().__init__(name="confusion")
        self.matrix = self.add_weight("matrix", (classes, classes), dtype=tf.int64)

    def update_state(
        self, labels: tf.Tensor, probabilities: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        taken = (tf.argmax(values, axis=-1) for values in (labels, probabilities))
        size = self.matrix.shape[0]
        self.matrix.assign_add(tf.math.confusion_matrix(*taken, num_classes=size, dtype=tf.int64))

    def result(self) -> tf.Tensor:
        return self.matrix


def _has_teacher(stage: ml_collections.ConfigDict) -> bool:
    return stage.get("distillation", {}).get("teacher") is not None


def _describe(images: data.ImageDataset, model: keras.Model) -> str:
    """What is about to be trained on what, in one line."""
    names = images.class_names
    classes = f"{len(names):,} classes"
    counts = images.class_sizes
    if counts is not None:
        each = [f"{name} {count:,}" for name, count in zip(names, counts)]
        if len(each) > _MAX_CLASSES:
            each = [f"{min(counts):,} to {max(counts):,} images each"]
        classes += f" ({', '.join(each)})"
    return (
        f"{images.name}: {classes}, {images.train.size:,} images to train and "
        f"{images.validation.size:,} to validate; {model.name}, {model.count_params():,} parameters"
    )


def _loss(stage: ml_collections.ConfigDict) -> keras.losses.Loss:
    return keras.losses.CategoricalCrossentropy(label_smoothing=stage.label_smoothing)


def _save(model: keras.Model, path: Path) -> None:
    # Without the optimizer, which `compile` would tie to the file.
    finished = keras.Model(model.inputs, model.outputs, name=model.name)
    with _files.replacing(path) as partial:
        finished.save(partial)
