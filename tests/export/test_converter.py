"""From a Keras model to a checked file, and every reason not to write one."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_helpers import (
    CENTER_CROP,
    CLASSES,
    SIZE,
    birealnet,
    birealnet_features,
    build,
    edit,
    larq_conv,
    operators,
)

from bireal_keras import export, zoo
from bireal_keras._keras import keras, tf
from bireal_keras.export.binarize import binarize
from bireal_keras.export.real_layers import compact
from bireal_keras.runtime import Metadata, Normalization, read_metadata
from bireal_keras.tflite.labels import read_labels


@pytest.fixture(scope="module")
def model():
    """For the tests that never come to convert it."""
    return build(birealnet)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.mark.slow
def test_operators_of_a_birealnet(small):
    bconv = [("LceQuantize", "INT32"), ("LceBconv2d", "FLOAT32"), ("ADD", "FLOAT32")]
    assert sorted(operators(small.content)) == sorted(
        3 * bconv
        + 2 * [("CONV_2D", "FLOAT32")]
        + [("AVERAGE_POOL_2D", "FLOAT32"), ("MEAN", "FLOAT32")]
        + [("FULLY_CONNECTED", "FLOAT32"), ("SOFTMAX", "FLOAT32")]
    )


def test_report(small):
    report = small.report
    assert report.path == str(small.path)
    assert report.size_bytes == small.path.stat().st_size
    assert report.float_size_bytes == sum(w.nbytes for w in small.model.get_weights())
    assert (report.binary_convolutions, report.intended_binary_convolutions) == (3, 3)
    assert report.float_convolutions == 2
    assert report.samples == 32
    assert report.close_samples >= 24
    assert report.top1_agreement >= 0.75
    assert (report.real_layers, report.float32_agreement) == ("float32", None)
    assert list(report.latency_ms) == ["float32"]
    assert json.loads(json.dumps(report.as_dict()))["binary_convolutions"] == 3

    text = str(report)
    assert f"{report.size_bytes:,} bytes" in text
    assert "3 bit-packed (3 with 1-bit quantizers in Keras), 2 in float32" in text
    assert f"32 samples: {report.close_samples} equal up to rounding" in text


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_compact_real_layers(precision, small, path):
    options = {"labels": small.labels, "center_crop": CENTER_CROP, "real_layers": precision}
    report = export.convert(small.model, path, **options)
    content = path.read_bytes()
    assert operators(content) == operators(compact(small.content, precision))
    assert read_metadata(path) == read_metadata(small.path)
    assert report.size_bytes == len(content) < small.report.size_bytes
    assert report.real_layers == precision
    assert report.float32_agreement >= 0.75
    assert list(report.latency_ms) == ["float32", precision]
    assert all(0 < milliseconds < 1000 for milliseconds in report.latency_ms.values())
    size = {"float16": 2, "int8": 1}[precision]
    assert report.real_total.kernel_bytes == size * report.real_total.weights
    assert report.real_total.layers == 3
    # It is the float32 file that is compared with Keras.
    assert report.max_abs_difference == small.report.max_abs_difference
    text = str(report)
    assert f"3 bit-packed (3 with 1-bit quantizers in Keras), 2 in {precision}" in text
    assert f"agrees with float32 on {report.float32_agreement:.1%}" in text


def test_unfit_real_layers(model, path):
    with pytest.raises(
        ValueError, match=r"`real_layers` must be one of float32.* Received.*'int4'"
    ):
        export.convert(model, path, real_layers="int4")


def test_file_gives_what_keras_gives(small, lce):
    """This is not the converter's own check: the images and the code are others."""
    images = np.random.default_rng(7).normal(size=(32, SIZE, SIZE, 3)).astype(np.float32)
    images *= np.linspace(0, 2, 32)[:, None, None, None]
    expected = np.log(small.model(images, training=False))
    interpreter = lce.testing.Interpreter(small.content, use_reference_bconv=True)
    actual = np.log(interpreter.predict(images))
    close = np.abs(actual - expected).max(axis=1) < 1e-4
    assert close.mean() > 0.75
    assert expected.std(axis=0).min() > 0.01


