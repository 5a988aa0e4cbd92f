"""The check must find what is wrong in a compact file, and accept what rounding does."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_helpers import SIZE, edit

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
