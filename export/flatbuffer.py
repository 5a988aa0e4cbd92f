"""Reading what LCE's converter wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.cost import of_tflite

_OPERATORS = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
_TYPES = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT8: "i1"}
BINARY = "LceBconv2d"
DENSE = "FULLY_CONNECTED"
# Each multiplies one computed tensor by a kernel, its input 1.
_MULTIPLYING = (BINARY, DENSE, "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
# BatchNormalization behind these would be part of the convolution before them.
_PASSED = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
_ARITHMETIC = ("ADD", "DIV", "MUL", "SUB")
_ACTIVATIONS = ("LEAKY_RELU", "PRELU", "RELU", "RELU6", "RELU_N1_TO_1")


@dataclass(frozen=True)
class Multiplication:
    """An operator of a TFLite model that multiplies by a kernel.

    Attributes:
        kind: name of the operator.
        output: name of the tensor that it writes.
        kernel: if binary (out, height, width, words) uint32: 32 input channels a word, the
            first in the lowest bit, a set bit for -1, unused bits zero. Otherwise
            (out, values) float32 or int8, int8 without its scales, or None for one that is
            computed or of another type.
        weights: values of the kernel.
        kernel_bytes: that they take.
        other_bytes: that biases, factors and thresholds take. What several operators read
            counts for the first.
        macs: multiply-accumulates for one run of the model.
        left_behind: names of operators that BatchNormalization, biases and activations have
            become behind it; those that it computes itself are none.
    """

    kind: str
    output: str
    kernel: np.ndarray | None
    weights: int
    kernel_bytes: int
    other_bytes: int
    macs: int
    left_behind: tuple[str, ...]

    @property
    def is_binary(self) -> bool:
        """Whether both of its factors are 1-bit."""
        return self.kind == BINARY


def multiplications(flatbuffer: bytes) -> list[Multiplication]:
    """The convolutions and dense layers of a TFLite model, in the order of their execution."""
    graph = _Graph(flatbuffer)
    costs = [cost for cost in of_tflite(flatbuffer).layers if cost.kind in _MULTIPLYING]
    found = []
    for operator, cost in zip(graph.operators(_MULTIPLYING), costs, strict=True):
        kernel_bytes = graph.new_bytes(operator.inputs[1:2])
        found.append(
            Multiplication(
                kind=cost.kind,
                output=cost.name,
                kernel=graph.kernel(operator),
                weights=cost.binary_weights or graph.size(operator.inputs[1]),
                kernel_bytes=kernel_bytes,
                other_bytes=graph.new_bytes(operator.inputs),
                macs=cost.binary_macs + cost.real_macs,
                left_behind=tuple(graph.left_behind(operator)),
            )
        )
    return found


class _Graph:
    """The first subgraph of a TFLite model."""

    def __init__(self, flatbuffer: bytes):
        self._model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
        self._graph = self._model.subgraphs[0]
        self._counted: set[int] = set()
        # A DEQUANTIZE of a constant only unpacks it: what reads its output reads the constant.
        self._stored = {
            int(operator.outputs[0]): int(operator.inputs[0])
            for operator in self.operators(["DEQUANTIZE"])
            if self._model.buffers[self._graph.tensors[operator.inputs[0]].buffer].data is not None
        }

    def operators(self, kinds: Sequence[str]) -> list[schema.OperatorT]:
        return [operator for operator in self._graph.operators if self.kind(operator) in kinds]

    def kind(self, operator: schema.OperatorT) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return code.customCode.decode() if code.customCode else _OPERATORS[code.builtinCode]

    def size(self, tensor: int) -> int:
        shape = self._graph.tensors[tensor].shape
        return 1 if shape is None else int(np.prod(shape))

    def new_bytes(self, tensors: Sequence[int]) -> int:
        """Of constants among the tensors, less those that have been counted."""
        total = 0
        for index in tensors:
            data = self._data(index)
            buffer = self._graph.tensors[self._stored.get(index, index)].buffer
            if data is not None and buffer not in self._counted:
                self._counted.add(buffer)
                total += len(data)
        return total

    def kernel(self, operator: schema.OperatorT) -> np.ndarray | None:
        """See `Multiplication.kernel`."""
        index = self._stored.get(operator.inputs[1], operator.inputs[1])
        tensor, data = self._graph.tensors[index], self._data(index)
        if data is None:
            return None
        kind = self.kind(operator)
        if kind == BINARY:
            return data.view("<u4").reshape(tensor.shape)
        if tensor.type not in _TYPES:
            return None
        values = data.view(_TYPES[tensor.type]).reshape(tensor.shape)
        # The last axis counts the filters here, the first everywhere else.
        if kind in ("CONV_3D", "DEPTHWISE_CONV_2D"):
            return values.reshape(-1, values.shape[-1]).T
        return values.reshape(len(values), -1)

    def left_behind(self, operator: schema.OperatorT) -> Iterator[str]:
        """See `Multiplication.left_behind`."""
        for reader in self._readers(operator.outputs[0]):
            kind = self.kind(reader)
            if kind not in _PASSED:
                computed = [i for i in reader.inputs if i >= 0 and self._data(i) is None]
                if kind not in (*_ARITHMETIC, *_ACTIVATIONS) or len(computed) != 1:
                    continue
                yield kind
            yield from self.left_behind(reader)

    def _readers(self, tensor: int) -> list[schema.OperatorT]:
        return [operator for operator in self._graph.operators if tensor in operator.inputs]

    def _data(self, tensor: int) -> np.ndarray | None:
        """Bytes of a constant, None for a tensor that is computed or missing."""
        if tensor < 0:
            return None
        tensor = self._stored.get(tensor, tensor)
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)


def packed_filters(signs: np.ndarray) -> np.ndarray:
    """Packs filters as LCE does.

    Args:
        signs: (out, height, width, in) bool, True for -1.

    Returns:
        (out, height, width, ceil(in / 32)) uint32, see `Multiplication.kernel`.
    """
    padding = -signs.shape[-1] % 32
    signs = np.pad(signs, [(0, 0)] * 3 + [(0, padding)])
    # In whatever order the memory of a transposed kernel is, words take four bytes in a row.
    packed = np.ascontiguousarray(np.packbits(signs, axis=-1, bitorder="little"))
    return packed.view("<u4")
