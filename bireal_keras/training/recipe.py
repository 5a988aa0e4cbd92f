"""Recipes: one small Python file per experiment, read from top to bottom.

A recipe defines `get_config()`, which returns an `ml_collections.ConfigDict` of:

    model           name: a name that `zoo.create_model` knows, and whatever else that model
                    takes, but for input_shape. num_classes is the dataset's where it is left out
    dataset         image_size: height and width in pixels
                    augmentation: name, a key of `preprocessing.AUGMENTATIONS`, and
                    whatever that augmentation takes
    optimizer       name: a key of `optimizers.OPTIMIZERS`; learning_rate: at its highest;
                    whatever else that Keras optimizer takes (momentum) but for use_ema; l2: see
                    below
    schedule        name: a key of `optimizers.SCHEDULES`; whatever else that schedule takes
    epochs          how long to train
    batch_size      images per training step, on all machines together
    label_smoothing how much of the label is spread evenly over all classes, in [0, 1)
    seed            of the initial weights, the order of the images and their augmentation

and of these, which a recipe may leave out. `load` gives it those with their defaults:

    dataset.center_crop
                    side of the centre square that validation sees, as a share of an image's
                    shorter side; 1.0
    dataset.held_out
                    share of the training images that are held out and validate, in place of the
                    dataset's validation images, in [0, 1): to choose by them, and to leave the
                    others for the end; 0.0
    optimizer.l2    adds l2 * w to the gradient of every convolution's and dense layer's
                    kernel w, which is what Caffe and PyTorch call weight decay; 0.0. (Keras's
                    own `weight_decay` subtracts learning_rate * weight_decay * w instead.)
    binary_weights  False leaves the kernels of 1-bit convolutions real and unclipped; True
    start           where the weights come from: "scratch", "previous" (the stage before),
                    the name of an earlier stage, published weights by the names of a model and
                    theirs ("BiRealNet18:cifar10"), or the path of a run's folder or of a Keras
                    model. One of other classes, by their number or by the names that a run's
                    folder knows, gives all but the head. Of a run of several stages it is the
                    first one's; the others have "previous" where they do not say. None is
                    "scratch"
    freeze          what keeps the weights that it starts with, BatchNorm's statistics
                    included: "nothing", the "stem", the "body", all but the head, or
                    "batch_norm", all BatchNorms; "nothing"
    balance         whether every class counts the same in the loss, however many images it has:
                    each image weighs images / (classes * images of its class); False
    mixup           alpha of mixup: each image and its label become a mixture with another one of
                    the batch, see `preprocessing.mixup`; 0.0, which mixes none
    precision       what training computes in: "float32" or "mixed_bfloat16", which is faster where
                    the hardware has it. Weights and the trained model are float32; "float32"
    distillation    teacher: as `start`, from images in [-1, 1] to probabilities of the dataset's
                    classes; None
                    weight: share of the teacher's probabilities in the labels, in (0, 1]; 1.0
    keep            which weights training ends with: the "last" epoch's, or the "best"
                    epoch's, that with the highest validation accuracy; "last"
    patience        how many epochs may pass without a higher validation accuracy until the
                    stage ends early; 0, which never ends it
    reestimate_epochs
                    epochs of images to take BatchNorm's statistics from after training, with
                    1-bit weights fixed at +-1; 0, which it must be where `freeze` keeps these
                    statistics. See `batch_norm.reestimate`
    stages          what is trained one after the other: see below; there is no default

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

1-bit weights are clipped to [-1, 1], or to where their model's quantizer ends, after every step by
the `kernel_constraint` of their layers (see `bireal_keras.blocks`), whatever the recipe.
"""

import os
import re
import runpy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    path = _FOLDER / f"{name}.py" if name in list_recipes() else Path(name).expanduser()
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
    for name, default in DEFAULTS.items():
        group = name.partition(".")[0]
        # What a stage says of its own optimizer, say, needs no common one.
        if "." not in name or group in config or group == "distillation":
            _add(config, name, default)
    for part in (config, *config.get("stages", ())):
        _make_real(part)
    return config.lock()


def _make_real(config: ConfigDict) -> None:
    """Makes real numbers of the ints in fields that take any number.

    On the command line a field takes what it has the type of: 0.5 in place of 0.0, but not of 0.
    """
    for name in _names(config):
        is_real = name in _FIELDS and _FIELDS[name].type is float
        if is_real or name.split(".")[0] in _REAL_GROUPS:
            *groups, key = name.split(".")
            group = config
            for part in groups:
                group = group[part]
            if type(group[key]) is int:
                with group.ignore_type():
                    group[key] = float(group[key])