def test_labels_travel_inside_the_file(small):
    assert read_labels(small.path) == small.labels


def test_what_the_images_are_travels_inside_the_file(small, path):
    images = Metadata(tuple(small.labels), (SIZE, SIZE), Normalization(), CENTER_CROP)
    assert read_metadata(small.path) == images

    model = build(lambda x: keras.layers.Conv2D(2, 1)(x), (6, 10, 3))
    export.convert(model, path, normalization=zoo.imagenet.NORMALIZATION)
    metadata = read_metadata(path)
    assert (metadata.labels, metadata.image_size, metadata.center_crop) == (None, (6, 10), 1)
    # These are the numbers that `standardize` takes, on another scale.
    pixels = np.array([[0, 0, 0], [255, 128, 1]], np.float32)
    mean, std = metadata.normalization.mean, metadata.normalization.std
    standardized = zoo.imagenet.standardize(pixels / 127.5 - 1)
    np.testing.assert_allclose((pixels - np.array(mean)) / np.array(std), standardized, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "given", "expected", "said"),
    [
        ("Conv2D", None, "symmetric", "symmetric, assumed, as bireal-train's"),
        ("Rescaling", None, "raw", "raw, by its first layer, rescaling"),
        ("Rescaling", "unit", "unit", "unit, as given"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_assumed_of_the_images(path, channels, first, given, expected, said):
    layer = keras.layers.Rescaling(1 / 255, name="rescaling")
    model = build(
        lambda x: keras.layers.Conv2D(2, 1)(layer(x) if first == "Rescaling" else x),
        (6, 10, channels),
    )
    normalization = None if given is None else Normalization.parse(given)
    report = export.convert(model, path, normalization=normalization)
    assert report.images == said
    assert f"images: {said}" in str(report).splitlines()
    metadata = read_metadata(path)
    assert metadata.normalization == Normalization.parse(expected)
    assert (metadata.channels, metadata.image_size) == (channels, (6, 10))


def test_unfit_images(path):
    model = build(lambda x: x, (8, 8, 4))
    with pytest.raises(
        ValueError, match=r"`normalization` needs .*Received: one of \(None, 8, 8, 4\)"
    ):
        export.convert(model, path, normalization=Normalization())
    with pytest.raises(ValueError, match=r"`center_crop` must be .*Received: center_crop=2"):
        export.convert(model, path, center_crop=2)
    assert not path.exists()


def test_stock_interpreter_opens_a_file_with_labels(small):
    details = Interpreter(model_path=str(small.path)).get_input_details()
    assert [tuple(d["shape"]) for d in details] == [(1, SIZE, SIZE, 3)]


@pytest.mark.slow
def test_same_model_gives_the_same_bytes(small, path):
    path.write_bytes(b"an older file, to be replaced")
    export.convert(small.model, path, labels=small.labels, center_crop=CENTER_CROP)
    assert path.read_bytes() == small.content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
def test_feature_extractor(path):
    report = export.convert(build(birealnet_features), path)
    assert report.binary_convolutions == 3
    assert report.top1_agreement is None
    assert "top-1" not in str(report)
    assert read_labels(path) is None
    report = export.convert(build(birealnet_features), path, real_layers="float16")
    assert report.float32_agreement is None
    assert "top-1" not in str(report)


@pytest.mark.slow
def test_zoo_model_with_untrained_weights(path):
    model = zoo.BiRealNet18(input_shape=(32, 32, 3), num_classes=10, width=8)
    report = export.convert(model, path)
    # 3 shortcuts and the stem.
    assert (report.binary_convolutions, report.float_convolutions) == (16, 4)
    assert report.size_bytes < report.float_size_bytes / 5


@pytest.mark.slow
def test_packed_output_inverts_filters(path):
    """conv -> BN -> sign -> conv without zero padding: the file compares with thresholds."""

    def layers(x):
        x = larq_conv(40, padding="valid", name="first")(x)
        x = keras.layers.BatchNormalization()(x)
        x = larq_conv(8, padding="valid", name="second")(x)
        return keras.layers.BatchNormalization()(x)

    report = export.convert(build(layers), path)
    assert report.binary_convolutions == report.intended_binary_convolutions == 2
    assert operators(path.read_bytes()) == [
        ("LceQuantize", "INT32"),
        ("LceBconv2d", "INT32"),
        ("LceBconv2d", "FLOAT32"),
    ]


@pytest.mark.slow
def test_samples_of_the_caller(small, path):
    samples = np.random.default_rng(3).normal(size=(9, SIZE, SIZE, 3))
    assert export.convert(small.model, path, samples=samples).samples == 9


def test_nested_model(path):
    def layers(x):
        inner = keras.Sequential([keras.Input(x.shape[1:]), larq_conv(8, name="inner_conv")])
        return larq_conv(4, name="outer_conv")(inner(x))

    # The small integers in between are either equal or, at 0, equally +1.
    assert export.convert(build(layers, (8, 8, 4)), path).intended_binary_convolutions == 2


def two_floats(x):
    x = larq_conv(16, name="packed")(x)
    x = larq_conv(8, name="padded", pad_values=-1.0)(x)
    return larq_conv(8, name="half", input_quantizer="ste_heaviside")(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("converter", "padded", "half"),
    [
        ("bireal", "It pads with -1 times the magnitude", "Its input is the sign of what is never"),
        ("lce", "It pads with -1; ", "Its input is 0 or 1, "),
    ],
)
def test_layers_that_stay_float_are_named_with_their_reasons(converter, padded, half, path):
    path.write_bytes(b"older file")
    message = (
        r"2 of 3 1-bit layers stayed float .* not written\. `allow_float` allows it\. "
        rf"padded \(pad_values\): {padded}.* half \(zero_one\): {half}.*"
    )
    model = build(two_floats, (8, 8, 4))
    with pytest.raises(ValueError, match=message):
        export.convert(model, path, converter=converter)
    assert path.read_bytes() == b"older file"
    assert os.listdir(path.parent) == [path.name]

    report = export.convert(model, path, allow_float=True, converter=converter)
    assert path.stat().st_size == report.size_bytes
    assert (report.binary_convolutions, report.intended_binary_convolutions) == (1, 3)
    assert "padded" in str(report)


def test_layer_that_stays_float_for_no_known_reason(path, lce, monkeypatch):
    """Should LCE change, the file still tells."""
    monkeypatch.setattr(
        "bireal_keras.export.diagnosis._keeps_in_float", lambda layer, origin: ("", "")
    )
    with pytest.raises(ValueError, match=r"2 of 3 .* padded \(unknown\): .* half \(unknown\)"):
        export.convert(build(two_floats, (8, 8, 4)), path, converter="lce")


def test_larq_model_without_binary_layers(path):
    """Weights alone in 1 bit are meant to stay float: no error."""
    model = build(lambda x: larq_conv(8, input_quantizer=None)(x))
    report = export.convert(model, path)
    assert (report.binary_convolutions, report.intended_binary_convolutions) == (0, 0)
    assert report.float_convolutions == 1


def test_wrong_file_is_not_written(model, path, lce, monkeypatch):
    convert_saved_model = lce.convert_saved_model

    def with_an_error(folder):
        def change(data):
            data.view(np.float32)[:] += 0.1

        # This is what the first 1-bit convolution adds.
        return edit(convert_saved_model(folder), "LceBconv2d", 3, change)

    monkeypatch.setattr(lce, "convert_saved_model", with_an_error)
    path.write_bytes(b"older file")
    with pytest.raises(ValueError, match=r"does not compute what .* of block2_conv differs"):
        export.convert(model, path, converter="lce")
    assert path.read_bytes() == b"older file"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
def test_wrong_file_of_ours_is_not_written(model, path, monkeypatch):
    def with_an_error(content):
        def change(data):
            data.view(np.float32)[:] += 0.1

        result = binarize(content)
        changed = edit(result.content, "LceBconv2d", 3, change)
        return dataclasses.replace(result, content=changed)

    monkeypatch.setattr("bireal_keras.export.legacy_keras.binarize", with_an_error)
    path.write_bytes(b"older file")
    with pytest.raises(ValueError, match=r"does not compute what .* of block2_conv differs"):
        export.convert(model, path)
    assert path.read_bytes() == b"older file"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
def test_failing_write_leaves_nothing_behind(small, path, monkeypatch):
    def replace(source, target):
        assert os.path.getsize(source) == len(small.content)
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", replace)
    path.write_bytes(b"older file")
    with pytest.raises(OSError, match="disk on fire"):
        export.convert(small.model, path, labels=small.labels, center_crop=CENTER_CROP)
    assert path.read_bytes() == b"older file"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_are_converted_unrolled(kind, path):
    """TensorFlow's converter makes one operator of an LSTM, which remembers the image before."""

    def recurrent(unroll):
        inputs = keras.Input((6, 8))
        layer = getattr(keras.layers, kind)(4, unroll=unroll)
        return keras.Model(inputs, layer(inputs), name="small")

    with pytest.raises(ValueError, match=r"small cannot be converted: .*take unroll=True$"):
        export.convert(recurrent(unroll=False), path)
    assert not path.exists()
    report = export.convert(recurrent(unroll=True), path)
    assert report.close_samples == report.samples


@pytest.mark.parametrize("converter", ["bireal", "lce"])
def test_operator_that_is_not_there(converter, path):
    def layers(x):
        return keras.layers.Lambda(lambda v: tf.math.bessel_i0e(v))(x)

    messages = {
        "bireal": r"TensorFlow cannot convert small: .*BesselI0e",
        "lce": r"does not run on LCE's reference kernel.*BesselI0e",
    }
    with pytest.raises(ValueError, match=messages[converter]):
        export.convert(build(layers), path, converter=converter)
    assert not path.exists()


def test_reference_kernel_refuses_odd_channels(path, lce):
    model = build(lambda x: larq_conv(8, name="odd")(x), (8, 8, 15))
    with pytest.raises(ValueError, match="even number of input channels"):
        export.convert(model, path, converter="lce")
    assert not path.exists()


def test_odd_channels(path):
    """Zeros around them are ours alone, so LCE's kernel is not asked."""
    model = build(lambda x: larq_conv(8, name="odd")(x), (8, 8, 15))
    report = export.convert(model, path)
    assert (report.binary_convolutions, report.close_samples) == (1, 32)


def test_exception_of_lce_is_passed_on(model, path, lce, monkeypatch):
    def fail(folder):
        os.write(2, b"loc(unknown): error: no such thing\nsome noise\n")
        raise Exception("it failed")

    monkeypatch.setattr(lce, "convert_saved_model", fail)
    with pytest.raises(ValueError, match=r"LCE cannot convert small: it failed loc.*no such thing"):
        export.convert(model, path, converter="lce")
    assert not path.exists()


def test_exception_of_the_converter_is_passed_on(model, path, monkeypatch):
    def fail(folder):
        os.write(2, b"loc(unknown): error: no such thing\nsome noise\n")
        raise Exception("it failed")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fail)
    with pytest.raises(
        ValueError, match=r"TensorFlow cannot convert small: it failed loc.*no such"
    ):
        export.convert(model, path)
    assert not path.exists()


def test_unfit_converter(model, path):
    with pytest.raises(ValueError, match=r"`converter` must be one of bireal, lce.*'onnx'"):
        export.convert(model, path, converter="onnx")


@pytest.mark.slow
def test_console_stays_clean(model, path, capfd):
    export.convert(model, path)
    assert capfd.readouterr() == ("", "")


def keras3_model():
    # It is not imported at the top: the first to import TensorFlow decides on its Keras.
    import keras as keras3

    return keras3.Sequential([keras3.Input((8, 8, 3))])


def subclassed_in_half_precision():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    model = Subclassed(dtype="float16", name="sub")
    model(keras.Input((8, 8, 3)))
    return model


def from_input(*args, **kwargs):
    inputs = keras.Input(*args, **kwargs)
    return keras.Model(inputs, keras.layers.Rescaling(2.0)(inputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "model.keras", r"Keras model.* the path 'model\.keras'\. Load it with .*load_"),
        (lambda: 3, r"a Keras model\. Received: builtins\.int\.$"),
        (lambda: keras.Sequential([keras.layers.ReLU()], name="s"), "keras.Input.* s, which is"),
        (subclassed_in_half_precision, "'float32'.* precision: .*'sub'.*cannot be copied"),
        (lambda: from_input((None, None, 3)), r"fixed size.*float32 \(None, None, None, 3\)"),
        (lambda: from_input((8, 8, 3), dtype="uint8"), "Received: uint8"),
    ],
)
def test_unfit_models(make, message, path):
    with pytest.raises(ValueError, match="`model` must .*" + message):
        export.convert(make(), path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat"] * (CLASSES - 1), f"{CLASSES - 1} labels for {CLASSES} classes"),
        (["cat"] * (CLASSES - 1) + [""], "names of one line each, none empty. Received: ''"),
        ("abcde", "must be a list of names"),
    ],
)
def test_unfit_labels(labels, message, model, path):
    with pytest.raises(ValueError, match="`labels` .*" + message):
        export.convert(model, path, labels=labels)
    assert not path.exists()


