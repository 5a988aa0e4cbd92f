"""A malformed model is an error that names the op and the reason, never a crash."""

import re

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack, run

from bireal_keras import runtime

INT_MAX = 2**31 - 1


def refused(tensors, op, inputs, match, **values):
    """Asserts that a model of one op is refused with a message that matches."""
    model = build_model(tensors, [op], inputs, op.outputs)
    first = tensors[inputs[0]]
    with pytest.raises((RuntimeError, ValueError), match=rf"{op.name} \(node 0\): .*{match}"):
        run(litert, model, np.zeros(first.shape, first.dtype))


def bconv(**changes):
    """Tensors and op of a sound convolution, with parts of it replaced.

    `options` are merged into the sound ones, None removes one; tensors go by name.
    """
    case = Bconv2d(1, 4, 4, 64, 8)
    parts = {
        "input": Tensor((1, 4, 4, 2), np.int32),
        "filter": constant(pack(case.kernel)),
        "output": Tensor((1, 4, 4, 8)),
        "multiplier": constant(case.multiplier),
        "bias": constant(case.bias),
        "thresholds": constant(case.thresholds),
    }
    options = {**case.options, **changes.pop("options", {})}
    options = {key: value for key, value in options.items() if value is not None}
    inputs = changes.pop("inputs", [0, 1, 3, 4, -1])
    outputs = changes.pop("outputs", [2])
    assert set(changes) <= set(parts)
    parts.update(changes)
    return list(parts.values()), Op("LceBconv2d", inputs, outputs, options)


def test_the_sound_convolution_runs():
    tensors, op = bconv()
    model = build_model(tensors, [op], [0], [2])
    assert run(litert, model, np.zeros((1, 4, 4, 2), np.int32)).shape == (1, 4, 4, 8)


@pytest.mark.parametrize("name", Bconv2d(1, 4, 4, 64, 8).options)
def test_missing_option(name):
    refused(*bconv(options={name: None}), [0], f"`{name}` is missing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels_in", 0),
        ("channels_in", -64),
        ("channels_in", 2**40),
        ("stride_height", 0),
        ("stride_width", -1),
        ("dilation_height_factor", 0),
        ("dilation_width_factor", 2**33),
        ("padding", 2),
        ("padding", -1),
        ("pad_values", 2),
        ("pad_values", -1),
    ],
)
def test_option_out_of_range(name, value):
    refused(*bconv(options={name: value}), [0], rf"`{name}` must be in .*Received: {value}")


@pytest.mark.parametrize("value", ["3", 1.0, [1], {"a": 1}])
def test_option_of_another_type(value):
    refused(*bconv(options={"stride_width": value}), [0], "`stride_width` is missing or not an")


def options_are_refused(blob: bytes):
    tensors, op = bconv()
    op.options = blob
    refused(tensors, op, [0], "(options: .* no FlexBuffer map|option .* is missing)")


@pytest.mark.parametrize(
    "blob",
    [b"", b"\x00", b"\x24\x01", bytes(200), b"\xff" * 64, flexbuffers.Dumps([1, 2]), b"junk" * 9],
    ids=repr,
)
def test_options_that_are_no_map(blob):
    options_are_refused(blob)


