"""What a `.tflite` file costs. Imports LiteRT's schema, never TensorFlow."""

import os
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from bireal_keras.cost.report import UNKNOWN_KIND, Cost, LayerCost

_OPERATORS = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
_BCONV = "LceBconv2d"
_TRANSPOSE_CONV = "TRANSPOSE_CONV"
# In all of these, input 1 is the kernel.
_MULTIPLYING = {
    _BCONV,
    _TRANSPOSE_CONV,
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
}
# What these do to a constant of several axes is no matrix multiplication.
_ELEMENTWISE = {"ADD", "SUB", "MUL", "DIV", "PRELU"}
# What shapes, axes and indices are made of.
_INTEGERS = (schema.TensorType.INT32, schema.TensorType.INT64)


def of_tflite(model: str | os.PathLike[str] | bytes) -> Cost:
    """Counts the multiplications and the weights of a `.tflite` file.

    The figures are for one run of the file, so for its batch: one image in a file of
    `bireal-export`. A constant that several operators read counts where it is read first.

    Weights are 1-bit where Larq Compute Engine has packed them (`LceBconv2d`), without the bits
    that fill up its 32-bit words; all others count with the size they have in the file, 32 bits
    for float32 and 8 for int8. What LCE keeps in float although a quantizer made it +-1 is real:
    that is what the file stores. Integers that are shapes, axes or indices are no weights.

    Args:
        model: path of the file, or its content.

    Returns:
        One entry for each operator that has weights or multiplies by any.

    Raises:
        ValueError: it is no TFLite model, is damaged, has several subgraphs, or its
            convolutions have no fixed size.
        OSError: the file cannot be read.
    """
    if isinstance(model, (bytes, bytearray, memoryview)):
        name, content = "the model", bytes(model)
    else:
        name, content = os.fspath(model), Path(model).read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"{name}: is no TFLite model.")
    try:
        return Cost(name, tuple(_operators(content)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    # What flatbuffers and the lines below raise on offsets and figures that make no sense.
    except (ArithmeticError, AttributeError, LookupError, TypeError, struct.error) as error:
        raise ValueError(f"{name}: is damaged: {error}") from error


def _operators(content: bytes) -> Iterator[LayerCost]:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(model.subgraphs) != 1:
        raise ValueError(f"must have one subgraph. Received: {len(model.subgraphs)}.")
    graph = model.subgraphs[0]
    counted: set[int] = set()
    stored: dict[int, schema.TensorT] = {}
    for operator in graph.operators:
        kind = _kind(model.operatorCodes[operator.opcodeIndex])
        inputs = _tensors(graph, operator.inputs, stored)
        outputs = _tensors(graph, operator.outputs, stored)
        # It only unpacks what its readers multiply with.
        if kind == "DEQUANTIZE" and _stored_bytes(model, inputs[0]):
            stored[int(operator.outputs[0])] = inputs[0]
            continue
        binary_macs, real_macs = _macs(operator, kind, inputs, outputs)
        binary_weights = real_weights = real_bits = 0
        note = ""
        for position, tensor in enumerate(inputs):
            size_bytes = _stored_bytes(model, tensor)
            is_index = tensor.type in _INTEGERS and kind not in _MULTIPLYING
            if not size_bytes or is_index or tensor.buffer in counted:
                continue
            counted.add(tensor.buffer)
            if kind == _BCONV and position == 1:
                binary_weights = _unpacked_size(operator, *inputs[:2])
                continue
            size = prod(_shape(tensor))
            real_weights += size
            real_bits += 8 * size_bytes
            is_vector = size == max(_shape(tensor), default=1)
            if not is_vector and kind not in _MULTIPLYING | _ELEMENTWISE:
                note = UNKNOWN_KIND
        if binary_weights or real_weights or binary_macs or real_macs:
            yield LayerCost(
                name=outputs[0].name.decode(),
                kind=kind,
                binary_macs=binary_macs,
                real_macs=real_macs,
                binary_weights=binary_weights,
                real_weights=real_weights,
                memory_bits=binary_weights + real_bits,
                note=note,
            )


def _kind(code: schema.OperatorCodeT) -> str:
    if code.customCode:
        return code.customCode.decode()
    # Old files have the deprecated field only.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _OPERATORS.get(number, f"operator {number}")


def _tensors(
    graph: schema.SubGraphT, indices: Sequence[int] | None, stored: dict[int, schema.TensorT]
) -> list[schema.TensorT]:
    """Those of an operator, less optional ones that it has not.

    Instead of one that a DEQUANTIZE makes of a constant comes the constant, from `stored`.
    """
    if indices is None:
        return []
    return [stored.get(int(index)) or graph.tensors[index] for index in indices if index >= 0]


def _macs(
    operator: schema.OperatorT,
    kind: str,
    inputs: list[schema.TensorT],
    outputs: list[schema.TensorT],
) -> tuple[int, int]:
    """Binary and real multiply-accumulates of an operator."""
    if kind not in _MULTIPLYING:
        return 0, 0
    # The whole kernel is applied at every position of the output, or, transposed, of the input.
    positions = _positions(inputs[2] if kind == _TRANSPOSE_CONV else outputs[0])
    if kind == _BCONV:
        return positions * _unpacked_size(operator, *inputs[:2]), 0
    return 0, positions * prod(_shape(inputs[1]))


def _positions(tensor: schema.TensorT) -> int:
    signature = tensor.shapeSignature
    if signature is not None and any(size < 0 for size in signature[1:-1]):
        raise ValueError(f"must have a fixed input size. Received: {list(signature)}.")
    return prod(_shape(tensor)[:-1])


def _unpacked_size(
    operator: schema.OperatorT, activations: schema.TensorT, kernel: schema.TensorT
) -> int:
    """Weights of an LceBconv2d: its kernel is (out, height, width, words of a group)."""
    out, height, width, words = _shape(kernel)
    groups = _shape(activations)[-1] // words
    channels = flexbuffers.Loads(bytes(operator.customOptions))["channels_in"] // groups
    return out * height * width * channels


def _stored_bytes(model: schema.ModelT, tensor: schema.TensorT) -> int:
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def _shape(tensor: schema.TensorT) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
