"""The blocks against plain NumPy: loops over pixels and taps, float64."""

import numpy as np
import pytest

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign


def same_padding(size, kernel, strides):
    """TensorFlow's "same": output size, and how much of the padding comes first."""
    out = -(-size // strides)
    return out, max((out - 1) * strides + kernel - size, 0) // 2


def conv(x, w, strides, pad_value):
    """Cross-correlation; x (n, h, w, c), w (kh, kw, c, f)."""
    kernel = w.shape[0]
    height, top = same_padding(x.shape[1], kernel, strides)
    width, left = same_padding(x.shape[2], kernel, strides)
    y = np.zeros((x.shape[0], height, width, w.shape[-1]))
    for i in range(height):
        for j in range(width):
            for di in range(kernel):
                for dj in range(kernel):
                    row, column = i * strides - top + di, j * strides - left + dj
                    inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
                    pixel = x[:, row, column] if inside else np.full_like(x[:, 0, 0], pad_value)
                    y[:, i, j] += pixel @ w[di, dj]
    return y


def average_pool(x):
    """2x2 windows with stride 2; what lies outside does not count."""
    height, width = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    y = np.empty((x.shape[0], height, width, x.shape[3]))
    for i in range(height):
        for j in range(width):
            y[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2))
    return y


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def sign(x):
    return np.where(x < 0, -1.0, 1.0)


def block(x, weights, *, strides, pad_value):
    """Bi-Real Net's block, from a {variable name: array} of weights."""

    def bn(y, name):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return batch_norm(y, *(weights[f"{name}/{part}"] for part in names))

    shortcut = x
    if "b_shortcut_conv/kernel" in weights:
        pooled = average_pool(x) if strides == 2 else x
        shortcut = conv(pooled, weights["b_shortcut_conv/kernel"], 1, 0)
        shortcut = bn(shortcut, "b_shortcut_bn")
    w = weights["b_conv/kernel"]
    scale = np.abs(w).mean((0, 1, 2))
    return bn(conv(sign(x), scale * sign(w), strides, pad_value), "b_bn") + shortcut


def build(height, width, channels, filters, **kwargs):
    inputs = keras.Input((height, width, channels))
    return keras.Model(inputs, blocks.shortcut_block(inputs, filters, name="b", **kwargs))


def randomize(model, seed=0):
    """Random weights and statistics everywhere; returns them by variable name."""
    rng = np.random.default_rng(seed)
    values = {}
    for variable in model.weights:
        low, high = (0.5, 2) if "gamma" in variable.name or "variance" in variable.name else (-1, 1)
        value = rng.uniform(low, high, variable.shape).astype(np.float32)
        variable.assign(value)
        values[variable.name.removesuffix(":0")] = value.astype(np.float64)
    return values


@pytest.mark.parametrize("pad_values", [0.0, 1.0])
@pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 1), (2, 3)])
@pytest.mark.parametrize(
    ("channels", "filters", "strides"),
    [
        pytest.param(5, 5, 1, id="identity"),
        pytest.param(3, 6, 2, id="downsample"),
        pytest.param(4, 4, 2, id="downsample_same_channels"),
        pytest.param(3, 6, 1, id="widen"),
    ],
)
def test_block_is_the_formula(size, channels, filters, strides, pad_values):
    conv_factory = blocks.binary_conv(pad_values=pad_values)
    model = build(*size, channels, filters, strides=strides, conv=conv_factory)
    weights = randomize(model)
    x = np.random.default_rng(1).normal(size=(2, *size, channels)).astype(np.float32)
    x[0, 0, 0, 0] = 0
    expected = block(x.astype(np.float64), weights, strides=strides, pad_value=pad_values)
    y = model(x)
    assert y.shape == model.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_shortcut_is_real_valued_and_starts_before_the_sign():
    model = build(5, 5, 4, 4, conv=blocks.binary_conv())
    randomize(model)
    x = np.random.default_rng(2).normal(size=(1, 5, 5, 4)).astype(np.float32)
    # The 1-bit path sees signs only: what a factor of 3 adds has come along the shortcut.
    np.testing.assert_allclose(model(3 * x) - model(x), 2 * x, rtol=1e-4, atol=1e-5)


