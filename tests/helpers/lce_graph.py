"""Graphs of LCE's ops and float operators around them, to be built step by step."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from lce_ops import NONE, Bconv2d, Op, Tensor, constant, pack

SHAPE = (1, 7, 6, 96)


class Graph:
    """A graph under construction; methods return indices of tensors."""

    def __init__(self, shape=SHAPE):
        self.shape = shape
        self.tensors = [Tensor(shape)]
        self.ops = []
        self.convolutions = 0
        self.channels = {}  # Of a packed tensor.

    def add_tensor(self, tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def quantize(self, x) -> int:
        *shape, channels = self.tensors[x].shape
        output = self.add_tensor(Tensor((*shape, -(-channels // 32)), np.int32))
        self.ops.append(Op("LceQuantize", [x], [output]))
        self.channels[output] = channels
        return output

    def bconv(self, packed, *, channels=None, **fields) -> int:
        """To as many channels as the input has, unless told otherwise."""
        batch, height, width, _ = self.tensors[packed].shape
        channels_in = self.channels.get(packed, self.shape[-1])
        channels_out = channels or channels_in
        case = Bconv2d(
            batch, height, width, channels_in, channels_out, seed=self.convolutions, **fields
        )
        self.convolutions += 1
        filter_, multiplier, bias = (
            self.add_tensor(constant(value))
            for value in (pack(case.kernel), case.multiplier, case.bias)
        )
        shape = (batch, height, width, channels_out)
        quantized = {"scale": case.scale, "zero_point": case.zero_point, "dtype": np.int8}
        is_int8 = case.output == "int8"
        output = self.add_tensor(Tensor(shape, **quantized) if is_int8 else Tensor(shape))
        inputs = [packed, filter_, multiplier, bias, -1]
        self.ops.append(Op("LceBconv2d", inputs, [output], case.options))
        return output

    def sum(self, a, b, *, activation=NONE) -> int:
        output = self.add_tensor(Tensor(self.tensors[a].shape))
        options = schema.AddOptionsT()
        options.fusedActivationFunction = activation
        self.ops.append(Op("ADD", [a, b], [output], builtin=("AddOptions", options)))
        return output

    def block(self, x, **kwargs) -> int:
        return self.sum(self.bconv(self.quantize(x)), x, **kwargs)

    def channel_op(self, name: str, x, operand, *, activation=NONE, swapped: bool = False) -> int:
        """A MUL, an ADD or a PRELU; `operand` is a constant, or the index of a tensor."""
        if not isinstance(operand, int):
            operand = self.add_tensor(constant(np.asarray(operand, np.float32)))
        output = self.add_tensor(Tensor(self.tensors[x].shape))
        options = {"MUL": schema.MulOptionsT, "ADD": schema.AddOptionsT}.get(name)
        builtin = None
        if options is not None:
            builtin = (options.__name__.removesuffix("T"), options())
            builtin[1].fusedActivationFunction = activation
        inputs = [operand, x] if swapped else [x, operand]
        self.ops.append(Op(name, inputs, [output], builtin=builtin))
        return output

    def concat(self, a, b, *, axis: int = -1) -> int:
        """Along the last axis."""
        *shape, channels = self.tensors[a].shape
        output = self.add_tensor(Tensor((*shape, channels + self.tensors[b].shape[-1])))
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        self.ops.append(
            Op("CONCATENATION", [a, b], [output], builtin=("ConcatenationOptions", options))
        )
        return output

    def split(self, x, sizes, *, axis: int = -1) -> list[int]:
        *shape, _ = self.tensors[x].shape
        outputs = [self.add_tensor(Tensor((*shape, size))) for size in sizes]
        options = schema.SplitVOptionsT()
        options.numSplits = len(sizes)
        constants = [
            self.add_tensor(constant(np.array(value, np.int32))) for value in (sizes, axis)
        ]
        self.ops.append(Op("SPLIT_V", [x, *constants], outputs, builtin=("SplitVOptions", options)))
        return outputs

    def gate(self, x) -> int:
        """The sigmoid of the mean of each channel, (batch, 1, 1, channels)."""
        batch, *_, channels = self.tensors[x].shape
        options = schema.ReducerOptionsT()
        options.keepDims = True
        axes = self.add_tensor(constant(np.array([1, 2], np.int32)))
        mean = self.add_tensor(Tensor((batch, 1, 1, channels)))
        self.ops.append(Op("MEAN", [x, axes], [mean], builtin=("ReducerOptions", options)))
        gate = self.add_tensor(Tensor((batch, 1, 1, channels)))
        self.ops.append(Op("LOGISTIC", [mean], [gate]))
        return gate
