"""The one subgraph of a `.tflite` file, to be looked at and changed."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from bireal_keras.export.binarize.reading import read
from bireal_keras.tflite.model import serialize

NONE = -1

_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
_CUSTOM = schema.BuiltinOperator.CUSTOM
_DTYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT64: np.dtype("<i8"),
    schema.TensorType.BOOL: np.dtype("?"),
}
_TYPES = {dtype: code for code, dtype in _DTYPES.items()}
# The lowest and the highest number.
_LIMITS = {schema.TensorType.INT8: (-128, 127), schema.TensorType.UINT8: (0, 255)}
# Layers whose input 1 is a kernel, which must not be quantized.
_WITH_KERNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_QUANTIZED = (
    schema.TensorType.INT8,
    schema.TensorType.UINT8,
    schema.TensorType.INT4,
    schema.TensorType.UINT4,
    schema.TensorType.INT2,
)


@dataclass(eq=False)
class Operator:
    """An operator of the graph.

    Attributes:
        name: "CONV_2D" or "LceBconv2d".
        inputs: indices of tensors, `NONE` for one that is left out.
        outputs: as `inputs`.
        table: its options.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: schema.OperatorT = field(repr=False)

    def options(self, table: str) -> Any:
        """The options of a builtin operator.

        Args:
            table: name of the schema's table, "Conv2DOptions".

        Raises:
            ValueError: it has others, or none.
        """
        options = self.table.builtinOptions
        if type(options).__name__ != f"{table}T":
            raise ValueError(f"The .tflite file is damaged: a {self.name} has no {table}.")
        return options

    @property
    def activation(self) -> int:
        """The activation function that it applies itself, `schema.ActivationFunctionType`."""
        return getattr(self.table.builtinOptions, "fusedActivationFunction", 0)

    def require(self, inputs: int) -> None:
        """Checks that it has at least so many inputs, none left out, and one output.

        Raises:
            ValueError: it has not.
        """
        if len(self.inputs) < inputs or NONE in self.inputs[:inputs] or len(self.outputs) != 1:
            raise ValueError(
                f"The .tflite file is damaged: a {self.name} has {len(self.inputs)} inputs and "
                f"{len(self.outputs)} outputs."
            )


