"""The model that comes with the package, against the weights that do."""

import sys
from pathlib import Path

import numpy as np
import pytest
from lce_ops import pack
from PIL import Image

from bireal_keras import runtime
from bireal_keras.tflite.model import Graph

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def graph():
    return Graph(Path(runtime.example_model()).read_bytes())


def test_says_what_it_takes_and_gives():
    with runtime.Interpreter(runtime.example_model()) as interpreter:
        assert interpreter.input_shape == (1, 32, 32, 3)
        assert interpreter.metadata.labels == tuple(CLASSES)
        assert interpreter.metadata.normalization == runtime.Normalization()


def test_classifies_what_lies_about():
    """Whatever it shows: the probabilities are those of these ten classes."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    guesses = runtime.classify(Image.fromarray(pixels), runtime.example_model(), top_k=10)
    assert {guess.label for guess in guesses} == set(CLASSES)
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_its_bits_are_the_signs_of_the_weights(graph, repository):
    h5py = pytest.importorskip("h5py", reason="needs the extra [tensorflow]")
    filters = [
        graph.data(operator.inputs[1])
        for operator in graph.operators
        if operator.name == "LceBconv2d"
    ]
    kernels = []
    with h5py.File(repository / "zoo/weights/birealnet18_cifar10.h5") as file:
        for name in file.attrs["layer_names"]:
            if "_conv" in (layer := name.decode() if isinstance(name, bytes) else name):
                kernels += [file[layer][weight][()] for weight in file[layer].attrs["weight_names"]]
    signs = [
        np.sign(kernel) for kernel in kernels if kernel.shape[:2] == (3, 3) and kernel.shape[2] > 3
    ]
    assert len(filters) == len(signs) == 16
    for found, wanted in zip(filters, signs, strict=True):
        packed = pack(np.moveaxis(wanted, 3, 0))
        np.testing.assert_array_equal(found.view("<i4").reshape(packed.shape), packed)


@pytest.mark.proof
def test_the_script_makes_it_of_the_weights(graph, repository, tmp_path, monkeypatch):
    """Which compares it with Keras. Integers must be the same, floats to a CPU's rounding."""
    pytest.importorskip("tensorflow", reason="needs the extra [tensorflow]")
    monkeypatch.syspath_prepend(repository / "tools")
    import make_example

    monkeypatch.delitem(sys.modules, "make_example")
    path = tmp_path / "cifar10.tflite"
    make_example.make(path)
    again = Graph(path.read_bytes())
    assert len(again.tensors) == len(graph.tensors)
    assert [op.name for op in again.operators] == [op.name for op in graph.operators]
    for made, kept in zip(again.tensors, graph.tensors, strict=True):
        assert (made.name, made.shape, made.type) == (kept.name, kept.shape, kept.type)
        if made.values is None:
            assert kept.values is None
        else:
            np.testing.assert_allclose(made.values, kept.values, rtol=1e-6)
