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


def bn(y, weights, name):
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return batch_norm(y, *(weights[f"{name}/{part}"] for part in names))


def one_bit_conv(x, w, strides, pad_value):
    scale = np.abs(w).mean((0, 1, 2))
    return conv(sign(x), scale * sign(w), strides, pad_value)


def block(x, weights, *, strides, pad_value):
    """Bi-Real Net's block, from a {variable name: array} of weights; ReActNet's with shifts."""
    shortcut = x
    if "b_shortcut_conv/kernel" in weights:
        pooled = average_pool(x) if strides == 2 else x
        shortcut = conv(pooled, weights["b_shortcut_conv/kernel"], 1, 0)
        shortcut = bn(shortcut, weights, "b_shortcut_bn")
    shifted = x + weights.get("b_conv_shift/shift", 0)
    y = one_bit_conv(shifted, weights["b_conv/kernel"], strides, pad_value)
    return bn(y, weights, "b_bn") + shortcut


def bottleneck(narrow, wide, weights, *, strides):
    """Both streams after Bi-Real Net 50's block."""
    if narrow is None:
        clipped = np.clip(wide, -1, 1)
        y = conv(clipped + 0.1 * (wide - clipped), weights["b_conv1/kernel"], 1, 0)
        y = bn(y, weights, "b_bn1")
    else:
        y = bn(one_bit_conv(wide, weights["b_conv1/kernel"], 1, 0), weights, "b_bn1")
        if "b_narrow_conv/kernel" in weights:
            narrow = conv(narrow, weights["b_narrow_conv/kernel"], 1, 0)
        y += narrow
    narrow = average_pool(y) if strides == 2 else y
    y = one_bit_conv(y, weights["b_conv2/kernel"], strides, 0)
    narrow = bn(y, weights, "b_bn2") + narrow
    if "b_shortcut_conv/kernel" in weights:
        wide = average_pool(wide) if strides == 2 else wide
        wide = bn(conv(wide, weights["b_shortcut_conv/kernel"], 1, 0), weights, "b_shortcut_bn")
    y = one_bit_conv(narrow, weights["b_conv3/kernel"], 1, 0)
    return narrow, bn(y, weights, "b_bn3") + wide


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


@pytest.mark.slow
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


@pytest.mark.parametrize(("filters", "strides"), [(4, 1), (6, 2)])
def test_react_block_is_the_formula(filters, strides):
    inputs = keras.Input((6, 5, 4))
    y = blocks.react_block(inputs, filters, strides=strides, conv=blocks.binary_conv(), name="b")
    model = keras.Model(inputs, y)
    weights = randomize(model)
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 4)).astype(np.float32)
    expected = block(x.astype(np.float64), weights, strides=strides, pad_value=0)
    expected += weights["b_prelu_shift_in/shift"]
    expected = np.where(expected < 0, weights["b_prelu/alpha"] * expected, expected)
    expected += weights["b_prelu_shift_out/shift"]
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("narrow_channels", "wide_channels", "filters", "strides"),
    [
        pytest.param(None, 5, 2, 1, id="first"),
        pytest.param(2, 8, 2, 1, id="identity"),
        pytest.param(2, 8, 4, 2, id="downsample"),
    ],
)
def test_bottleneck_block_is_the_formula(narrow_channels, wide_channels, filters, strides):
    size = (6, 5)
    inputs = [keras.Input((*size, wide_channels))]
    if narrow_channels is not None:
        inputs.insert(0, keras.Input((*size, narrow_channels)))
    streams = inputs if narrow_channels else (None, *inputs)
    outputs = blocks.bottleneck_block(
        streams, filters, strides=strides, conv=blocks.binary_conv(), name="b"
    )
    model = keras.Model(inputs, outputs)
    weights = randomize(model)
    rng = np.random.default_rng(2)
    arrays = [rng.normal(0, 1.5, (2, *tensor.shape[1:])).astype(np.float32) for tensor in inputs]
    streams = arrays if narrow_channels else (None, *arrays)
    for y, expected in zip(model(arrays), bottleneck(*streams, weights, strides=strides)):
        assert y.shape == expected.shape
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
    x = keras.Input((8, 8, 8))
    with pytest.raises(ValueError, match=r"`strides` must be 1 or 2\. Received: strides=3"):
        blocks.bottleneck_block((x, x), 2, strides=3, conv=blocks.binary_conv(), name="b")


