"""What values a model takes its images in, as far as its first layers say it."""

import numpy as np

from bireal_keras._keras import keras
from bireal_keras.tflite.metadata import NORMALIZATIONS, Normalization

# The values that pixels from 0 to 255 become, by name.
_RANGES = {"raw": (0.0, 255.0), "unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}
# Some write 1/256 for 1/255.
_TOLERANCE = 0.01
# The deviation of the pixels of photos is about a quarter of their range.
_MIN_DEVIATION, _MAX_DEVIATION = 0.02, 0.45

# Layers that leave values, or at least their range, as they are.
_NEUTRAL = (
    keras.layers.InputLayer,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.RandomCrop,
    keras.layers.RandomFlip,
    keras.layers.RandomHeight,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomWidth,
    keras.layers.RandomZoom,
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    keras.layers.ZeroPadding2D,
    keras.layers.GaussianNoise,
)


def find(model: keras.Model) -> tuple[Normalization, str]:
    """What a model's images are made of pixels by, and how we know.

    A first layer `Rescaling(1 / 255)` takes pixels as they are, `Rescaling(2, offset=-1)` takes
    them in [0, 1], and a `Normalization` of mean 120 pixels as they are. A model without such a
    layer is taken for one of this package's training, in [-1, 1].

    Args:
        model: of one input (batch, height, width, channels).

    Raises:
        ValueError: such a layer is the first one, and its numbers do not tell.
    """
    layer = _first_layer(model)
    if not isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
        return Normalization(), "assumed, as bireal-train's"
    if isinstance(layer, keras.layers.Rescaling):
        names = _of_rescaling(layer)
    else:
        names = _of_normalization(layer)
    if len(names) != 1:
        raise ValueError(
            f"`normalization` must say in what values the model takes its images "
            f"({', '.join(NORMALIZATIONS)} or mean:std): its first layer {layer.name} "
            f"({type(layer).__name__}) does not tell."
        )
    return NORMALIZATIONS[names[0]], f"by its first layer, {layer.name}"


def _first_layer(model: keras.Model) -> keras.layers.Layer | None:
    """The first layer on the way from the input that may change the range of the values."""
    tensor = model.inputs[0]
    while True:
        readers = [
            (layer, node)
            for layer in model.layers
            for node in layer.inbound_nodes
            if any(tensor is read for read in node.keras_inputs)
        ]
        if len(readers) != 1:
            return None
        [(layer, node)] = readers
        if isinstance(layer, keras.Model):
            inner = _first_layer(layer)
            if inner is not None:
                return inner
        elif not isinstance(layer, _NEUTRAL):
            return layer
        tensor = node.outputs


def _of_rescaling(layer: keras.layers.Rescaling) -> list[str]:
    """Names of the ranges that it brings into another of them."""
    scale, offset = np.asarray(layer.scale, float), np.asarray(layer.offset, float)
    return [
        name
        for name, (low, high) in _RANGES.items()
        for other, ends in _RANGES.items()
        if name != other
        and np.allclose(low * scale + offset, ends[0], rtol=0, atol=_TOLERANCE * np.ptp(ends))
        and np.allclose(high * scale + offset, ends[1], rtol=0, atol=_TOLERANCE * np.ptp(ends))
    ]


def _of_normalization(layer: keras.layers.Normalization) -> list[str]:
    """Names of the ranges whose images can have its mean and its deviation."""
    mean, deviation = np.asarray(layer.mean), np.sqrt(np.asarray(layer.variance))
    return [
        name
        for name, (low, high) in _RANGES.items()
        if (low <= mean).all()
        and (mean <= high).all()
        and (_MIN_DEVIATION * (high - low) <= deviation).all()
        and (deviation <= _MAX_DEVIATION * (high - low)).all()
    ]
