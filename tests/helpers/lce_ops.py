"""Models of one or a few LCE ops as flatbuffers, and what the ops mean, in NumPy.

The NumPy side shares nothing with the delegate: it works on unpacked +-1 values and sums
products, where the delegate counts bits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder, flexbuffers

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)

_TYPES = {
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
# LiteRT has no first version of these, or none for float16.
_VERSIONS = {"BROADCAST_TO": 2, "DEQUANTIZE": 3}


@dataclasses.dataclass
class Tensor:
    """A tensor of a model; `value` makes it a constant, `scale` quantized.

    With several scales there is one for each index of the first dimension.
    """

    shape: Sequence[int]
    dtype: np.dtype = np.float32
    value: np.ndarray | None = None
    scale: float | Sequence[float] | None = None
    zero_point: int = 0


def constant(value, scale: float | Sequence[float] | None = None) -> Tensor:
    value = np.ascontiguousarray(value)
    return Tensor(value.shape, value.dtype, value, scale)


@dataclasses.dataclass
class Op:
    """A custom or a builtin op; `inputs` and `outputs` are indices of tensors, -1 for none."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: dict[str, int] | bytes | None = None
    # A builtin op has a table in the schema: its name, and the table.
    builtin: tuple[str, object] | None = None


def build_model(
    tensors: Sequence[Tensor], ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """The flatbuffer of a model with one subgraph."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    graph.tensors, graph.operators = [], []
    for index, tensor in enumerate(tensors):
        table = schema.TensorT()
        table.name = f"tensor{index}"
        table.shape = [int(size) for size in tensor.shape]
        table.type = _TYPES[np.dtype(tensor.dtype)]
        table.buffer = 0
        if tensor.value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.value.tobytes(), np.uint8)
            model.buffers.append(buffer)
            table.buffer = len(model.buffers) - 1
        if tensor.scale is not None:
            table.quantization = schema.QuantizationParametersT()
            table.quantization.scale = np.atleast_1d(tensor.scale).tolist()
            table.quantization.zeroPoint = [tensor.zero_point] * np.size(tensor.scale)
        graph.tensors.append(table)

    model.operatorCodes = []
    for name in dict.fromkeys(op.name for op in ops):
        code = schema.OperatorCodeT()
        builtin = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
        code.builtinCode = builtin
        # One byte, in which 127 stands for what it cannot hold.
        code.deprecatedBuiltinCode = min(builtin, 127)
        code.customCode = name
        code.version = _VERSIONS.get(name, 1)
        model.operatorCodes.append(code)
    names = [code.customCode for code in model.operatorCodes]
    for op in ops:
        table = schema.OperatorT()
        table.opcodeIndex = names.index(op.name)
        table.inputs, table.outputs = list(op.inputs), list(op.outputs)
        options = flexbuffers.Dumps(op.options) if isinstance(op.options, dict) else op.options
        if options is not None:
            table.customOptions = np.frombuffer(options, np.uint8)
        if op.builtin is not None:
            name, table.builtinOptions = op.builtin
            table.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        graph.operators.append(table)
    model.subgraphs = [graph]

    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def pack(signs: np.ndarray) -> np.ndarray:
    """+-1 values (..., channels) to int32 words (..., ceil(channels / 32)); bit 1 is -1."""
    channels = signs.shape[-1]
    bits = np.zeros((*signs.shape[:-1], -(-channels // 32) * 32), np.uint8)
    bits[..., :channels] = signs < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")


def unpack(words: np.ndarray, channels: int) -> np.ndarray:
    """The inverse of `pack`, int32 values -1 and +1."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return 1 - 2 * bits[..., :channels].astype(np.int32)


def output_size(size: int, filter_size: int, stride: int, dilation: int, padding: int):
    """(output size, padding before) of one axis, by TensorFlow's rules."""
    extent = (filter_size - 1) * dilation + 1
    if padding == VALID:
        return -(-(size - extent + 1) // stride), 0
    out = -(-size // stride)
    return out, max(0, (out - 1) * stride + extent - size) // 2


@dataclasses.dataclass
class Bconv2d:
    """One LceBconv2d: its parameters, a model of it, and its meaning."""

    batch: int
    height: int
    width: int
    channels_in: int
    channels_out: int
    filter_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: int = SAME
    pad_values: int = 0
    activation: int = NONE
    groups: int = 1
    output: str = "float"  # or "int8", "packed"
    scale: float = 0.5
    zero_point: int = 3
    seed: int = 0

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        self.channels_per_group = self.channels_in // self.groups
        kernel_shape = (self.channels_out, *self.filter_size, self.channels_per_group)
        self.depth = int(np.prod(kernel_shape[1:]))
        self.kernel = random.choice([-1, 1], kernel_shape)
        self.inputs = random.choice(
            [-1, 1], (self.batch, self.height, self.width, self.channels_in)
        )
        # Negative multipliers come from negative BatchNorm gammas.
        self.multiplier = random.normal(0, 1, self.channels_out).astype(np.float32)
        self.bias = random.normal(0, 5, self.channels_out).astype(np.float32)
        self.thresholds = random.integers(
            self.depth // 4, self.depth * 3 // 4 + 1, self.channels_out
        ).astype(np.int32)
        never, always = np.iinfo(np.int32).max, np.iinfo(np.int32).min
        self.thresholds[random.random(self.channels_out) < 0.1] = never
        self.thresholds[random.random(self.channels_out) < 0.1] = always
        sizes = [
            output_size(*axis, self.padding)
            for axis in zip(
                (self.height, self.width), self.filter_size, self.strides, self.dilations
            )
        ]
        (self.out_height, self.pad_top), (self.out_width, self.pad_left) = sizes

    @property
    def options(self) -> dict[str, int]:
        return {
            "channels_in": self.channels_in,
            "dilation_height_factor": self.dilations[0],
            "dilation_width_factor": self.dilations[1],
            "fused_activation_function": self.activation,
            "pad_values": self.pad_values,
            "padding": self.padding,
            "stride_height": self.strides[0],
            "stride_width": self.strides[1],
        }

    def model(self) -> bytes:
        packed = pack(self.inputs)
        shape = (self.batch, self.out_height, self.out_width)
        words = -(-self.channels_out // 32)
        output = {
            "float": Tensor((*shape, self.channels_out)),
            "int8": Tensor(
                (*shape, self.channels_out),
                np.int8,
                scale=self.scale,
                zero_point=self.zero_point,
            ),
            "packed": Tensor((*shape, words), np.int32),
        }[self.output]
        tensors = [Tensor(packed.shape, np.int32), constant(pack(self.kernel)), output]
        if self.output == "packed":
            tensors += [constant(self.thresholds)]
            inputs = [0, 1, -1, -1, 3]
        else:
            tensors += [constant(self.multiplier), constant(self.bias)]
            inputs = [0, 1, 3, 4, -1]
        return build_model(tensors, [Op("LceBconv2d", inputs, [2], self.options)], [0], [2])

    def convolve(self) -> np.ndarray:
        """The convolution of the +-1 values, as integers."""
        border = 1 if self.pad_values == 1 else 0
        rows = np.arange(self.out_height) * self.strides[0]
        columns = np.arange(self.out_width) * self.strides[1]
        reach = [
            (out - 1) * stride + (size - 1) * dilation + 1
            for out, stride, size, dilation in zip(
                (self.out_height, self.out_width), self.strides, self.filter_size, self.dilations
            )
        ]
        padded = np.pad(
            self.inputs,
            [
                (0, 0),
                (self.pad_top, max(0, reach[0] - self.pad_top - self.height)),
                (self.pad_left, max(0, reach[1] - self.pad_left - self.width)),
                (0, 0),
            ],
            constant_values=border,
        )
        out_per_group = self.channels_out // self.groups
        result = np.zeros(
            (self.batch, self.out_height, self.out_width, self.channels_out), np.int64
        )
        for group in range(self.groups):
            into = slice(group * out_per_group, (group + 1) * out_per_group)
            of = slice(group * self.channels_per_group, (group + 1) * self.channels_per_group)
            for fy in range(self.filter_size[0]):
                for fx in range(self.filter_size[1]):
                    pixels = padded[:, rows + fy * self.dilations[0]]
                    pixels = pixels[:, :, columns + fx * self.dilations[1], of]
                    result[..., into] += pixels @ self.kernel[into, fy, fx].T
        return result

    def expected(self) -> np.ndarray:
        """What the op computes, in the arithmetic of LCE's reference kernel."""
        value = self.convolve()
        if self.output == "packed":
            # LCE compares the number of different signs, (depth - value) / 2.
            negative = self.depth - value > 2 * self.thresholds.astype(np.int64)
            return pack(np.where(negative, -1, 1))
        low, high = {
            NONE: (-np.inf, np.inf),
            RELU: (0, np.inf),
            RELU_N1_TO_1: (-1, 1),
            RELU6: (0, 6),
        }[self.activation]
        value = np.clip(value, low, high).astype(np.int64)
        scale, zero_point = (self.scale, self.zero_point) if self.output == "int8" else (1, 0)
        scale = np.float64(np.float32(scale))
        multiplier = self.multiplier.astype(np.float64)
        slope = (-multiplier / scale).astype(np.float32)
        offset = ((self.bias + self.depth * multiplier) / scale + zero_point).astype(np.float32)
        y = (self.depth - value).astype(np.float32) * slope + offset
        if self.output == "float":
            return y
        y = y.astype(np.float64)  # There, y + 0.5 is exact.
        ties_away = np.trunc(y + np.copysign(0.5, y))
        return np.clip(ties_away, -128, 127).astype(np.int8)


def run(interpreter_module, model: bytes, inputs: np.ndarray, **options) -> np.ndarray:
    """Runs a model on a stock interpreter with the delegate and returns its output."""
    from bireal_keras import runtime

    delegate = interpreter_module.load_delegate(runtime.delegate_path(), options)
    interpreter = interpreter_module.Interpreter(
        model_content=model, experimental_delegates=[delegate]
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_resized(model: bytes, outputs: list[int], *inputs: np.ndarray, **options) -> list:
    """Runs a model on inputs of other shapes than its own, and returns some of its tensors.

    Args:
        model: content of the file.
        outputs: numbers of the tensors.
        inputs: one for each input.
        options: of the delegate.
    """
    import ai_edge_litert.interpreter as litert

    from bireal_keras import runtime

    interpreter = litert.Interpreter(
        model_content=model, experimental_delegates=[runtime.load_delegate(**options)]
    )
    details = interpreter.get_input_details()
    for detail, value in zip(details, inputs):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    for detail, value in zip(details, inputs):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(index) for index in outputs]


def run_lce(model: bytes, inputs: np.ndarray) -> np.ndarray:
    """Runs a model on LCE's own interpreter with its reference kernel.

    Where there is no LCE the test ends here, skipped: what it compared before held.
    """
    reason = "equal so far; LCE, to compare with as well, has no wheel for this platform"
    pytest.importorskip("larq_compute_engine", reason=reason)
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(model, use_reference_bconv=True)
    # The public predict() would split the batch.
    return interpreter.interpreter.predict([inputs])[0]
