"""In what values a model takes its images, against models that were made for such images."""

import numpy as np
import pytest

from bireal_keras._keras import keras
from bireal_keras.export import image_range
from bireal_keras.tflite.metadata import NORMALIZATIONS

layers = keras.layers


def model(*first):
    return keras.Sequential([keras.Input((16, 16, 3)), *first, layers.Conv2D(4, 3)])


def photos(low, high):
    """Values as photos have them, in a range."""
    values = np.random.default_rng(0).beta(2, 2.5, (64, 16, 16, 3))
    return (low + values * (high - low)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: layers.Rescaling(1 / 255), "raw"),
        (lambda: layers.Rescaling(1 / 256), "raw"),
        (lambda: layers.Rescaling(1 / 127.5, offset=-1), "raw"),
        (lambda: layers.Rescaling(2, offset=-1), "unit"),
        (lambda: layers.Rescaling(255), "unit"),
        (lambda: layers.Rescaling(0.5, offset=0.5), "symmetric"),
        (lambda: layers.Rescaling(127.5, offset=127.5), "symmetric"),
        (lambda: layers.Conv2D(3, 1), "symmetric"),
        (lambda: layers.BatchNormalization(), "symmetric"),
    ],
)
def test_a_first_layer_that_tells(layer, expected):
    augmentation = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]
    for first in ([], augmentation, [keras.Sequential(augmentation)]):
        normalization, _ = image_range.find(model(*first, layer()))
        assert normalization == NORMALIZATIONS[expected]
    # In a model within the model, which is what keras.applications are used as.
    inputs = keras.Input((16, 16, 3))
    assert image_range.find(keras.Model(inputs, model(layer())(inputs)))[0] == normalization


def test_a_layer_that_was_adapted_to_pixels():
    layer = layers.Normalization()
    layer.adapt(photos(0, 255))
    assert image_range.find(model(layer)) == (
        NORMALIZATIONS["raw"],
        f"by its first layer, {layer.name}",
    )


def unit_or_symmetric():
    layer = layers.Normalization()
    layer.adapt(photos(0, 1))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        unit_or_symmetric,
        lambda: layers.Normalization(mean=0.0, variance=1.0),
        lambda: layers.Rescaling(1.0),
        lambda: layers.Rescaling(0.3),
    ],
)
def test_a_first_layer_that_does_not_tell_is_asked_about(layer):
    first = layer()
    with pytest.raises(ValueError, match=f"`normalization` must say .* {first.name} .*not tell"):
        image_range.find(model(first))


def test_an_input_that_two_layers_read_says_nothing():
    inputs = keras.Input((16, 16, 3))
    outputs = layers.Concatenate()([layers.Rescaling(1 / 255)(inputs), inputs])
    normalization, source = image_range.find(keras.Model(inputs, outputs))
    assert (normalization, source) == (NORMALIZATIONS["symmetric"], "assumed, as bireal-train's")
