"""Residual blocks in every arrangement: what the delegate fuses must not change a byte.

Each graph runs twice: as it is, and with every intermediate tensor as an output of the
model, so that nothing can be fused away. LCE runs it too where it has a reference.
"""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_graph import SHAPE, Graph
from lce_ops import (
    NONE,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Op,
    Tensor,
    build_model,
    constant,
    pack,
    run,
    run_lce,
    run_resized,
)

from bireal_keras import runtime


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
    return graph.block(graph.block(0, activation=RELU), activation=RELU)


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


def convolution_to_int8(graph):
    """Its sign is that of the distance to the zero point, and another op's."""
    value = graph.bconv(graph.quantize(0), output="int8", zero_point=7)
    return graph.bconv(graph.quantize(value))


def maps_of_many_sizes(graph):
    """What held a small map cannot hold a larger one."""
    value = 0
    for channels in (8, 200, 34, 2, 300, 64, graph.shape[-1]):
        value = graph.bconv(graph.quantize(value), channels=channels)
        value = graph.block(value)
    return value


def sum_that_waits_for_another_reader(graph):
    """The convolution that is added is also what the rest of the sum is made of."""
    value = graph.bconv(graph.quantize(0))
    other = graph.bconv(graph.quantize(value))
    later = graph.add_tensor(Tensor(graph.shape))
    graph.ops.append(Op("ABS", [other], [later]))
    return graph.sum(value, later)


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
    convolution_to_int8,
    maps_of_many_sizes,
    sum_that_waits_for_another_reader,
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
        # The convolution stays with the first who reads it.
        (sum_that_waits_for_another_reader, ["4 nodes in 3 steps", "1 nodes in 1 steps"]),
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


def hidden(graph, x) -> int:
    """`x` after an op that the delegate leaves to LiteRT, and with it an ADD of the result."""
    shape = graph.add_tensor(constant(np.array([-1, *graph.shape[1:]], np.int32)))
    output = graph.add_tensor(Tensor(graph.shape))
    options = ("ReshapeOptions", schema.ReshapeOptionsT())
    graph.ops.append(Op("RESHAPE", [x, shape], [output], builtin=options))
    return output


