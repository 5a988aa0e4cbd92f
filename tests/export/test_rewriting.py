"""What is rewritten computes what it did before, and in 1 bit."""

import functools

import numpy as np
import pytest
from export_helpers import build, larq_conv, operators

from bireal_keras import export, runtime
from bireal_keras._keras import keras, lq
from bireal_keras.export import rewriting, signature
from bireal_keras.export.samples import random_samples

L = keras.layers
SHAPE = (6, 6, 32)
DEAD = 3


def magnitude_aware(name, x, **kwargs):
    return larq_conv(8, name=name, kernel_quantizer="magnitude_aware_sign", **kwargs)(x)


def set_magnitude(layer, magnitude):
    """Makes one filter's weights that small, with the signs they have."""
    weights = layer.kernel.latent_variable.numpy()
    weights[..., DEAD] = magnitude * np.where(weights[..., DEAD] < 0, -1, 1)
    layer.kernel.latent_variable.assign(weights)


def run(path, images):
    return runtime.Interpreter(path).predict(images)


@pytest.fixture(scope="module")
def dead():
    """Dead filters before and after others, with a bias, BatchNormalization and packed output."""

    def layers(x):
        none = L.BatchNormalization(name="none_bn")(magnitude_aware("none", x))
        tiny = L.BatchNormalization()(magnitude_aware("tiny", x, use_bias=True))
        packed = L.BatchNormalization()(magnitude_aware("packed", x, padding="valid"))
        return L.Concatenate()(
            [L.Flatten()(y) for y in (none, tiny, larq_conv(8, name="next")(packed))]
        )

    model = build(layers, SHAPE)
    set_magnitude(model.get_layer("none"), 0)
    set_magnitude(model.get_layer("tiny"), 1e-7)
    set_magnitude(model.get_layer("packed"), 0)
    return model


@pytest.fixture(scope="module")
def converted(dead, tmp_path_factory):
    """Path and report of its file by each converter, which is asked once."""

    @functools.cache
    def convert(converter):
        path = tmp_path_factory.mktemp("dead") / "model.tflite"
        before = [weights.copy() for weights in dead.get_weights()]
        report = export.convert(dead, path, converter=converter)
        for old, new in zip(before, dead.get_weights()):
            np.testing.assert_array_equal(old, new)
        return path, report

    return convert


@pytest.mark.slow
@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_dead_filters_leave_their_layers_binary(converter, converted):
    """Our converter, a pass over the float file, packs them as they are."""
    path, report = converted(converter)
    assert len(report.layers) == 4
    assert all(layer.binary for layer in report.layers)
    rewritten = {layer.name: layer.rewritten for layer in report.layers if layer.rewritten}
    assert set(rewritten) == (set() if converter == "bireal" else {"none", "tiny", "packed"})
    assert all("dead filters (1 of 8)" in note for note in rewritten.values())
    assert "CONV_2D" not in [name for name, _ in operators(path.read_bytes())]