def _add(config: ConfigDict, name: str, value: Any) -> None:
    """Gives a config a field that it lacks, and a group for it."""
    group = config
    *groups, key = name.split(".")
    for part in groups:
        if part not in group:
            group[part] = ConfigDict()
        group = group[part]
    if isinstance(group, ConfigDict) and key not in group:
        group[key] = config_dict.placeholder(_FIELDS[name].type) if value is None else value


def make_settable(config: ConfigDict, name: str) -> None:
    """Gives a stage a field that it takes from the recipe so far: `stages[0].batch_size`.

    Args:
        config: what `load` returned.
        name: of a field, as on the command line.

    Raises:
        ValueError: a recipe has no such field.
    """
    stages = config.get("stages", ())
    known = _names(config)
    for index, stage in enumerate(stages):
        names = {*_names(stage), *(n for n in _FIELDS if n.split(".")[0] not in _OF_THE_WHOLE_RUN)}
        known += [f"stages[{index}].{n}" for n in sorted(names)]
    if name not in known:
        field = re.sub(r"^stages\[\d+\]\.", "", name)
        group = next((group for group in _OPEN if field.startswith(f"{group}.")), None)
        more = f" What else its `{group}` takes has to be in the recipe's file." if group else ""
        raise ValueError(unknown_field(name, known) + more)
    match = re.fullmatch(r"stages\[(\d+)\]\.(.+)", name)
    if match and match[2] in _FIELDS:
        _add(stages[int(match[1])], match[2], None)


def is_set(config: ConfigDict, name: str) -> bool:
    """Whether a recipe says something else than the default of a field or of a group."""
    if name not in config:
        return False
    defaults = {key: value for key, value in DEFAULTS.items() if key.partition(".")[0] == name}
    if not defaults:
        return True
    return any(
        (config[name].get(key.partition(".")[2]) if "." in key else config[name]) != value
        for key, value in defaults.items()
    )


def _names(config: ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, ConfigDict):
            names += _names(value, f"{prefix}{key}.")
    return names


