"""Trains a model of the zoo from a recipe.

Usage: bireal-train --config=RECIPE --dataset=DATASET --output_dir=FOLDER [flags]

    bireal-train --config=mnist_5k --dataset=mnist_5k --output_dir=runs/digits
    bireal-train --config=cifar10 --dataset=cifar10 --download --output_dir=runs/cifar10
    bireal-train --config=finetune --dataset=photos/ --output_dir=runs/photos
    bireal-train --config=my_recipe.py --dataset=photos/ --output_dir=runs/mine

A recipe is a Python file with a function get_config(). These come with the package:

    {recipes}

Any of a recipe's fields can be set on the command line, after --config, those that it leaves out,
too. Only what a model, an optimizer, a schedule or an augmentation takes besides, model.padding
say, has to be in the recipe's file to be set:

    --config.epochs=20 --config.optimizer.learning_rate=0.01 --config.model.width=32
    --config.dataset.center_crop=0.875 --config.stages[0].epochs=30

Training starts from weights that are there with --config.start: BiRealNet18:cifar10 (a model of the
zoo and weights that are published for it), the folder of a run, or the file of a Keras model. If
that had other classes, the head is new and all else is carried; the first line says so.

The output folder receives config.json, labels.txt, of a folder of images held_out.json (which of
them validate), log.csv, tensorboard/, checkpoints/, model.keras, metrics.json, curve.png and
confusion.png. A run that was stopped, or killed at any time, continues with the same command and
--resume. On Ctrl-C and on SIGTERM it saves where it is, and exits with status 130 and 143. A second
Ctrl-C stops at once.

With --pipeline_only the input pipeline runs alone, for ten seconds: it is the bottleneck where it
delivers fewer images a second than training takes.

With --strategy=multi_worker the same command runs on every machine, with TF_CONFIG set on
each and an --output_dir that all of them see; the first worker writes.
"""

import sys
import warnings

from absl import app, flags

from bireal_keras import _native_log, training
from bireal_keras.commands import _cli, _tensorflow_log

with _cli.imports("bireal-train"):
    from bireal_keras import recipes
    from bireal_keras.commands import _recipe_flag

_CONFIG = _recipe_flag.define()
_DATASET = _cli.define_path(
    "dataset",
    None,
    "What to train on: mnist_5k (5,000 digits, needs no download), a folder of images "
    "(<folder>/<class>/*.jpg, or <folder>/train/... and <folder>/validation/...), the name of "
    "an image classification dataset of TensorFlow Datasets, or fake (noise made in memory, to "
    "measure training alone).",
    required=True,
)
_DATA_DIR = _cli.define_path(
    "data_dir", None, "Where TensorFlow Datasets keeps its data, if not in the usual place."
)
_OUTPUT_DIR = _cli.define_path(
    "output_dir",
    None,
    "Where the run goes: a new or empty folder, or with --resume the run's. Required.",
)
_RESUME = flags.DEFINE_bool("resume", False, "Continue the run in --output_dir.")
_DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Let TensorFlow Datasets download what --data_dir lacks."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "one",
    ["one", "mirrored", "multi_worker", "tpu"],
    "Where to train: on one device, all GPUs of this machine, the machines that TF_CONFIG "
    "names, or a TPU. The recipe's batch size is that of all of them together.",
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "Let TensorFlow use only operations that repeat to the last bit. Slower on GPUs.",
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "Save a checkpoint this often, besides that after each epoch. Not across machines.",
    lower_bound=0.0,
)
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps", None, "Save one after this many steps, too.", lower_bound=1
)


_PIPELINE_ONLY = flags.DEFINE_bool(
    "pipeline_only",
    False,
    "Do not train: print how many images a second the input pipeline delivers.",
)


def main(args: list[str]) -> int:
    if args:
        raise app.UsageError(f"Unexpected argument {args[0]!r}: every argument is a --flag")
    output_dir = _OUTPUT_DIR.value
    if output_dir is None and not _PIPELINE_ONLY.value:
        raise app.UsageError("Flag --output_dir must have a value")
    _tensorflow_log.silence()
    warnings.formatwarning = lambda message, *_, **__: f"bireal-train: warning: {message}\n"
    if _PIPELINE_ONLY.value or output_dir is None:
        return _measure_pipeline()
    return _train(output_dir)


def _measure_pipeline() -> int:
    # After the flags, here and below: --help and a mistyped flag need not wait for TensorFlow,
    # whose greeting nobody needs.
    with _native_log.quiet():
        from bireal_keras.training import throughput

    speed = throughput.measure_pipeline(
        _CONFIG.value,
        dataset=_DATASET.value,
        data_dir=_DATA_DIR.value,
        download=_DOWNLOAD.value,
    )
    print(f"{speed:,.0f} images/s from the input pipeline alone")
    return 0


def _train(output_dir: str) -> int:
    with _native_log.quiet():
        train_and_evaluate = training.train_and_evaluate
    try:
        metrics = train_and_evaluate(
            _CONFIG.value,
            dataset=_DATASET.value,
            output_dir=output_dir,
            data_dir=_DATA_DIR.value,
            resume=_RESUME.value,
            download=_DOWNLOAD.value,
            strategy=_STRATEGY.value,
            deterministic=_DETERMINISTIC.value,
            checkpoint_minutes=_CHECKPOINT_MINUTES.value,
            checkpoint_steps=_CHECKPOINT_STEPS.value,
        )
    except training.Terminated as stop:
        print(f"bireal-train: {stop} Continue with --resume.", file=sys.stderr)
        return 128 + stop.signal
    if metrics is not None:
        print(
            f"validation accuracy {metrics['validation']['accuracy']:.2%} after "
            f"{metrics['epochs']} epochs and {metrics['seconds']:.0f} s: {output_dir}"
        )
    return 0


def run() -> None:
    doc = (__doc__ or "").format(recipes="\n    ".join(recipes.list_recipes()))
    _cli.run("bireal-train", main, module=__name__, doc=doc)


if __name__ == "__main__":
    run()