def test_binary_conv_quantizes_both_sides():
    [layer] = [
        layer
        for layer in build(4, 4, 3, 3, conv=blocks.binary_conv()).layers
        if isinstance(layer, lq.layers.QuantConv2D)
    ]
    assert type(layer.input_quantizer) is ApproxSign
    assert type(layer.kernel_quantizer) is MagnitudeAwareSign
    assert not layer.use_bias
    # What is clipped away from the gradient's window would be stuck outside.
    outside = np.array([-2, -0.5, 0.5, 2], np.float32)
    np.testing.assert_array_equal(layer.kernel_constraint(outside), [-1, -0.5, 0.5, 1])


@pytest.mark.parametrize("pad_values", [0.5, -1.0, 2, "same", None])
def test_bad_pad_values(pad_values):
    with pytest.raises(ValueError, match=r"`pad_values` must be 0 or 1\. Received: pad_values="):
        blocks.binary_conv(pad_values=pad_values)


def test_bad_strides():
    with pytest.raises(ValueError, match=r"`strides` must be 1 or 2\. Received: strides=3"):
        build(8, 8, 3, 3, strides=3, conv=blocks.binary_conv())


X = np.linspace(-3, 3, 25, dtype=np.float32)
REAL_ACTIVATIONS = {
    "relu": np.maximum(X, 0),
    "leaky_clip": np.where(X > 1, 1 + 0.1 * (X - 1), np.where(X < -1, -1 + 0.1 * (X + 1), X)),
    "clip": np.minimum(np.maximum(X, -1), 1),
}


class TestRealActivation:
    def test_all_are_tested(self):
        assert set(blocks.ACTIVATIONS) == set(REAL_ACTIVATIONS)

    @pytest.mark.parametrize("name", REAL_ACTIVATIONS)
    def test_value(self, name):
        np.testing.assert_allclose(
            blocks.RealActivation(name)(X), REAL_ACTIVATIONS[name], rtol=1e-6, atol=1e-6
        )

    def test_unknown(self):
        expected = r"`activation` must be one of \['clip', 'leaky_clip', 'relu'\].*'tanh'"
        with pytest.raises(ValueError, match=expected):
            build(4, 4, 3, 3, conv=blocks.real_conv("tanh"))
        with pytest.raises(ValueError, match=expected):
            blocks.RealActivation("tanh")


@pytest.mark.parametrize("activation", REAL_ACTIVATIONS)
@pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["h5", "keras", "saved_model"])
def test_real_block_is_the_formula_and_can_be_saved(activation, suffix, tmp_path):
    model = build(5, 4, 3, 3, conv=blocks.real_conv(activation))
    weights = randomize(model)
    x = np.random.default_rng(3).normal(0, 1.5, (2, 5, 4, 3)).astype(np.float32)
    activated = np.interp(x, X, REAL_ACTIVATIONS[activation])
    if activation == "leaky_clip":  # np.interp is flat beyond its last points
        activated += 0.1 * (x - np.clip(x, -3, 3))
    elif activation == "relu":
        activated += np.maximum(x - 3, 0)
    y = conv(activated, weights["b_conv/kernel"], 1, 0)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    expected = batch_norm(y, *(weights[f"b_bn/{part}"] for part in names)) + x
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)

    model.save(tmp_path / f"model{suffix}")
    loaded = keras.models.load_model(tmp_path / f"model{suffix}")
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("size", [32, 33])
def test_stems(size):
    inputs = keras.Input((size, size, 3))
    imagenet = keras.Model(inputs, blocks.imagenet_stem(inputs, 8))
    cifar = keras.Model(inputs, blocks.cifar_stem(inputs, 8))
    assert imagenet.output_shape == (None, -(-size // 4), -(-size // 4), 8)
    assert cifar.output_shape == (None, size, size, 8)
    x = np.random.default_rng(4).normal(size=(1, size, size, 3)).astype(np.float32)
    for model in (imagenet, cifar):
        weights = randomize(model)
        strides = 2 if model is imagenet else 1
        y = conv(x, weights["stem_conv/kernel"], strides, 0)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        y = batch_norm(y, *(weights[f"stem_bn/{part}"] for part in names))
        if model is imagenet:
            y = tf.nn.max_pool2d(y, 3, 2, "SAME").numpy()
        # Real values pass: there is no activation between stem and first block.
        assert (y < 0).any()
        np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-3)
