"""The network of the ablation study against the networks it interpolates between."""

import numpy as np
import pytest

from bireal_keras import zoo
from bireal_keras._keras import keras, lq, tf
from bireal_keras.training import ablation
from bireal_keras.zoo import ablationnet, binarynet

SMALL = {"input_shape": (16, 16, 3), "num_classes": 3, "width": 2, "stem": "cifar"}


def layers(model):
    """All layers of a model and how they are connected, without the model's own name."""
    config = model.get_config()
    return [config["layers"], config["output_layers"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "name", "other_arguments"),
    [
        ({}, "BiRealNet18", {}),
        ({"shortcuts": "resnet"}, "BinaryResNet18", {}),
        ({"shortcuts": "none"}, "BinaryPlainNet18", {}),
        ({"activation": "clip"}, "BiRealNet18Float", {"activation": "clip"}),
    ],
    ids=str,
)
def test_is_a_network_of_the_zoo(arguments, name, other_arguments):
    model = zoo.AblationNet18(**SMALL, **arguments)
    keras.backend.clear_session()  # Its counter is part of a name.
    other = zoo.create_model(name, **SMALL, **other_arguments)
    expected = layers(other)
    keras.backend.clear_session()
    assert layers(zoo.AblationNet18(**SMALL, **arguments)) == expected
    assert model.count_params() == other.count_params()


def binary_convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]


def gradient(quantizer, values):
    x = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(quantizer(x))
    return tape.gradient(y, x).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("shortcuts", ["per_conv", "resnet", "none"])
def test_gradients_are_exchanged_in_every_convolution(shortcuts):
    model = zoo.AblationNet18(
        **SMALL, shortcuts=shortcuts, activation="ste_sign", weight_gradient="plain"
    )
    convolutions = binary_convolutions(model)
    assert len(convolutions) == 16
    inputs = np.array([-1.5, -0.75, 0.0, 0.5, 1.25])
    kernel = np.array([[0.5, -0.25], [-0.1, 2.0]])
    for layer in convolutions:
        np.testing.assert_array_equal(gradient(layer.input_quantizer, inputs), [0, 1, 1, 1, 0])
        np.testing.assert_allclose(layer.kernel_quantizer(kernel), [[0.3, -1.125], [-0.3, 1.125]])
        np.testing.assert_array_equal(gradient(layer.kernel_quantizer, kernel), [[1, 1], [1, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("shortcuts", ["per_conv", "resnet", "none"])
def test_the_real_valued_twin_has_the_same_weights_under_the_same_names(shortcuts):
    one_bit = zoo.AblationNet18(**SMALL, shortcuts=shortcuts)
    real = zoo.AblationNet18(**SMALL, shortcuts=shortcuts, activation="relu")

    def weights(model):
        return {
            layer.name: [tuple(weight.shape) for weight in layer.weights]
            for layer in model.layers
            if layer.weights
        }

    assert weights(one_bit) == weights(real)
    assert binary_convolutions(real) == []


def test_builds_every_choice_of_the_study():
    """No choice is missing from the study, and none of the study's is unknown here."""
    assert tuple(binarynet.SHORTCUTS) == ablation.AXES["shortcuts"]
    assert tuple(ablationnet.SIGNS) == ablation.AXES["activation"]
    assert tuple(ablationnet.WEIGHT_GRADIENTS) == ablation.AXES["weight_gradient"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [("shortcuts", "both"), ("activation", "sign"), ("weight_gradient", None)],
)
def test_other_choices_are_refused(argument, value):
    with pytest.raises(
        ValueError, match=rf"`{argument}` must be one of \[.*: {argument}={value!r}"
    ):
        zoo.AblationNet18(**SMALL, **{argument: value})


def test_is_built_by_name_and_not_listed():
    assert zoo.create_model("AblationNet18", **SMALL).name == "AblationNet18"
    assert "AblationNet18" not in zoo.list_models()
