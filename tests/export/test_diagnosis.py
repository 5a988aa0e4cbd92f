"""Every pattern that keeps a layer in float, built, converted and explained."""

import functools

import numpy as np
import pytest
from export_helpers import Uneven, build, larq_conv, operators

from bireal_keras import blocks, export, runtime
from bireal_keras._keras import keras, lq, tf
from bireal_keras.export import signature
from bireal_keras.export.diagnosis import diagnose
from bireal_keras.export.samples import random_samples

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (8, 8, 32)
# Here sign quantizers are layers of their own, for what comes between them and a convolution.
sign = lq.quantizers.SteSign


def conv(name, x, **kwargs):
    return larq_conv(8, **{"name": name, "input_quantizer": None, **kwargs})(x)


def signed(name, x, **kwargs):
    return conv(name, x, **{"input_quantizer": "ste_sign", **kwargs})


def shuffled(x):
    x = L.Reshape((*SHAPE[:2], 2, 16))(x)
    return L.Reshape(SHAPE)(L.Permute((1, 2, 4, 3))(x))


def xnor_k(x):
    """XNOR-Net's factor: the mean magnitude around each pixel."""
    return tf.reduce_mean(tf.abs(x), axis=-1, keepdims=True)


def fake_quantized(x):
    # The step is 2.39, of which no even number is a half: ties are rounded in several ways.
    return tf.quantization.fake_quant_with_min_max_args(x, -304.7, 304.7)


def quant(kind, name, *args, **kwargs):
    """A layer of Larq's other kinds with all of its quantizers."""
    layer = getattr(lq.layers, kind)
    names = {
        "QuantDepthwiseConv2D": ["depthwise_quantizer"],
        "QuantSeparableConv2D": ["depthwise_quantizer", "pointwise_quantizer"],
    }.get(kind, ["kernel_quantizer"])
    quantizers = dict.fromkeys(["input_quantizer", *names], "ste_sign")
    return layer(*args, name=name, **quantizers, **kwargs)