def test_truncated_options():
    blob = flexbuffers.Dumps(Bconv2d(1, 4, 4, 64, 8).options)
    # The last two bytes say where the map is: with them, most cuts look sound at first.
    for length in range(len(blob) - 2):
        options_are_refused(blob[:length] + blob[-2:])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input": Tensor((1, 4, 4, 2), np.float32)}, "input: type FLOAT32 .* accepted: INT32"),
        ({"input": Tensor((4, 4, 2), np.int32)}, "input: has 3 dimensions, must have 4"),
        ({"input": Tensor((1, 4, 4, 3), np.int32)}, "input: .* 3 words, 64 channels need 2"),
        ({"input": Tensor((1, 0, 4, 2), np.int32)}, "input: dimension 1 is 0"),
        ({"output": Tensor((1, 4, 4, 8), np.bool_)}, "output: type BOOL .* accepted: FLOAT32"),
        ({"filter": constant(np.zeros((8, 3, 3, 2), np.float32))}, "filter: type FLOAT32"),
        ({"filter": constant(np.zeros((8, 3, 3), np.int32))}, "filter: has 3 dimensions"),
        ({"filter": constant(np.zeros((8, 3, 3, 3), np.int32))}, "filter: its last dimension"),
        ({"filter": Tensor((8, 3, 3, 2), np.int32)}, "filter: must be a constant"),
        ({"multiplier": constant(np.zeros(7, np.float32))}, "multiplier: has 7 elements"),
        ({"multiplier": constant(np.zeros(8, np.int32))}, "multiplier: type INT32"),
        ({"bias": constant(np.zeros((8, 1), np.float32))}, "bias: has 2 dimensions"),
        ({"bias": Tensor((8,))}, "bias: must be a constant"),
        ({"inputs": [0, 1, -1, 4, -1]}, "multiplier: an output of type FLOAT32 needs it"),
        ({"inputs": [0, 1, 3, -1, -1]}, "bias: an output of type FLOAT32 needs it"),
        (
            {"output": Tensor((1, 4, 4, 1), np.int32)},
            "thresholds: an output of type INT32 needs it",
        ),
        ({"output": Tensor((1, 4, 4, 8), np.int8)}, "output: scale 0 must be positive"),
        (
            {"output": Tensor((1, 4, 4, 8), np.int8, scale=float("nan"))},
            "output: scale -?nan must be positive",
        ),
        ({"inputs": [0, 1, 3, 4]}, "must have 5 inputs .* Received: 4 and 1"),
        ({"inputs": [0]}, "must have 5 inputs"),
        ({"inputs": [0, -1, 3, 4, -1]}, "filter: tensor -1 does not exist"),
        (
            {
                "input": Tensor((1, 2, 4, 2), np.int32),
                "options": {"padding": 1},
            },
            "a filter of height 3 does not fit an input of 2",
        ),
        ({"options": {"dilation_height_factor": INT_MAX}}, "the dilated filter's height"),
        ({"options": {"dilation_width_factor": 2**29, "padding": 1}}, "a filter of width"),
        (
            {
                "filter": constant(np.zeros((8, 3, 3, 1), np.int32)),
                "options": {"channels_in": 63},
            },
            "filter: 2 groups need",
        ),
        (
            {
                "filter": constant(np.zeros((7, 3, 3, 1), np.int32)),
                "multiplier": constant(np.zeros(7, np.float32)),
                "bias": constant(np.zeros(7, np.float32)),
            },
            "filter: 2 groups need .* 7 output channels",
        ),
        (
            # Two groups of 20 channels: where the second one begins, no word does.
            {
                "filter": constant(np.zeros((8, 3, 3, 1), np.int32)),
                "options": {"channels_in": 40},
            },
            "filter: 2 groups need a multiple of 32 input channels each .* 40 input channels",
        ),
    ],
)
def test_bconv_tensors(changes, match):
    refused(*bconv(**changes), [0], match)


def test_an_op_cannot_write_its_own_input():
    tensors, op = bconv(outputs=[0])
    model = build_model(tensors, [op], [0], [0])
    with pytest.raises((RuntimeError, ValueError), match="node 0 reads tensor 0 before node 0 wri"):
        run(litert, model, np.zeros((1, 4, 4, 2), np.int32))


SIGNS = Op("LceQuantize", [0], [1])
VALUES = Op("LceDequantize", [1], [2])
ABS = ("AbsOptions", schema.AbsOptionsT())


@pytest.mark.parametrize(
    ("ops", "match"),
    [
        ([VALUES, SIGNS], "node 0 reads tensor 1 before node 1"),
        # Each reads what the other writes.
        ([Op("LceQuantize", [2], [1]), VALUES], "node 0 reads tensor 2 before node 1"),
        # What LiteRT would run lies between the two, first or last.
        ([SIGNS, Op("ABS", [2], [3], builtin=ABS), VALUES], "node 1 reads tensor 2 before node 2"),
        ([Op("ABS", [2], [3], builtin=ABS), SIGNS, VALUES], "node 0 reads tensor 2 before node 2"),
        ([SIGNS, VALUES, Op("ABS", [3], [3], builtin=ABS)], "node 2 reads tensor 3 before node 2"),
    ],
    ids=["forward", "cycle", "between", "first", "itself"],
)
def test_nodes_that_read_what_is_written_later(ops, match):
    """Some interpreters write out of bounds when they are asked to partition such a graph."""
    tensors = [Tensor((1, 32)), Tensor((1, 1), np.int32), Tensor((1, 32)), Tensor((1, 32))]
    model = build_model(tensors, ops, [0], [2])
    with pytest.raises((RuntimeError, ValueError), match=match):
        run(litert, model, np.zeros((1, 32), np.float32))


def test_an_op_cannot_write_a_constant():
    tensors = [Tensor((2, 32)), constant(np.zeros((2, 1), np.int32))]
    refused(tensors, Op("LceQuantize", [0], [1]), [0], "output: is a constant")


def test_two_ops_cannot_write_one_tensor():
    tensors = [Tensor((4, 64)), Tensor((4, 2), np.int32), Tensor((4, 64))]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceQuantize", [0], [1]),
        Op("LceDequantize", [1], [2]),
    ]
    with pytest.raises((RuntimeError, ValueError)):
        run(litert, build_model(tensors, ops, [0], [2]), np.zeros((4, 64), np.float32))


