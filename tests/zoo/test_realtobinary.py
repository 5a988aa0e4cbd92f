"""Real-to-Binary nets: the gates against NumPy, and where they are in the graph."""

import numpy as np
import pytest
from model_structure import chain, producers

from bireal_keras import zoo
from bireal_keras._keras import keras, lq

SLIM = {"input_shape": (8, 8, 3), "stem": "cifar", "width": 16, "num_classes": 3}


def test_gates_depend_on_the_image():
    model = zoo.RealToBinaryNet(**SLIM)
    block = "stage2_block1"
    tensors = [model.get_layer(f"{block}_{part}").output for part in ("bn", "gate_reshape")]
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    signs_see, gates = keras.Model(model.input, tensors)(images)
    reduce, expand = (
        model.get_layer(f"{block}_gate_{part}").get_weights() for part in ("reduce", "expand")
    )
    assert reduce[0].shape == (16, 2)
    assert expand[0].shape == (2, 32)
    hidden = np.maximum(np.mean(signs_see, axis=(1, 2)) @ reduce[0], 0)
    expected = 1 / (1 + np.exp(-(hidden @ expand[0])))
    np.testing.assert_allclose(gates[:, 0, 0], expected, atol=1e-5)
    assert np.ptp(gates, axis=0).max() > 1e-3


@pytest.mark.slow
def test_structure():
    model = zoo.RealToBinaryNet(**SLIM)
    previous = model.get_layer("stem_bn")
    for stage in range(4):
        for index in range(4):
            block = f"stage{stage + 1}_block{index + 1}"
            end = model.get_layer(f"{block}_add")
            branch, shortcut = producers(end)
            gated = model.get_layer(f"{block}_gate")
            norm = model.get_layer(f"{block}_bn")
            convolution, gates = producers(gated)
            assert chain(branch, gated) == ["PReLU"]
            assert chain(convolution, norm) == ["QuantConv2D"]
            assert chain(norm, previous) == ["BatchNormalization"]
            assert chain(gates, norm) == ["GlobalAveragePooling2D", "Dense", "Dense", "Reshape"]
            assert chain(shortcut, previous) == (
                ["AveragePooling2D", "Conv2D", "BatchNormalization"]
                if stage > 0 and index == 0
                else []
            )
            assert type(convolution.input_quantizer) is lq.quantizers.SteSign
            assert type(convolution.kernel_quantizer) is lq.quantizers.SteSign
            previous = end