class TestTorchPadding:
    """k // 2 on every side, written out with NumPy's pad and windows that start at the corner."""

    SIZES = ((6, 4), (5, 4), (7, 5), (2, 2), (1, 2))

    def windows(self, x, kernel, strides, value):
        """(batch, height, width, kernel, kernel, channels) of a padded map."""
        pad = kernel // 2
        padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], constant_values=value)
        views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
        return np.moveaxis(views[:, ::strides, ::strides], 3, -1)

    def apply(self, layers, x):
        inputs = keras.Input(x.shape[1:])
        model = keras.Model(inputs, layers(inputs))
        return model(x), model

    @pytest.mark.parametrize("size", SIZES)
    def test_is_what_pytorch_documents(self, size):
        x = np.random.default_rng(5).normal(size=(2, *size, 3)).astype(np.float32)

        for kernel in (3, 7):
            y, model = self.apply(
                lambda x, k=kernel: blocks.plain_conv(x, 4, k, 2, "c", padding="torch"), x
            )
            w = model.get_layer("c").kernel.numpy()
            expected = np.einsum("nhwijc,ijcf->nhwf", self.windows(x, kernel, 2, 0), w)
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)

        y, _ = self.apply(lambda x: blocks.max_pool(x, "p", padding="torch"), x)
        expected = self.windows(x, 3, 2, -np.inf).max((3, 4))
        np.testing.assert_array_equal(y, expected)

        for pad_values in (0, 1):
            factory = blocks.binary_conv(pad_values=pad_values, padding="torch")
            y, model = self.apply(lambda x, f=factory: f(x, 4, 3, 2, "c"), x)
            w = model.get_layer("c").kernel.numpy().astype(np.float64)
            w = sign(w) * np.abs(w).mean((0, 1, 2))
            expected = np.einsum("nhwijc,ijcf->nhwf", self.windows(sign(x), 3, 2, pad_values), w)
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)

    def test_adds_nothing_where_same_is_the_same(self):
        x = keras.Input((7, 5, 3))
        for strides in (1, 2):
            y = blocks.plain_conv(x, 4, 3, strides, "c", padding="torch")
            assert [layer.name for layer in keras.Model(x, y).layers[1:]] == ["c"]

    def test_unknown_size(self):
        x = keras.Input((None, None, 3))
        with pytest.raises(ValueError, match=r"known height and width.*c on \(None, None, None, 3"):
            blocks.plain_conv(x, 4, 3, 2, "c", padding="torch")

    @pytest.mark.parametrize(
        "build_conv",
        [
            lambda: blocks.binary_conv(padding="valid"),
            lambda: blocks.real_conv("relu", padding="valid"),
            lambda: blocks.max_pool(keras.Input((4, 4, 3)), "p", padding="valid"),
        ],
    )
    def test_bad_padding(self, build_conv):
        with pytest.raises(ValueError, match=r"`padding` must be 'same' or 'torch'\..*'valid'"):
            build_conv()


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


@pytest.mark.slow
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


