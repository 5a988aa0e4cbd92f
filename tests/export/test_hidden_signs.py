"""Signs that no code tells: layers that are 1-bit by their values, and stay float."""

import numpy as np
import pytest
from export_helpers import build, larq_conv

from bireal_keras import export
from bireal_keras._keras import keras, tf

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (8, 8, 4)


def where(x):
    return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))


def cast(x):
    return 2 * tf.cast(x >= 0, tf.float32) - 1


def rounded(x):
    return 2 * tf.round(tf.clip_by_value((x + 1) / 2, 0.0, 1.0)) - 1


def quotient(x):
    return (x + 1e-9) / tf.abs(x + 1e-9)


def constants(x):
    return tf.where(x >= 0, 1.0, -1.0)


class Own(L.Layer):
    """A 1-bit convolution as people write it who do not know Larq."""

    def __init__(self, sign, **kwargs):
        super().__init__(**kwargs)
        self.sign = sign

    def build(self, shape):
        self.kernel_ = self.add_weight("kernel", (3, 3, shape[-1], 8), initializer="random_normal")

    def call(self, x):
        return tf.nn.conv2d(self.sign(x), 0.5 * self.sign(self.kernel_), 1, "VALID")


@pytest.mark.parametrize(
    ("converter", "sign"),
    [
        *(("lce", sign) for sign in (where, cast, rounded, quotient)),
        *(("bireal", sign) for sign in (rounded, quotient)),
    ],
)
def test_own_layers_that_stay_float_are_an_error(converter, sign, tmp_path):
    path = tmp_path / "model.tflite"
    model = build(lambda x: L.BatchNormalization()(Own(sign, name="own")(x)), SHAPE)
    with pytest.raises(
        ValueError, match=r"1 of 1 1-bit layers stayed float .* own \(hidden_sign\)"
    ):
        export.convert(model, path, converter=converter)
    assert not path.exists()
    report = export.convert(model, path, allow_float=True, converter=converter)
    [layer] = report.layers
    assert (layer.name, layer.kind, layer.binary) == ("own", "Own", False)
    assert (layer.intended_binary, layer.weights) == (True, 9 * 4 * 8)
    assert report.intended_binary_convolutions == 1


@pytest.mark.parametrize(
    ("converter", "sign"),
    [("lce", constants), ("bireal", constants), ("bireal", where), ("bireal", cast)],
)
def test_own_layers_that_are_packed(converter, sign, tmp_path):
    model = build(lambda x: L.BatchNormalization()(Own(sign, name="own")(x)), SHAPE)
    [layer] = export.convert(model, tmp_path / "model.tflite", converter=converter).layers
    assert (layer.name, layer.binary, layer.intended_binary, layer.reason) == (
        "own",
        True,
        True,
        "",
    )


def test_what_the_pass_says_of_a_sign_comes_first(tmp_path):
    """On the samples tf.sign gives -1 and +1 alone; the pass knows that it can give 0."""
    model = build(lambda x: Own(tf.sign, name="own")(x), SHAPE)
    with pytest.raises(ValueError, match=r"own \(tf_sign\): Its input's sign gives 0 for 0"):
        export.convert(model, tmp_path / "model.tflite")


@pytest.mark.parametrize("converter", ["lce", "bireal"])
def test_layers_with_a_slash_in_their_names(converter, tmp_path):
    """Such as keras.applications gives, where "conv" may be the name of another layer, too."""

    def layers(x):
        x = larq_conv(8, name="block/conv")(x)
        x = Own(rounded, name="block/own")(x)
        return larq_conv(8, name="conv")(x)

    report = export.convert(
        build(layers, SHAPE), tmp_path / "model.tflite", allow_float=True, converter=converter
    )
    assert {layer.name: layer.binary for layer in report.layers} == {
        "block/conv": True,
        "block/own": False,
        "conv": True,
    }
    assert report.intended_binary_convolutions == 3


@pytest.mark.parametrize("sign", [rounded, quotient])
def test_sign_before_a_layer_of_larq(sign, tmp_path):
    model = build(
        lambda x: larq_conv(8, name="conv", input_quantizer=None, padding="valid")(
            L.Lambda(sign)(x)
        ),
        SHAPE,
    )
    with pytest.raises(ValueError, match=r"conv \(hidden_sign\)"):
        export.convert(model, tmp_path / "model.tflite")


def test_other_layers_are_what_they_were(tmp_path):
    """Real factors, zeros and ones, three values, and signs on one side only."""

    def layers(x):
        x = L.Conv2D(8, 3, name="real")(x)
        x = larq_conv(8, name="weights", input_quantizer=None)(x)
        x = L.Conv2D(8, 3, name="input")(L.Lambda(rounded)(x))
        x = larq_conv(8, name="zeros", input_quantizer=None)(tf.cast(x > 0, tf.float32))
        return larq_conv(8, name="three", input_quantizer=None)(tf.sign(L.ReLU()(x)))

    report = export.convert(build(layers, SHAPE), tmp_path / "model.tflite", allow_float=True)
    assert "hidden_sign" not in {layer.reason for layer in report.layers}
    assert {layer.name for layer in report.layers} == {
        *("real", "weights", "input", "zeros", "three")
    }
    assert np.all([not layer.binary for layer in report.layers])
