"""The zoo's models, against what LCE's own converter makes of them."""

import contextlib
import io
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from export_helpers import operators
from lce_layers import assert_same_layer, bconvs, inversions, randomize, stock, with_inversions

from bireal_keras import runtime, zoo
from bireal_keras.export import probes
from bireal_keras.export.binarize import binarize, told
from bireal_keras.export.binarize.graph import Graph
from bireal_keras.tflite.model import Graph as TfliteGraph
from bireal_keras.tflite.model import serialize, unpack

# Every one of them converts a model.
pytestmark = pytest.mark.proof

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
def converted(request, tmp_path_factory):
    """A model's .folder, .float_file and our .result, and what is expected."""
    kind, arguments, negative, packed = {**MODELS, **SLOW}[request.param]
    model = getattr(zoo, kind)(
        input_shape=(SIZE, SIZE, 3), num_classes=10, width=8, weights=None, **arguments
    )
    randomize(model, negative=negative)
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(folder)
    float_file = stock(str(folder))
    return SimpleNamespace(
        folder=folder,
        float_file=float_file,
        result=binarize(float_file),
        negative=negative,
        packed=packed,
    )


@pytest.fixture(scope="module")
def lce_file(lce, converted):
    """What LCE's converter makes of the model."""
    return lce.convert_saved_model(str(converted.folder))


def test_constants_are_stored_once(converted, lce_file):
    """As LCE does: filters, factors, biases and thresholds take the same bytes in all."""
    assert stored_bytes(converted.result.content) == stored_bytes(lce_file)


def stored_bytes(content):
    tensors = TfliteGraph(content).tensors
    return sum({one.buffer: one.data.size for one in tensors if one.data is not None}.values())


def images(count):
    return np.random.default_rng(1).normal(size=(count, SIZE, SIZE, 3)).astype(np.float32)


def test_same_operators(converted, lce_file):
    ours, theirs = operators(converted.result.content), operators(lce_file)
    assert Counter(ours) == Counter(theirs)
    assert all(layer.binary for layer in converted.result.layers)


def test_same_layers(converted, lce_file):
    ours, theirs = bconvs(converted.result.content), bconvs(lce_file)
    assert len(ours) == len(theirs) == len(converted.result.layers) > 15
    for our, their in zip(ours, theirs):
        assert_same_layer(our, their)
    assert sum(bconv.thresholds is not None for bconv in ours) == converted.packed


def test_same_results(converted, lce_file):
    """Byte by byte, with the filters that negative gammas invert here and not in LCE put back."""
    x = images(4)
    same_filters = with_inversions(converted.result.content, lce_file)
    if not converted.negative:
        same_filters = converted.result.content
    for run_on in (probes.run_on_lce, probes.run_on_runtime):
        [expected] = run_on(lce_file)([x])
        assert expected.std() > 0.01
        [actual] = run_on(same_filters)([x])
        assert actual.tobytes() == expected.tobytes()


def test_inverted_filters_give_the_same_results(converted, lce_file):
    """Our file as it is, on our runtime, layer by layer on the signs of a run of LCE's.

    Where both have the same filter, the same bytes. Where gamma is negative, ours is inverted and
    its factor positive, so that the same value is rounded otherwise: by less than 1e-6 of the
    largest one that the filter can give, which is for signs that are all its own.
    """
    convolutions = probes.binary_convolutions(TfliteGraph(lce_file))
    signs = probes.run_on_runtime(
        probes.with_outputs(lce_file, [convolution.signs for convolution in convolutions])
    )([images(4)])
    layers = zip(bconvs(converted.result.content), bconvs(lce_file))
    found = []
    for number, (our, their) in enumerate(layers):
        ours, theirs = (
            probes.run_on_runtime(alone(content, number))([signs[number]])[0]
            for content in (converted.result.content, lce_file)
        )
        if our.thresholds is not None:
            assert ours.tobytes() == theirs.tobytes()
            continue
        inverted, _ = inversions(our, their)
        same = ~inverted
        assert ours[..., same].tobytes() == theirs[..., same].tobytes()
        depth = our.options["channels_in"] * our.filters.shape[1] * our.filters.shape[2]
        largest = depth * np.abs(our.multiplier) + np.abs(our.bias)
        difference = np.abs(ours - theirs)[..., inverted]
        assert (difference <= 1e-6 * largest[inverted]).all()
        found.append((inverted.sum(), difference.max(initial=0), np.abs(theirs).max()))
    counts, differences, values = np.transpose(found)
    assert (counts.sum() > 0) == (converted.negative > 0)
    print(
        f"{counts.sum():.0f} filters are inverted: off by up to {differences.max():.1e} in a layer "
        f"whose values are up to {values[differences.argmax()]:.1f}"
    )


def alone(content, number):
    """A binary convolution as a model of its own."""
    model = unpack(content)
    graph = model.subgraphs[0]
    names = [code.customCode for code in model.operatorCodes]
    graph.operators = [
        operator for operator in graph.operators if names[operator.opcodeIndex] == b"LceBconv2d"
    ][number : number + 1]
    graph.inputs, graph.outputs = graph.operators[0].inputs[:1], graph.operators[0].outputs
    model.signatureDefs = None
    return serialize(model)


def test_results_from_image_to_class(converted, lce_file):
    """Our file as it is and LCE's, on our runtime: probabilities of classes.

    What rounding adds up to in 16 layers is a little more than 1e-6. Where it turns a sign, which
    few images have, all that follows is different.
    """
    x = images(32)
    ours, theirs = (
        runtime.Interpreter(content).predict(x) for content in (converted.result.content, lce_file)
    )
    differences = np.sort(np.abs(ours - theirs).max(axis=1))
    print(f"probabilities are off by {differences[16]:.1e} (median) to {differences[-1]:.1e}")
    if converted.negative:
        assert (differences <= 5e-6).mean() >= 0.75
    else:
        assert ours.tobytes() == theirs.tobytes()


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
