"""The models that the stages of a recipe train, and those that they start from."""

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from bireal_keras import _keras_model, _safe_load, zoo
from bireal_keras._keras import keras
from bireal_keras.tflite.metadata import Normalization
from bireal_keras.training import run_folder
from bireal_keras.zoo import _registry

# A message names this many of the classes that it is about.
_MAX_NAMED = 5

_BATCH_NORM = keras.layers.BatchNormalization


def create_model(stage: ml_collections.ConfigDict, class_names: tuple[str, ...]) -> keras.Model:
    """Builds a stage's model for images of a dataset, with initial weights from its seed.

    Raises:
        ValueError: the zoo has no such model, or it does not end in one probability for
            each of `class_names`.
    """
    arguments = {**stage.model}
    given = arguments.pop("num_classes", None)
    if given not in (None, len(class_names)):
        raise ValueError(
            "The recipe's `model.num_classes` must be the dataset's number of classes, "
            f"{len(class_names)} ({some(class_names)}), or be left out. Received: {given}."
        )
    size = stage.dataset.image_size
    keras.utils.set_random_seed(stage.seed)
    model = zoo.create_model(
        arguments.pop("name"),
        input_shape=(size, size, 3),
        num_classes=len(class_names),
        **arguments,
    )
    if model.output_shape != (None, len(class_names)):
        raise ValueError(
            "The recipe's model must end in class probabilities. "
            f"Received a model with the output shape {model.output_shape}."
        )
    return model if stage.binary_weights else _keras_model.with_real_kernels(model)


def run_of(name: str) -> run_folder.Run | None:
    """The run whose folder, or whose file in it, is the model that a recipe names."""
    path = Path(name).expanduser()
    folder = path.parent if path.is_file() else path
    return run_folder.open_run(folder) if run_folder.is_run(folder) else None


def class_names(name: str) -> tuple[str, ...] | None:
    """The names of the classes of a model that a recipe names; None where nothing says them."""
    run = run_of(name)
    labels = None if run is None else run.labels
    return None if labels is None else tuple(labels)


def replaced_classes(names: Sequence[str], others: Sequence[str]) -> str:
    """Which of a model's outputs are called otherwise than another's, to be read by people."""
    pairs = itertools.zip_longest(names, others)
    return some([f"{name!r} in place of {other!r}" for name, other in pairs if name != other])


def some(names: Collection[str]) -> str:
    """The first names, to be read by people."""
    return ", ".join([*names][:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")


def load_model(name: str, image_size: int) -> keras.Model:
    """Loads a trained model that a recipe names; it takes images in [-1, 1].

    Args:
        name: "BiRealNet18:cifar10", a model of the zoo and the name of weights that are
            published for it; or the path of a run's folder or of a Keras model.
        image_size: height and width of the images of a model of the zoo, in pixels.

    Raises:
        ValueError: there is no such model, or its file cannot be used.
        OSError: published weights cannot be downloaded.
    """
    network, _, weights = name.partition(":")
    if weights and network in zoo.list_models():
        model = zoo.create_model(network, weights=weights, input_shape=(image_size, image_size, 3))
        published = _registry.MODELS[network].weights.get((weights, True))
        if published is not None and published.normalization != Normalization():
            _take_symmetric_images(model, published.normalization)
        return model
    is_run = run_folder.is_run(name)
    return _safe_load.load_model(run_folder.open_run(name).model if is_run else name)


def _take_symmetric_images(model: keras.Model, normalization: Normalization) -> None:
    """Lets a model that takes (pixel - mean) / std take images x in [-1, 1], as training's are.

    With scale = 127.5 / std and shift = (127.5 - mean) / std the old input is scale * x + shift.
    The first convolution's kernel takes the scale over, and the BatchNorm after it what the
    convolution makes of the shift. That is exact but at the border, where the padding's zeros
    stand for another colour now.
    """
    mean, std = (np.array(v, np.float32) for v in (normalization.mean, normalization.std))
    scale, shift = 127.5 / std, (127.5 - mean) / std
    conv = next(layer for layer in model.layers if layer.weights)
    norm = conv.outbound_nodes[0].layer
    kernel = conv.kernel.numpy()
    added = np.sum(kernel * np.reshape(shift, (1, 1, -1, 1)), axis=(0, 1, 2))
    conv.kernel.assign(kernel * np.reshape(scale, (1, 1, -1, 1)))
    norm.moving_mean.assign(norm.moving_mean - added)


def check_reestimation(stage: ml_collections.ConfigDict) -> None:
    """Raises a ValueError if a last stage re-estimates the statistics that its `freeze` keeps."""
    part = stage.get("freeze", "nothing")
    if part in ("body", "batch_norm") and stage.get("reestimate_epochs"):
        raise ValueError(
            "The recipe's `reestimate_epochs` must be 0 where `freeze` keeps BatchNorm's "
            f"statistics, which it would replace. Received: freeze={part!r} and "
            f"reestimate_epochs={stage.reestimate_epochs}."
        )


def frozen_layers(model: keras.Model, stage: ml_collections.ConfigDict) -> frozenset[str]:
    """Names of the layers of a stage's model that its `freeze` means.

    Raises:
        ValueError: the stage starts from scratch, or there is no such layer.
    """
    part = stage.get("freeze", "nothing")
    if part == "nothing":
        return frozenset()
    if stage.start == "scratch":
        raise ValueError(
            f"The recipe's `freeze` needs weights to keep: a `start`. Received: freeze={part!r} "
            "and start='scratch'."
        )
    layers = [layer for layer in model.layers if layer.weights]
    head = _keras_model.head(model)
    names = {
        "stem": [layer.name for layer in layers if layer.name.startswith("stem")],
        "body": [layer.name for layer in layers if layer is not head],
        "batch_norm": [layer.name for layer in layers if isinstance(layer, _BATCH_NORM)],
    }[part]
    if not names:
        raise ValueError(f"The recipe's `freeze` must not be {part!r}: {model.name} has none.")
    return frozenset(names)
