"""Files that take pixels: what was before the first operator in Python is in the graph."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_helpers import CENTER_CROP, SIZE, build
from float_file import SAME, VALID, FloatFile, convolve, run, same_sides
from photographs import squares
from PIL import Image

from bireal_keras import runtime
from bireal_keras.export import convert, pixel_input
from bireal_keras.export.pixel_input import of_pixels, take_pixels, with_one_factor
from bireal_keras.export.real_layers import PRECISIONS, compact
from bireal_keras.tflite.metadata import NORMALIZATIONS, Metadata, Normalization
from bireal_keras.tflite.metadata_writer import without_metadata
from bireal_keras.tflite.model import Graph

THREE_COLOURS = Normalization((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


@pytest.fixture(scope="module")
def files(small):
    """Without metadata, by the precision of real-valued layers."""
    content = without_metadata(small.content)
    return {precision: compact(content, precision) for precision in PRECISIONS}


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=40, size=(16, SIZE, SIZE, 3))
    return np.clip(rng.uniform(0, 255, (16, 1, 1, 3)) + noise, 0, 255).astype(np.uint8)


def floats_of(pixels, normalization):
    """As CAST, MUL and SUB compute them, one rounding after the other."""
    std = np.array(normalization.std, np.float32)
    offset = np.array(normalization.mean, np.float32) / std
    return pixels.astype(np.float32) * (1 / std) - offset


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "normalization", [*NORMALIZATIONS.values(), THREE_COLOURS], ids=lambda n: str(n)
)
def test_a_stock_interpreter_computes_the_same(precision, normalization, files, pixels):
    content = take_pixels(files[precision], normalization)
    expected = runtime.Interpreter(files[precision], float_ops="litert")
    actual = runtime.Interpreter(content, float_ops="litert")
    floats = floats_of(pixels, normalization)
    assert actual.predict(pixels).tobytes() == expected.predict(floats).tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_delegate_computes_the_same_up_to_rounding(precision, files, pixels):
    normalization = NORMALIZATIONS["symmetric"]
    floats = floats_of(pixels, normalization)
    expected = runtime.Interpreter(files[precision]).predict(floats)
    content = take_pixels(files[precision], normalization)
    actual = runtime.Interpreter(content).predict(pixels)
    # A value near 0 may change its sign, and all that follows. Not in this net on most images.
    close = np.isclose(actual, expected, atol=1e-5).all(axis=1)
    assert close.mean() >= 0.75
    if precision != "int8":
        # The pixels become the same floats, for the same kernels.
        assert actual.tobytes() == expected.tobytes()


def photographs(count):
    return squares(count, SIZE)


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("stride", [1, 2])
def test_factors_of_colours_become_weights(padding, stride):
    """The other file computes what double precision does by definition, at the border, too."""
    rng = np.random.default_rng(stride)
    kernel = rng.normal(size=(5, 3, 3, 3)).astype(np.float32)
    file = FloatFile()
    output = file.conv(file.input((1, SIZE, SIZE, 3)), kernel, stride=stride, padding=padding)
    content, normalization = with_one_factor(file.build(output), THREE_COLOURS)
    assert normalization.mean == THREE_COLOURS.mean
    assert len(normalization.std) == 1
    sides = [same_sides(SIZE, 3, stride) if padding == SAME else (0, 0)] * 2
    for pixels in photographs(4).astype(np.float64):
        x = (pixels - THREE_COLOURS.mean) / THREE_COLOURS.std
        expected = convolve(x[None], kernel.astype(np.float64), stride=stride, sides=sides)
        now = (pixels - normalization.mean) / normalization.std
        [actual] = run(content, now[None].astype(np.float32))
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_no_kernel_changes_that_others_read_or_that_need_not(files):
    rng = np.random.default_rng(0)
    file = FloatFile()
    image = file.input((1, SIZE, SIZE, 3))
    kernel = file.constant(rng.normal(size=(3, 1, 1, 3)).astype(np.float32))
    first = file.conv(image, kernel)
    content = file.build(file.conv(first, kernel))
    assert with_one_factor(content, THREE_COLOURS) == (content, THREE_COLOURS)
    assert with_one_factor(files["float32"], Normalization()) == (files["float32"], Normalization())


def test_a_stem_of_three_factors_is_as_good_in_int8(files, small):
    """As the int8 file of floats; both have the same layers, rounded to other steps."""
    metadata = Metadata(image_size=(SIZE, SIZE), normalization=THREE_COLOURS)
    content = of_pixels(files["float32"], metadata, real_layers="int8", name="small")
    multiply = next(one for one in Graph(content).operators if one.name == "MUL")
    assert Graph(content).tensors[multiply.inputs[1]].shape == (1,)
    pixels = photographs(64)
    floats = floats_of(pixels, THREE_COLOURS)
    expected = small.model.predict(floats, verbose=0)
    ours, of_floats = (
        np.abs(runtime.Interpreter(file).predict(x) - expected).mean()
        for file, x in ((content, pixels), (files["int8"], floats))
    )
    assert ours <= 1.5 * of_floats


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("raw", ["CAST"]),
        ("unit", ["CAST", "MUL"]),
        ("symmetric", ["CAST", "MUL", "SUB"]),
        ("imagenet", ["CAST", "MUL", "SUB"]),
    ],
)
def test_only_what_does_something_is_in_the_graph(name, operators, files):
    graph = Graph(take_pixels(files["float32"], NORMALIZATIONS[name]))
    before = [operator.name for operator in Graph(files["float32"]).operators]
    assert [operator.name for operator in graph.operators] == operators + before


def test_names_stay(files, small):
    content = take_pixels(files["float32"], Normalization())
    before, now = Graph(small.content), Graph(content)
    [old], [new] = before.inputs, now.inputs
    assert before.tensors[old].name == now.tensors[new].name
    assert {name: now.tensors[index].name for name, index in now.input_names.items()} == {
        name: before.tensors[index].name for name, index in before.input_names.items()
    }
    details = Interpreter(model_content=content).get_input_details()
    assert [(one["dtype"], tuple(one["shape"])) for one in details] == [(np.uint8, (1, 12, 12, 3))]


def test_metadata_are_those_of_pixels(files, small):
    metadata = Metadata(labels=small.labels, image_size=(SIZE, SIZE), center_crop=CENTER_CROP)
    content = of_pixels(files["float32"], metadata, real_layers="int8", name="small")
    found = runtime.Interpreter(content).metadata
    assert found.normalization == NORMALIZATIONS["raw"]
    assert (found.labels, found.image_size) == (tuple(small.labels), (SIZE, SIZE))
    assert (found.center_crop, found.takes_pixels) == (CENTER_CROP, True)
    assert not runtime.Interpreter(small.content).metadata.takes_pixels


def test_another_normalization_than_was_asked_for_is_an_error(files):
    content = take_pixels(files["float32"], Normalization((127.5,), (127.4,)))
    with pytest.raises(ValueError, match="does not make of pixels"):
        pixel_input._check(content, Normalization())
    pixel_input._check(content, Normalization((127.5,), (127.4,)))


def test_classifies_images_as_the_file_of_floats(files, small, pixels, tmp_path):
    metadata = Metadata(labels=small.labels, image_size=(SIZE, SIZE), center_crop=CENTER_CROP)
    content = of_pixels(files["float32"], metadata, real_layers="float32", name="small")
    image = Image.fromarray(pixels[0]).resize((31, 20))
    path = tmp_path / "image.png"
    image.save(path)
    expected = runtime.classify(path, small.content)
    for one in (path, image, np.asarray(image)):
        guesses = runtime.classify(one, content)
        assert [guess.label for guess in guesses] == [guess.label for guess in expected]
    values = runtime.load_image(path, runtime.Interpreter(content).metadata)
    assert (values.dtype, values.shape) == (np.uint8, (SIZE, SIZE, 3))


def test_floats_are_not_taken_for_pixels(files, pixels):
    interpreter = runtime.Interpreter(take_pixels(files["float32"], Normalization()))
    with pytest.raises(ValueError, match=r"must be uint8\. Received: dtype float32\. Pixels are"):
        interpreter.predict(pixels.astype(np.float32))
    with pytest.raises(ValueError, match=r"must fit into uint8\. Received: 256 of int64"):
        interpreter.predict(pixels.astype(np.int64) + 256 - pixels)


@pytest.mark.slow
def test_converts_a_model(small, tmp_path, pixels):
    path = tmp_path / "pixels.tflite"
    report = convert(small.model, path, labels=small.labels, real_layers="int8", input_type="uint8")
    assert (report.input_type, report.real_layers) == ("uint8", "int8")
    assert (
        "images: symmetric, assumed, as bireal-train's; the file does that, and takes pixels"
        in (str(report))
    )
    assert report.size_bytes == path.stat().st_size
    interpreter = runtime.Interpreter(path)
    assert interpreter.input_dtype == np.uint8
    expected = small.model.predict(floats_of(pixels, Normalization()), verbose=0)
    agreement = np.mean(interpreter.predict(pixels).argmax(axis=1) == expected.argmax(axis=1))
    assert agreement >= 0.75


def test_arguments_are_checked(small, tmp_path):
    path = tmp_path / "model.tflite"
    message = r"`input_type` must be one of float32, uint8\. Received: input_type='int8'\."
    with pytest.raises(ValueError, match=message):
        convert(small.model, path, input_type="int8")
    with pytest.raises(ValueError, match="needs a model of one RGB or grey image and one output"):
        convert(build(lambda x: x, shape=(SIZE, SIZE, 4)), path, input_type="uint8")
    assert not path.exists()
