"""What a `.tflite` file costs. Imports LiteRT's schema, never TensorFlow."""

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from bireal_keras.cost.report import UNKNOWN_KIND, Cost, LayerCost
from bireal_keras.tflite.model import Graph, Operator, Tensor

BINARY = "LceBconv2d"
_TRANSPOSE_CONV = "TRANSPOSE_CONV"
# Input 1 is the kernel in all of these.
MULTIPLYING = (
    BINARY,
    _TRANSPOSE_CONV,
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
)
# What these do to a constant of several axes is not a matrix multiplication.
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV", "PRELU")
# What shapes, axes and indices are made of.
_INTEGERS = (schema.TensorType.INT32, schema.TensorType.INT64)


def of_tflite(model: str | os.PathLike[str] | bytes) -> Cost:
    """Counts the multiplications and the weights of a `.tflite` file.

    The figures are for one run of the file, so for its batch: one image in a file of
    `bireal-export`. A constant that several operators read counts where it is read first.

    Weights are 1-bit where Larq Compute Engine has packed them (`LceBconv2d`), without the bits
    that fill up its 32-bit words; all others count with the size they have in the file, 32 bits
    for float32 and 8 for int8. What LCE keeps in float although a quantizer made it +-1 is real:
    that is what the file stores. Integers that are shapes, axes or indices are not weights.

    Args:
        model: path of the file, or its content.

    Returns:
        One entry for each operator that has weights or multiplies by any.

    Raises:
        ValueError: it is not a TFLite model, is damaged, has several subgraphs, or its
            convolutions have no fixed size.
        OSError: the file cannot be read.
    """
    if isinstance(model, (bytes, bytearray, memoryview)):
        name, content = "the model", bytes(model)
    else:
        name, content = os.fspath(model), Path(model).read_bytes()
    try:
        graph = Graph(content)
        if graph.subgraphs != 1:
            raise ValueError(f"must have one subgraph. Received: {graph.subgraphs}.")
        return Cost(name, tuple(_layers(graph)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    # What the lines below raise on figures that make no sense.
    except (ArithmeticError, LookupError) as error:
        raise ValueError(f"{name}: is damaged: {error}") from error


def multiply_accumulates(graph: Graph, operator: Operator) -> int:
    """Multiply-accumulates of an operator of `MULTIPLYING` for one run of the model.

    Raises:
        ValueError: the map that it is applied to has no fixed size.
    """
    # The whole kernel is applied at every position of the output, or, transposed, of the input.
    transposed = operator.name == _TRANSPOSE_CONV
    positions = graph.tensors[operator.inputs[2] if transposed else operator.outputs[0]]
    return _positions(positions) * kernel_size(graph, operator)


def kernel_size(graph: Graph, operator: Operator) -> int:
    """Weights in the kernel of an operator of `MULTIPLYING`; bits that fill up words are none."""
    kernel = _stored(graph, operator.inputs[1])
    if operator.name != BINARY:
        return prod(kernel.shape)
    # A binary kernel is (out, height, width, words of a group).
    out, height, width, words = kernel.shape
    groups = graph.tensors[operator.inputs[0]].shape[-1] // words
    return out * height * width * (operator.option("channels_in") // groups)


def _layers(graph: Graph) -> Iterator[LayerCost]:
    counted: set[int] = set()
    for operator in graph.operators:
        # A DEQUANTIZE only unpacks what its readers multiply with.
        if any(graph.stored(index) != index for index in operator.outputs):
            continue
        macs = multiply_accumulates(graph, operator) if operator.name in MULTIPLYING else 0
        binary_weights = real_weights = real_bits = 0
        note = ""
        for position, index in enumerate(operator.inputs):
            data = graph.data(index)
            if data is None:
                continue
            tensor = _stored(graph, index)
            is_index = tensor.type in _INTEGERS and operator.name not in MULTIPLYING
            if is_index or tensor.buffer in counted:
                continue
            counted.add(tensor.buffer)
            if operator.name == BINARY and position == 1:
                binary_weights = kernel_size(graph, operator)
                continue
            size = prod(tensor.shape)
            real_weights += size
            real_bits += 8 * data.size
            is_vector = size == max(tensor.shape, default=1)
            if not is_vector and operator.name not in (*MULTIPLYING, *_ELEMENTWISE):
                note = UNKNOWN_KIND
        if binary_weights or real_weights or macs:
            is_binary = operator.name == BINARY
            yield LayerCost(
                name=graph.tensors[operator.outputs[0]].name,
                kind=operator.name,
                binary_macs=macs if is_binary else 0,
                real_macs=0 if is_binary else macs,
                binary_weights=binary_weights,
                real_weights=real_weights,
                memory_bits=binary_weights + real_bits,
                note=note,
            )


def _stored(graph: Graph, index: int) -> Tensor:
    """A tensor, or the constant that a DEQUANTIZE unpacks into it."""
    return graph.tensors[graph.stored(index)]


def _positions(tensor: Tensor) -> int:
    if tensor.signature is not None and any(size < 0 for size in tensor.signature[1:-1]):
        raise ValueError(f"must have a fixed input size. Received: {list(tensor.signature)}.")
    return prod(tensor.shape[:-1])