class Graph:
    """A model that can be changed and written.

    Tensors are known by their index, which does not change until the model is written.

    Args:
        content: of a float `.tflite` file.

    Raises:
        ValueError: see `reading.read`; or an operator reads what is not there, or a kernel is
            quantized.

    Attributes:
        operators: in the order of execution.
        inputs: tensors that the caller fills.
    """

    def __init__(self, content: bytes):
        self._model = read(content)
        table = self._model.subgraphs[0]
        self._tensors: list[schema.TensorT] = table.tensors or []
        if not self._tensors or not self._model.buffers or not self._model.operatorCodes:
            raise ValueError("The .tflite file is damaged: it has no tensors or operators.")
        for tensor in self._tensors:
            self._check_tensor(tensor)
        self.size_bytes = len(content)
        # By type and shape, as far as they were asked for; see `add_constant`.
        self._constants: dict[tuple[int, tuple[int, ...]], dict[bytes, int]] = {}
        self.inputs = self._indices(table.inputs)
        self.outputs = self._indices(table.outputs)
        self.operators = [self._operator(operator) for operator in table.operators or []]
        self._check_order()
        self._check_kernels()

    @property
    def outputs(self) -> tuple[int, ...]:
        """The tensors that the model returns."""
        return self._outputs

    @outputs.setter
    def outputs(self, tensors: tuple[int, ...]) -> None:
        self._outputs = tensors
        self._are_outputs = frozenset(tensors)

    def is_output(self, tensor: int) -> bool:
        return tensor in self._are_outputs

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Sizes of its axes; 1 for a batch of any size."""
        shape = self._tensors[tensor].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def is_static(self, tensor: int) -> bool:
        """Whether all sizes but that of the first axis, the batch, are fixed."""
        signature = self._tensors[tensor].shapeSignature
        return signature is None or bool((np.asarray(signature)[1:] >= 0).all())

    def size(self, tensor: int) -> int:
        return prod(self.shape(tensor))

    def dtype(self, tensor: int) -> np.dtype[Any] | None:
        """None for a type that no float file computes in."""
        return _DTYPES.get(self._tensors[tensor].type)

    def is_float(self, tensor: int) -> bool:
        return self._tensors[tensor].type == schema.TensorType.FLOAT32

    def name(self, tensor: int) -> str:
        return (self._tensors[tensor].name or b"").decode("utf-8", "replace")

    def rename(self, tensor: int, name: str) -> None:
        """Gives a tensor another name."""
        self._tensors[tensor].name = name.encode()

    def is_stored(self, tensor: int) -> bool:
        """Whether it is a constant of the file."""
        data = self._model.buffers[self._tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def stored(self, tensor: int) -> np.ndarray | None:
        """The values of a constant; None for another tensor, or another type.

        Raises:
            ValueError: it does not have as many values as its shape says.
        """
        dtype = self.dtype(tensor)
        if dtype is None or not self.is_stored(tensor):
            return None
        data = np.asarray(self._model.buffers[self._tensors[tensor].buffer].data, np.uint8)
        if len(data) != self.size(tensor) * dtype.itemsize:
            raise ValueError(
                f"The .tflite file is damaged: the constant '{self.name(tensor)}' of shape "
                f"{self.shape(tensor)} has {len(data)} bytes."
            )
        return data.view(dtype).reshape(self.shape(tensor))

    def steps(self, tensor: int) -> tuple[np.ndarray, np.ndarray, int, int] | None:
        """How a tensor of 8 bits stands for real numbers; None for another one.

        Returns:
            The size of a step and the zero point, float32, for all of the tensor or to be broadcast
            along one of its axes, and the lowest and the highest number.
        """
        table, shape = self._tensors[tensor], self.shape(tensor)
        limits = _LIMITS.get(table.type)
        parameters = table.quantization
        if limits is None or parameters is None or parameters.scale is None:
            return None
        axis, size = parameters.quantizedDimension, np.asarray(parameters.scale, np.float32)
        zero_point = np.asarray(parameters.zeroPoint, np.float32)
        lengths = [1] * len(shape)
        if size.size > 1 and 0 <= axis < len(shape):
            lengths[axis] = shape[axis]
        if size.size != zero_point.size or size.size != prod(lengths) or not (size > 0).all():
            return None
        return (size.reshape(lengths), zero_point.reshape(lengths), *limits)

    def layer_name(self, operator: Operator) -> str:
        """What a layer is called: as its result, or as its kernel where the model returns that.

        TensorFlow names what a model returns after the call of the model.
        """
        name = self.name(operator.outputs[0])
        is_of_the_call = name.startswith("StatefulPartitionedCall") and len(operator.inputs) > 1
        return (self.name(operator.inputs[1]) if is_of_the_call else "") or name

    def producers(self) -> dict[int, Operator]:
        """By tensor, the operator that writes it."""
        return {output: operator for operator in self.operators for output in operator.outputs}

    def readers(self) -> dict[int, list[Operator]]:
        """By tensor, the operators that read it; an operator that reads it twice counts twice."""
        found: dict[int, list[Operator]] = defaultdict(list)
        for operator in self.operators:
            for tensor in operator.inputs:
                found[tensor].append(operator)
        return found

    def add_tensor(self, name: str, shape: Sequence[int], dtype: Any) -> int:
        """A new tensor that an operator is going to write."""
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = [int(size) for size in shape]
        tensor.type = _TYPES[np.dtype(dtype)]
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def add_constant(self, name: str, value: np.ndarray) -> int:
        """A constant: one that is there, if it has the same values, or else a new one."""
        kind = (_TYPES[np.dtype(value.dtype)], value.shape)
        if kind not in self._constants:
            self._constants[kind] = self._values_of(kind)
        index = self._constants[kind].get(value.tobytes())
        if index is None:
            index = self.add_tensor(name, value.shape, value.dtype)
            self.store(index, value)
            self._constants[kind][value.tobytes()] = index
        return index

    def _values_of(self, kind: tuple[int, tuple[int, ...]]) -> dict[bytes, int]:
        """The constants of a type and a shape: by values, the index of the tensor."""
        return {
            value.tobytes(): index
            for index, tensor in enumerate(self._tensors)
            if (tensor.type, self.shape(index)) == kind
            and (value := self.stored(index)) is not None
        }

    def store(self, tensor: int, value: np.ndarray) -> None:
        """Makes a constant of a tensor that no operator is to write any more."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._tensors[tensor].buffer = len(self._model.buffers) - 1

    def new_builtin(
        self, name: str, inputs: Sequence[int], output: int, options: Any = None
    ) -> Operator:
        """A builtin operator, not yet in the graph.

        Args:
            name: "RESHAPE".
            inputs: indices of its tensors.
            output: index of the tensor that it writes.
            options: a table of the schema, `schema.ReshapeOptionsT()`.
        """
        table = schema.OperatorT()
        table.opcodeIndex = self._opcode(getattr(schema.BuiltinOperator, name), None)
        if options is not None:
            table.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            table.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        return Operator(name, tuple(inputs), (output,), table)

    def new_custom(
        self, name: str, inputs: Sequence[int], output: int, options: dict[str, int] | None = None
    ) -> Operator:
        """A custom operator, not yet in the graph; `options` are written as a FlexBuffer map."""
        table = schema.OperatorT()
        table.opcodeIndex = self._opcode(_CUSTOM, name.encode())
        if options is not None:
            table.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(options)), np.uint8)
        return Operator(name, tuple(inputs), (output,), table)

    def with_tensors(
        self, operator: Operator, inputs: Sequence[int], outputs: Sequence[int]
    ) -> Operator:
        """The same operator on other tensors."""
        table = schema.OperatorT()
        vars(table).update(vars(operator.table))
        return Operator(operator.name, tuple(inputs), tuple(outputs), table)

    def write(self) -> tuple[bytes, dict[int, int]]:
        """The file without what no output needs, and where each tensor is in it.

        The batch is 1 where it was any number.
        """
        operators = self._live_operators()
        used = {*self.inputs, *self.outputs}
        for operator in operators:
            used.update(operator.inputs, operator.outputs)
        places = {tensor: place for place, tensor in enumerate(sorted(used - {NONE}))}
        places[NONE] = NONE
        model = schema.ModelT()
        vars(model).update(vars(self._model))
        graph = schema.SubGraphT()
        vars(graph).update(vars(self._model.subgraphs[0]))
        model.subgraphs = [graph]
        graph.inputs = [places[tensor] for tensor in self.inputs]
        graph.outputs = [places[tensor] for tensor in self.outputs]
        graph.tensors = [_fixed_batch(self._tensors[index]) for index in sorted(used - {NONE})]
        graph.operators = []
        codes: dict[int, int] = {}
        for operator in operators:
            table = schema.OperatorT()
            vars(table).update(vars(operator.table))
            table.opcodeIndex = codes.setdefault(table.opcodeIndex, len(codes))
            table.inputs = [places[tensor] for tensor in operator.inputs]
            table.outputs = [places[tensor] for tensor in operator.outputs]
            graph.operators.append(table)
        model.operatorCodes = [self._model.operatorCodes[index] for index in codes]
        _keep_buffers(model)
        model.signatureDefs = self._signatures(places)
        return serialize(model), places

    def _live_operators(self) -> list[Operator]:
        needed = set(self.outputs)
        live = []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                live.append(operator)
                needed.update(operator.inputs)
        return live[::-1]

    def _signatures(self, places: dict[int, int]) -> list[schema.SignatureDefT] | None:
        """They name inputs and outputs, whose indices have changed."""
        if self._model.signatureDefs is None:
            return None
        signatures = []
        for old in self._model.signatureDefs:
            new = schema.SignatureDefT()
            vars(new).update(vars(old))
            for field_name in ("inputs", "outputs"):
                maps = []
                for entry in getattr(old, field_name) or []:
                    moved = schema.TensorMapT()
                    moved.name, moved.tensorIndex = entry.name, places.get(entry.tensorIndex)
                    if moved.tensorIndex is not None:
                        maps.append(moved)
                setattr(new, field_name, maps)
            signatures.append(new)
        return signatures

    def _opcode(self, builtin: int, custom: bytes | None) -> int:
        """The index of the first version of an operator in the model's list."""
        codes = self._model.operatorCodes
        for index, code in enumerate(codes):
            if (code.builtinCode, code.customCode, code.version) == (builtin, custom, 1):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = builtin
        # One byte, for old interpreters; 127 stands for what it cannot hold.
        code.deprecatedBuiltinCode = min(builtin, 127)
        code.customCode = custom
        code.version = 1
        codes.append(code)
        return len(codes) - 1

    def _check_tensor(self, tensor: schema.TensorT) -> None:
        shape, signature = tensor.shape, tensor.shapeSignature
        if (
            not 0 <= tensor.buffer < len(self._model.buffers)
            or (shape is not None and (np.asarray(shape) < 0).any())
            or (signature is not None and len(signature) != (0 if shape is None else len(shape)))
        ):
            raise ValueError(f"The .tflite file is damaged: the tensor {tensor.name!r} is invalid.")

    def _indices(self, tensors: Sequence[int] | None) -> tuple[int, ...]:
        found = () if tensors is None else tuple(int(index) for index in tensors)
        if any(not NONE <= index < len(self._tensors) for index in found):
            raise ValueError("The .tflite file is damaged: it names a tensor that is not there.")
        return found

    def _operator(self, table: schema.OperatorT) -> Operator:
        if not 0 <= table.opcodeIndex < len(self._model.operatorCodes):
            raise ValueError("The .tflite file is damaged: it names an operator that is not there.")
        if table.builtinOptionsType and table.builtinOptions is None:
            raise ValueError(
                "The .tflite file is of a newer version than the installed ai-edge-litert: an "
                f"operator has options of an unknown kind ({table.builtinOptionsType})."
            )
        code = self._model.operatorCodes[table.opcodeIndex]
        # Old files have the deprecated field only.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == _CUSTOM:
            name = (code.customCode or b"").decode("utf-8", "replace")
        else:
            name = _NAMES.get(number, f"operator {number}")
        return Operator(name, self._indices(table.inputs), self._indices(table.outputs), table)

    def _check_order(self) -> None:
        """Each tensor is written once, and read only after that."""
        there = {NONE, *self.inputs}
        for operator in self.operators:
            for tensor in operator.inputs:
                if tensor in there or self._is_given(tensor):
                    continue
                raise ValueError(
                    f"The .tflite file is damaged: a {operator.name} reads '{self.name(tensor)}' "
                    "before anything writes it."
                )
            for tensor in operator.outputs:
                if tensor in there or self.is_stored(tensor):
                    raise ValueError(
                        f"The .tflite file is damaged: '{self.name(tensor)}' is written twice."
                    )
                there.add(tensor)
        if not all(tensor in there or self._is_given(tensor) for tensor in self.outputs):
            raise ValueError("The .tflite file is damaged: nothing writes one of its outputs.")

    def _is_given(self, tensor: int) -> bool:
        """Whether it has a value before the first operator runs."""
        return self.is_stored(tensor) or self.size(tensor) == 0

    def _check_kernels(self) -> None:
        for operator in self.operators:
            if operator.name in _WITH_KERNEL and len(operator.inputs) > 1:
                kernel = operator.inputs[1]
                if kernel != NONE and self._tensors[kernel].type in _QUANTIZED:
                    raise ValueError(
                        f"The kernel '{self.name(kernel)}' is quantized to integers, in which the "
                        "magnitudes of its filters are lost. Convert to a float32 file, without "
                        "`optimizations`, and quantize real-valued layers afterwards."
                    )


