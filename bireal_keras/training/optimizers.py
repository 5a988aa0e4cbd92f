"""Optimizers and learning rate schedules that a recipe can name.

A schedule is a function of the highest learning rate, the epochs, the steps of an epoch and
arguments of its own, with durations in epochs or in parts of the whole; it returns what a
Keras optimizer takes.
"""

from collections.abc import Callable, Iterable
from typing import Any

import ml_collections

from bireal_keras._keras import keras

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
}

# What a Keras optimizer takes as its learning rate: a float or a LearningRateSchedule.
LearningRate = Any


def constant(learning_rate: float, epochs: int, steps_per_epoch: int) -> LearningRate:
    """The same learning rate throughout."""
    return learning_rate


def cosine(
    learning_rate: float, epochs: int, steps_per_epoch: int, *, warmup_epochs: float = 0
) -> LearningRate:
    """Half a cosine down to 0, after a linear rise from 0 during `warmup_epochs`."""
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"`schedule.warmup_epochs` must be in [0, {epochs}), the epochs being {epochs}. "
            f"Received: {warmup_epochs}."
        )
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    decay_steps = epochs * steps_per_epoch - warmup_steps
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps, warmup_target=learning_rate, warmup_steps=warmup_steps
    )


def linear(
    learning_rate: float, epochs: int, steps_per_epoch: int, *, interval: str = "step"
) -> LearningRate:
    """A straight line down to 0, sinking with every step or only between epochs.

    With `interval="epoch"`, epoch e (from 0) has learning_rate * (1 - (e + 1) / epochs), as
    in the authors' PyTorch code: the last epoch has 0 and only moves BatchNorm's means.
    """
    if interval == "step":
        return keras.optimizers.schedules.PolynomialDecay(
            learning_rate, epochs * steps_per_epoch, end_learning_rate=0.0
        )
    if interval == "epoch":
        levels = [learning_rate * (1 - (epoch + 1) / epochs) for epoch in range(epochs)]
        return _piecewise(levels, range(1, epochs), steps_per_epoch)
    raise ValueError(f"`schedule.interval` must be 'step' or 'epoch'. Received: {interval!r}.")


def step(
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    *,
    milestones: tuple[float, ...],
    factor: float = 0.1,
) -> LearningRate:
    """Multiplied by `factor` at each of `milestones`, which are parts of the whole.

    `(10 / 20, 15 / 20)` means after 10 and 15 of 20 epochs; of 4, after 2 and 3.
    """
    if list(milestones) != sorted(set(milestones)) or not all(
        0 < milestone < 1 for milestone in milestones
    ):
        raise ValueError(
            "`schedule.milestones` must rise and lie in (0, 1), parts of the whole such as "
            f"10 / 20. Received: {tuple(milestones)}."
        )
    levels = [learning_rate * factor**passed for passed in range(len(milestones) + 1)]
    return _piecewise(levels, [part * epochs for part in milestones], steps_per_epoch)


def _piecewise(levels: list[float], starts: Iterable[float], steps_per_epoch: int) -> LearningRate:
    if len(levels) == 1:  # Keras's schedule wants two.
        return levels[0]
    # Keras's boundaries are the last step of the old level.
    boundaries = [round(start * steps_per_epoch) - 1 for start in starts]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, levels)


SCHEDULES: dict[str, Callable[..., LearningRate]] = {
    schedule.__name__: schedule for schedule in (constant, cosine, linear, step)
}


def create_optimizer(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Builds a recipe's optimizer with its learning rate schedule.

    Its `l2` is not the optimizer's: `step.TrainingModel` adds it to the gradients.

    Raises:
        ValueError: unknown optimizer or schedule, or one that does not take an argument; or
            `use_ema`, which training does not take.
    """
    optimizer, schedule = dict(config.optimizer), dict(config.schedule)
    optimizer.pop("l2", None)
    if optimizer.get("use_ema"):
        # Keras puts the averages into the weights when `fit` ends: after the last checkpoint, and
        # after each validation, so that a resumed run would end with other weights.
        raise ValueError(
            "The recipe's `optimizer.use_ema` must be False or be left out: a run with averaged "
            "weights could not be resumed. Received: use_ema=True."
        )
    learning_rate = _create(
        "schedule",
        SCHEDULES,
        schedule,
        learning_rate=optimizer["learning_rate"],
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    return _create("optimizer", OPTIMIZERS, {**optimizer, "learning_rate": learning_rate})


def _create(group: str, known: dict[str, Callable[..., Any]], fields: dict, **more: Any) -> Any:
    arguments = {**fields, **more}
    name = arguments.pop("name")
    if name not in known:
        raise ValueError(
            f"The recipe's `{group}.name` must be one of {sorted(known)}. Received: {name!r}."
        )
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ValueError(f"The recipe's `{group}`: {error}") from error
