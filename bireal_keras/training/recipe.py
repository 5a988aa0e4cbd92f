"""Recipes: one small Python file per experiment, read from top to bottom.

A recipe defines `get_config()`, which returns an `ml_collections.ConfigDict` of:

    model           name: a name that `zoo.create_model` knows; num_classes and whatever
                    else that model takes, but for input_shape
    dataset         image_size: height and width in pixels
                    augmentation: name, a key of `preprocessing.AUGMENTATIONS`, and
                    whatever that augmentation takes
    optimizer       name: a key of `optimizers.OPTIMIZERS`; learning_rate: at its highest;
                    whatever else that Keras optimizer takes (momentum); l2: see below
    schedule        name: a key of `optimizers.SCHEDULES`; whatever else that schedule takes
    epochs          how long to train
    batch_size      images per training step, on all machines together
    label_smoothing how much of the label is spread evenly over all classes, in [0, 1)
    seed            of the initial weights, the order of the images and their augmentation

and, where they are wanted, of:

    dataset.center_crop
                    side of the centre square that validation sees, as a share of an image's
                    shorter side; 1 by default
    optimizer.l2    adds l2 * w to the gradient of every convolution's and dense layer's
                    kernel w, which is what Caffe and PyTorch call weight decay. (Keras's own
                    `weight_decay` subtracts learning_rate * weight_decay * w instead.)
    binary_weights  False leaves the kernels of 1-bit convolutions real and unclipped
    start           where the weights come from: "scratch", "previous" (the stage before),
                    the name of an earlier stage, or the path of a Keras model
    precision       what training computes in: "float32" or "mixed_bfloat16", which is faster where
                    the hardware has it. Weights and the trained model are float32
    distillation    teacher: the name of an earlier stage or the path of a Keras model, from
                    images in [-1, 1] to class probabilities
                    weight: share of the teacher's probabilities in the labels, in (0, 1]
    reestimate_epochs
                    epochs of images to take BatchNorm's statistics from after training, with
                    1-bit weights fixed at +-1; see `batch_norm.reestimate`
    stages          what is trained one after the other: see below

A run of several stages has a tuple `stages`, in which each has a `name`, its `epochs` and what
differs from the fields above, but for dataset, seed and reestimate_epochs:

    "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "schedule": {"name": "linear"},
    "stages": (
        {"name": "relu", "epochs": 90, "model": {"name": "BiRealNet18Float"}},
        {"name": "one_bit", "epochs": 20, "optimizer": {"learning_rate": 0.01}},
    ),

A stage's `model` adds to the common one. So do its `optimizer`, `schedule` and `distillation`,
unless they have a name, as another optimizer takes other arguments. Each stage has an
optimizer and a schedule of its own, and starts from the weights of the one before ("previous"),
the first from "scratch". On the command line, --config.stages[0].epochs=30 changes one stage,
and --config.epochs=40 scales all of them to 40 epochs together.

Durations are in epochs or parts of the whole; numbers of steps follow from the dataset and
the batch size.

1-bit weights are clipped to [-1, 1] after every step by the `kernel_constraint` of their
layers (see `bireal_keras.blocks`), whatever the recipe.
"""

import os
import re
import runpy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from bireal_keras._checks import is_share, near

_FOLDER = Path(__file__).parents[1] / "recipes"


