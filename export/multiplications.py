"""The convolutions and dense layers of a file: their kernels, sizes and what follows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.cost.tflite_model import BINARY, MULTIPLYING, kernel_size, multiply_accumulates
from bireal_keras.tflite.model import Graph, Operator

DENSE = "FULLY_CONNECTED"
# BatchNormalization after these would be part of the convolution before them.
_PASSED = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
_ARITHMETIC = ("ADD", "DIV", "MUL", "SUB")
_ACTIVATIONS = ("LEAKY_RELU", "PRELU", "RELU", "RELU6", "RELU_N1_TO_1")


@dataclass(frozen=True)
class Multiplication:
    """An operator of a TFLite model that multiplies by a kernel.

    Attributes:
        kind: name of the operator.
        tensor: number of the tensor that it writes.
        output: its name.
        kernel: if binary (out, height, width, words) uint32, see `packing`. Otherwise
            (out, values) float32 or int8, int8 without its scales, or None for one that is
            computed or of another type.
        weights: values of the kernel.
        kernel_bytes: that they take.
        other_bytes: that biases, factors and thresholds take. What several operators read
            counts for the first.
        macs: multiply-accumulates for one run of the model.
        left_behind: names of operators that BatchNormalization, biases and activations have
            become after it; what it computes itself is not among them.
    """

    kind: str
    tensor: int
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


def multiplications(content: bytes, compacted: bytes | None = None) -> list[Multiplication]:
    """The convolutions and dense layers of a TFLite model, in the order of their execution.

    Args:
        content: of the file.
        compacted: what `real_layers.compact` made of it, if anything: the kernels that count for
            `kernel_bytes`. Those of `content` tell the layers apart.
    """
    graph = Graph(content)
    # Tensors keep their numbers when kernels are compacted.
    stored = graph if compacted is None else Graph(compacted)
    count, count_stored = _Bytes(graph), _Bytes(stored)
    found = []
    for operator in graph.operators:
        if operator.name not in MULTIPLYING:
            continue
        kernel = operator.inputs[1:2]
        kernel_bytes = count_stored.new(kernel)
        count.new(kernel)
        found.append(
            Multiplication(
                kind=operator.name,
                tensor=operator.outputs[0],
                output=graph.tensors[operator.outputs[0]].name,
                kernel=_kernel(graph, operator),
                weights=kernel_size(graph, operator),
                kernel_bytes=kernel_bytes,
                other_bytes=count.new(operator.inputs),
                macs=multiply_accumulates(graph, operator),
                left_behind=tuple(_left_behind(graph, operator)),
            )
        )
    return found


class _Bytes:
    """The bytes of a file's constants, each of which counts once."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._counted: set[int] = set()

    def new(self, tensors: Sequence[int]) -> int:
        """Of the constants among the tensors, less those that have been counted."""
        total = 0
        for index in tensors:
            data = self._graph.data(index)
            buffer = self._graph.tensors[self._graph.stored(index)].buffer
            if data is not None and buffer not in self._counted:
                self._counted.add(buffer)
                total += data.size
        return total


def _kernel(graph: Graph, operator: Operator) -> np.ndarray | None:
    """See `Multiplication.kernel`."""
    tensor = graph.tensors[graph.stored(operator.inputs[1])]
    if tensor.values is None:
        return None
    if operator.name == BINARY:
        return tensor.values.view("<u4")
    if tensor.type not in (schema.TensorType.FLOAT32, schema.TensorType.INT8):
        return None
    # The last axis counts the filters here, the first everywhere else.
    if operator.name in ("CONV_3D", "DEPTHWISE_CONV_2D"):
        return tensor.values.reshape(-1, tensor.shape[-1]).T
    return tensor.values.reshape(tensor.shape[0], -1)


def _left_behind(graph: Graph, operator: Operator) -> Iterator[str]:
    """See `Multiplication.left_behind`."""
    for reader in graph.readers(operator.outputs[0]):
        if reader.name not in _PASSED:
            computed = [i for i in reader.inputs if i >= 0 and not graph.is_constant(i)]
            if reader.name not in (*_ARITHMETIC, *_ACTIVATIONS) or len(computed) != 1:
                continue
            yield reader.name
        yield from _left_behind(graph, reader)
