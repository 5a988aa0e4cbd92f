"""Activations that clip keep their digits, whatever the size of the filters before them."""

import numpy as np
import pytest
from export_helpers import build, larq_conv, operators

from bireal_keras import export
from bireal_keras._keras import keras, tf
from bireal_keras.export import comparison, probes
from bireal_keras.export.samples import random_samples

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
CLIPS = {
    "relu6": lambda x: L.ReLU(6)(x),
    "hard_tanh": lambda x: tf.clip_by_value(x, -1.0, 1.0),
}


def model_of(activation, channels, **kwargs):
    """A clip after a convolution that reads signs, with the statistics of what comes of it."""

    def layers(x):
        x = larq_conv(8, name="conv", pad_values=1, **kwargs)(x)
        return L.BatchNormalization(name="norm", momentum=0)(activation(x))

    model = build(layers, (6, 6, channels))
    norm = model.get_layer("norm")
    norm.gamma.assign(np.ones(8))
    norm.beta.assign(np.zeros(8))
    model(random_samples((6, 6, channels)), training=True)
    return model


@pytest.mark.parametrize("converter", ["bireal", "lce"])
@pytest.mark.parametrize("name", CLIPS)
def test_no_digits_are_lost(name, converter, tmp_path):
    """Fused, as LCE does it, the results are off by 1e-4 of their spread and more."""
    model = model_of(CLIPS[name], 512)
    report = export.convert(model, tmp_path / "model.tflite", converter=converter)
    content = (tmp_path / "model.tflite").read_bytes()
    [layer] = report.layers
    assert (layer.binary, layer.left_reason) == (True, "clip_apart")
    # Ours fuses none that would cost digits; LCE is kept from it.
    assert layer.rewritten == ("its activation is kept apart" if converter == "lce" else "")
    _, found = comparison.compare(
        model,
        content,
        [random_samples((6, 6, 512))],
        [probes.run_on_lce if converter == "lce" else probes.run_on_runtime],
    )
    for compared in found:
        assert compared.layers[-1].difference < 2e-5 * compared.layers[-1].spread
        assert compared.layers[0].wrong_bits == 0


@pytest.mark.parametrize(
    ("converter", "name", "channels", "is_apart"),
    [
        # 9 weights for each channel: 1,494 and 1,512 for a range of 6, 495 and 504 for one of 2.
        ("lce", "relu6", 166, False),
        ("lce", "relu6", 168, True),
        ("lce", "hard_tanh", 54, False),
        ("lce", "hard_tanh", 56, True),
        ("bireal", "relu6", 166, False),
        ("bireal", "relu6", 168, True),
    ],
)
def test_small_filters_stay_fused(converter, name, channels, is_apart, tmp_path):
    model, path = model_of(CLIPS[name], channels), tmp_path / "model.tflite"
    report = export.convert(model, path, converter=converter)
    names = [operator for operator, _ in operators((tmp_path / "model.tflite").read_bytes())]
    clip = {"relu6": "RELU6", "hard_tanh": "RELU_N1_TO_1"}[name]
    assert (clip in names) == is_apart
    assert bool(report.layers[0].rewritten) == (is_apart and converter == "lce")
    assert report.layers[0].left_reason == ("clip_apart" if is_apart else "")


@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_thresholds_have_no_digits_to_lose(converter, tmp_path):
    """Where a sign reads the result, the clip stays a part of the convolution."""

    def layers(x):
        x = larq_conv(8, name="first", pad_values=1)(x)
        x = L.BatchNormalization()(L.ReLU(6)(x))
        return larq_conv(8, name="second", pad_values=1)(x)

    model = build(layers, (6, 6, 256))
    export.convert(model, tmp_path / "model.tflite", converter=converter)
    names = [operator for operator, _ in operators((tmp_path / "model.tflite").read_bytes())]
    assert names == ["LceQuantize", "LceBconv2d", "LceBconv2d"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(lambda x: L.ReLU()(x), 512),
        lambda: model_of(CLIPS["relu6"], 512, use_bias=True),
        lambda: model_of(CLIPS["relu6"], 512, kernel_quantizer="magnitude_aware_sign"),
        lambda: model_of(lambda x: x, 512),
    ],
    ids=["relu", "bias", "factor", "none"],
)
def test_what_is_not_fused_or_does_not_clip_is_left_alone(make, lce, tmp_path):
    report = export.convert(make(), tmp_path / "model.tflite", converter="lce")
    assert report.layers[0].rewritten == ""
