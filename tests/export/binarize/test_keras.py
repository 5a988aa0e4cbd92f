"""What people write in Keras, by way of TensorFlow's converter and by way of LCE's."""

from types import SimpleNamespace

import numpy as np
import pytest
from export_helpers import build, larq_conv
from lce_layers import assert_same_layer, bconvs, saved_and_converted, stock

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.export.binarize import binarize, told

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (8, 8, 32)


def conv(name, x, **kwargs):
    return larq_conv(8, **{"name": name, "input_quantizer": None, **kwargs})(x)


def signed(name, x, **kwargs):
    return conv(name, x, **{"input_quantizer": "ste_sign", **kwargs})


def sign(x):
    return lq.quantizers.SteSign()(x)


def estimator(x):
    """Straight through, as it is written by hand."""
    return x + tf.stop_gradient(tf.where(x >= 0, 1.0, -1.0) - x)


def dead_filters(name, x):
    """MagnitudeAwareSign of a kernel with a filter of zeros."""

    def initial(shape, dtype=None):
        values = np.random.default_rng(0).normal(size=shape)
        values[..., 3] = 0
        return tf.constant(values, dtype)

    quantizer = lq.quantizers.MagnitudeAwareSign()
    return signed(name, x, kernel_quantizer=quantizer, kernel_initializer=initial)


# Name: layers, and whether LCE converts them, too.
BINARY = {
    "ste_sign": (signed, True),
    "approx_sign": (lambda n, x: signed(n, x, input_quantizer="approx_sign"), True),
    "swish_sign": (lambda n, x: signed(n, x, input_quantizer="swish_sign"), True),
    "ours": (lambda n, x: blocks.binary_conv()(x, 8, 3, 1, n), True),
    "ours_on_ones": (lambda n, x: blocks.binary_conv(pad_values=1)(x, 8, 3, 1, n), True),
    "where_gt": (lambda n, x: conv(n, tf.where(x > 0, 1.0, -1.0)), True),
    "where_lt": (lambda n, x: conv(n, tf.where(x < 0, -1.0, 1.0)), True),
    "ones_like": (
        lambda n, x: conv(n, tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))),
        False,
    ),
    "cast": (lambda n, x: conv(n, tf.cast(x >= 0, tf.float32) * 2 - 1), False),
    "estimator": (lambda n, x: conv(n, estimator(x)), False),
    "half": (lambda n, x: conv(n, 0.5 * sign(x)), False),
    "pad": (lambda n, x: conv(n, L.ZeroPadding2D()(sign(x)), padding="valid"), False),
    "permuted": (lambda n, x: conv(n, L.Permute((2, 1, 3))(sign(x))), False),
    "reshaped": (lambda n, x: conv(n, L.Reshape((4, 16, 32))(sign(x))), False),
    "pool": (lambda n, x: conv(n, L.MaxPool2D()(sign(x))), False),
    "channels_first": (lambda n, x: signed(n, x, data_format="channels_first"), False),
    "dead_filters": (dead_filters, False),
    "dilated": (lambda n, x: signed(n, x, dilation_rate=2), True),
    "groups": (lambda n, x: signed(n, L.Concatenate()([x, -x]), groups=2), True),
    "bias_and_bn": (lambda n, x: L.BatchNormalization()(signed(n, x, use_bias=True)), True),
    "relu_on_ones": (
        lambda n, x: L.BatchNormalization()(L.ReLU()(signed(n, x, pad_values=1.0))),
        True,
    ),
    "prelu": (lambda n, x: L.PReLU(shared_axes=[1, 2])(signed(n, x)), True),
    "dense": (
        lambda n, x: lq.layers.QuantDense(
            8, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name=n
        )(L.Flatten()(x)),
        False,
    ),
}
# Name: layers, and the reason's code.
FLOAT = {
    "tf_sign": (lambda n, x: conv(n, tf.sign(x)), "tf_sign"),
    "heaviside": (lambda n, x: signed(n, x, input_quantizer="ste_heaviside"), "zero_one"),
    "ternary": (lambda n, x: signed(n, x, input_quantizer="ste_tern"), "ternary"),
    "ternary_kernel": (lambda n, x: signed(n, x, kernel_quantizer="ste_tern"), "kernel_values"),
    "minus_one": (lambda n, x: signed(n, x, pad_values=-1.0), "pad_values"),
    "input_only": (lambda n, x: signed(n, x, kernel_quantizer=None), "kernel_values"),
    "weights_only": (lambda n, x: conv(n, x), "unknown_sign"),
}


def branches(patterns, x):
    """All patterns as branches of one model."""
    found = []
    for name, layers in patterns.items():
        y = layers(f"{name}_layer", x)
        found.append(L.GlobalAveragePooling2D()(y) if y.shape.rank == 4 else y)
    return L.Concatenate()(found)


def converted(patterns, *converters):
    model = build(lambda x: branches(patterns, x), SHAPE)
    files = saved_and_converted(model, [stock, *converters])
    result = binarize(files[0])
    layers = {}
    for layer in result.layers:
        # TensorFlow compiles a convolution of groups, and its name is lost.
        names = [name for name in patterns if f"{name}_layer" in layer.name] or ["groups"]
        assert len(names) == 1
        assert names[0] not in layers
        layers[names[0]] = layer
    return SimpleNamespace(model=model, files=files, result=result, layers=layers)


@pytest.fixture(scope="module")
def binary():
    return converted({name: layers for name, (layers, _) in BINARY.items()})


@pytest.fixture(scope="module")
def real():
    return converted({name: layers for name, (layers, _) in FLOAT.items()})


@pytest.mark.parametrize("name", BINARY)
def test_binary(name, binary):
    assert binary.layers[name].binary, binary.layers[name].explanation


@pytest.mark.parametrize("name", FLOAT)
def test_float(name, real):
    layer = real.layers[name]
    assert (layer.binary, layer.code) == (False, FLOAT[name][1])
    assert layer.explanation


@pytest.mark.parametrize("which", ["binary", "real"])
def test_told_signs(which, request):
    found = request.getfixturevalue(which)
    rng = np.random.default_rng(0)
    samples = [[rng.normal(size=(1, *SHAPE)).astype(np.float32)] for _ in range(3)]
    checks = told.check(found.files[0], found.result, samples)
    assert all(check.is_right for check in checks)
    # The file of the front end is the model.
    output = told.run_on_runtime(found.result.content)(samples[0])[0]
    np.testing.assert_allclose(output, found.model(samples[0][0]), atol=1e-3)


def test_same_layers_as_lce():
    lce = pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")
    patterns = {name: layers for name, (layers, by_lce) in BINARY.items() if by_lce}
    found = converted(patterns, lce.convert_saved_model)
    ours, theirs = bconvs(found.result.content), bconvs(found.files[1])
    assert len(ours) == len(theirs) == len(patterns)
    for our, their in zip(ours, theirs):
        assert_same_layer(our, their)