def _fixed_batch(tensor: schema.TensorT) -> schema.TensorT:
    """A copy; where only the batch was free, all sizes are fixed."""
    copy = schema.TensorT()
    vars(copy).update(vars(tensor))
    if copy.shapeSignature is not None:
        signature = np.array(copy.shapeSignature, np.int32)
        signature[:1] = np.abs(signature[:1])
        copy.shapeSignature = signature if (signature < 0).any() else None
    return copy


def _keep_buffers(model: schema.ModelT) -> None:
    """Drops the buffers that no tensor and no metadata refers to."""
    places: dict[int, int] = {0: 0}

    def place(buffer: int) -> int:
        return places.setdefault(buffer, len(places))

    for tensor in model.subgraphs[0].tensors:
        tensor.buffer = place(tensor.buffer)
    if model.metadata is not None:
        model.metadata = list(_moved_metadata(model, place))
    # What came before `metadata`.
    model.metadataBuffer = None
    model.buffers = [model.buffers[buffer] for buffer in places]


def _moved_metadata(model: schema.ModelT, place: Any) -> Iterator[schema.MetadataT]:
    for old in model.metadata:
        if not 0 <= old.buffer < len(model.buffers):
            raise ValueError("The .tflite file is damaged: metadata without content.")
        new = schema.MetadataT()
        new.name, new.buffer = old.name, place(old.buffer)
        yield new
