"""The check must find what is wrong, and must not mistake a flipped sign for it."""

import numpy as np
import pytest
from export_helpers import CLASSES, SIZE, build, edit, larq_conv

from bireal_keras._keras import keras

pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")

from bireal_keras.export.converter import convert
from bireal_keras.export.verification import random_samples, verify


@pytest.fixture(scope="module")
def samples():
    return random_samples((SIZE, SIZE, 3))


def floats(change):
    """An edit of float32 constants from `change`, a function from old to new values."""

    def edit_bytes(data):
        values = data.view(np.float32)
        values[:] = change(values)

    return edit_bytes


def invert_one_filter(data):
    data.view(np.uint32).reshape(-1, 9)[0] ^= 0xFFFF


def flip_one_bit(data):
    data[0] ^= 1


def test_right_file(small, samples):
    agreement = verify(small.model, small.content, samples)
    assert agreement.samples == agreement.close_samples == 32
    assert agreement.top1_agreement == 1.0
    assert 0 < agreement.max_abs_difference < 1e-4


@pytest.mark.parametrize(
    ("operator", "which", "index", "change"),
    [
        ("LceBconv2d", 0, 1, flip_one_bit),
        ("LceBconv2d", 0, 1, invert_one_filter),
        ("LceBconv2d", 1, 2, floats(lambda multiplier: multiplier * 1.01)),
        ("LceBconv2d", 2, 3, floats(lambda bias: np.roll(bias, 1))),
        ("CONV_2D", 0, 1, floats(lambda kernel: kernel * 0.9)),
        ("CONV_2D", 1, 2, floats(lambda bias: bias + 0.01)),
        ("FULLY_CONNECTED", 0, 1, floats(lambda kernel: kernel * 1.001)),
    ],
)
def test_wrong_constant_is_found(operator, which, index, change, small, samples):
    content = edit(small.content, operator, index, change, which=which)
    with pytest.raises(ValueError, match=r"does not compute .*: 0 of 32 samples agree"):
        verify(small.model, content, samples)


def test_edit_alone_changes_nothing(small, samples):
    content = edit(small.content, "LceBconv2d", 1, lambda data: None)
    assert verify(small.model, content, samples) == verify(small.model, small.content, samples)


def test_file_that_ignores_its_input_is_found(small, samples):
    content = edit(small.content, "CONV_2D", 1, floats(np.zeros_like))
    with pytest.raises(ValueError, match="0 of 32 samples agree"):
        verify(small.model, content, samples)


def test_nan_in_the_file_is_found(tmp_path):
    path = tmp_path / "model.tflite"
    # TFLite's own operators turn NaN into the smallest number, LCE's do not.
    model = build(larq_conv(8), (6, 6, 4))
    convert(model, path)
    content = edit(path.read_bytes(), "LceBconv2d", 3, floats(lambda bias: bias + np.nan))
    with pytest.raises(ValueError, match="converted file gives NaN"):
        verify(model, content, random_samples((6, 6, 4)))


def test_nan_in_the_model_is_found(samples, tmp_path):
    model = build(lambda x: keras.layers.Conv2D(4, 1)(x))
    model.layers[-1].bias.assign([0, np.nan, 0, 0])
    with pytest.raises(ValueError, match="Keras model gives NaN"):
        convert(model, tmp_path / "model.tflite")


@pytest.fixture(scope="module")
def sign_model(tmp_path_factory):
    """stem (identity) -> sign -> 1-bit convolution, and its file."""

    def layers(x):
        x = keras.layers.Conv2D(4, 1, name="stem")(x)
        x = keras.layers.Flatten()(larq_conv(8, name="conv")(x))
        return keras.layers.Dense(CLASSES)(x)

    path = tmp_path_factory.mktemp("sign") / "model.tflite"
    model = build(layers, (6, 6, 4))
    model.get_layer("stem").set_weights([np.eye(4)[None, None], np.zeros(4)])
    convert(model, path)
    return model, path.read_bytes()


@pytest.mark.parametrize(("close", "passes"), [(32, True), (4, True), (3, False), (0, False)])
def test_flipped_signs_are_allowed_on_most_samples(close, passes, sign_model):
    """A bias of 1e-6 in the file turns the sign of -5e-7, and of no other value."""
    model, content = sign_model
    content = edit(content, "CONV_2D", 2, floats(lambda bias: bias + 1e-6))
    rng = np.random.default_rng(0)
    images = rng.choice([-1, 1], (32, 6, 6, 4)) * rng.uniform(0.1, 1, (32, 6, 6, 4))
    images[close:, 2, 3, 1] = -5e-7
    images = images.astype(np.float32)
    if passes:
        agreement = verify(model, content, images)
        assert agreement.close_samples == close
        assert (agreement.max_abs_difference > 0.01) == (close < 32)
    else:
        with pytest.raises(ValueError, match=f"{close} of 32 samples agree .* least 12.5%"):
            verify(model, content, images)


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_softmax_hides_nothing(scale, samples, tmp_path):
    """Neither of probabilities that all are 1/5 nor of those that all are 0 or 1."""

    def layers(x):
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)

    model = build(layers)
    kernel, _ = model.get_layer("head").get_weights()
    model.get_layer("head").set_weights([kernel * scale, np.arange(CLASSES) * scale])
    path = tmp_path / "model.tflite"
    convert(model, path)
    content = edit(path.read_bytes(), "FULLY_CONNECTED", 1, floats(lambda w: w * 0.9))
    with pytest.raises(ValueError, match="0 of 32 samples agree"):
        verify(model, content, samples)


def test_samples_are_reproducible_and_unlike_each_other():
    images = random_samples((30, 20, 3))
    assert images.shape == (32, 30, 20, 3)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, random_samples((30, 20, 3)))
    assert np.abs(images).max() <= 1
    assert images.mean(axis=(1, 2)).std(axis=0).min() > 0.2