# name: (layers, reason, part of the explanation)
FLOAT = {
    "pads_minus_one": (lambda n, x: signed(n, x, pad_values=-1.0), "pad_values", "pads with -1"),
    "tf_sign": (lambda n, x: conv(n, tf.sign(x)), "tf_sign", "gives 0 for 0"),
    "tf_sign_lambda": (lambda n, x: conv(n, L.Lambda(tf.sign)(x)), "tf_sign", "tf.sign"),
    "tf_sign_quantizer": (lambda n, x: signed(n, x, input_quantizer=tf.sign), "tf_sign", "tf.sign"),
    "where_ones_like": (
        lambda n, x: conv(n, tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))),
        "where",
        "tf.where(x >= 0, 1.0, -1.0)",
    ),
    "cast": (lambda n, x: conv(n, tf.cast(x >= 0, tf.float32) * 2 - 1), "cast", "cast comparison"),
    "heaviside": (lambda n, x: signed(n, x, input_quantizer="ste_heaviside"), "zero_one", "0 or 1"),
    "dorefa_1": (
        lambda n, x: signed(n, x, input_quantizer=lq.quantizers.DoReFa(1)),
        "zero_one",
        "0 or 1",
    ),
    "nothing_known": (
        lambda n, x: signed(n, x, input_quantizer=Smooth()),
        "unknown_sign",
        "none of the signs",
    ),
    "half": (lambda n, x: conv(n, 0.5 * sign()(x)), "scaled", "(Mul)"),
    "xnor": (lambda n, x: conv(n, sign()(x) * xnor_k(x)), "scaled", "factor K"),
    "pad": (
        lambda n, x: conv(n, L.ZeroPadding2D()(sign()(x)), padding="valid"),
        "padded",
        "padding='same'",
    ),
    "concat": (
        lambda n, x: conv(n, L.Concatenate()([sign()(x), sign()(-x)])),
        "moved",
        "ConcatV2 moves",
    ),
    "reshaped": (lambda n, x: conv(n, L.Reshape((4, 16, 32))(sign()(x))), "moved", "Reshape moves"),
    "permuted": (lambda n, x: conv(n, L.Permute((2, 1, 3))(sign()(x))), "moved", "Transpose"),
    "shuffle": (lambda n, x: conv(n, shuffled(sign()(x))), "moved", "Reshape moves"),
    "pool": (lambda n, x: conv(n, L.MaxPool2D()(sign()(x))), "pooled", "Pool first"),
    "heaviside_kernel": (
        lambda n, x: signed(n, x, kernel_quantizer="ste_heaviside"),
        "kernel_values",
        "go from 0 to 1",
    ),
    "groups_of_16": (lambda n, x: signed(n, x, groups=2), "groups", "2 groups has 16 input"),
    "depthwise": (lambda n, x: quant("QuantDepthwiseConv2D", n, 3)(x), "kind", "depthwise"),
    "separable": (lambda n, x: quant("QuantSeparableConv2D", n, 8, 3)(x), "kind", "separable"),
    "transposed": (lambda n, x: quant("QuantConv2DTranspose", n, 8, 3)(x), "kind", "transposed"),
    "conv1d": (
        lambda n, x: L.Reshape((8, 8, 8))(
            quant("QuantConv1D", n, 8, 3, padding="same")(L.Reshape((64, 32))(x))
        ),
        "kind",
        "Conv1D",
    ),
    "conv3d": (
        lambda n, x: L.Reshape((6, 6, 24))(
            quant("QuantConv3D", n, 4, 3)(L.Reshape((8, 8, 8, 4))(x))
        ),
        "kind",
        "Conv3D",
    ),
    "dense_behind_sign": (
        lambda n, x: lq.layers.QuantDense(8, kernel_quantizer="ste_sign", name=n)(sign()(x)),
        "kind",
        "both of its quantizers",
    ),
    "first": (
        lambda n, x: signed(n, x, data_format="channels_first"),
        "channels_first",
        "channels_last only",
    ),
}
NOT_MEANT = {
    "weights_only": (lambda n, x: conv(n, x), "weights_only", "input_quantizer"),
    "no_op": (
        lambda n, x: signed(n, x, input_quantizer=lq.quantizers.NoOp(precision=1)),
        "weights_only",
        "Only the kernel",
    ),
    "input_only": (
        lambda n, x: signed(n, x, kernel_quantizer=None),
        "input_only",
        "kernel_quantizer",
    ),
    "ternary_kernel": (
        lambda n, x: signed(n, x, kernel_quantizer="ste_tern"),
        "more_bits",
        "The kernel takes more",
    ),
    "dorefa_2": (
        lambda n, x: signed(n, x, input_quantizer=lq.quantizers.DoReFa(2)),
        "more_bits",
        "The input takes more",
    ),
    "plain": (lambda n, x: L.Conv2D(8, 3, name=n)(x), "real", "as in Keras"),
    "sum_of_signs": (lambda n, x: conv(n, sign()(x) + sign()(-x)), "weights_only", "Only the"),
    "leaky": (lambda n, x: conv(n, tf.where(x >= 0, x, 0.1 * x)), "weights_only", "Only the"),
}
# name: (layers, reason, what stays after it, left_reason)
BINARY = {
    "good": (lambda n, x: signed(n, x), "", (), ""),
    "ours": (lambda n, x: blocks.binary_conv()(x, 8, 3, 1, n), "", (), ""),
    "ours_on_ones": (lambda n, x: blocks.binary_conv(pad_values=1)(x, 8, 3, 1, n), "", (), ""),
    "where_constants": (lambda n, x: conv(n, tf.where(x > 0, 1.0, -1.0)), "", (), ""),
    "sign_before": (lambda n, x: conv(n, L.Activation(lq.math.sign)(x)), "", (), ""),
    "dilated": (lambda n, x: signed(n, x, dilation_rate=2), "", (), ""),
    "dorefa_kernel": (
        lambda n, x: signed(n, x, kernel_quantizer=lq.quantizers.DoReFa(1, mode="weights")),
        "",
        (),
        "",
    ),
    "groups_of_32": (
        lambda n, x: signed(n, L.Concatenate()([x, -x]), groups=2),
        "grouped",
        (),
        "",
    ),
    "int8": (lambda n, x: fake_quantized(signed(n, x)), "fake_quant", (), ""),
    "int8_on_ones": (lambda n, x: fake_quantized(signed(n, x, pad_values=1.0)), "", (), ""),
    "bias_and_bn": (
        lambda n, x: L.BatchNormalization()(signed(n, x, use_bias=True)),
        "",
        (),
        "",
    ),
    "relu_on_ones": (
        lambda n, x: L.BatchNormalization()(L.ReLU()(signed(n, x, pad_values=1.0))),
        "",
        (),
        "",
    ),
    "relu_on_zeros": (lambda n, x: L.ReLU()(signed(n, x)), "", ("RELU",), "relu_on_zeros"),
    "relu_late": (
        lambda n, x: L.ReLU()(L.BatchNormalization()(signed(n, x, pad_values=1.0))),
        "",
        ("RELU",),
        "relu_late",
    ),
    "prelu": (lambda n, x: L.PReLU(shared_axes=[1, 2])(signed(n, x)), "", ("PRELU",), "prelu"),
    "pool_first": (
        lambda n, x: L.BatchNormalization()(L.MaxPool2D()(signed(n, x))),
        "",
        ("MUL", "ADD"),
        "pool_first",
    ),
    "forked": (
        lambda n, x: (lambda y: L.Concatenate()([L.BatchNormalization()(y), y]))(signed(n, x)),
        "",
        ("MUL", "ADD"),
        "several_readers",
    ),
}
ALL = {**FLOAT, **NOT_MEANT, **BINARY}
# What LCE keeps in float and our own converter packs.
PACKED = {
    "where_ones_like",
    "cast",
    "half",
    "pad",
    "reshaped",
    "permuted",
    "shuffle",
    "pool",
    "conv1d",
    "dense_behind_sign",
    "first",
}


