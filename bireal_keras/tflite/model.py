"""What is in a `.tflite` file: its operators and tensors, read; a changed model, written.

Imports LiteRT's schema, never TensorFlow. `Graph` reads files from anywhere; `unpack` is for files
that our own converter has just made, or that an interpreter has accepted.
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

IDENTIFIER = b"TFL3"
# The type of tensors that hold pixels.
UINT8 = schema.TensorType.UINT8
# What the schema demands of the content of buffers (`force_align`).
BUFFER_ALIGNMENT = 16

_BUILTIN_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
_DTYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT8: np.dtype("i1"),
    schema.TensorType.INT32: np.dtype("<i4"),
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a file.

    Attributes:
        name: as the file has it.
        type: a `schema.TensorType`.
        shape: as the file has it; a dimension that varies is 1.
        signature: likewise, with -1 for one that varies; None where the file says nothing.
        buffer: number of its buffer; constants may share one.
        data: (bytes,) uint8, the value of a constant as it is stored; None for what is computed.
        scales: (n,) float32, one or one for each channel; empty for a tensor of real numbers.
        zero_point: the first of the integers that stand for 0.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    buffer: int
    data: np.ndarray | None = field(repr=False)
    scales: np.ndarray = field(repr=False)
    zero_point: int = 0

    @property
    def values(self) -> np.ndarray | None:
        """The value of a float32, float16, int8 or int32 constant, shaped; else None."""
        if self.data is None or self.type not in _DTYPES:
            return None
        return self.data.view(_DTYPES[self.type]).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator of a file.

    Attributes:
        name: "CONV_2D", or of a custom operator its own, "LceBconv2d".
        inputs, outputs: numbers of tensors; -1 for an optional one that is not there.
        options: (bytes,) uint8, a custom operator's flexbuffer.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: np.ndarray = field(repr=False)

    def option(self, name: str) -> int:
        """An integer of a custom operator's options.

        Raises:
            ValueError: it has none of that name.
        """
        # Not flexbuffers.Loads, which unfolds everything: vectors within vectors that share their
        # elements grow exponentially.
        try:
            return int(flexbuffers.GetRoot(self.options.tobytes()).AsMap[name].AsInt)
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"{self.name} has no option {name}: {error}") from error


class Graph:
    """The first subgraph of a TFLite model.

    Attributes:
        operators: in the order of their execution.
        tensors: all of them, by number.
        inputs, outputs: numbers of the model's inputs and outputs.
        input_names, output_names: their numbers by the names that the model's signature gives them;
            empty for a model without.
        subgraphs: how many the model has.

    Args:
        content: of the file.

    Raises:
        ValueError: it is not a TFLite model, or is damaged.
    """

    operators: list[Operator]
    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: dict[str, int]
    output_names: dict[str, int]
    subgraphs: int

    def __init__(self, content: bytes):
        if content[4:8] != IDENTIFIER:
            raise ValueError("is not a TFLite model.")
        try:
            self._read(schema.Model.GetRootAs(content, 0), _Meter(len(content)))
        # What the generated code raises on offsets that make no sense.
        except (ArithmeticError, AttributeError, LookupError, TypeError, struct.error) as error:
            raise ValueError(f"is damaged: {error}") from error
        self._readers: dict[int, list[Operator]] = defaultdict(list)
        for operator in self.operators:
            for index in operator.inputs:
                self._readers[index].append(operator)
        self._stored: dict[int, int] = {}
        # A DEQUANTIZE of a constant only unpacks it: what reads its output reads the constant.
        for operator in self.operators:
            if operator.name == "DEQUANTIZE" and all(map(self.is_constant, operator.inputs)):
                self._stored.update(zip(operator.outputs, operator.inputs))

    def _read(self, model: schema.Model, meter: "_Meter") -> None:
        self.subgraphs = model.SubgraphsLength()
        if not self.subgraphs:
            raise ValueError("is damaged: it has no subgraph.")
        graph = model.Subgraphs(0)
        names = []
        for index in range(meter.count(model.OperatorCodesLength())):
            code = model.OperatorCodes(index)
            custom = _text(code.CustomCode(), meter)
            names.append(operator_name(code.BuiltinCode(), code.DeprecatedBuiltinCode(), custom))
        self.tensors = [
            self._tensor(model, graph.Tensors(index), meter)
            for index in range(meter.count(graph.TensorsLength()))
        ]
        self.inputs = self._indices(graph.InputsAsNumpy(), meter)
        self.outputs = self._indices(graph.OutputsAsNumpy(), meter)
        self.input_names, self.output_names = {}, {}
        if model.SignatureDefsLength():
            signature = model.SignatureDefs(0)
            for index in range(meter.count(signature.InputsLength())):
                entry = signature.Inputs(index)
                self.input_names[_text(entry.Name(), meter)] = entry.TensorIndex()
            for index in range(meter.count(signature.OutputsLength())):
                entry = signature.Outputs(index)
                self.output_names[_text(entry.Name(), meter)] = entry.TensorIndex()
        self.operators = []
        for index in range(meter.count(graph.OperatorsLength())):
            operator = graph.Operators(index)
            options = _array(operator.CustomOptionsAsNumpy(), meter)
            inputs = self._indices(operator.InputsAsNumpy(), meter)
            outputs = self._indices(operator.OutputsAsNumpy(), meter)
            # People know an operator by what it writes.
            meter.count(sum(len(self.tensors[output].name) for output in outputs))
            options = np.empty(0, np.uint8) if options is None else options
            name = names[operator.OpcodeIndex()]
            self.operators.append(Operator(name, inputs, outputs, options))

    def _tensor(self, model: schema.Model, tensor: schema.Tensor, meter: "_Meter") -> Tensor:
        shape = _array(tensor.ShapeAsNumpy(), meter)
        signature = _array(tensor.ShapeSignatureAsNumpy(), meter)
        quantization = tensor.Quantization()
        scales = zeros = None
        if quantization is not None:
            scales = _array(quantization.ScaleAsNumpy(), meter)
            zeros = _array(quantization.ZeroPointAsNumpy(), meter)
        buffer = tensor.Buffer()
        if buffer >= model.BuffersLength():
            raise ValueError(f"is damaged: there is no buffer {buffer}.")
        # What is stored is not copied, and so is not counted.
        data = model.Buffers(buffer).DataAsNumpy()
        return Tensor(
            name=_text(tensor.Name(), meter),
            type=tensor.Type(),
            shape=() if shape is None else tuple(shape.tolist()),
            signature=None if signature is None else tuple(signature.tolist()),
            buffer=buffer,
            data=data if isinstance(data, np.ndarray) and data.size else None,
            scales=np.empty(0, np.float32) if scales is None else scales,
            zero_point=0 if zeros is None or not zeros.size else int(zeros[0]),
        )

    def _indices(self, vector: Any, meter: "_Meter") -> tuple[int, ...]:
        found = _array(vector, meter)
        if found is None:
            return ()
        wrong = found[(found < -1) | (found >= len(self.tensors))]
        if wrong.size:
            raise ValueError(f"is damaged: there is no tensor {wrong[0]}.")
        return tuple(found.tolist())

    def stored(self, index: int) -> int:
        """The number of the constant that a DEQUANTIZE unpacks into a tensor, or `index` itself."""
        return self._stored.get(index, index)

    def data(self, index: int) -> np.ndarray | None:
        """Bytes of a constant as it is stored; None for a tensor that is computed or missing."""
        return None if index < 0 else self.tensors[self.stored(index)].data

    def is_constant(self, index: int) -> bool:
        """Whether a tensor has a value before the model runs."""
        return self.data(index) is not None

    def readers(self, index: int) -> Sequence[Operator]:
        """The operators that read a tensor."""
        return self._readers.get(index, ())


class _Meter:
    """Counts what is read of a file, so that a small one cannot ask for much work.

    Parts of a flatbuffer may share their bytes: a thousand operators may be one and the same, of a
    thousand inputs. Where nothing is shared, there are fewer items than bytes, and names of tensors
    are read twice.

    Args:
        size: of the file.
    """

    def __init__(self, size: int):
        self._left = 2 * size

    def count(self, items: int) -> int:
        """Counts and returns a number of items.

        Raises:
            ValueError: the file has told of more items than it has bytes.
        """
        self._left -= items
        if self._left < 0:
            raise ValueError("is damaged: it describes more than it holds.")
        return items


def _array(vector: Any, meter: _Meter) -> np.ndarray | None:
    """A vector of numbers, None where the file has none: the generated code says 0."""
    if not isinstance(vector, np.ndarray):
        return None
    meter.count(vector.size)
    return vector


def _text(text: bytes | None, meter: _Meter) -> str:
    if text is None:
        return ""
    meter.count(len(text))
    return text.decode(errors="replace")


def operator_name(builtin: int, deprecated: int, custom: str = "") -> str:
    """The name of an operator's code: `builtinCode`, `deprecatedBuiltinCode`, `customCode`."""
    # Old files have the deprecated field only.
    number = max(builtin, deprecated)
    return custom or _BUILTIN_NAMES.get(number, f"operator {number}")


