"""Measures what each idea of Bi-Real Net brings, by training networks without it.

Usage: bireal-ablate --config=RECIPE --dataset=DATASET --output_dir=FOLDER [flags]

    bireal-ablate --config=cifar10 --dataset=cifar10 --output_dir=runs/ablation --seeds=0,1
    bireal-ablate --config=cifar10 --dataset=cifar10 --output_dir=runs/fair --design=claims \\
        --seeds=0,1,2 --equal_budget --learning_rates=0.002,0.005,0.01

Trains every combination of these choices, the paper's first, with every seed:

    --shortcuts         around each convolution, around two as a ResNet's, or none
    --activations       gradient of the activations' sign: 2 - 2|x|, or 1
    --weight_gradients  with the magnitude of the filter as a factor, or without
    --starts            from a real-valued network that was pre-trained in three stages, relu,
                        leaky_clip and clip; from scratch; or from the first of them

Flags choose some: --shortcuts=per_conv,none --starts=scratch trains eight cells instead of
36, and --design=claims nine, of which each of the paper's claims has a pair. The recipe, one of
a BiRealNet18, says how; any of its fields can be set:

    {recipes}

    --config.model.width=8 --config.epochs=4

Without --equal_budget a cell that is pre-trained is trained for longer than one from scratch. With
it the recipe's epochs are those of a cell in all. With --learning_rates each network, the
real-valued ones, too, has the one that is best for it on a tenth of the training images, held out:
validation images choose nothing.

First it says how many trainings and epochs that takes, and after two epochs about how long.
The output folder receives a folder for each run, and ablation.md, ablation.csv, ablation.json and
ablation.png, which are written anew after each: the cells, and of each of the paper's claims
whether it holds here, does not, or is not decided. The same command goes on where it was stopped,
in the middle of a run, too, and more cells and seeds can follow.
"""

import sys

from absl import app, flags

from bireal_keras import _native_log, training
from bireal_keras.commands import _cli, _tensorflow_log

with _cli.imports("bireal-ablate"):
    from bireal_keras import recipes
    from bireal_keras.commands import _recipe_flag
    from bireal_keras.training import ablation

_CONFIG = _recipe_flag.define()
_DATASET = _cli.define_path(
    "dataset", None, "What to train on, as for bireal-train.", required=True
)
_DATA_DIR = _cli.define_path(
    "data_dir", None, "Where TensorFlow Datasets keeps its data, if not in the usual place."
)
_DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Let TensorFlow Datasets download what --data_dir lacks."
)
_OUTPUT_DIR = _cli.define_path(
    "output_dir",
    None,
    "Where the study goes: a new or empty folder, or that of a study to go on with.",
    required=True,
)


def _choices(name: str, axis: str, text: str) -> flags.FlagHolder:
    choices = ablation.AXES[axis]
    holder = flags.DEFINE_list(name, list(choices), text)
    flags.register_validator(
        name,
        lambda chosen: bool(chosen) and set(chosen) <= set(choices),
        f"must be some of {','.join(choices)}",
    )
    return holder


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_CHOICES = {
    "shortcuts": _choices("shortcuts", "shortcuts", "Which shortcuts."),
    "activation": _choices("activations", "activation", "Which signs of the activations."),
    "weight_gradient": _choices(
        "weight_gradients", "weight_gradient", "Which gradients of the weights."
    ),
    "start": _choices("starts", "start", "Which weights to start from."),
}
_DESIGN = flags.DEFINE_enum(
    "design",
    "factorial",
    list(ablation.DESIGNS),
    "Which cells: every combination, or those that the paper's claims need.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "With which seeds to train each cell.")
flags.register_validator(
    "seeds",
    lambda seeds: bool(seeds) and all(seed.isdecimal() for seed in seeds),
    "must be ints from 0",
)
_PRETRAIN_EPOCHS = flags.DEFINE_integer(
    "pretrain_epochs",
    None,
    "Epochs of each stage of pre-training; by default as many as the recipe's, and with "
    "--equal_budget a quarter of them.",
    lower_bound=1,
)
_EQUAL_BUDGET = flags.DEFINE_bool(
    "equal_budget", False, "Count pre-training in: every cell has the recipe's epochs in all."
)
_LEARNING_RATES = flags.DEFINE_list(
    "learning_rates", [], "Which to choose from for each network; by default the recipe's."
)
flags.register_validator(
    "learning_rates", lambda rates: all(map(_is_number, rates)), "must be numbers"
)
_SEARCH_EPOCHS = flags.DEFINE_integer(
    "search_epochs",
    None,
    "Epochs of a cell in the trainings that choose learning rates; by default as many as the "
    "recipe's.",
    lower_bound=1,
)


def main(args: list[str]) -> int:
    if args:
        raise app.UsageError(f"Unexpected argument {args[0]!r}: every argument is a --flag")
    _tensorflow_log.silence()
    with _native_log.quiet():  # TensorFlow's greeting.
        from bireal_keras import _keras  # noqa: F401
    try:
        ablation.run(
            _CONFIG.value,
            ablation.select_cells(
                _DESIGN.value, **{axis: flag.value for axis, flag in _CHOICES.items()}
            ),
            seeds=sorted({int(seed) for seed in _SEEDS.value}),
            dataset=_DATASET.value,
            output_dir=_OUTPUT_DIR.value,
            pretrain_epochs=_PRETRAIN_EPOCHS.value,
            equal_budget=_EQUAL_BUDGET.value,
            learning_rates=[float(rate) for rate in _LEARNING_RATES.value],
            search_epochs=_SEARCH_EPOCHS.value,
            data_dir=_DATA_DIR.value,
            download=_DOWNLOAD.value,
            report=lambda line: print(line, flush=True),
        )
    except training.Terminated as stop:
        print(f"bireal-ablate: {stop} The same command goes on.", file=sys.stderr)
        return 128 + stop.signal
    print(f"{_OUTPUT_DIR.value}: ablation.md, ablation.csv, ablation.json, ablation.png")
    return 0


def run() -> None:
    doc = (__doc__ or "").format(recipes="\n    ".join(recipes.list_recipes()))
    _cli.run("bireal-ablate", main, module=__name__, doc=doc)


if __name__ == "__main__":
    run()
