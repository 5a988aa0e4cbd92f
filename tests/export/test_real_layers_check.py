"""The check must find what is wrong in a compact file, and accept what rounding does."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_helpers import SIZE, edit
from lce_ops import Op, Tensor, build_model, constant

from bireal_keras.export import probes
from bireal_keras.export.real_layers import compact
from bireal_keras.export.real_layers_check import check
from bireal_keras.export.samples import random_samples
from bireal_keras.tflite.model import serialize


@pytest.fixture(scope="module")
def samples():
    return random_samples((SIZE, SIZE, 3))


def add(dtype, amount):
    """An edit that adds to a constant's first value."""

    def change(data):
        data.view(dtype)[0] += amount

    return change


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_right_file(precision, small, samples):
    assert check(small.content, compact(small.content, precision), [samples]) >= 0.75


@pytest.mark.parametrize("missing", ["", "not installed"])
def test_wrong_output_on_each_kernel(missing, small, samples, monkeypatch):
    """LiteRT's own, and where they can be asked, LCE's, for which ours stand in."""
    asked = []

    def wrong_on_lce(content):
        run = probes.run_on_runtime(content, xnnpack=False)
        asked.append(content)
        return lambda inputs: [values + index for index, values in enumerate(run(inputs))]

    monkeypatch.setattr(probes, "missing_on_lce", lambda content, inputs: missing)
    monkeypatch.setattr(probes, "run_on_lce", wrong_on_lce)
    content = compact(small.content, "int8")
    if missing:
        assert check(small.content, content, [samples]) >= 0.75
        assert not asked
    else:
        with pytest.raises(ValueError, match="The compact file does not compute what it should"):
            check(small.content, content, [samples])
        assert asked


@pytest.mark.parametrize(
    ("precision", "operator", "which", "change"),
    [
        # They are the stem, a shortcut and the classifier.
        ("float16", "DEQUANTIZE", 0, add(np.float16, 0.01)),
        ("float16", "DEQUANTIZE", 1, add(np.float16, 0.01)),
        ("float16", "DEQUANTIZE", 2, add(np.float16, np.nan)),
        ("int8", "DEQUANTIZE", 0, add(np.int8, 2)),
        ("int8", "CONV_2D", 1, add(np.int8, 2)),
        ("int8", "DEQUANTIZE", 1, add(np.int8, -2)),
    ],
)
def test_wrong_weight(precision, operator, which, change, small, samples):
    index = 1 if operator == "CONV_2D" else 0
    content = edit(compact(small.content, precision), operator, index, change, which=which)
    with pytest.raises(ValueError, match=r"does not hold the weights of small/\w+"):
        check(small.content, content, [samples])


@pytest.mark.parametrize(
    ("operator", "which", "index", "change"),
    [
        ("LceBconv2d", 0, 1, add(np.uint8, 1)),
        ("LceBconv2d", 1, 2, add(np.float32, 1e-3)),
        ("CONV_2D", 0, 2, add(np.float32, 1e-3)),
    ],
)
def test_wrong_constant_elsewhere(operator, which, index, change, small, samples):
    content = edit(compact(small.content, "int8"), operator, index, change, which=which)
    with pytest.raises(ValueError, match="The compact file has another "):
        check(small.content, content, [samples])


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("scale", lambda scales: scales * np.float32(1.01), "does not hold the weights of .*stem"),
        ("zeroPoint", lambda zeros: zeros + 1, "not compute what it should: .*stem.* differs by"),
    ],
)
def test_wrong_quantization(field, change, message, small, samples):
    model = schema.ModelT.InitFromPackedBuf(compact(small.content, "int8"), 0)
    graph = model.subgraphs[0]
    stem = graph.tensors[graph.operators[0].inputs[0]].quantization
    setattr(stem, field, change(getattr(stem, field)))
    with pytest.raises(ValueError, match=message):
        check(small.content, serialize(model), [samples])


def dense(kernel):
    """A model of one dense layer with these weights, (out, in)."""
    size, classes = kernel.shape[1], kernel.shape[0]
    tensors = [Tensor((1, size)), constant(kernel), Tensor((1, classes))]
    options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
    return build_model(tensors, [Op("FULLY_CONNECTED", [0, 1, -1], [2], builtin=options)], [0], [2])


def between_integers(largest):
    """Filters of these largest weights, whose others are halfway between two integers of a scale.

    In float32 the quotient may be rounded to either side. Each weight is next to the exact half.
    """
    halves = (np.arange(127) + 0.5) * np.float64(largest)[:, None] / 127
    halves = halves.astype(np.float32)
    sides = [halves, np.nextafter(halves, np.float32(0)), -np.nextafter(halves, np.float32(np.inf))]
    return np.concatenate([np.float32(largest)[:, None], *sides], axis=1)


@pytest.mark.parametrize(
    "kernel",
    [
        between_integers(np.random.default_rng(0).uniform(0.01, 10, 64).astype(np.float32)),
        # Their steps would be smaller than any normal number.
        np.random.default_rng(0).uniform(-1, 1, (4, 32)).astype(np.float32) * np.float32(1e-37),
    ],
    ids=["between integers", "tiny"],
)
def test_weights_that_float32_rounds_either_way(kernel):
    content = dense(kernel)
    images = np.random.default_rng(1).normal(size=(8, kernel.shape[1])).astype(np.float32)
    check(content, compact(content, "int8"), [images])


@pytest.mark.parametrize("amount", [-1, 1])
@pytest.mark.parametrize("index", range(1, 128, 9))
def test_a_stored_integer_that_is_off_by_one(index, amount):
    """It is the least that can be wrong, whether the integer is small or large."""
    # The scale is 1/127 of 1.27, so that the integers are 0 to 126, and weights off by 0.4 of one.
    row = np.r_[127.0, np.arange(127) + 0.4 * amount] * 0.01
    content = dense(row[None].astype(np.float32))

    def change(data):
        data.view(np.int8)[index] -= amount

    wrong = edit(compact(content, "int8"), "DEQUANTIZE", 0, change)
    with pytest.raises(ValueError, match="does not hold the weights of"):
        check(content, wrong, [np.ones((8, 128), np.float32)])
