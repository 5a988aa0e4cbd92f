"""ReActNet's activations in the graph, in the file, and the same network without them."""

import numpy as np
import pytest
from exact_weights import exact_images, set_exact_weights
from model_structure import chain, producers

from bireal_keras import blocks, zoo
from bireal_keras._keras import keras

SLIM = {"input_shape": (8, 8, 3), "stem": "cifar", "width": 4, "num_classes": 3}


def test_structure():
    model = zoo.ReActBiRealNet18(**SLIM)
    previous = model.get_layer("stem_bn")
    for stage in range(4):
        for index in range(4):
            block = f"stage{stage + 1}_block{index + 1}"
            add = model.get_layer(f"{block}_add")
            branch, shortcut = producers(add)
            assert chain(branch, previous) == ["ChannelShift", "QuantConv2D", "BatchNormalization"]
            assert chain(shortcut, previous) == (
                ["AveragePooling2D", "Conv2D", "BatchNormalization"]
                if stage > 0 and index == 0
                else []
            )
            previous = model.get_layer(f"{block}_prelu_shift_out")
            assert chain(previous, add) == ["ChannelShift", "PReLU", "ChannelShift"]
    assert producers(model.get_layer("head_pool")) == [previous]


@pytest.mark.slow
def test_is_bi_real_net_when_the_activations_do_nothing():
    react, plain = zoo.ReActBiRealNet18(**SLIM), zoo.BiRealNet18(**SLIM)
    set_exact_weights(plain)
    for layer in react.layers:
        if isinstance(layer, keras.layers.PReLU):
            assert np.unique(layer.alpha) == [0.25]
            layer.set_weights([np.ones_like(layer.alpha)])
        elif isinstance(layer, blocks.ChannelShift):
            assert not np.any(layer.shift)
        elif layer.weights:
            layer.set_weights(plain.get_layer(layer.name).get_weights())
    np.testing.assert_array_equal(react(exact_images(8, 2)), plain(exact_images(8, 2)))


@pytest.mark.slow
def test_becomes_plain_operators():
    from export_helpers import operators, packed

    model = zoo.ReActBiRealNet18(**SLIM)
    set_exact_weights(model)
    names = [name for name, _ in operators(packed(model))]
    assert names.count("LceBconv2d") == names.count("LceQuantize") == names.count("PRELU") == 16
    # Each block has one before the sign, the shortcut's, and two around the PReLU.
    assert names.count("ADD") == 4 * 16
    assert set(names) == {
        *("CONV_2D", "LceQuantize", "LceBconv2d", "ADD", "PRELU", "AVERAGE_POOL_2D"),
        *("MEAN", "FULLY_CONNECTED", "SOFTMAX"),
    }