def unpack(content: bytes) -> schema.ModelT:
    """A model to change and `serialize`, of a file that can be trusted."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


class _Builder(flatbuffers.Builder):
    """Aligns vectors of bytes as the schema demands; LiteRT's code for Python does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        if elemSize == 1:
            alignment = BUFFER_ALIGNMENT
        return super().StartVector(elemSize, numElems, alignment)


def serialize(model: schema.ModelT) -> bytes:
    """The content of a `.tflite` file."""
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    builder = _Builder(2 * sum(sizes) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def opcode(model: schema.ModelT, builtin: int, version: int) -> int:
    """The index of an operator and its version in a model's list, to which it may be new."""
    for index, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (builtin, version):
            return index
    code = schema.OperatorCodeT()
    # The deprecated field, of one byte, is what old interpreters read.
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def add_tensor(model: schema.ModelT, name: bytes, shape: Sequence[int], kind: int) -> int:
    """Adds a tensor that is computed to a model's first subgraph, and returns its number.

    Args:
        model: to change.
        name: of the tensor.
        shape: of it.
        kind: a `schema.TensorType`.
    """
    # Each has a buffer of its own, which is empty.
    model.buffers.append(schema.BufferT())
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, kind
    tensor.buffer = len(model.buffers) - 1
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def add_constant(model: schema.ModelT, name: bytes, value: np.ndarray) -> int:
    """Likewise for a float32 constant."""
    index = add_tensor(model, name, value.shape, schema.TensorType.FLOAT32)
    data = np.frombuffer(value.astype("<f4").tobytes(), np.uint8)
    model.buffers[model.subgraphs[0].tensors[index].buffer].data = data
    return index


def replace_constant(model: schema.ModelT, index: int, value: np.ndarray) -> None:
    """Gives a constant of the first subgraph other values, and no other that has the same ones.

    Args:
        model: to change.
        index: number of the constant.
        value: of its shape; its type is not changed.
    """
    tensors = model.subgraphs[0].tensors
    tensor = tensors[index]
    if sum(other.buffer == tensor.buffer for other in tensors) > 1:
        model.buffers.append(schema.BufferT())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = np.frombuffer(value.tobytes(), np.uint8)
