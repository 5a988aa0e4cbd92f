"""Float `.tflite` files, operator by operator, and what they mean, in NumPy.

For graphs that no Keras layer makes: what PyTorch's converter writes, and what is damaged.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from lce_ops import Op, Tensor, build_model, constant

from bireal_keras import runtime

SAME, VALID = 0, 1

# Tables of options, for operators that need one.
_OPTIONS = {
    "ADD": "AddOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "RESHAPE": "ReshapeOptions",
    "SHAPE": "ShapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
}


class FloatFile:
    """A file that grows by one operator at a time; tensors are known by their index."""

    def __init__(self):
        self._tensors: list[Tensor] = []
        self._ops: list[Op] = []
        self._inputs: list[int] = []

    def input(self, shape):
        index = self._add(Tensor(shape))
        self._inputs.append(index)
        return index

    def constant(self, value, dtype=np.float32):
        return self._add(constant(np.asarray(value, dtype)))

    def tensor(self, shape, dtype=np.float32):
        return self._add(Tensor(shape, dtype))

    def shape(self, tensor):
        return tuple(self._tensors[tensor].shape)

    def op(self, name, *operands, shape=None, dtype=np.float32, **options):
        """Adds an operator and returns its output.

        Args:
            name: "ADD".
            operands: tensors, or numbers and arrays, which become float32 constants.
            shape: of the output; default that of the first operand.
            dtype: of the output.
            options: fields of the operator's table.
        """
        inputs = [x if isinstance(x, int) else self.constant(x) for x in operands]
        output = self.tensor(self.shape(inputs[0]) if shape is None else shape, dtype)
        table = None
        if name in _OPTIONS:
            table = (_OPTIONS[name], getattr(schema, f"{_OPTIONS[name]}T")())
            for key, value in options.items():
                assert hasattr(table[1], key), key
                setattr(table[1], key, value)
        self._ops.append(Op(name, inputs, [output], builtin=table))
        return output

    def conv(self, x, kernel, bias=None, *, stride=1, padding=SAME, dilation=1, activation=0):
        """A CONV_2D; kernel (out, height, width, in), an array or a tensor."""
        kernel = kernel if isinstance(kernel, int) else self.constant(kernel)
        filters, *all_taps, _ = self.shape(kernel)
        sizes = []
        for size, taps in zip(self.shape(x)[1:3], all_taps):
            extent = (taps - 1) * dilation + 1
            sizes.append(-(-size // stride) if padding == SAME else (size - extent) // stride + 1)
        return self.op(
            "CONV_2D",
            x,
            kernel,
            np.zeros(filters) if bias is None else np.asarray(bias),
            shape=(self.shape(x)[0], *sizes, filters),
            padding=padding,
            strideW=stride,
            strideH=stride,
            dilationWFactor=dilation,
            dilationHFactor=dilation,
            fusedActivationFunction=activation,
        )

    def pad(self, x, sides, value=None):
        """PAD, or PADV2 with a value; sides ((before, after) for height, for width)."""
        table = np.array([(0, 0), *sides, (0, 0)], np.int32)
        shape = [size + sum(pair) for size, pair in zip(self.shape(x), table.tolist())]
        operands = [x, self.constant(table, np.int32)]
        if value is None:
            return self.op("PAD", *operands, shape=shape)
        return self.op("PADV2", *operands, np.float32(value), shape=shape)

    def larq_sign(self, x):
        """As larq.math.sign arrives: sign(sign(x) + 0.1)."""
        return self.op("SIGN", self.op("ADD", self.op("SIGN", x), 0.1))

    def build(self, *outputs):
        return build_model(self._tensors, self._ops, self._inputs, outputs)

    def _add(self, tensor):
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def run(content, *inputs, delegate=False):
    """What a file gives on the stock interpreter, with or without this project's delegate."""
    delegates = [runtime.load_delegate()] if delegate else None
    interpreter = Interpreter(model_content=content, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], value.astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def convolve(x, kernel, *, stride=1, dilation=1, sides=((0, 0), (0, 0)), value=0.0):
    """A convolution in float64, tap by tap.

    Args:
        x: (n, height, width, channels).
        kernel: (out, height, width, channels of a group).
        stride: of both axes.
        dilation: of both axes.
        sides: (before, after) for height and width, of padding with `value`.
        value: see `sides`.
    """
    x = np.pad(x.astype(np.float64), [(0, 0), *sides, (0, 0)], constant_values=value)
    out, height, width, depth = kernel.shape
    groups = x.shape[-1] // depth
    rows = (x.shape[1] - (height - 1) * dilation - 1) // stride + 1
    columns = (x.shape[2] - (width - 1) * dilation - 1) // stride + 1
    result = np.zeros((len(x), rows, columns, out))
    for group in range(groups):
        into = slice(group * out // groups, (group + 1) * out // groups)
        of = slice(group * depth, (group + 1) * depth)
        for i in range(height):
            for j in range(width):
                top, left = i * dilation, j * dilation
                taps = x[:, top:, left:, of][:, ::stride, ::stride][:, :rows, :columns]
                result[..., into] += taps @ kernel[into, i, j].astype(np.float64).T
    return result


def same_sides(size, taps, stride=1, dilation=1):
    """TensorFlow's SAME padding of one axis."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (taps - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def binary_kernel(rng, shape, magnitudes=None):
    """A kernel (out, height, width, in) of one magnitude for each filter."""
    signs = rng.choice([-1.0, 1.0], shape)
    if magnitudes is None:
        magnitudes = rng.uniform(0.1, 2, shape[0])
    return (signs * np.reshape(magnitudes, (-1, 1, 1, 1))).astype(np.float32)
