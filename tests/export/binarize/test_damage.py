"""Files from anywhere: damaged ones are refused, and none asks for more than it is large."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from float_file import VALID, FloatFile, binary_kernel

from bireal_keras.export.binarize import binarize, told
from bireal_keras.tflite.model import serialize


@pytest.fixture(scope="module")
def content():
    """A small file with most of what the pass looks at."""
    rng = np.random.default_rng(0)
    file = FloatFile()
    x = file.input((1, 4, 4, 8))
    condition = file.op("GREATER_EQUAL", x, 0.0, dtype=np.bool_)
    sign = file.op("SUB", file.op("MUL", file.op("CAST", condition), 2.0), 1.0)
    y = file.conv(
        file.pad(sign, [(1, 1)] * 2, 1.0), binary_kernel(rng, (8, 3, 3, 8)), padding=VALID
    )
    y = file.op("ADD", file.op("MUL", y, rng.normal(size=8)), rng.normal(size=8))
    y = file.conv(file.larq_sign(y), binary_kernel(rng, (6, 1, 1, 8)))
    y = file.op("RESHAPE", y, file.constant([1, 96], np.int32), shape=(1, 96), newShape=[1, 96])
    kernel = binary_kernel(rng, (3, 1, 1, 96)).reshape(3, 96)
    y = file.op("FULLY_CONNECTED", file.larq_sign(y), kernel, np.zeros(3), shape=(1, 3))
    return file.build(y)


def test_the_file_itself_is_packed(content):
    assert [layer.binary for layer in binarize(content).layers] == [True, True, True]


def test_every_truncation_is_refused(content):
    # What fills up the last four bytes is not read.
    for length in range(len(content) - 4):
        with pytest.raises(ValueError, match=r"\.tflite file"):
            binarize(content[:length])


@pytest.mark.slow
def test_mutations_give_a_file_or_a_value_error(content):
    """Single bytes, and words of extreme values, which lengths and offsets become."""
    rng = np.random.default_rng(0)
    refused = 0
    for round in range(600):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            position = int(rng.integers(8, len(content)))
            if round % 2:
                damaged[position] = int(rng.integers(256))
            else:
                word = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 2**20]))
                damaged[position & ~3 : (position & ~3) + 4] = word.to_bytes(4, "little")
        try:
            binarize(bytes(damaged[: len(content)]))
        except ValueError:
            refused += 1
    assert 50 < refused < 550


def test_what_is_written_can_be_read(content):
    """Each tensor has a producer or a value, and is written before it is read."""
    result = binarize(content)
    assert binarize(result.content).layers == ()


def edited(content, edit):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    edit(model, model.subgraphs[0])
    return serialize(model)


def set_input(operator, position, tensor):
    operator.inputs = np.array(operator.inputs)
    operator.inputs[position] = tensor


def shrink(model, graph):
    """A kernel without its last byte."""
    tensor = graph.tensors[graph.operators[-1].inputs[1]]
    model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:-1]


# Name: what is done to a file, and what the error says.
DAMAGES = {
    "tensor": (lambda m, g: set_input(g.operators[-1], 0, 10_000), "a tensor that is not there"),
    "later": (lambda m, g: set_input(g.operators[0], 0, g.outputs[0]), "before anything writes it"),
    "twice": (
        lambda m, g: setattr(g.operators[1], "outputs", g.operators[0].outputs),
        "is written twice",
    ),
    "operator": (lambda m, g: setattr(g.operators[1], "opcodeIndex", 99), "an operator that is"),
    "options": (lambda m, g: setattr(g.operators[-1], "builtinOptions", None), "options|damaged"),
    "buffer": (lambda m, g: setattr(g.tensors[3], "buffer", 10_000), "is invalid"),
    "shape": (lambda m, g: setattr(g.tensors[3], "shape", [-4]), "is invalid"),
    "constant": (shrink, "has .* bytes"),
    "inputs": (lambda m, g: setattr(g.operators[-1], "inputs", [0]), "has 1 inputs"),
    "no_tensors": (lambda m, g: setattr(g, "tensors", []), "no tensors"),
    "output": (lambda m, g: setattr(g.tensors[g.outputs[0]], "shape", [1, 4]), "makes .1, 4."),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name, content):
    edit, message = DAMAGES[name]
    with pytest.raises(ValueError, match=message):
        binarize(edited(content, edit))


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"PK\3\4" + b"\0" * 40, b"\4\0\0\0TFL3"])
def test_other_files(data):
    with pytest.raises(ValueError, match=r"\.tflite file"):
        binarize(data)


def test_overlapping_tables_are_refused():
    """A hundred thousand operator codes that share one name would unpack to gigabytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    name = builder.CreateString("x" * 300_000)
    schema.OperatorCodeStart(builder)
    schema.OperatorCodeAddBuiltinCode(builder, schema.BuiltinOperator.CUSTOM)
    schema.OperatorCodeAddCustomCode(builder, name)
    code = schema.OperatorCodeEnd(builder)
    schema.SubGraphStart(builder)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStartOperatorCodesVector(builder, 100_000)
    for _ in range(100_000):
        builder.PrependUOffsetTRelative(code)
    codes = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    start = time.monotonic()
    with pytest.raises(ValueError, match="overlap"):
        binarize(bytes(builder.Output()))
    assert time.monotonic() - start < 5


