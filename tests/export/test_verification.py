"""The check must find what is wrong, where it is, and must not mistake a flipped sign for it."""

import numpy as np
import pytest
from export_helpers import CLASSES, SIZE, build, edit, larq_conv, operators

from bireal_keras import zoo
from bireal_keras._keras import keras, tf
from bireal_keras.export.converter import convert
from bireal_keras.export.samples import random_samples
from bireal_keras.export.verification import verify


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
    agreement = verify(small.model, small.content, [samples])
    assert agreement.samples == agreement.close_samples == 32
    assert agreement.top1_agreement == 1.0
    assert 0 < agreement.max_abs_difference < 1e-4
    # 12x12x16, 12x12x16 and 6x6x40 values before the signs of 32 images.
    assert agreement.signs == 32 * (12 * 12 * 16 + 12 * 12 * 16 + 6 * 6 * 40)
    assert agreement.flips == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "which", "index", "change", "message"),
    [
        ("LceBconv2d", 0, 1, flip_one_bit, "1 of the 1-bit weights of block1_conv differ"),
        ("LceBconv2d", 0, 1, invert_one_filter, "input of block2_conv .* by block1_conv, "),
        (
            "LceBconv2d",
            0,
            3,
            floats(lambda bias: bias + np.eye(1, 16, 3)[0] * 0.01),
            "input of block2_conv .* computed by block1_conv, block1_bn, block1_add",
        ),
        (
            "LceBconv2d",
            1,
            2,
            floats(lambda multiplier: multiplier * 1.001),
            "input of block3_conv .*block2_conv, .*block2_shortcut_conv, .*block2_add",
        ),
        ("LceBconv2d", 2, 3, floats(lambda bias: np.roll(bias, 1)), "result .* block3_conv, "),
        ("CONV_2D", 0, 1, floats(lambda kernel: kernel * 0.999), "block1_conv .* by stem_conv, "),
        ("CONV_2D", 1, 2, floats(lambda bias: bias + 0.001), "of block3_conv .*shortcut_conv, "),
        ("FULLY_CONNECTED", 0, 1, floats(lambda kernel: kernel * 1.001), "its result differs"),
    ],
)
def test_wrong_constant_is_found(operator, which, index, change, message, small, samples):
    content = edit(small.content, operator, index, change, which=which)
    with pytest.raises(ValueError, match=f"does not compute what .*: .*{message}"):
        verify(small.model, content, [samples])


def test_edit_alone_changes_nothing(small, samples):
    content = edit(small.content, "LceBconv2d", 1, lambda data: None)
    assert verify(small.model, content, [samples]) == verify(small.model, small.content, [samples])


def test_file_that_ignores_its_input_is_found(small, samples):
    content = edit(small.content, "CONV_2D", 1, floats(np.zeros_like))
    with pytest.raises(ValueError, match=r"input of block1_conv .* stem_conv"):
        verify(small.model, content, [samples])


def test_less_precise_file_needs_a_larger_tolerance(small, samples):
    """Real weights in half precision, as far as the file's arithmetic goes."""

    def halve(kernel):
        return kernel.astype(np.float16)

    content = edit(small.content, "CONV_2D", 1, floats(halve))
    with pytest.raises(ValueError, match="does not compute what"):
        verify(small.model, content, [samples])
    assert verify(small.model, content, [samples], tolerance=0.01).samples == 32


@pytest.mark.slow
def test_nan_in_the_file_is_found(tmp_path):
    path = tmp_path / "model.tflite"
    # TFLite's own operators turn NaN into the smallest number, LCE's do not.
    model = build(larq_conv(8), (6, 6, 4))
    convert(model, path)
    content = edit(path.read_bytes(), "LceBconv2d", 3, floats(lambda bias: bias + np.nan))
    with pytest.raises(ValueError, match="converted file gives NaN"):
        verify(model, content, [random_samples((6, 6, 4))])


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


def images_near_zero(count, value):
    """32 images of numbers far from zero, but for one of the first `count` each."""
    rng = np.random.default_rng(0)
    images = rng.choice([-1, 1], (32, 6, 6, 4)) * rng.uniform(0.1, 1, (32, 6, 6, 4))
    images[:count, 2, 3, 1] = value
    return images.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("flipped", [0, 1, 31, 32])
def test_signs_may_flip_within_rounding_of_zero(flipped, sign_model):
    """A bias of 1e-6 in the file turns the sign of -5e-7, and of no other value."""
    model, content = sign_model
    content = edit(content, "CONV_2D", 2, floats(lambda bias: bias + 1e-6))
    agreement = verify(model, content, [images_near_zero(flipped, -5e-7)])
    assert agreement.close_samples == 32 - flipped
    assert (agreement.max_abs_difference > 0.01) == (flipped > 0)
    assert agreement.flips == flipped


def test_signs_may_not_flip_farther_from_zero(sign_model):
    """The same in one image of 32, by 2e-3; the other images hide it."""
    model, content = sign_model
    content = edit(content, "CONV_2D", 2, floats(lambda bias: bias + 2e-3))
    with pytest.raises(ValueError, match=r"input of conv differs by up to 0.002, .* by stem"):
        verify(model, content, [images_near_zero(1, -1e-3)])