@pytest.mark.parametrize(
    ("name", "tensors", "match"),
    [
        ("LceQuantize", [Tensor((), np.float32), Tensor((1,), np.int32)], "input: has no dim"),
        ("LceQuantize", [Tensor((2, 4), np.int32), Tensor((2, 1), np.int32)], "input: type INT32"),
        ("LceQuantize", [Tensor((2, 4)), Tensor((2, 4))], "output: type FLOAT32"),
        ("LceDequantize", [Tensor((2, 4)), Tensor((2, 4))], "input: type FLOAT32"),
        ("LceDequantize", [Tensor((2, 4), np.int32), Tensor((2, 4), np.int32)], "output: type"),
        ("LceDequantize", [Tensor((2, 4), np.int32), Tensor((2, 129))], "output: must have"),
        ("LceDequantize", [Tensor((2, 4), np.int32), Tensor((2, 96))], "output: must have"),
        ("LceDequantize", [Tensor((2, 4), np.int32), Tensor((1, 2, 128))], "output: must have"),
        (
            "LceDequantize",
            [Tensor((2, 1), np.int32), Tensor((2, 32), np.int8)],
            "output: scale 0 is not supported",
        ),
        (
            "LceDequantize",
            [Tensor((2, 1), np.int32), Tensor((2, 32), np.int8, scale=1.0, zero_point=999)],
            "output: zero point 999",
        ),
    ],
)
def test_quantize_and_dequantize(name, tensors, match):
    refused(tensors, Op(name, [0], [1]), [0], match)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"filter_height": 0}, "`filter_height` must be in"),
        ({"stride_width": -2}, "`stride_width` must be in"),
        ({"padding": 7}, "`padding` must be in"),
        ({"filter_width": 5, "padding": 1}, "a filter of width 5 does not fit"),
        ({"filter_height": INT_MAX, "stride_height": 3}, "the padded input's height"),
    ],
)
def test_max_pool(options, match):
    sound = {
        "filter_height": 2,
        "filter_width": 2,
        "padding": 0,
        "stride_height": 1,
        "stride_width": 1,
    }
    tensors = [Tensor((1, 4, 4, 1), np.int32), Tensor((1, 4, 4, 1), np.int32)]
    refused(tensors, Op("LceBMaxPool2d", [0], [1], {**sound, **options}), [0], match)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_threads": 0}, "`num_threads` must be an integer from 1 to 64.*num_threads=0"),
        ({"num_threads": "two"}, "Received: num_threads=two"),
        ({"num_threads": 65}, "`num_threads`"),
        ({"kernel": "fast"}, "`kernel` must be one of: .*portable.*Received: kernel=fast"),
        ({"verbose": "yes"}, "`verbose` must be 0 or 1"),
        ({"threads": 2}, "must be one of: num_threads, kernel, float_ops, verbose.*threads=2"),
        (
            {"profile": "/dev/full"},
            "`profile` must be the path of a file to write.*/dev/full: No sp",
        ),
    ],
)
def test_delegate_options(options, match):
    with pytest.raises(ValueError, match=match):
        litert.load_delegate(runtime.delegate_path(), options)


def test_kernel_of_the_environment(monkeypatch, capfd):
    case = Bconv2d(1, 2, 2, 32, 32)

    def kernel_in_use(**options) -> str:
        run(litert, case.model(), pack(case.inputs), verbose=1, **options)
        return re.search(r"kernel (\w+),", capfd.readouterr().err)[1]

    monkeypatch.delenv("BIREAL_KERNEL", raising=False)
    best = kernel_in_use()
    monkeypatch.setenv("BIREAL_KERNEL", "portable")
    assert kernel_in_use() == "portable"
    assert kernel_in_use(kernel=best) == best
    # An empty variable is one that is not set.
    monkeypatch.setenv("BIREAL_KERNEL", "")
    assert kernel_in_use() == best
    # A wrong one matters only where it is asked, and is named.
    monkeypatch.setenv("BIREAL_KERNEL", "fast")
    assert kernel_in_use(kernel="portable") == "portable"
    match = "environment variable BIREAL_KERNEL must be one of: .*Received: BIREAL_KERNEL=fast"
    with pytest.raises(ValueError, match=match):
        runtime.load_delegate()


def test_verbose_says_what_is_claimed(capfd):
    tensors, op = bconv()
    model = build_model(tensors, [op], [0], [2])
    run(litert, model, np.zeros((1, 4, 4, 2), np.int32), verbose=1, num_threads=2)
    assert "1 of 1 nodes" in capfd.readouterr().err


def test_an_operator_that_nobody_has_is_named():
    model = build_model([Tensor((1, 4)), Tensor((1, 4))], [Op("MyOp", [0], [1])], [0], [1])
    with pytest.raises(ValueError, match=r"^the model: Encountered unresolved custom op: MyOp\.$"):
        runtime.Interpreter(model)