def sum_of_two_inputs(
    *, relu: bool, swapped: bool, quantized: bool, by: str, prelu: bool = False
) -> tuple[bytes, list[int]]:
    """bconv(input 0) + input 1, perhaps its PRELU, and its signs.

    `by` whom: a convolution, an ADD step, LiteRT.
    """
    graph = Graph(SHAPE)
    packed = graph.add_tensor(Tensor((*SHAPE[:3], SHAPE[3] // 32), np.int32))
    shortcut = graph.add_tensor(Tensor(SHAPE))
    value = graph.bconv(packed)
    addend = hidden(graph, value) if by == "LiteRT" else value
    pair = (shortcut, addend) if swapped else (addend, shortcut)
    outputs = [graph.sum(*pair, activation=RELU if relu else NONE)]
    if prelu:
        slopes = np.linspace(-1, 1, SHAPE[-1])[np.newaxis, np.newaxis]
        outputs[0] = graph.channel_op("PRELU", outputs[0], slopes)
    if by == "step":
        outputs.append(value)  # Which nobody may take over.
    if quantized:
        outputs.append(graph.quantize(outputs[0]))
    return build_model(graph.tensors, graph.ops, [packed, shortcut], outputs), outputs


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("by", ["convolution", "step"])
@pytest.mark.parametrize(
    ("batch", "shortcut"),
    [
        (3, SHAPE),
        (1, (3, *SHAPE[1:])),
        (3, (3, 1, SHAPE[2], SHAPE[3])),
        (2, (1, SHAPE[1], 1, SHAPE[3])),
        (2, (2, *SHAPE[1:3], 1)),
        (2, (1, 1, 1, 1)),
        (2, SHAPE[1:]),
        (2, SHAPE[3:]),
        (2, (1, 2, *SHAPE[1:])),
    ],
    ids=str,
)
def test_a_resized_sum_broadcasts_as_litert_does(by, relu, batch, shortcut):
    random = np.random.default_rng(batch)
    packed = pack(random.choice([-1, 1], (batch, *SHAPE[1:])))
    addend = random.normal(size=shortcut).astype(np.float32)
    for swapped in (False, True):
        reference, outputs = sum_of_two_inputs(
            relu=relu, swapped=swapped, quantized=False, by="LiteRT", prelu=swapped
        )
        (expected,) = run_resized(reference, outputs, packed, addend)
        for options in ({"num_threads": 1}, {"num_threads": 3}, {"kernel": "portable"}):
            for quantized in (False, True):
                model, outputs = sum_of_two_inputs(
                    relu=relu, swapped=swapped, quantized=quantized, by=by, prelu=swapped
                )
                options["float_ops"] = "delegate"
                result = run_resized(model, outputs, packed, addend, **options)
                assert result[0].shape == expected.shape
                assert result[0].tobytes() == expected.tobytes(), (swapped, options, quantized)
                if quantized:
                    assert result[-1].tobytes() == pack(np.where(expected < 0, -1, 1)).tobytes()


def test_a_resized_sum_of_shapes_that_do_not_go_together_is_refused():
    for by in ("convolution", "step"):
        model, outputs = sum_of_two_inputs(relu=False, swapped=False, quantized=True, by=by)
        with pytest.raises(
            (RuntimeError, ValueError), match=r"ADD \(node 1\).*: inputs: have 3 and"
        ):
            run_resized(
                model,
                outputs,
                np.zeros((3, *SHAPE[1:3], SHAPE[3] // 32), np.int32),
                np.zeros((2, *SHAPE[1:]), np.float32),
            )


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [(NONE, -np.inf, np.inf), (RELU, 0, np.inf), (RELU6, 0, 6), (RELU_N1_TO_1, -1, 1)],
)
def test_every_activation_of_a_sum(activation, low, high):
    """The delegate has two of them, and leaves a sum with another one to LiteRT."""
    graph = Graph()
    value = graph.bconv(graph.quantize(0))
    total = graph.sum(value, 0, activation=activation)
    signs = graph.quantize(total)
    x = np.random.default_rng(6).normal(size=SHAPE, scale=9).astype(np.float32)
    without = build_model(graph.tensors, graph.ops[:2], [0], [value])
    expected = np.clip(output_of(without, x) + x, np.float32(low), np.float32(high))
    for result, wanted in ((total, expected), (signs, pack(np.where(expected < 0, -1, 1)))):
        model = build_model(graph.tensors, graph.ops, [0], [result])
        for kernel in ({}, {"kernel": "portable"}):
            assert output_of(model, x, **kernel).tobytes() == wanted.tobytes()


SPECIAL_VALUES = np.array(
    [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1.0, -1.0], np.float32
)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("by", ["convolution", "step"])
def test_special_values_are_what_litert_makes_of_them(by, relu):
    """NaN first of all: a diverged network must not look like one that answers."""
    packed = pack(np.random.default_rng(0).choice([-1, 1], SHAPE))
    addend = np.resize(SPECIAL_VALUES, SHAPE)
    reference, outputs = sum_of_two_inputs(relu=relu, swapped=False, quantized=False, by="LiteRT")
    (expected,) = run_resized(reference, outputs, packed, addend)
    assert np.isnan(expected).sum() == np.isnan(addend).sum() > 0
    model, outputs = sum_of_two_inputs(relu=relu, swapped=False, quantized=True, by=by)
    for kernel in (None, "portable"):
        result, *_, signs = run_resized(model, outputs, packed, addend, kernel=kernel)
        np.testing.assert_array_equal(result, expected)
        assert signs.tobytes() == pack(np.where(expected < 0, -1, 1)).tobytes()
