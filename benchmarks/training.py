"""What our training adds to a step: figures, logs and checkpoints beside a bare Keras fit.

    python benchmarks/training.py [--rounds=10]

The CIFAR-10 recipe's network and optimizer on random images. Both sides train the same graph on
the same pipeline; one is `fit` as Larq's users call it, the other `fit` with everything that
`bireal-train` has around it, a checkpoint at the end of each round included. They take turns
in one process, so that a machine whose speed drifts slows both.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from report import machine, print_table

from bireal_keras import _cli, callbacks, checkpoints, data, optimizers, recipes, staging
from bireal_keras._keras import keras, tf

_ROUNDS = flags.DEFINE_integer("rounds", 10, "Turns of each side.", lower_bound=3)
_STEPS = 25
_BATCH_SIZE = 32


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    (stage,) = recipes.stages(recipes.load("cifar10"))
    with tempfile.TemporaryDirectory() as folder:
        sides = {"Keras's fit": _bare(stage), "bireal-train's": _ours(stage, Path(folder))}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for fit in sides.values():
            fit(0)  # Builds the graph.
        for turn in range(1, _ROUNDS.value + 1):
            for name, fit in sides.items():
                start = time.perf_counter()
                fit(turn)
                times[name].append((time.perf_counter() - start) / _STEPS)
    bare, ours = times.values()
    ratio = statistics.median(our / its for our, its in zip(ours, bare))
    print(
        f"\nBi-Real-18 of width {stage.model.width}, 32x32, batches of {_BATCH_SIZE}. {machine()}\n"
    )
    print_table(
        ["", f"ms per step, median of {_ROUNDS.value} x {_STEPS}", "beside Keras's fit"],
        [
            [name, f"{1e3 * statistics.median(of_side):.1f}", f"{relative:.3f}x"]
            for (name, of_side), relative in zip(times.items(), (1.0, ratio))
        ],
    )


def _model(stage: recipes.ConfigDict) -> tuple[keras.Model, tf.data.Dataset]:
    model = staging.create_model(stage, tuple("0123456789"))
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


def _bare(stage: recipes.ConfigDict) -> Callable[[int], object]:
    model, batches = _model(stage)
    return lambda turn: model.fit(batches, steps_per_epoch=_STEPS, epochs=1, verbose=0)


def _ours(stage: recipes.ConfigDict, folder: Path) -> Callable[[int], object]:
    model, batches = _model(stage)
    saved = checkpoints.Checkpoints(folder / "checkpoints")

    def fit(turn: int) -> None:
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
        model.fit(
            batches,
            initial_epoch=turn,
            epochs=turn + 1,
            steps_per_epoch=_STEPS,
            verbose=0,
            callbacks=around,
        )

    return fit


if __name__ == "__main__":
    _cli.run("training", main, module="__main__", doc=__doc__)
