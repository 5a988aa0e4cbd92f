"""Files that litert-torch wrote, against what PyTorch computes; neither is needed here.

tools/torch/record.py made them, and says what they are.
"""

from collections import Counter

import numpy as np
import pytest
from export_helpers import operators
from float_file import FloatFile, run

from bireal_keras import export, runtime
from bireal_keras.export import torch_file
from bireal_keras.export.binarize.graph import Graph

NAMES = ("birealnet", "reactnet", "where", "zero_weights")
# torch.sign is 0 for 0, in activations and weights.
ZEROS = {
    "birealnet": {"zero_sign": "+1"},
    "zero_weights": {"zero_sign": "+1", "zero_weights": "+1"},
}


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "tests/export/torch_files"


@pytest.fixture(scope="module")
def recorded(folder):
    with np.load(folder / "torch.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def converted(folder, tmp_path_factory):
    """By name, the report on each network and the path of its file."""
    results = {}
    for name in NAMES:
        path = tmp_path_factory.mktemp("torch") / f"{name}.tflite"
        content = torch_file.tidied((folder / f"{name}.tflite").read_bytes())
        results[name] = export.convert_tflite(content, path, **ZEROS.get(name, {})), path
    return results


@pytest.mark.parametrize("name", NAMES)
def test_they_compute_what_pytorch_does(name, converted, recorded):
    report, path = converted[name]
    assert (report.binary_convolutions, report.float_convolutions) == (2, 2)
    images = recorded["inputs"].transpose(0, 2, 3, 1) / np.float32(64) - 2
    expected = recorded[name]
    assert expected.std(axis=0).mean() > 0.03
    np.testing.assert_allclose(runtime.Interpreter(path).predict(images), expected, atol=1e-5)


def test_layers_have_the_names_of_modules(converted):
    report, _ = converted["birealnet"]
    assert [layer.name for layer in report.layers] == [
        "conv1",
        "layer1.0.binary_conv",
        "layer2.0.binary_conv",
        "layer2.0.downsample.1",
        "output_0",
    ]


def test_nothing_is_left_of_estimators(converted):
    """The piecewise polynomial is gone; a shortcut that halves the map is packed zeros, cropped."""
    assert Counter(name for name, _ in operators(converted["birealnet"][1].read_bytes())) == {
        **{"PAD": 2, "CONV_2D": 2, "PADV2": 1, "MAX_POOL_2D": 1, "LceQuantize": 2},
        **{"LceBconv2d": 2, "SLICE": 1, "AVERAGE_POOL_2D": 1, "ADD": 2, "MEAN": 1},
        "FULLY_CONNECTED": 1,
    }


def test_where_takes_no_transpose(converted, folder):
    before = [one.name for one in Graph((folder / "where.tflite").read_bytes()).operators]
    assert before.count("TRANSPOSE") == 4
    names = [name for name, _ in operators(converted["where"][1].read_bytes())]
    assert "TRANSPOSE" not in names


def test_prelu_is_one_operator(converted, folder):
    before = [one.name for one in Graph((folder / "reactnet.tflite").read_bytes()).operators]
    assert (before.count("RELU"), before.count("PRELU")) == (2, 0)
    names = [name for name, _ in operators(converted["reactnet"][1].read_bytes())]
    assert (names.count("RELU"), names.count("PRELU")) == (0, 2)


def test_zeros_are_errors_that_name_the_layer(folder, tmp_path):
    content = torch_file.tidied((folder / "zero_weights.tflite").read_bytes())
    path = tmp_path / "binary.tflite"
    with pytest.raises(ValueError, match=r"layer1\.0\.binary_conv \(tf_sign\): .*torch\.sign"):
        export.convert_tflite(content, path)
    message = r"layer2\.0\.binary_conv \(zero_weights\): 1 of the weights of filter 1 are exactly 0"
    with pytest.raises(ValueError, match=message):
        export.convert_tflite(content, path, zero_sign="+1")
    assert not path.exists()


def prelu(file, x, slope, *, factor=-1.0, activation=1):
    """relu(x) - slope * relu(factor * x)."""
    negated = file.op("MUL", x, factor, fusedActivationFunction=activation)
    return file.op("SUB", file.op("RELU", x), file.op("MUL", negated, slope))


@pytest.mark.parametrize("shape", [(1, 5, 4, 6), (2, 6)])
@pytest.mark.parametrize("channels", [1, 6])
def test_prelu_of_any_shape(shape, channels):
    slope = np.linspace(-0.5, 2, channels).reshape((1,) * (len(shape) - 1) + (channels,))
    file = FloatFile()
    content = file.build(prelu(file, file.input(shape), slope))
    tidied = torch_file.tidied(content)
    assert [name for name, _ in operators(tidied)] == ["PRELU"]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.where(x > 0, x, slope * x)
    np.testing.assert_allclose(run(tidied, x)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"factor": -2.0},
        {"activation": 0},
        {"slope": np.full((1, 5, 4, 1), 0.5)},
    ],
)
def test_what_is_no_prelu_stays(changes):
    file = FloatFile()
    content = file.build(prelu(file, file.input((1, 5, 4, 6)), **{"slope": 0.5, **changes}))
    tidied = torch_file.tidied(content)
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(tidied, x)[0], run(content, x)[0])
    assert "PRELU" not in [name for name, _ in operators(tidied)]


@pytest.mark.parametrize(("back", "left"), [([0, 2, 3, 1], 0), ([0, 3, 2, 1], 2)])
def test_transposed_to_and_fro(back, left):
    file = FloatFile()
    x = file.input((1, 5, 4, 6))
    first, second = (file.constant(order, np.int32) for order in ([0, 3, 1, 2], back))
    turned = file.op("TRANSPOSE", x, first, shape=(1, 6, 5, 4))
    shape = tuple(file.shape(turned)[axis] for axis in back)
    content = file.build(file.op("NEG", file.op("TRANSPOSE", turned, second, shape=shape)))
    tidied = torch_file.tidied(content)
    assert [name for name, _ in operators(tidied)].count("TRANSPOSE") == left
    x = np.random.default_rng(0).normal(size=(1, 5, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(tidied, x)[0], run(content, x)[0])
