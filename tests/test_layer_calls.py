"""Hooks on layers: every call is seen or changed, and nothing is left behind."""

import numpy as np
import pytest

from bireal_keras import _layer_calls
from bireal_keras._keras import keras


def test_sees_every_call_and_leaves_no_trace():
    inputs = keras.Input((3,))
    shared = keras.layers.Dense(3, name="shared")
    inner = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(name="relu")], name="inner")
    model = keras.Model(inputs, inner(shared(shared(inputs))), name="outer")
    layers = _layer_calls.layers_of(model)
    assert {"outer", "shared", "inner", "relu"} <= {layer.name for layer in layers}
    assert len(layers) == len({id(layer) for layer in layers})

    shared.call = original = shared.call  # A layer from a SavedModel has it so.
    before = [dict(vars(layer)) for layer in layers]
    x = np.ones((2, 3), np.float32)
    expected = model(x)
    calls = []
    with _layer_calls.watched(
        layers, lambda layer, x, y: calls.append((layer.name, x.shape, y.shape))
    ):
        np.testing.assert_array_equal(model(x), expected)
    shape = (2, 3)
    names = [name for name, *shapes in calls if shapes == [shape, shape]]
    assert [name for name in names if name != "input_1"] == [
        *("shared", "shared", "relu", "inner", "outer")
    ]
    assert [vars(layer).get("call") for layer in layers] == [b.get("call") for b in before]
    assert shared.call is original


def test_an_error_leaves_no_trace_either():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with (
        pytest.raises(ValueError, match="incompatible"),
        _layer_calls.watched(_layer_calls.layers_of(model), print),
    ):
        model(np.ones((2, 4), np.float32))
    assert all("call" not in vars(layer) for layer in _layer_calls.layers_of(model))


def test_layers_can_be_given_other_inputs():
    shared = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [shared(inputs), shared(2 * inputs)])
    seen = []

    def with_ten_more(layer, inputs):
        seen.append((layer, inputs.numpy().tolist()))
        return inputs + 10

    with _layer_calls.given([shared], with_ten_more):
        outputs = model(np.ones((1, 3), np.float32))
    assert {layer for layer, _ in seen} == {shared}
    # In whatever order Keras computes two outputs.
    assert sorted(values for _, values in seen) == [[[1, 1, 1]], [[2, 2, 2]]]
    assert [output.numpy().item() for output in outputs] == [33, 36]
    assert model(np.ones((1, 3), np.float32))[0].numpy().item() == 3


def test_any_method_can_be_replaced():
    layer = keras.layers.Conv2D(1, 1, kernel_initializer="ones")
    x = np.ones((1, 2, 2, 1), np.float32)
    layer(x)
    replacement = _layer_calls.Replacement(layer, "convolution_op", lambda inputs, _: 7 * inputs)
    with _layer_calls.replaced([replacement]):
        assert (layer(x).numpy() == 7).all()
    assert (layer(x).numpy() == 1).all()
    assert "convolution_op" not in vars(layer)
