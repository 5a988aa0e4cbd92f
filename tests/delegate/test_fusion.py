"""Residual blocks in every arrangement: what the delegate fuses must not change a byte.

Each graph runs twice: as it is, and with every intermediate tensor as an output of the
model, so that nothing can be fused away. LCE runs it too where it has a reference.
"""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack, run, run_lce

from bireal_keras import runtime

SHAPE = (1, 7, 6, 96)


class Graph:
    """A graph under construction; methods return indices of tensors."""

    def __init__(self, shape=SHAPE):
        self.shape = shape
        self.tensors = [Tensor(shape)]
        self.ops = []
        self.convolutions = 0

    def add_tensor(self, tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def quantize(self, x) -> int:
        words = -(-self.shape[-1] // 32)
        output = self.add_tensor(Tensor((*self.shape[:-1], words), np.int32))
        self.ops.append(Op("LceQuantize", [x], [output]))
        return output

    def bconv(self, packed) -> int:
        case = Bconv2d(*self.shape, self.shape[-1], seed=self.convolutions)
        self.convolutions += 1
        filter_, multiplier, bias = (
            self.add_tensor(constant(value))
            for value in (pack(case.kernel), case.multiplier, case.bias)
        )
        output = self.add_tensor(Tensor(self.shape))
        inputs = [packed, filter_, multiplier, bias, -1]
        self.ops.append(Op("LceBconv2d", inputs, [output], case.options))
        return output

    def sum(self, a, b, *, relu=False) -> int:
        output = self.add_tensor(Tensor(self.shape))
        options = schema.AddOptionsT()
        options.fusedActivationFunction = int(relu)
        self.ops.append(Op("ADD", [a, b], [output], builtin=("AddOptions", options)))
        return output

    def block(self, x, **kwargs) -> int:
        return self.sum(self.bconv(self.quantize(x)), x, **kwargs)


def two_blocks_on(graph, x):
    return graph.block(graph.block(x))


def two_blocks(graph):
    return two_blocks_on(graph, 0)


def four_blocks(graph):
    """Each sum may be written over the last."""
    return two_blocks_on(graph, two_blocks(graph))


def sum_read_again_later(graph):
    """A sum that is read as a shortcut, but not for the last time."""
    total = graph.block(0)
    return graph.block(graph.sum(two_blocks_on(graph, total), total))


def blocks_with_relu(graph):
    return graph.block(graph.block(0, relu=True), relu=True)


def shortcut_first(graph):
    value = graph.bconv(graph.quantize(0))
    return graph.block(graph.sum(0, value))


def no_shortcut(graph):
    """The float output of a convolution that only a sign reads."""
    return graph.bconv(graph.quantize(graph.bconv(graph.quantize(0))))


def two_convolutions_into_one_sum(graph):
    packed = graph.quantize(0)
    return graph.block(graph.sum(graph.bconv(packed), graph.bconv(packed)))


def convolution_read_twice(graph):
    value = graph.bconv(graph.quantize(0))
    return graph.sum(graph.sum(value, 0), value)


def convolution_doubled(graph):
    value = graph.bconv(graph.quantize(0))
    return graph.block(graph.sum(value, value))


def sum_quantized_twice(graph):
    total = graph.block(0)
    left, right = graph.bconv(graph.quantize(total)), graph.bconv(graph.quantize(total))
    return graph.sum(left, right)


def shortcut_over_two_convolutions(graph):
    inner = graph.bconv(graph.quantize(0))
    return graph.sum(graph.bconv(graph.quantize(inner)), 0)


def float_op_in_between(graph):
    """As in a down-sampling block, whose shortcut no partition of ours computes."""
    total = graph.block(0)
    value = graph.bconv(graph.quantize(total))
    shortcut = graph.add_tensor(Tensor(graph.shape))
    graph.ops.append(Op("ABS", [total], [shortcut]))
    return graph.block(graph.sum(value, shortcut))


GRAPHS = [
    two_blocks,
    four_blocks,
    sum_read_again_later,
    blocks_with_relu,
    shortcut_first,
    no_shortcut,
    two_convolutions_into_one_sum,
    convolution_read_twice,
    convolution_doubled,
    sum_quantized_twice,
    shortcut_over_two_convolutions,
    float_op_in_between,
]


def output_of(model, inputs, **options):
    return run(litert, model, inputs, **options)


@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 9, 40), (2, 1, 1, 64)], ids=str)
@pytest.mark.parametrize("arrange", GRAPHS, ids=lambda function: function.__name__)
def test_fused_equals_unfused(arrange, shape):
    graph = Graph(shape)
    result = arrange(graph)
    intermediates = [output for op in graph.ops for output in op.outputs if output != result]
    x = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    fused = build_model(graph.tensors, graph.ops, [0], [result])
    unfused = build_model(graph.tensors, graph.ops, [0], [result, *intermediates])
    expected = output_of(unfused, x, kernel="portable")
    for options in ({}, {"kernel": "portable"}, {"num_threads": 2}):
        assert output_of(fused, x, **options).tobytes() == expected.tobytes()


@pytest.mark.parametrize("arrange", GRAPHS, ids=lambda function: function.__name__)
def test_fused_equals_lce(arrange):
    pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    graph = Graph()
    model = build_model(graph.tensors, graph.ops, [0], [arrange(graph)])
    x = np.random.default_rng(8).normal(size=SHAPE).astype(np.float32)
    assert output_of(model, x).tobytes() == run_lce(model, x).tobytes()


@pytest.mark.parametrize(
    ("arrange", "partitions"),
    [
        # The first sign has no convolution before it to take it over.
        (two_blocks, ["6 nodes in 3 steps"]),
        (no_shortcut, ["4 nodes in 3 steps"]),
        # The second block waits for its shortcut, convolution and all.
        (float_op_in_between, ["4 nodes in 2 steps", "5 nodes in 2 steps"]),
    ],
)
def test_a_residual_stage_is_one_partition(arrange, partitions, capfd):
    graph = Graph()
    model = build_model(graph.tensors, graph.ops, [0], [arrange(graph)])
    output_of(model, np.zeros(SHAPE, np.float32), verbose=1)
    lines = capfd.readouterr().err.splitlines()
    prefix = "bireal delegate: "
    reported = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    assert reported[1:] == partitions


def test_a_stage_in_another_batch_size_and_back():
    graph = Graph()
    model = build_model(graph.tensors, graph.ops, [0], [four_blocks(graph)])
    interpreter = litert.Interpreter(
        model_content=model, experimental_delegates=[runtime.load_delegate(num_threads=2)]
    )
    x = np.random.default_rng(9).normal(size=(4, *SHAPE[1:])).astype(np.float32)
    each = [output_of(model, image[np.newaxis]).tobytes() for image in x]
    for batch in (1, 4, 1):
        interpreter.resize_tensor_input(0, (batch, *SHAPE[1:]))
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, x[:batch])
        interpreter.invoke()
        output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert output.tobytes() == b"".join(each[:batch])


def test_a_constant_is_added_to_every_image_of_a_resized_batch():
    graph = Graph()
    offset = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    result = graph.sum(graph.bconv(graph.quantize(0)), graph.add_tensor(constant(offset)))
    model = build_model(graph.tensors, graph.ops, [0], [result])
    x = np.random.default_rng(2).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    interpreter = litert.Interpreter(
        model_content=model, experimental_delegates=[runtime.load_delegate()]
    )
    interpreter.resize_tensor_input(0, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    each = [output_of(model, image[np.newaxis]) for image in x]
    assert interpreter.get_tensor(result).tobytes() == np.concatenate(each).tobytes()