def list_recipes() -> list[str]:
    """Names that `load` accepts."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__")


def load(name_or_path: str | os.PathLike[str]) -> ConfigDict:
    """Runs a recipe and returns its config, locked: a mistyped field cannot be set.

    Args:
        name_or_path: one of `list_recipes()`, or the path of a Python file with a function
            `get_config`. The file is executed.

    Raises:
        ValueError: no such recipe, its file fails or returns no ConfigDict.
    """
    name = os.fspath(name_or_path)
    path = _FOLDER / f"{name}.py" if name in list_recipes() else Path(name)
    if not path.is_file():
        raise ValueError(
            f"A recipe must be one of {list_recipes()} or the path of a Python file. "
            f"Received: {name!r}.{near(path.stem, list_recipes())}"
        )
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        config = get_config() if callable(get_config) else None
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{path} must define get_config() that returns a ConfigDict.")
    if "stages" in config:
        config.stages = tuple(map(ConfigDict, config.stages))
        if "epochs" not in config:
            config.epochs = config_dict.placeholder(int)
    return config.lock()


def _int_from(minimum: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= minimum


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _number(value) and 0 < value < float("inf")


def _string(value: Any) -> bool:
    return isinstance(value, str) and value != ""


# Keras's "mixed_float16" needs a scaled loss, which these have the exponents to do without.
_PRECISIONS = ("float32", "mixed_bfloat16")

_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model.name": (_string, "a string"),
    "model.num_classes": (_int_from(1), "a positive int"),
    "dataset.image_size": (_int_from(1), "a positive int"),
    "dataset.augmentation.name": (_string, "a string"),
    "optimizer.name": (_string, "a string"),
    "optimizer.learning_rate": (_positive, "a positive number"),
    "schedule.name": (_string, "a string"),
    "epochs": (_int_from(1), "a positive int"),
    "batch_size": (_int_from(1), "a positive int"),
    "label_smoothing": (lambda value: _number(value) and 0 <= value < 1, "a number in [0, 1)"),
    # What NumPy accepts as a seed.
    "seed": (lambda value: _int_from(0)(value) and value < 2**32, "an int in [0, 2**32)"),
}
_OPTIONAL_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset.center_crop": (is_share, "a number in (0, 1]"),
    "optimizer.l2": (_positive, "a positive number"),
    "binary_weights": (lambda value: isinstance(value, bool), "True or False"),
    "start": (_string, "'scratch', 'previous', the name of an earlier stage or a path"),
    "precision": (lambda value: value in _PRECISIONS, f"one of {_PRECISIONS}"),
    "distillation.teacher": (_string, "the name of an earlier stage or a path"),
    "distillation.weight": (is_share, "a number in (0, 1]"),
    "reestimate_epochs": (_int_from(1), "a positive int"),
}
# The other groups take the arguments of what they name.
_CLOSED = {
    "": {field.split(".")[0] for field in [*_CHECKS, *_OPTIONAL_CHECKS]},
    "dataset": {"image_size", "augmentation", "center_crop"},
    "distillation": {"teacher", "weight"},
}
_MISSING = object()
_OF_THE_WHOLE_RUN = {"dataset", "seed", "reestimate_epochs"}


def check(config: ConfigDict) -> None:
    """Checks that a config has the fields of a recipe and no others.

    Raises:
        ValueError: a field is missing, unknown or has a value that makes no sense.
    """
    common = {key: value for key, value in config.items() if key not in ("stages", "epochs")}
    if "stages" not in config:
        _check_fields(config, "")
        return
    _check_known(common, "")
    if not isinstance(config.stages, (tuple, list)) or not config.stages:
        raise ValueError("The recipe's field `stages` must be a tuple of at least one stage.")
    total = config.get("epochs")
    if total is not None and not _int_from(len(config.stages))(total):
        raise ValueError(
            f"The recipe's field `epochs` must be an int of at least {len(config.stages)}, one "
            f"for each stage. Received: epochs={total!r}."
        )
    names: list[str] = []
    for index, stage in enumerate(config.stages):
        prefix = f"stages[{index}]."
        _check_stage_name(stage, prefix, names)
        fields = {key: value for key, value in stage.items() if key != "name"}
        _check_known(fields, prefix, _OF_THE_WHOLE_RUN)
        _check_fields(_merged(common, fields), prefix)
        names.append(stage.name)


def _check_stage_name(stage: ConfigDict, prefix: str, earlier: list[str]) -> None:
    name = stage.get("name")
    # It becomes a file's name.
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"The recipe's field `{prefix}name` must be made of letters, digits, '_', '-' and "
            f"'.'. Received: {name!r}."
        )
    if name in (*earlier, "scratch", "previous"):
        raise ValueError(f"The recipe's field `{prefix}name` is taken: {name!r}.")


def _check_fields(config: ConfigDict, prefix: str) -> None:
    for field, (accepts, meaning) in {**_CHECKS, **_OPTIONAL_CHECKS}.items():
        value: Any = config
        for key in field.split("."):
            value = value.get(key, _MISSING) if isinstance(value, ConfigDict) else _MISSING
        in_group = field == "distillation.teacher" and "distillation" in config
        if value is _MISSING and (field in _CHECKS or in_group):
            raise ValueError(f"The recipe lacks the field `{prefix}{field}`: {meaning}.")
        if value is not _MISSING and not accepts(value):
            raise ValueError(
                f"The recipe's field `{prefix}{field}` must be {meaning}. "
                f"Received: {prefix}{field}={value!r}."
            )
    _check_known(config, prefix)


def _check_known(
    config: Mapping[str, Any], prefix: str, unwanted: Collection[str] = frozenset()
) -> None:
    for group, known in _CLOSED.items():
        fields = config.get(group, {}) if group else config
        for key in fields if isinstance(fields, Mapping | ConfigDict) else ():
            if key not in known or (not group and key in unwanted):
                field = f"{group}.{key}" if group else key
                own = [f"{group}.{k}" if group else k for k in sorted(known - set(unwanted))]
                raise ValueError(unknown_field(f"{prefix}{field}", [f"{prefix}{k}" for k in own]))


def unknown_field(field: str, known: list[str]) -> str:
    """What to say to someone who set a field that the recipe does not have."""
    hint = near(field, known) or f" Fields: {', '.join(sorted(known))}."
    return f"A recipe has no field `{field}`.{hint}"


def stages(config: ConfigDict) -> list[ConfigDict]:
    """The stages of a checked recipe, each with every field that it trains with.

    Their `epochs` are scaled to the recipe's own, where it says how many. `start`,
    `binary_weights` and `name` are always there. A recipe without stages is one stage.
    """
    common = {key: value for key, value in config.items() if key not in ("stages", "epochs")}
    if "stages" not in config:
        return [_merged({"binary_weights": True, "start": "scratch", "name": "only"}, config)]
    epochs = [stage.epochs for stage in config.stages]
    if config.get("epochs") is not None:
        epochs = _shares(config.epochs, epochs)
    result = []
    for index, stage in enumerate(config.stages):
        start = "previous" if index else "scratch"
        fields = {**stage, "epochs": epochs[index]}
        result.append(_merged({"binary_weights": True, "start": start, **common}, fields))
    return result


def _merged(common: Mapping[str, Any], fields: Mapping[str, Any]) -> ConfigDict:
    """`common` with a stage's fields; groups are merged unless they have another name."""
    merged = dict(common)
    for key, value in fields.items():
        is_group = isinstance(value, ConfigDict)
        if is_group and key in common and (key == "model" or "name" not in value):
            value = {**common[key], **value}
        merged[key] = value
    return ConfigDict(merged, type_safe=False)


def _shares(total: int, parts: list[int]) -> list[int]:
    """`total` in proportion to `parts`: ints, each at least 1."""
    exact = [total * part / sum(parts) for part in parts]
    shares = [max(1, int(share)) for share in exact]
    while sum(shares) != total:
        step = 1 if sum(shares) < total else -1
        candidates = [i for i, share in enumerate(shares) if share + step >= 1]
        furthest = max(candidates, key=lambda i: step * (exact[i] - shares[i]))
        shares[furthest] += step
    return shares


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """A recipe as plain dicts, stages included."""
    plain = config.to_dict()
    if "stages" in config:
        plain["stages"] = [stage.to_dict() for stage in config.stages]
    return plain