def test_constants_are_not_computed_without_limit():
    """A small file whose constants, multiplied out, would take 10^12 bytes."""
    file = FloatFile()
    size = 500_000
    shape = file.constant([size, 1], np.int32)
    column = file.op("BROADCAST_TO", file.constant([[1.0]]), shape, shape=(size, 1))
    column = file.op("ADD", column, np.zeros((size, 1)), shape=(size, 1))
    row = file.op("RESHAPE", column, file.constant([1, size], np.int32), shape=(1, size))
    table = file.op("MUL", column, row, shape=(size, size))
    x = file.larq_sign(file.input((1, 1, 1, size)))
    output = file.op("FULLY_CONNECTED", x, table, np.zeros(size), shape=(1, size))
    [layer] = binarize(file.build(output)).layers
    assert (layer.binary, layer.code) == (False, "kernel_values")


def test_repeated_constants_are_no_kernels():
    """BROADCAST_TO takes no memory; the signs of its result would."""
    file = FloatFile()
    size = 1 << 20
    shape = file.constant([size, size], np.int32)
    table = file.op("BROADCAST_TO", file.constant([[1.0]]), shape, shape=(size, size))
    x = file.larq_sign(file.input((1, size)))
    output = file.op("FULLY_CONNECTED", x, table, np.zeros(size), shape=(1, size))
    [layer] = binarize(file.build(output)).layers
    assert (layer.binary, layer.code) == (False, "shared_kernels")


