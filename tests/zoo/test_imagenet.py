"""ImageNet's class names and `decode_predictions`."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bireal_keras import zoo
from bireal_keras._keras import keras
from bireal_keras.tflite.labels import check_labels
from bireal_keras.zoo import imagenet


def test_standardize():
    # They are black, white and the mean colour, by the definition for values in [0, 255].
    pixels = np.array([[0, 0, 0], [255, 255, 255], [123.675, 116.28, 103.53]], np.float32)
    expected = (pixels - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(imagenet.standardize(pixels / 127.5 - 1), expected, atol=1e-6)


def test_standardize_inside_a_model():
    inputs = keras.Input((32, 32, 3))
    arguments = {"num_classes": 10, "width": 4}
    model = zoo.BiRealNet18(input_tensor=imagenet.standardize(inputs), **arguments)
    plain = zoo.BiRealNet18(input_shape=(32, 32, 3), **arguments)
    plain.set_weights(model.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(model(images), plain(imagenet.standardize(images)), rtol=1e-5)


@pytest.mark.parametrize(
    ("index", "identifier", "name"),
    [
        (0, "n01440764", "tench"),
        (1, "n01443537", "goldfish"),
        (134, "n02012849", "crane bird"),
        (207, "n02099601", "golden retriever"),
        (281, "n02123045", "tabby"),
        (517, "n03126707", "crane"),
        (817, "n04285008", "sports car"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_well_known_classes(index, identifier, name):
    assert imagenet.classes()[index] == (identifier, name)


def test_order_is_that_of_tensorflow_datasets():
    labels = Path(tfds.__file__).parent / "datasets/imagenet2012/labels.txt"
    assert [identifier for identifier, _ in imagenet.classes()] == labels.read_text().split()


def test_names_can_travel_inside_a_model():
    names = [name for _, name in imagenet.classes()]
    assert len(set(names)) == 1000
    check_labels(names)


def test_decode_predictions():
    probabilities = np.full((2, 1000), 0.0001, np.float32)
    probabilities[0, [207, 281, 0]] = 0.5, 0.25, 0.125
    probabilities[1, 999] = 0.75
    first, second = zoo.decode_predictions(probabilities, top=3)
    assert first == [
        ("n02099601", "golden retriever", 0.5),
        ("n02123045", "tabby", 0.25),
        ("n01440764", "tench", 0.125),
    ]
    assert second[0] == ("n15075141", "toilet tissue", 0.75)
    # Equally probable classes come in their own order.
    assert [name for _, name, _ in second[1:]] == ["tench", "goldfish"]
    assert [len(row) for row in zoo.decode_predictions(probabilities)] == [5, 5]


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 1, 1000)])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match=r"`probabilities` must be \(batch, 1000\).*shape \("):
        zoo.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, 1001, 2.0, True, None])
def test_bad_top(top):
    with pytest.raises(ValueError, match=f"`top` must be an int from 1 to 1000.*top={top}"):
        zoo.decode_predictions(np.zeros((1, 1000)), top=top)