def test_batch_norm_moves_its_statistics_by_a_fifth():
    """Momentum 0.8 and epsilon 1e-3, as Larq Zoo trains."""
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, blocks.batch_norm(inputs, "bn"))
    x = np.random.default_rng(0).normal(3, 2, (8, 4, 4, 2)).astype(np.float32)
    model(x, training=True)
    mean, variance = model.get_layer("bn").get_weights()[2:]
    np.testing.assert_allclose(mean, 0.2 * x.mean((0, 1, 2)), rtol=1e-5)
    # The moving variance is of the population that the batch is a sample of.
    expected = 0.8 + 0.2 * x.reshape(-1, 2).var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-5)
    np.testing.assert_allclose(
        model(x, training=False), (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-4, atol=1e-5
    )


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


def test_cheap_stem():
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, blocks.cheap_stem(inputs, 16))
    assert model.output_shape == (None, 8, 8, 16)
    weights = randomize(model)
    y = x = np.random.default_rng(6).normal(size=(1, 32, 32, 3)).astype(np.float32)
    for index, strides in ((1, 2), (2, 2), (3, 1)):
        y = conv(
            np.maximum(y, 0) if index > 1 else y, weights[f"stem_conv{index}/kernel"], strides, 0
        )
        y = bn(y, weights, f"stem_bn{index}")
    assert (y < 0).any()
    np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-3)


def test_cheap_stem_takes_as_much_as_it_says():
    macs = {}
    for stem in (blocks.imagenet_stem, blocks.cheap_stem):
        inputs = keras.Input((224, 224, 3))
        macs[stem] = sum(
            np.prod(layer.kernel.shape) * np.prod(layer.output_shape[1:3])
            for layer in keras.Model(inputs, stem(inputs, 64)).layers
            if isinstance(layer, keras.layers.Conv2D)
        )
    assert (round(macs[blocks.imagenet_stem] / 1e6), round(macs[blocks.cheap_stem] / 1e6)) == (
        118,
        78,
    )


def test_grouped_convolution():
    """Each group of filters sees its group of channels alone."""
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 6)).astype(np.float32)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, blocks.grouped_conv(inputs, 9, 3, 3, "grouped"))
    kernels = [model.get_layer(f"grouped_group{number}").kernel.numpy() for number in (1, 2, 3)]
    assert [kernel.shape for kernel in kernels] == 3 * [(3, 3, 2, 3)]
    expected = np.concatenate(
        [conv(x[..., 2 * group : 2 * group + 2], kernels[group], 1, 0) for group in range(3)],
        axis=-1,
    )
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match=r"`groups` must divide .*: 4 groups of 6 channels and 8"):
        blocks.grouped_conv(keras.Input((4, 4, 6)), 8, 3, 4, "grouped")


def test_channel_split():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    layer = blocks.ChannelSplit([1, 5])
    first, rest = blocks.ChannelSplit.from_config(layer.get_config())(x)
    np.testing.assert_array_equal(first, x[..., :1])
    np.testing.assert_array_equal(rest, x[..., 1:])


@pytest.mark.parametrize("size", [5, 6])
def test_blur(size):
    """[1, 2, 1] / 4 down and across, on every second pixel; zeros lie around the image."""
    x = np.random.default_rng(0).normal(size=(1, size, size, 2)).astype(np.float32)
    kernel = np.zeros((3, 3, 2, 2))
    for channel in range(2):
        kernel[..., channel, channel] = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, blocks.blur(inputs, "blur"))
    assert model.trainable_weights == []
    np.testing.assert_allclose(model(x), conv(x, kernel, 2, 0), atol=1e-6)


def test_depthwise_convolution():
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, blocks.depthwise_conv(inputs, 3, 2, "depthwise"))
    [weights] = model.get_weights()
    kernel = np.zeros((3, 3, 2, 2))
    for channel in range(2):
        kernel[..., channel, channel] = weights[..., channel, 0]
    np.testing.assert_allclose(model(x), conv(x, kernel, 2, 0), atol=1e-5)


def test_latent_weights_are_clipped_where_the_recipe_says():
    inputs = keras.Input((4, 4, 2))
    factory = blocks.binary_conv(clip_value=1.25)
    layer = keras.Model(inputs, factory(inputs, 3, 3, 1, "conv")).get_layer("conv")
    kernel = layer.kernel_constraint(tf.constant([-2.0, -1.2, 1.3]))
    np.testing.assert_allclose(kernel, [-1.25, -1.2, 1.25])
