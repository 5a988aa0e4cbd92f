"""Recipes: one small Python file per experiment, read from top to bottom.

A recipe defines `get_config()`, which returns an `ml_collections.ConfigDict` of:

    model           name: a name that `zoo.create_model` knows; num_classes and whatever
                    else that model takes, but for input_shape
    dataset         image_size: height and width in pixels
                    augmentation: name, a key of `preprocessing.AUGMENTATIONS`, and
                    whatever that augmentation takes
    optimizer       name: a key of `optimizers.OPTIMIZERS`; learning_rate: at its highest;
                    whatever else that Keras optimizer takes (momentum, weight_decay)
    schedule        name: a key of `optimizers.SCHEDULES`; whatever else that schedule takes
    epochs          how long to train
    batch_size      images per training step
    label_smoothing how much of the label is spread evenly over all classes, in [0, 1)
    seed            of the initial weights, the order of the images and their augmentation

Durations are in epochs; numbers of steps follow from the dataset and the batch size.

1-bit weights are clipped to [-1, 1] after every step by the `kernel_constraint` of their
layers (see `bireal_keras.blocks`), whatever the recipe.
"""

import difflib
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

_FOLDER = Path(__file__).parent


def list_recipes() -> list[str]:
    """Names that `load` accepts."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__")


def load(name_or_path: str | os.PathLike[str]) -> ml_collections.ConfigDict:
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
        near = difflib.get_close_matches(path.stem, list_recipes())
        hint = f" Near: {', '.join(near)}." if near else ""
        raise ValueError(
            f"A recipe must be one of {list_recipes()} or the path of a Python file. "
            f"Received: {name!r}.{hint}"
        )
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        config = get_config() if callable(get_config) else None
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ValueError(f"{path} must define get_config() that returns a ConfigDict.")
    return config.lock()


def _int_from(minimum: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= minimum


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model.name": (lambda value: isinstance(value, str), "a string"),
    "model.num_classes": (_int_from(1), "a positive int"),
    "dataset.image_size": (_int_from(1), "a positive int"),
    "dataset.augmentation.name": (lambda value: isinstance(value, str), "a string"),
    "optimizer.name": (lambda value: isinstance(value, str), "a string"),
    "optimizer.learning_rate": (
        lambda value: isinstance(value, (int, float)) and 0 < value < float("inf"),
        "a positive number",
    ),
    "schedule.name": (lambda value: isinstance(value, str), "a string"),
    "epochs": (_int_from(1), "a positive int"),
    "batch_size": (_int_from(1), "a positive int"),
    "label_smoothing": (
        lambda value: isinstance(value, (int, float)) and 0 <= value < 1,
        "a number in [0, 1)",
    ),
    # What NumPy accepts as a seed.
    "seed": (lambda value: _int_from(0)(value) and value < 2**32, "an int in [0, 2**32)"),
}
# The others take the arguments of what they name.
_CLOSED = {
    "": {field.split(".")[0] for field in _CHECKS},
    "dataset": {"image_size", "augmentation"},
}


def check(config: ml_collections.ConfigDict) -> None:
    """Checks that a config has the fields of a recipe and no others.

    Raises:
        ValueError: a field is missing, unknown or has a value that makes no sense.
    """
    for field, (accepts, meaning) in _CHECKS.items():
        value: Any = config
        for key in field.split("."):
            if not isinstance(value, ml_collections.ConfigDict) or key not in value:
                raise ValueError(f"The recipe lacks the field `{field}`: {meaning}.")
            value = value[key]
        if not accepts(value):
            raise ValueError(
                f"The recipe's field `{field}` must be {meaning}. Received: {field}={value!r}."
            )
    for group, known in _CLOSED.items():
        for key in config[group] if group else config:
            if key not in known:
                field = f"{group}.{key}" if group else key
                raise ValueError(
                    unknown_field(field, [f"{group}.{k}" if group else k for k in known])
                )


def unknown_field(field: str, known: list[str]) -> str:
    """What to say to someone who set a field that the recipe does not have."""
    near = difflib.get_close_matches(field, known)
    hint = f"Near: {', '.join(near)}" if near else f"Fields: {', '.join(sorted(known))}"
    return f"A recipe has no field `{field}`. {hint}."