@pytest.fixture(scope="module")
def packed_model(tmp_path_factory):
    """conv -> BN -> sign -> conv without padding: the file compares sums with thresholds."""

    def layers(x):
        x = larq_conv(40, padding="valid", name="first")(x)
        x = keras.layers.BatchNormalization(name="bn")(x)
        x = larq_conv(8, padding="valid", name="second")(x)
        return keras.layers.Flatten()(keras.layers.BatchNormalization()(x))

    path = tmp_path_factory.mktemp("packed") / "model.tflite"
    model = build(layers)
    convert(model, path)
    return model, path.read_bytes()


@pytest.mark.slow
def test_signs_without_a_value_before_them(packed_model, samples):
    model, content = packed_model
    assert operators(content)[1] == ("LceBconv2d", "INT32")
    assert verify(model, content, [samples]).flips == 0

    def raise_thresholds(data):
        data.view(np.int32)[:4] += 1

    content = edit(content, "LceBconv2d", 4, raise_thresholds)
    with pytest.raises(ValueError, match=r"input of second differs .* computed by first, bn"):
        verify(model, content, [samples])


@pytest.mark.slow
def test_untrained_net_without_shortcuts(lce):
    """Fresh BatchNorms leave sums of signs around exactly zero: flips by the thousand."""
    model = zoo.BinaryPlainNet18(input_shape=(16, 16, 3), num_classes=10, width=4, stem="cifar")
    content = lce.convert_keras_model(model)
    images = random_samples((16, 16, 3), 8)
    agreement = verify(model, content, [images])
    assert agreement.close_samples < 4
    assert agreement.flips > 1000

    # And yet they hide nothing. The fresh biases of stage 2 are equal, so LCE stores them once.
    wrong = edit(content, "LceBconv2d", 3, floats(lambda bias: bias + 0.01), which=4)
    message = "input of stage2_block2_conv differs .* by stage2_block1_conv, stage2_block1_bn"
    with pytest.raises(ValueError, match=message):
        verify(model, wrong, [images])


@pytest.mark.slow
def test_layer_that_is_called_twice(tmp_path):
    def layers(x):
        conv = larq_conv(4, name="shared")
        x = keras.layers.BatchNormalization()(conv(x))
        return keras.layers.Flatten()(conv(x))

    path = tmp_path / "model.tflite"
    model = build(layers, (6, 6, 4))
    convert(model, path)
    images = random_samples((6, 6, 4))
    assert verify(model, path.read_bytes(), [images]).signs == 2 * images.size
    content = edit(path.read_bytes(), "LceBconv2d", 3, floats(lambda bias: bias + 0.1))
    with pytest.raises(ValueError, match="input of shared differs"):
        verify(model, content, [images])


@pytest.mark.slow
@pytest.mark.parametrize(("close", "passes"), [(32, True), (4, True), (3, False)])
def test_signs_that_keras_cannot_be_told(close, passes, tmp_path):
    """Those of tf.sign, which LCE keeps: the results of an eighth of the images have to agree."""

    def layers(x):
        x = keras.layers.Conv2D(4, 1, name="stem")(x)
        return keras.layers.Flatten()(tf.sign(x))

    path = tmp_path / "model.tflite"
    model = build(layers, (6, 6, 4))
    model.get_layer("stem").set_weights([np.eye(4)[None, None], np.zeros(4)])
    convert(model, path)
    content = edit(path.read_bytes(), "CONV_2D", 2, floats(lambda bias: bias + 1e-6))
    images = images_near_zero(32 - close, -5e-7)
    if passes:
        assert verify(model, content, [images]).close_samples == close
    else:
        with pytest.raises(ValueError, match=r"3 of 32 samples agree .* least 12\.5%"):
            verify(model, content, [images])


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="its result differs"):
        verify(model, content, [samples])


def with_large_logits(scale):
    """A model whose logits are all about `scale`, and its probabilities about 1/5."""

    def layers(x):
        x = keras.layers.GlobalAveragePooling2D()(larq_conv(64)(x))
        return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)

    model = build(layers)
    rng = np.random.default_rng(0)
    kernel = rng.uniform(-1, 1, (64, 1)) * scale + rng.normal(size=(64, CLASSES)) * 0.1
    model.get_layer("head").set_weights([kernel, np.zeros(CLASSES)])
    return model


@pytest.mark.slow
def test_softmax_rounds_as_its_logits(samples, tmp_path):
    """Two correct programs differ by some 2^-23 of the logits, of which probabilities show none."""
    path = tmp_path / "model.tflite"
    model = with_large_logits(300)
    convert(model, path)
    rng = np.random.default_rng(0)
    wrong = floats(lambda w: w + rng.normal(size=w.shape) * 0.01)
    with pytest.raises(ValueError, match="its result differs"):
        verify(model, edit(path.read_bytes(), "FULLY_CONNECTED", 1, wrong), [samples])


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
def test_large_logits_of_a_wrong_file_do_not_excuse_it(scale, samples, tmp_path):
    path = tmp_path / "model.tflite"
    model = with_large_logits(1)
    convert(model, path)
    rng = np.random.default_rng(0)
    wrong = floats(lambda w: w + scale * np.sign(rng.normal(size=w.shape)))
    with pytest.raises(ValueError, match=r"its result differs|gives NaN"):
        verify(model, edit(path.read_bytes(), "FULLY_CONNECTED", 1, wrong), [samples])


def test_samples_are_reproducible_and_unlike_each_other():
    images = random_samples((30, 20, 3))
    assert images.shape == (32, 30, 20, 3)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, random_samples((30, 20, 3)))
    assert np.abs(images).max() <= 1
    assert images.mean(axis=(1, 2)).std(axis=0).min() > 0.2