def test_a_kernel_that_everybody_shares():
    """Packed signs of 300 layers, of one kernel in the file."""
    file = FloatFile()
    kernel = file.constant(np.ones((64, 3, 3, 512)))
    sign = file.larq_sign(file.input((1, 3, 3, 512)))
    outputs = [file.conv(sign, kernel, padding=VALID) for _ in range(300)]
    content = file.build(*outputs)
    result = binarize(content)
    packed = [layer.binary for layer in result.layers]
    assert 16 <= sum(packed) < 20
    assert {layer.code for layer in result.layers if not layer.binary} == {"shared_kernels"}
    assert len(result.content) < 2 * len(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ADD", "NEG", "TRANSPOSE", "MAX_POOL_2D"])
def test_work_grows_with_the_file(kind):
    """Long chains of operators: three times as long takes about three times as long, not nine."""

    def seconds(length):
        file = FloatFile()
        first = y = file.input((1, 1, 1, 2))
        axes = file.constant([0, 1, 2, 3], np.int32)
        sign = y = file.larq_sign(y)
        for index in range(length):
            if kind == "ADD":
                y = file.op("ADD", y, first if index % 2 else sign)
            elif kind == "NEG":
                y = file.op("NEG", y)
            elif kind == "TRANSPOSE":
                y = file.op("TRANSPOSE", y, axes)
            else:
                one = dict.fromkeys(("strideW", "strideH", "filterWidth", "filterHeight"), 1)
                y = file.op("MAX_POOL_2D", y, padding=VALID, **one)
        content = file.build(file.conv(file.larq_sign(y), np.ones((4, 1, 1, 2))))
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            binarize(content)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(3000) < 6 * seconds(1000)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "torch", "larq",
                                  "larq_compute_engine", "jax"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
from bireal_keras.export.binarize import binarize, told
content = open(sys.argv[1], "rb").read()
assert all(layer.binary for layer in binarize(content).layers)
assert not {"tensorflow", "torch", "larq"} & set(sys.modules)
print("packed")
"""


def test_no_training_framework_is_imported(content, tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "packed", done.stderr


def test_told_finds_what_is_wrong(content):
    """Each kind of mistake in the binary file shows at the first tensor after it."""
    result = binarize(content)
    samples = [
        [np.random.default_rng(seed).normal(size=(1, 4, 4, 8)).astype(np.float32)]
        for seed in range(4)
    ]
    assert all(check.is_right for check in told.check(content, result, samples))

    def wrong(position, index, change):
        def edit(model, graph):
            names = [model.operatorCodes[op.opcodeIndex].customCode for op in graph.operators]
            layers = [op for op, name in zip(graph.operators, names) if name == b"LceBconv2d"]
            buffer = model.buffers[graph.tensors[layers[position].inputs[index]].buffer]
            buffer.data = np.array(buffer.data, np.uint8)
            change(buffer.data)

        return replace(result, content=edited(result.content, edit))

    def flip_a_bit(data):
        data[0] ^= 1

    def add_a_tenth(data):
        data.view("<f4")[0] += 0.1

    def raise_a_threshold(data):
        data.view("<i4")[0] += 3

    for position, index, change, first in [
        (0, 1, flip_a_bit, 1),
        (0, 4, raise_a_threshold, 1),
        (1, 1, flip_a_bit, 2),
        (1, 3, add_a_tenth, 2),
        (2, 1, flip_a_bit, 3),
        (2, 2, add_a_tenth, 3),
    ]:
        checks = told.check(content, wrong(position, index, change), samples)
        right = [check.is_right for check in checks]
        assert right.index(False) == first, (position, index)


def test_softmax_rounds_as_its_logits():
    """Logits of some thousand that share most of it, of which probabilities show nothing."""
    rng = np.random.default_rng(0)
    file = FloatFile()
    y = file.conv(file.larq_sign(file.input((1, 1, 1, 64))), binary_kernel(rng, (64, 1, 1, 64)))
    y = file.op("MUL", y, rng.normal(size=64))
    y = file.op("RESHAPE", y, file.constant([1, 64], np.int32), shape=(1, 64), newShape=[1, 64])
    kernel = rng.uniform(-1, 1, (1, 64)) * 1000 + rng.normal(size=(5, 64)) * 0.01
    logits = file.op("FULLY_CONNECTED", y, kernel, np.zeros(5), shape=(1, 5))
    content = file.build(file.op("SOFTMAX", logits, beta=1.0))
    result = binarize(content)
    samples = [[rng.normal(size=(1, 1, 1, 64)).astype(np.float32)] for _ in range(32)]
    checks = told.check(content, result, samples)
    assert all(check.is_right for check in checks)
    [_, probabilities, _] = checks
    assert probabilities.difference > told.TOLERANCE * probabilities.spread

    def lose_a_digit(model, graph):
        dense = graph.operators[-2]
        buffer = model.buffers[graph.tensors[dense.inputs[1]].buffer]
        buffer.data = np.array(buffer.data, np.uint8)
        buffer.data.view("<f4")[:] *= 1.001

    wrong = replace(result, content=edited(result.content, lose_a_digit))
    [_, _, before] = told.check(content, wrong, samples)
    assert not before.is_right
