"""Layers for Keras 3, against formulas in NumPy. Legacy Keras is tf.keras here, and beside it."""

import os
import subprocess
import sys

import numpy as np
import pytest

# Importing it first makes legacy Keras that of TensorFlow, as in all other tests.
import bireal_keras  # noqa: F401

pytest.importorskip("keras", reason="Keras 3 comes with TensorFlow only")

import keras

from bireal_keras.keras3 import ApproxSign, MagnitudeAwareSign, QuantConv2D

RNG = np.random.default_rng(0)
X = np.array([-3, -1.001, -1, -0.75, -1e-30, -0.0, 0, 1e-30, 0.25, 1, 1.001, 3], np.float32)
SIGNS = np.array([-1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1], np.float32)


def value_and_gradient(quantizer, x, dy):
    import tensorflow as tf

    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = quantizer(x)
    return y.numpy(), tape.gradient(y, x, tf.constant(dy)).numpy()


def test_approx_sign():
    dy = RNG.normal(size=X.shape).astype(np.float32)
    y, gradient = value_and_gradient(ApproxSign(), X, dy)
    np.testing.assert_array_equal(y, SIGNS)
    slope = np.where(np.abs(X) <= 1, 2 - 2 * np.abs(X), 0)
    np.testing.assert_allclose(gradient, slope * dy, rtol=1e-6)
    y, gradient = value_and_gradient(
        ApproxSign(), np.array([np.nan, np.inf], np.float32), [1.0, 1.0]
    )
    assert np.isnan(y[0])
    assert (y[1], gradient[1]) == (1, 0)


@pytest.mark.parametrize("scale_gradient", [True, False])
@pytest.mark.parametrize("clip_value", [1.0, 0.5, None])
def test_magnitude_aware_sign(clip_value, scale_gradient):
    w = RNG.normal(size=(3, 3, 4, 5)).astype(np.float32)
    w[..., 2] = 0
    w[0, 0, 0, :2] = -0.0, 1.0
    dy = RNG.normal(size=w.shape).astype(np.float32)
    y, gradient = value_and_gradient(MagnitudeAwareSign(clip_value, scale_gradient), w, dy)
    scale = np.abs(w).astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(y, scale * np.where(w >= 0, 1, -1), rtol=1e-6)
    # Each filter has one magnitude, to the last bit: that is what makes it 1-bit in a file.
    assert all(len(set(np.abs(filters).ravel().tolist())) == 1 for filters in y.T)
    mask = np.ones_like(w) if clip_value is None else np.abs(w) <= clip_value
    expected = (scale if scale_gradient else 1) * mask * dy
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("clip_value", [0, -1, "1", True])
def test_unfit_clip_value(clip_value):
    with pytest.raises(ValueError, match="`clip_value` must be a positive number or None"):
        MagnitudeAwareSign(clip_value)


@pytest.mark.parametrize("pad_values", [0, 1])
@pytest.mark.parametrize(("size", "strides", "rate"), [(6, 1, 1), (7, 2, 1), (6, 2, 1), (9, 1, 2)])
def test_convolution(size, strides, rate, pad_values):
    """Against sums over the padded map."""
    layer = QuantConv2D(
        5,
        3,
        strides=strides,
        dilation_rate=rate,
        padding="same",
        pad_values=pad_values,
        use_bias=False,
        input_quantizer=ApproxSign(),
        kernel_quantizer=MagnitudeAwareSign(),
    )
    x = RNG.normal(size=(2, size, size, 4)).astype(np.float32)
    actual = layer(x)
    kernel = np.asarray(layer.kernel)
    kernel = np.abs(kernel).mean(axis=(0, 1, 2)) * np.where(kernel >= 0, 1, -1)
    out, reach = -(-size // strides), 2 * rate + 1
    missing = max(0, (out - 1) * strides + reach - size)
    sides = (missing // 2, missing - missing // 2)
    signs = np.pad(
        np.where(x >= 0, 1, -1), [(0, 0), sides, sides, (0, 0)], constant_values=pad_values
    )
    expected = np.zeros((2, out, out, 5))
    for row in range(out):
        for column in range(out):
            top, left = row * strides, column * strides
            window = signs[:, top : top + reach : rate, left : left + reach : rate]
            expected[:, row, column] = np.tensordot(window, kernel, 3)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_unfit_padding():
    with pytest.raises(ValueError, match=r"`pad_values` must be 0 or 1\. Received: pad_values=-1"):
        QuantConv2D(4, 3, pad_values=-1)
    layer = QuantConv2D(4, 3, padding="same", pad_values=1, name="c")
    layer.build((None, None, None, 3))
    with pytest.raises(ValueError, match=r"fixed size\. Received .*\(None, None, None, 3\) in c"):
        layer.convolution_op(keras.KerasTensor((None, None, None, 3)), layer.kernel)


def test_a_trained_model_is_saved_and_loaded(tmp_path):
    layer = QuantConv2D(
        4, 3, input_quantizer=ApproxSign(), kernel_quantizer=MagnitudeAwareSign(0.5, False)
    )
    model = keras.Sequential([keras.Input((6, 6, 3)), layer, keras.layers.Flatten()])
    before = np.array(layer.kernel)
    model.compile("sgd", "mse")
    model.fit(RNG.normal(size=(8, 6, 6, 3)), np.ones((8, 64)), verbose=0)
    assert np.abs(np.array(layer.kernel) - before).max() > 1e-6
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    quantizer = loaded.layers[0].kernel_quantizer
    assert (quantizer.clip_value, quantizer.scale_gradient) == (0.5, False)
    images = RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.slow
def test_another_backend_is_refused():
    code = "import bireal_keras.keras3"
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "set KERAS_BACKEND=tensorflow before Python starts" in found.stderr