def _int_from(minimum: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= minimum


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _string(value: Any) -> bool:
    return isinstance(value, str) and value != ""


# Keras's "mixed_float16" needs a scaled loss, which these have the exponents to do without.
_PRECISIONS = ("float32", "mixed_bfloat16")
_KEEP = ("last", "best")
_FREEZE = ("nothing", "stem", "body", "batch_norm")
_REQUIRED = object()


class _Field(NamedTuple):
    """What a field of a recipe may be.

    Attributes:
        type: of its value, which a value on the command line is read as.
        accepts: whether a value makes sense.
        meaning: what the value must be, in words.
        default: of a recipe that leaves it out; None stands for what depends on the stage, or
            for nothing at all.
    """

    type: type
    accepts: Callable[[Any], bool]
    meaning: str
    default: Any = _REQUIRED


_FIELDS = {
    "model.name": _Field(str, _string, "a string"),
    "model.num_classes": _Field(int, _int_from(1), "a positive int", None),
    "dataset.image_size": _Field(int, _int_from(1), "a positive int"),
    "dataset.augmentation.name": _Field(str, _string, "a string"),
    "dataset.center_crop": _Field(float, is_share, "a number in (0, 1]", 1.0),
    "dataset.held_out": _Field(
        float, lambda value: _number(value) and 0 <= value < 1, "a number in [0, 1)", 0.0
    ),
    "optimizer.name": _Field(str, _string, "a string"),
    "optimizer.learning_rate": _Field(
        float, lambda value: _number(value) and 0 < value < float("inf"), "a positive number"
    ),
    "optimizer.l2": _Field(
        float, lambda value: _number(value) and 0 <= value < float("inf"), "a number from 0", 0.0
    ),
    "schedule.name": _Field(str, _string, "a string"),
    "epochs": _Field(int, _int_from(1), "a positive int"),
    "batch_size": _Field(int, _int_from(1), "a positive int"),
    "label_smoothing": _Field(
        float, lambda value: _number(value) and 0 <= value < 1, "a number in [0, 1)"
    ),
    # What NumPy accepts as a seed.
    "seed": _Field(
        int, lambda value: _int_from(0)(value) and value < 2**32, "an int in [0, 2**32)"
    ),
    "binary_weights": _Field(bool, lambda value: isinstance(value, bool), "True or False", True),
    "start": _Field(
        str,
        _string,
        "'scratch', 'previous', the name of an earlier stage, of a model with weights or a path",
        None,
    ),
    "freeze": _Field(str, lambda value: value in _FREEZE, f"one of {_FREEZE}", "nothing"),
    "balance": _Field(bool, lambda value: isinstance(value, bool), "True or False", False),
    "mixup": _Field(
        float, lambda value: _number(value) and 0 <= value < float("inf"), "a number from 0", 0.0
    ),
    "precision": _Field(
        str, lambda value: value in _PRECISIONS, f"one of {_PRECISIONS}", "float32"
    ),
    "distillation.teacher": _Field(
        str, _string, "the name of an earlier stage, of a model with weights or a path", None
    ),
    "distillation.weight": _Field(float, is_share, "a number in (0, 1]", 1.0),
    "keep": _Field(str, lambda value: value in _KEEP, f"one of {_KEEP}", "last"),
    "patience": _Field(int, _int_from(0), "an int from 0", 0),
    "reestimate_epochs": _Field(int, _int_from(0), "an int from 0", 0),
}
# Of the fields that a recipe may leave out.
DEFAULTS = {
    name: field.default for name, field in _FIELDS.items() if field.default is not _REQUIRED
}
# The other groups take the arguments of what they name.
_CLOSED = {
    "": {name.split(".")[0] for name in _FIELDS},
    "dataset": {"image_size", "augmentation", "center_crop", "held_out"},
    "distillation": {"teacher", "weight"},
}
_OPEN = ("model", "dataset.augmentation", "optimizer", "schedule")
# All numbers that these take are real ones.
_REAL_GROUPS = {"optimizer", "schedule"}
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
    if not all(isinstance(stage, ConfigDict) for stage in config.stages):
        raise ValueError(
            "The recipe's field `stages` must hold ConfigDicts, as `recipes.load` makes them of "
            f"what a recipe's file says. Received: {type(config.stages[0]).__name__}."
        )
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
        fields = {key: value for key, value in stage.items() if key != "name" and value is not None}
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
    distillation = config.get("distillation") or {}
    is_weighted = distillation.get("weight", 1.0) != 1.0
    for name, field in _FIELDS.items():
        value: Any = config
        for key in name.split("."):
            value = value.get(key, _MISSING) if isinstance(value, ConfigDict) else _MISSING
        # None is what `load` sets where there is no default.
        is_missing = value is _MISSING or (value is None and name in DEFAULTS)
        is_needed = name not in DEFAULTS or (name == "distillation.teacher" and is_weighted)
        if is_missing and is_needed:
            raise ValueError(f"The recipe lacks the field `{prefix}{name}`: {field.meaning}.")
        if not is_missing and not field.accepts(value):
            raise ValueError(
                f"The recipe's field `{prefix}{name}` must be {field.meaning}. "
                f"Received: {prefix}{name}={value!r}."
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
    `binary_weights` and `name` are always there. A recipe without stages is one stage. The
    recipe's own `start` is that of the first one.
    """
    said = {key: value for key, value in config.items() if value is not None}
    common = {key: value for key, value in said.items() if key not in ("stages", "epochs")}
    if "stages" not in config:
        return [_merged({"binary_weights": True, "start": "scratch", "name": "only"}, said)]
    epochs = [stage.epochs for stage in config.stages]
    if config.get("epochs") is not None:
        epochs = _shares(config.epochs, epochs)
    result = []
    for index, stage in enumerate(config.stages):
        start = "previous" if index else common.get("start", "scratch")
        own = {key: value for key, value in stage.items() if value is not None}
        fields = {**own, "epochs": epochs[index]}
        result.append(_merged({"binary_weights": True, **common, "start": start}, fields))
    return result


def _merged(common: Mapping[str, Any], fields: Mapping[str, Any]) -> ConfigDict:
    """`common` with a stage's fields; groups are merged unless they have another name."""
    merged = dict(common)
    for key, value in fields.items():
        is_group = isinstance(value, ConfigDict)
        if is_group and key in common and (key == "model" or "name" not in value):
            own = {name: field for name, field in value.items() if field is not None}
            value = {**common[key], **own}
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
