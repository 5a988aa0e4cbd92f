"""The zoo's models, against what LCE's own converter makes of them."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from export_helpers import operators
from lce_layers import (
    assert_same_layer,
    bconvs,
    randomize,
    saved_and_converted,
    stock,
    with_inversions,
)

from bireal_keras import runtime, zoo
from bireal_keras.export.binarize import binarize, told
from bireal_keras.export.binarize.graph import Graph
from bireal_keras.tflite.model import Graph as TfliteGraph

# Every one of them converts a model.
pytestmark = pytest.mark.proof

lce = pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")

SIZE = 32
# Name: model, arguments, share of negative gammas, packed outputs.
MODELS = {
    "birealnet18": ("BiRealNet18", {}, 0.2, 0),
    "positive_gammas": ("BiRealNet18", {}, 0.0, 0),
    "pad_ones": ("BiRealNet18", {"pad_values": 1.0}, 0.2, 0),
    "torch_padding": ("BiRealNet18", {"padding": "torch"}, 0.2, 0),
    "reactnet": ("ReActBiRealNet18", {}, 0.2, 0),
    "xnornet": ("XNORResNet18", {}, 0.2, 0),
    "plain": ("BinaryPlainNet18", {}, 0.2, 0),
    "plain_pad_ones": ("BinaryPlainNet18", {"pad_values": 1.0}, 0.2, 15),
    "residual_pad_ones": ("BinaryResNet18", {"pad_values": 1.0}, 0.2, 8),
    "packed_positive_gammas": ("BinaryResNet18", {"pad_values": 1.0}, 0.0, 8),
}
SLOW = {"birealnet50": ("BiRealNet50", {}, 0.2, 0)}


@pytest.fixture(
    scope="module", params=[*MODELS, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def converted(request):
    """A model's .name, .float_file, our .result and LCE's .lce_file, and what is expected."""
    kind, arguments, negative, packed = {**MODELS, **SLOW}[request.param]
    model = getattr(zoo, kind)(
        input_shape=(SIZE, SIZE, 3), num_classes=10, width=8, weights=None, **arguments
    )
    randomize(model, negative=negative)
    float_file, lce_file = saved_and_converted(model, [stock, lce.convert_saved_model])
    return SimpleNamespace(
        float_file=float_file,
        lce_file=lce_file,
        result=binarize(float_file),
        negative=negative,
        packed=packed,
    )


def test_constants_are_stored_once(converted):
    """As LCE does: filters, factors, biases and thresholds take the same bytes in all."""
    ours, theirs = stored_bytes(converted.result.content), stored_bytes(converted.lce_file)
    assert ours == theirs


def stored_bytes(content):
    tensors = TfliteGraph(content).tensors
    return sum({one.buffer: one.data.size for one in tensors if one.data is not None}.values())


def images(count):
    return np.random.default_rng(1).normal(size=(count, SIZE, SIZE, 3)).astype(np.float32)


def test_same_operators(converted):
    ours, theirs = operators(converted.result.content), operators(converted.lce_file)
    assert Counter(ours) == Counter(theirs)
    assert all(layer.binary for layer in converted.result.layers)


def test_same_layers(converted):
    ours, theirs = bconvs(converted.result.content), bconvs(converted.lce_file)
    assert len(ours) == len(theirs) == len(converted.result.layers) > 15
    for our, their in zip(ours, theirs):
        assert_same_layer(our, their)
    assert sum(bconv.thresholds is not None for bconv in ours) == converted.packed


def test_same_results(converted):
    """Byte by byte, with the filters that negative gammas invert here and not in LCE put back."""
    x = images(4)
    same_filters = with_inversions(converted.result.content, converted.lce_file)
    if not converted.negative:
        same_filters = converted.result.content
    for run in (run_on_lce, run_on_runtime):
        expected = run(converted.lce_file, x)
        assert expected.std() > 0.01
        assert run(same_filters, x).tobytes() == expected.tobytes()


def run_on_lce(content, x):
    return lce.testing.Interpreter(content, use_reference_bconv=True).predict(x)


def run_on_runtime(content, x):
    return runtime.Interpreter(content).predict(x)


def test_told_signs(converted):
    samples = [[image[None]] for image in images(2)]
    checks = told.check(converted.float_file, converted.result, samples)
    assert len(checks) > 15
    assert all(check.is_right for check in checks)
    assert sum(check.signs for check in checks) > 1000


def test_same_input_gives_the_same_bytes(converted):
    assert binarize(converted.float_file).content == converted.result.content


def test_real_layers_keep_their_bytes(converted):
    """Stem, shortcuts and classifier."""
    before, after = Graph(converted.float_file), Graph(converted.result.content)
    kernels = {
        before.name(operator.inputs[1]): before.stored(operator.inputs[1]).tobytes()
        for operator in before.operators
        if operator.name in ("CONV_2D", "FULLY_CONNECTED")
    }
    left = [op.inputs[1] for op in after.operators if op.name in ("CONV_2D", "FULLY_CONNECTED")]
    assert left
    for kernel in left:
        assert after.stored(kernel).tobytes() == kernels[after.name(kernel)]