@keras.utils.register_keras_serializable("test_diagnosis")
class Smooth(lq.quantizers.Quantizer):
    """Calls itself 1-bit, and is not."""

    precision = 1

    def call(self, inputs):
        return tf.tanh(inputs)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """All patterns as branches of one model: path and report of its file by each converter."""

    def layers(x):
        branches = [make(name, x) for name, (make, *_) in ALL.items()]
        return L.Dense(5, name="head")(
            L.Concatenate()([L.GlobalAveragePooling2D()(branch) for branch in branches])
        )

    folder = tmp_path_factory.mktemp("diagnosis")
    model = build(layers, SHAPE)

    @functools.cache
    def convert(converter):
        path = folder / f"{converter}.tflite"
        return path, export.convert(model, path, allow_float=True, converter=converter)

    return convert


@pytest.fixture(scope="module")
def layers(converted):
    """The reports on layers by their names, by converter."""
    return lambda converter: {layer.name: layer for layer in converted(converter)[1].layers}


@pytest.mark.usefixtures("lce")
@pytest.mark.parametrize("name", FLOAT)
def test_intended_layers_that_stay_float_in_lce(name, layers):
    _, reason, part = FLOAT[name]
    layer = layers("lce")[name]
    assert (layer.intended_binary, layer.binary) == (True, False)
    assert layer.reason == reason
    assert part in layer.explanation
    assert layer.expected_kernel_bytes == -(-layer.weights // 8)
    assert layer.kernel_bytes == 4 * layer.weights


@pytest.mark.parametrize("converter", ["bireal", "lce"])
@pytest.mark.parametrize("name", NOT_MEANT)
def test_layers_that_are_meant_to_be_float(name, converter, layers):
    _, reason, part = NOT_MEANT[name]
    layer = layers(converter)[name]
    assert (layer.intended_binary, layer.binary) == (False, False)
    assert layer.reason == reason
    assert part in layer.explanation
    assert layer.expected_kernel_bytes == layer.kernel_bytes == 4 * layer.weights


@pytest.mark.parametrize("converter", ["bireal", "lce"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_layers_and_what_stays_after_them(name, converter, layers):
    _, reason, left_behind, left_reason = BINARY[name]
    layer = layers(converter)[name]
    assert (layer.intended_binary, layer.binary, layer.reason) == (True, True, reason)
    assert layer.left_behind == left_behind
    assert layer.left_reason == left_reason
    followed = name in ("bias_and_bn", "relu_on_ones")
    assert layer.fused is (False if left_behind else True if followed else None)
    # 32 channels fill a word: no byte is wasted.
    assert layer.kernel_bytes == layer.expected_kernel_bytes


@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_every_layer_is_there_once(converter, converted):
    _, report = converted(converter)
    names = [layer.name for layer in report.layers]
    assert sorted(names) == sorted([*ALL, "head"])
    assert {layer.reason for layer in report.layers}.isdisjoint({"unknown", "no_layer"})
    assert report.intended_binary_convolutions == len(FLOAT) + len(BINARY)
    packed = len(PACKED) if converter == "bireal" else 0
    assert report.binary_convolutions == len(BINARY) + packed


@pytest.mark.parametrize("name", FLOAT)
def test_what_our_converter_packs_and_why_not(name, layers):
    layer = layers("bireal")[name]
    assert layer.intended_binary
    assert layer.binary == (name in PACKED)
    if layer.binary:
        assert (layer.reason, layer.left_behind) == ("", ())
        # Its 8 input channels take a word as 32 do.
        channels = 8 if name == "first" else 32
        assert layer.kernel_bytes == 4 * layer.weights // channels
    else:
        assert layer.reason == FLOAT[name][1]
        assert layer.explanation
        assert layer.kernel_bytes == 4 * layer.weights


@pytest.mark.usefixtures("lce")
@pytest.mark.parametrize("name", [*NOT_MEANT, *BINARY])
def test_our_converter_makes_of_the_others_what_lce_makes_of_them(name, layers):
    our, their = layers("bireal")[name], layers("lce")[name]
    assert our.binary == their.binary
    assert (our.reason, our.explanation) == (their.reason, their.explanation)
    assert (our.left_behind, our.left_reason) == (their.left_behind, their.left_reason)
    assert our.fused == their.fused
    assert (our.kernel_bytes, our.macs) == (their.kernel_bytes, their.macs)


@pytest.mark.usefixtures("lce")
def test_our_file_gives_what_lce_file_gives(converted):
    """The report's own check has found the same sum of all branches; here the files are run."""
    images = random_samples(SHAPE, 4)
    ours, theirs = (
        runtime.Interpreter(converted(converter)[0]).predict(images)
        for converter in ("bireal", "lce")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("good", 64 * 9 * 32 * 8),
        ("groups_of_16", 64 * 9 * 16 * 8),
        ("groups_of_32", 64 * 9 * 32 * 8),
        ("depthwise", 36 * 9 * 32),
        ("separable", 36 * (9 * 32 + 32 * 8)),
        # At every position of the input.
        ("transposed", 64 * 9 * 32 * 8),
        ("conv1d", 64 * 3 * 32 * 8),
        ("conv3d", 6**3 * 27 * 4 * 4),
    ],
)
@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_macs(name, macs, converter, layers):
    assert layers(converter)[name].macs == macs


def test_runtime_takes_what_lce_refuses(lce, converted):
    """Groups, and int8 outputs with zero padding, as the warnings say."""
    path, _ = converted("lce")
    images = random_samples(SHAPE, 1)
    expected = lce.testing.Interpreter(path.read_bytes(), use_reference_bconv=True).predict(images)
    np.testing.assert_allclose(runtime.Interpreter(path).predict(images), expected, atol=1e-3)


@pytest.fixture
def ternary():
    return build(lambda x: signed("tern", x, input_quantizer="ste_tern"), SHAPE)


def test_ternary_input_is_refused_for_lce(ternary, tmp_path):
    """LCE would take its two signs for one, and write a wrong file."""
    with pytest.raises(ValueError, match=r"cannot be converted: tern: .* three values"):
        export.convert(ternary, tmp_path / "model.tflite", allow_float=True, converter="lce")


def test_ternary_input_stays_float(ternary, tmp_path):
    report = export.convert(ternary, tmp_path / "model.tflite")
    [layer] = report.layers
    assert (layer.intended_binary, layer.binary, layer.reason) == (False, False, "ternary")
    assert "three values" in layer.explanation


def test_layers_inside_models_and_layers_called_twice():
    def layers(x):
        inner = keras.Sequential([keras.Input(x.shape[1:]), larq_conv(32, name="inner")])
        return inner(inner(tf.sign(x)))

    model = build(layers, SHAPE)
    found = diagnose(model, signature.of(model))
    assert [(one.layer.name, one.reason) for one in found] == [("inner", ""), ("inner", "")]


def test_constant_kernel_of_signs_needs_no_quantizer():
    def layers(x):
        ones = L.Conv2D(8, 3, kernel_initializer="ones", name="ones")(sign()(x))
        return L.Conv2D(8, 3, name="random")(sign()(ones))

    model = build(layers, SHAPE)
    found = {one.layer.name: one for one in diagnose(model, signature.of(model))}
    assert (found["ones"].intended_binary, found["ones"].reason) == (True, "")
    assert (found["random"].intended_binary, found["random"].reason) == (False, "input_only")


UNEVEN = [(0.004, ""), (0.006, "kernel_values"), (0.4, "kernel_values")]


def uneven(share):
    return build(lambda x: signed("conv", x, kernel_quantizer=Uneven(share)), SHAPE)


@pytest.mark.parametrize(("share", "reason"), UNEVEN)
def test_magnitudes_may_differ_by_as_much_as_lce_lets_them(share, reason, lce, tmp_path):
    """By half a percent. The file then has one magnitude: what differs is an error of the file."""
    model = uneven(share)
    [found] = diagnose(model, signature.of(model))
    assert (found.intended_binary, found.reason) == (True, reason)
    names = [name for name, _ in operators(lce.convert_keras_model(model))]
    assert ("LceBconv2d" in names) == (reason == "")
    with pytest.raises(ValueError, match=r"kernel_values" if reason else "does not compute what"):
        export.convert(model, tmp_path / "model.tflite", converter="lce")


@pytest.mark.parametrize("share", [share for share, _ in UNEVEN])
def test_our_converter_takes_magnitudes_for_one_up_to_a_tenth_percent(share, tmp_path):
    with pytest.raises(ValueError, match=r"conv \(kernel_values\): The magnitudes of filter 0"):
        export.convert(uneven(share), tmp_path / "model.tflite")
