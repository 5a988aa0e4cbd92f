"""Reading what is in a file: against files that were written field by field, and hostile ones."""

import resource
import sys
import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder, flexbuffers
from lce_ops import Bconv2d, Op, Tensor, build_model

from bireal_keras import cost
from bireal_keras.tflite.model import Graph, serialize, unpack

COUNT = 120_000


def written(model):
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def dense():
    """int8 weights -> DEQUANTIZE -> FULLY_CONNECTED -> RELU, without a bias."""
    weights = Tensor((2, 3), np.int8, np.arange(6, dtype=np.int8).reshape(2, 3), scale=0.5)
    tensors = [Tensor((1, 3)), weights, Tensor((2, 3)), Tensor((1, 2)), Tensor((1, 2))]
    ops = [
        Op("DEQUANTIZE", [1], [2]),
        Op("FULLY_CONNECTED", [0, 2, -1], [3]),
        Op("RELU", [3], [4]),
    ]
    return build_model(tensors, ops, [0], [4])


def test_operators_and_tensors(dense):
    graph = Graph(dense)
    assert graph.subgraphs == 1
    assert (graph.inputs, graph.outputs) == ((0,), (4,))
    names = [operator.name for operator in graph.operators]
    assert names == ["DEQUANTIZE", "FULLY_CONNECTED", "RELU"]
    assert graph.operators[1].inputs == (0, 2, -1)
    assert [tensor.name for tensor in graph.tensors] == [f"tensor{i}" for i in range(5)]
    assert graph.tensors[1].shape == (2, 3)
    assert graph.tensors[1].type == schema.TensorType.INT8
    assert graph.tensors[1].scales.tolist() == [0.5]
    assert graph.tensors[1].values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert graph.tensors[0].values is None


def test_what_a_dequantize_unpacks_is_the_constant(dense):
    graph = Graph(dense)
    assert (graph.stored(2), graph.stored(1), graph.stored(3)) == (1, 1, 3)
    assert graph.data(2).tolist() == [0, 1, 2, 3, 4, 5]
    assert [graph.is_constant(index) for index in (-1, 0, 1, 2, 3)] == [0, 0, 1, 1, 0]
    assert [operator.name for operator in graph.readers(3)] == ["RELU"]
    assert graph.readers(4) == ()


def test_names_of_operators():
    """A custom one has its own; old files have the deprecated field only; new ones may be new."""
    model = unpack(Bconv2d(1, 5, 7, 40, 6).model())
    assert Graph(written(model)).operators[-1].name == "LceBconv2d"
    code = model.operatorCodes[-1]
    code.customCode = None
    code.builtinCode, code.deprecatedBuiltinCode = 0, schema.BuiltinOperator.CONV_2D
    assert Graph(written(model)).operators[-1].name == "CONV_2D"
    code.builtinCode, code.deprecatedBuiltinCode = 100_000, 127
    assert Graph(written(model)).operators[-1].name == "operator 100000"


def test_options_of_custom_operators():
    [operator] = Graph(Bconv2d(1, 5, 7, 40, 6).model()).operators
    assert operator.option("channels_in") == 40
    with pytest.raises(ValueError, match="LceBconv2d has no option channels_out"):
        operator.option("channels_out")


def test_what_is_written_is_what_was_read(dense):
    content = serialize(unpack(dense))
    np.testing.assert_array_equal(Graph(content).tensors[1].values, Graph(dense).tensors[1].values)
    # The schema demands 16 bytes.
    assert content.find(bytes(range(6))) % 16 == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"this is not a model", "is not a TFLite model"),
        (lambda content: content[:40], "is damaged"),
    ],
)
def test_damaged_files(damage, message, dense):
    with pytest.raises(ValueError, match=message):
        Graph(damage(dense))


def test_numbers_of_tensors_and_buffers_are_checked(dense):
    for index in (99, -2):
        model = unpack(dense)
        model.subgraphs[0].operators[2].inputs = [index]
        with pytest.raises(ValueError, match=f"is damaged: there is no tensor {index}"):
            Graph(written(model))
    model = unpack(dense)
    model.subgraphs[0].tensors[1].buffer = 99
    with pytest.raises(ValueError, match="is damaged: there is no buffer 99"):
        Graph(written(model))
    model = unpack(dense)
    model.subgraphs = []
    with pytest.raises(ValueError, match="is damaged: it has no subgraph"):
        Graph(written(model))


def test_values_that_do_not_fill_their_shape(dense):
    model = unpack(dense)
    model.subgraphs[0].tensors[1].shape = [2, 4]
    with pytest.raises(ValueError, match="cannot reshape"):
        Graph(written(model)).tensors[1].values  # noqa: B018


def with_shared_parts(what):
    """A file in which one part stands `COUNT` times, each time with all that belongs to it."""
    builder = Builder(1 << 20)

    def tables(table, times):
        builder.StartVector(4, times, 4)
        for _ in range(times):
            builder.PrependUOffsetTRelative(table)
        return builder.EndVector()

    name = builder.CreateString("x" * (COUNT if what == "names" else 1))
    long = builder.CreateNumpyVector(np.zeros(COUNT, np.int32))
    one = builder.CreateNumpyVector(np.zeros(1, np.int32))
    custom = builder.CreateString("Mystery")
    schema.OperatorCodeStart(builder)
    schema.OperatorCodeAddCustomCode(builder, custom)
    schema.OperatorCodeAddBuiltinCode(builder, schema.BuiltinOperator.CUSTOM)
    code = schema.OperatorCodeEnd(builder)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    if what == "shapes":
        schema.TensorAddShape(builder, long)
    tensor = schema.TensorEnd(builder)
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, long if what == "inputs" else one)
    schema.OperatorAddOutputs(builder, one)
    operator = schema.OperatorEnd(builder)
    operators = tables(operator, COUNT if what in ("inputs", "names") else 1)
    tensors = tables(tensor, COUNT if what == "shapes" else 1)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    schema.SubGraphAddOperators(builder, operators)
    graphs = tables(schema.SubGraphEnd(builder), 1)
    codes = tables(code, 1)
    schema.BufferStart(builder)
    buffers = tables(schema.BufferEnd(builder), 1)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("what", ["inputs", "shapes", "names"])
def test_work_and_memory_grow_with_the_file(what):
    """A megabyte that describes 14 billion items."""
    content = with_shared_parts(what)
    assert len(content) < 2_000_000
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    start = time.monotonic()
    with pytest.raises(ValueError, match="describes more than it holds"):
        cost.of_tflite(content)
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 300e6


def test_options_that_unfold_exponentially():
    """Each vector holds the one before it twice: 2^50 numbers in a few hundred bytes."""
    options = flexbuffers.Builder()
    with options.Map():
        options.Int("channels_in", 40)
        for level in range(50):
            options.Key(f"x{level}")
            before = options.LastValue if level else None
            with options.Vector():
                if level:
                    options.ReuseValue(before)
                    options.ReuseValue(before)
                else:
                    options.Int(1)
    model = unpack(Bconv2d(1, 5, 7, 40, 6).model())
    data = np.frombuffer(options.Finish(), np.uint8)
    assert data.size < 2000
    model.subgraphs[0].operators[0].customOptions = data
    assert cost.of_tflite(written(model)).total.binary_weights == 9 * 40 * 6
