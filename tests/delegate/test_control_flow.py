"""LCE's ops in the branches of an IF and in the body of a WHILE.

A branch gets its tensors only when it is run: until then what it is given has a shape and no
bytes.
"""

from collections.abc import Sequence

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime
from bireal_keras.runtime.profile import profile

SHAPE = (1, 5, 5, 32)
ONE, OTHER = Bconv2d(*SHAPE, 32, seed=3), Bconv2d(*SHAPE, 32, seed=9)


def model_of(content: bytes) -> schema.ModelT:
    """A flatbuffer as objects that can be changed."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def build_subgraphs(graphs: Sequence[tuple]) -> bytes:
    """The flatbuffer of a model with these subgraphs, the main one first.

    Args:
        graphs: what `build_model` takes, for each: tensors, ops, inputs, outputs.
    """
    model, *others = (model_of(build_model(*graph)) for graph in graphs)
    for other in others:
        codes, buffers = len(model.operatorCodes), len(model.buffers)
        (graph,) = other.subgraphs
        for op in graph.operators:
            op.opcodeIndex += codes
        for tensor in graph.tensors:
            # The first buffer stands for none.
            tensor.buffer += buffers if tensor.buffer else 0
        model.operatorCodes += other.operatorCodes
        model.buffers += other.buffers
        model.subgraphs.append(graph)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def block(case: Bconv2d) -> tuple:
    """A subgraph: the sign of its input, a convolution, and the input added to that."""
    tensors = [
        Tensor(SHAPE),
        Tensor((*SHAPE[:3], 1), np.int32),
        constant(pack(case.kernel)),
        constant(case.multiplier),
        constant(case.bias),
        Tensor(SHAPE),
        Tensor(SHAPE),
    ]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("ADD", [5, 0], [6], builtin=("AddOptions", schema.AddOptionsT())),
    ]
    return tensors, ops, [0], [6]


def expected(case: Bconv2d, x: np.ndarray) -> np.ndarray:
    """What `block` computes, image by image, in NumPy."""
    sums = []
    for image in x:
        case.inputs = np.where(image[np.newaxis] < 0, -1, 1)
        sums.append(case.expected()[0] + image)
    return np.stack(sums)


def if_model() -> bytes:
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    tensors = [Tensor((), np.bool_), Tensor(SHAPE), Tensor(SHAPE)]
    main = (tensors, [Op("IF", [0, 1], [2], builtin=("IfOptions", options))], [0, 1], [2])
    return build_subgraphs([main, block(ONE), block(OTHER)])


def while_model(times: int) -> bytes:
    """x = block(x), so many times."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    main = (
        [Tensor((), np.int32), Tensor(SHAPE), Tensor((), np.int32), Tensor(SHAPE)],
        [Op("WHILE", [0, 1], [2, 3], builtin=("WhileOptions", options))],
        [0, 1],
        [3],
    )
    condition = (
        [Tensor((), np.int32), Tensor(SHAPE), constant(np.int32(times)), Tensor((), np.bool_)],
        [Op("LESS", [0, 2], [3], builtin=("LessOptions", schema.LessOptionsT()))],
        [0, 1],
        [3],
    )
    tensors, ops, _, (result,) = block(ONE)
    counter = len(tensors)
    tensors += [Tensor((), np.int32), constant(np.int32(1)), Tensor((), np.int32)]
    ops.append(
        Op(
            "ADD",
            [counter, counter + 1],
            [counter + 2],
            builtin=("AddOptions", schema.AddOptionsT()),
        )
    )
    return build_subgraphs([main, condition, (tensors, ops, [counter, 0], [counter + 2, result])])


def run(interpreter, first, x: np.ndarray) -> np.ndarray:
    first_index, x_index = (tensor["index"] for tensor in interpreter.get_input_details())
    interpreter.resize_tensor_input(x_index, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(first_index, first)
    interpreter.set_tensor(x_index, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, *SHAPE[1:])).astype(np.float32)


@pytest.fixture(params=[1, 3])
def delegate(request):
    return runtime.load_delegate(num_threads=request.param)


def test_either_branch_of_an_if(delegate):
    interpreter = litert.Interpreter(model_content=if_model(), experimental_delegates=[delegate])
    # Both branches more than once, in other batches and back.
    for taken, batch in [(True, 1), (False, 1), (True, 2), (False, 3), (True, 1)]:
        x = images(batch)
        output = run(interpreter, np.bool_(taken), x)
        assert output.tobytes() == expected(ONE if taken else OTHER, x).tobytes(), (taken, batch)


def test_profiles_leave_them_out():
    """The delegate's steps of a branch would pass for the main graph's, by their numbers."""
    with pytest.raises(ValueError, match="the model: has 3 subgraphs, as a model with an IF"):
        profile(if_model())


@pytest.mark.parametrize("taken", [True, False])
def test_an_if_is_what_lce_makes_of_it(delegate, taken):
    interpreter = litert.Interpreter(model_content=if_model(), experimental_delegates=[delegate])
    x = images(1)
    pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    lce = Interpreter(if_model(), use_reference_bconv=True).interpreter
    (lce_output,) = lce.predict([np.array(taken), x])
    assert run(interpreter, np.bool_(taken), x).tobytes() == lce_output.tobytes()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_the_body_of_a_while(delegate, times):
    model = while_model(times)
    interpreter = litert.Interpreter(model_content=model, experimental_delegates=[delegate])
    for batch in (1, 2, 1):
        x = images(batch)
        result = x
        for _ in range(times):
            result = expected(ONE, result)
        assert run(interpreter, np.int32(0), x).tobytes() == result.tobytes(), batch


def test_a_branch_that_is_malformed_is_refused():
    tensors, ops, inputs, outputs = block(ONE)
    ops[1].options = {**ops[1].options, "stride_height": 0}
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    main = (
        [Tensor((), np.bool_), Tensor(SHAPE), Tensor(SHAPE)],
        [Op("IF", [0, 1], [2], builtin=("IfOptions", options))],
        [0, 1],
        [2],
    )
    model = build_subgraphs([main, block(OTHER), (tensors, ops, inputs, outputs)])
    delegate = runtime.load_delegate()
    interpreter = litert.Interpreter(model_content=model, experimental_delegates=[delegate])
    with pytest.raises((RuntimeError, ValueError), match=r"LceBconv2d \(node 1\): .*stride_height"):
        run(interpreter, np.bool_(False), images(1))