def test_both_converters_write_the_same_operators_for_dead_filters(lce, converted):
    path, lce_path = (converted(converter)[0] for converter in ("bireal", "lce"))
    assert sorted(operators(path.read_bytes())) == sorted(operators(lce_path.read_bytes()))
    images = random_samples(SHAPE, 8)
    np.testing.assert_allclose(run(path, images), run(lce_path, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_dead_filter_gives_what_batch_norm_makes_of_zero(converter, dead, converted):
    path, report = converted(converter)
    images = random_samples(SHAPE, 8)
    actual, expected = run(path, images), dead.predict(images, verbose=0)
    assert report.close_samples == 32
    norm = dead.get_layer("none_bn")
    of_zero = norm(np.zeros((1, 1, 1, 8), np.float32)).numpy()[..., DEAD].item()
    filters = [values[:, : 6 * 6 * 8].reshape(8, 6, 6, 8) for values in (actual, expected)]
    for values in filters:
        np.testing.assert_allclose(values[..., DEAD], of_zero, rtol=1e-6)
    # It is one value, bit by bit: nothing of the filter's signs is left.
    assert len(np.unique(filters[0][..., DEAD])) == 1
    # The others do vary, so that the equality above says something.
    assert len(np.unique(filters[0][..., DEAD - 1])) > 10


def test_layers_are_as_they_were_after_an_error():
    model = build(lambda x: magnitude_aware("conv", x), SHAPE)
    set_magnitude(model.get_layer("conv"), 0)

    def fail_inside():
        with rewriting.rewritten(model, signature.of(model)) as notes:
            assert set(notes) == {"conv"}
            assert "convolution_op" in vars(model.get_layer("conv"))
            raise RuntimeError("fire")

    with pytest.raises(RuntimeError, match="fire"):
        fail_inside()
    assert "convolution_op" not in vars(model.get_layer("conv"))


def test_model_without_defects_stays_untouched():
    model = build(lambda x: magnitude_aware("conv", x), SHAPE)
    with rewriting.rewritten(model, signature.of(model)) as notes:
        assert notes == {}
        assert "convolution_op" not in vars(model.get_layer("conv"))
    assert rewriting.in_float32(model) is model


@pytest.mark.slow
@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_binary_dense_layers(converter, tmp_path):
    """After a flatten and on maps; with bias, activation and a dead filter."""

    def dense(units, name, **kwargs):
        quantizers = {
            "input_quantizer": "ste_sign",
            "kernel_quantizer": "magnitude_aware_sign",
            "kernel_constraint": "weight_clip",
        }
        return lq.layers.QuantDense(units, name=name, **quantizers, **kwargs)

    def layers(x):
        x = L.BatchNormalization()(dense(40, "on_maps", use_bias=False)(x))
        x = dense(16, "flat", bias_initializer="ones", activation="relu")(L.Flatten()(x))
        return L.Dense(5, name="head")(L.BatchNormalization()(dense(8, "last")(x)))

    model = build(layers, (4, 4, 31))
    set_magnitude(model.get_layer("last"), 0)
    path = tmp_path / "model.tflite"
    report = export.convert(model, path, converter=converter)
    assert [(layer.name, layer.binary) for layer in report.layers] == [
        ("on_maps", True),
        ("flat", True),
        ("last", True),
        ("head", False),
    ]
    if converter == "lce":
        for layer in report.layers[:3]:
            assert "computed as a 1x1 convolution" in layer.rewritten
        assert "dead filters (1 of 8)" in report.layers[2].rewritten
    else:
        assert not any(layer.rewritten for layer in report.layers)
    # The first runs on 16 positions, the others on one.
    weights = [31 * 40, 4 * 4 * 40 * 16, 16 * 8, 8 * 5]
    assert [layer.weights for layer in report.layers] == weights
    assert [layer.macs for layer in report.layers] == [16 * weights[0], *weights[1:]]
    names = [name for name, _ in operators(path.read_bytes())]
    assert (names.count("LceBconv2d"), names.count("FULLY_CONNECTED")) == (3, 1)
    images = np.random.default_rng(5).normal(size=(8, 4, 4, 31)).astype(np.float32)
    np.testing.assert_allclose(run(path, images), model(images, training=False), atol=1e-4)


@pytest.fixture
def in_half_precision():
    """A model under the policy mixed_float16, one inside it, quantizers and a float32 head."""

    def layers(x):
        inner = keras.Sequential([keras.Input(x.shape[1:]), larq_conv(8, name="inner")])
        x = L.BatchNormalization()(larq_conv(8, name="outer")(inner(x)))
        return L.Dense(5, dtype="float32", name="head")(L.GlobalAveragePooling2D()(x))

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return build(layers, SHAPE)
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
def test_mixed_precision_is_cast(in_half_precision, tmp_path):
    model, path = in_half_precision, tmp_path / "model.tflite"
    report = export.convert(model, path)
    assert report.binary_convolutions == 2
    assert {"inner", "outer"} < set(report.cast_layers)
    assert "head" not in report.cast_layers
    assert "computed in float32" in str(report)
    # The model of the caller is what it was.
    assert model.get_layer("outer").compute_dtype == "float16"
    images = random_samples(SHAPE, 8)
    # 0.001 is what float16 leaves of values around 1.
    np.testing.assert_allclose(run(path, images), model(images), atol=0.02)
    assert model(images).numpy().std(axis=0).min() > 0.05


def test_cast_copy_has_the_weights_and_no_half_precision(in_half_precision):
    copy = rewriting.in_float32(in_half_precision)
    assert rewriting.with_other_precision(copy) == []
    assert copy.get_layer("outer").input_quantizer.compute_dtype == "float32"
    for mine, theirs in zip(copy.get_weights(), in_half_precision.get_weights()):
        np.testing.assert_array_equal(mine, theirs)


def test_model_that_cannot_be_copied():
    class Unknown(L.Layer):
        def __init__(self, argument):
            super().__init__(dtype="float16")
            self.argument = argument

        def call(self, inputs):
            return inputs

    model = build(lambda x: Unknown(object())(x), SHAPE)
    with pytest.raises(ValueError, match=r"'float32'.*cannot be copied as float32"):
        rewriting.in_float32(model)
