"""What our training adds to a step: figures, logs and checkpoints beside a bare Keras fit.

    python benchmarks/training.py [--rounds=10]

The CIFAR-10 recipe's network and optimizer on random images. Both sides train the same graph on
the same pipeline; one is `fit` as Larq's users call it, the other `fit` with everything that
`bireal-train` has around it. They take turns in one process, so that a machine whose speed
drifts slows both. What happens once an epoch, the checkpoint above all, is counted apart and
spread over the steps of an epoch of CIFAR-10.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from report import machine, print_table

from bireal_keras import recipes
from bireal_keras._keras import keras, tf
from bireal_keras.commands import _cli
from bireal_keras.training import callbacks, checkpoints, data, optimizers
from bireal_keras.training.stages import create_model

_ROUNDS = flags.DEFINE_integer("rounds", 10, "Turns of each side.", lower_bound=3)
_STEPS = 25
_BATCH_SIZE = 32
_EPOCH = 50_000 // _BATCH_SIZE  # CIFAR-10's.


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    (stage,) = recipes.stages(recipes.load("cifar10"))
    with tempfile.TemporaryDirectory() as folder:
        sides = {"Keras's fit": _bare(stage), "bireal-train's": _ours(stage, Path(folder))}
        for fit in sides.values():
            fit(0, _Clock())  # Builds the graph.
        clocks = {name: _Clock() for name in sides}
        for turn in range(1, _ROUNDS.value + 1):
            for name, fit in sides.items():
                fit(turn, clocks[name])
    bare = clocks["Keras's fit"]
    print(
        f"\nBi-Real-18 of width {stage.model.width}, 32x32, batches of {_BATCH_SIZE}. {machine()}\n"
    )
    print_table(
        [
            "",
            f"ms per step, median of {_ROUNDS.value} x {_STEPS}",
            "beside Keras's",
            "ms around an epoch",
            f"epoch of {_EPOCH:,} steps, beside Keras's",
        ],
        [
            [
                name,
                f"{1e3 * statistics.median(clock.steps):.1f}",
                f"{_ratio(clock.steps, bare.steps):.3f}x",
                f"{1e3 * statistics.median(clock.around):.0f}",
                f"{_ratio(clock.epochs, bare.epochs):.3f}x",
            ]
            for name, clock in clocks.items()
        ],
    )


def _ratio(times: list[float], others: list[float]) -> float:
    """Median over the rounds, in which both sides met the same machine."""
    return statistics.median(time / other for time, other in zip(times, others))


class _Clock(keras.callbacks.Callback):
    """Seconds of a step in the loop, and of what an epoch takes beside its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float] = []
        self.around: list[float] = []

    @property
    def epochs(self) -> list[float]:
        return [_EPOCH * step + around for step, around in zip(self.steps, self.around)]

    def time(self, fit: Callable[[], object]) -> None:
        start = time.perf_counter()
        fit()
        seconds = time.perf_counter() - start
        self.steps.append((self._end - self._begin) / _STEPS)
        self.around.append(seconds - (self._end - self._begin))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._begin = time.perf_counter()

    # The first of the callbacks: what the others do now does not count as steps.
    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._end = time.perf_counter()


def _model(stage: ConfigDict) -> tuple[keras.Model, tf.data.Dataset]:
    model = create_model(stage, tuple("0123456789"))
    model.compile(
        optimizers.create_optimizer(stage, _STEPS),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (_STEPS * _BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, len(images))
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = data.train_batches(
        data.Split(examples, len(images), tf.identity, len(images)),
        augment=lambda image, seed: tf.cast(image, tf.float32) / 127.5 - 1,
        num_classes=10,
        batch_size=_BATCH_SIZE,
        seed=0,
        epochs=2**31,
    )
    return model, batches


def _bare(stage: ConfigDict) -> Callable[[int, _Clock], None]:
    model, batches = _model(stage)

    def fit(turn: int, clock: _Clock) -> None:
        clock.time(lambda: model.fit(batches, steps_per_epoch=_STEPS, verbose=0, callbacks=[clock]))

    return fit


def _ours(stage: ConfigDict, folder: Path) -> Callable[[int, _Clock], None]:
    model, batches = _model(stage)
    saved = checkpoints.Checkpoints(folder / "checkpoints")

    def fit(turn: int, clock: _Clock) -> None:
        around = callbacks.create(
            folder,
            saved,
            checkpoints.Position(epoch=turn),
            steps=_STEPS,
            epochs=_ROUNDS.value + 1,
            every_seconds=600,
            every_steps=None,
            writes=True,
            request=callbacks.TerminationRequest(),
            alone=True,
        )
        clock.time(
            lambda: model.fit(
                batches,
                initial_epoch=turn,
                epochs=turn + 1,
                steps_per_epoch=_STEPS,
                verbose=0,
                callbacks=[clock, *around],
            )
        )

    return fit


if __name__ == "__main__":
    _cli.run("training", main, module="__main__", doc=__doc__)
