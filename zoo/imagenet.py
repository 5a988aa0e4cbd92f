"""What goes into a network trained on ImageNet and what comes out: colours and class names.

The names come with the package: no download.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from bireal_keras.tflite.metadata import NORMALIZATIONS

_CLASSES = 1000
# Of red, green and blue in ImageNet's training set, for values in [0, 1].
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# The same for pixels in [0, 255], to export a model that takes such images:
# `export.convert(model, path, normalization=NORMALIZATION)`.
NORMALIZATION = NORMALIZATIONS["imagenet"]


def standardize(images: Any) -> Any:
    """Gives images the mean 0 and variance 1 that published weights were trained on.

    Larq Zoo's weights and those of the authors' PyTorch code take such images. Applied to a
    Keras tensor it becomes a part of the model, which then takes images in [-1, 1], as
    `bireal-classify` and the rest of this package prepare them.

    Args:
        images: float32 (..., 3), red, green and blue in [-1, 1]: an array, a tensor or a
            Keras tensor.

    Returns:
        The same shape and type: (images / 2 + 1 / 2 - mean) / standard deviation with
        ImageNet's mean and standard deviation of each colour.

    Example:
        inputs = keras.Input((224, 224, 3))
        model = BiRealNet18(input_tensor=standardize(inputs), weights="imagenet")
    """
    scale = 0.5 / _STANDARD_DEVIATION
    return images * scale + (0.5 - _MEAN) / _STANDARD_DEVIATION


@functools.cache
def classes() -> tuple[tuple[str, str], ...]:
    """The 1,000 classes in the order of a classifier's outputs.

    Returns:
        (WordNet identifier, name) pairs: ("n01440764", "tench") is the first. Every name
        occurs once.
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple((identifier, name) for identifier, name in rows)


def decode_predictions(
    probabilities: np.ndarray, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Names the most probable ImageNet classes.

    Args:
        probabilities: (batch, 1000) of a model trained on ImageNet, as NumPy array or
            tensor.
        top: how many classes to name.

    Returns:
        For each image (WordNet identifier, name, probability) of its `top` classes, most
        probable first.

    Raises:
        ValueError: an argument has another shape or is out of its range.

    Example:
        decode_predictions(model.predict(images), top=1)
        # [[("n02099601", "golden retriever", 0.93)], ...]
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != _CLASSES:
        raise ValueError(
            f"`probabilities` must be (batch, {_CLASSES}). "
            f"Received: an array of shape {probabilities.shape}."
        )
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or not 1 <= top <= _CLASSES:
        raise ValueError(f"`top` must be an int from 1 to {_CLASSES}. Received: top={top!r}.")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(*classes()[index], float(row[index])) for index in indices]
        for row, indices in zip(probabilities, order)
    ]