def test_labels_for_features(path):
    model = build(birealnet_features)
    with pytest.raises(ValueError, match=r"`labels` need .*1 labels for \(None, 6, 6, 40\)"):
        export.convert(model, path, labels=["cat"])


@pytest.mark.parametrize("shape", [(7, SIZE, SIZE, 3), (8, SIZE, SIZE, 1), (SIZE, SIZE, 3)])
def test_unfit_samples(shape, model, path):
    with pytest.raises(ValueError, match=r"`samples` must be at least 8 images of \(12, 12, 3\)"):
        export.convert(model, path, samples=np.zeros(shape))


def test_unfit_path(model, tmp_path):
    for path in (tmp_path, tmp_path / "none" / "model.tflite"):
        with pytest.raises(ValueError, match="`path` must be a file in an existing folder"):
            export.convert(model, path)


def test_missing_lce(monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    monkeypatch.delitem(sys.modules, "bireal_keras.export._lce", raising=False)
    with pytest.raises(ImportError, match=r"is not installed: .*no wheel for Linux on Arm"):
        import bireal_keras.export._lce  # noqa: F401


@pytest.mark.slow
def test_lce_is_needed_only_where_it_is_asked_for(small, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    monkeypatch.delitem(sys.modules, "bireal_keras.export._lce", raising=False)
    with pytest.raises(ImportError, match="is not installed"):
        export.convert(small.model, path, converter="lce")
    export.convert(small.model, path, labels=small.labels, center_crop=CENTER_CROP)
    assert path.read_bytes() == small.content


def test_names_of_the_package():
    assert set(export.__all__) == {
        "Report",
        "convert",
        "convert_tflite",
        "convert_torch",
        "to_npz",
    }
    assert export.Report.__module__ == "bireal_keras.export.report"
    with pytest.raises(AttributeError, match="no attribute 'quantize'"):
        export.quantize  # noqa: B018
