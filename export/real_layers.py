"""The kernels of a file's real-valued layers in fewer bits: a pass over what LCE wrote.

Real-valued layers are CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: in Bi-Real Net the stem,
the 1x1 convolutions on the shortcuts and the classifier, two thirds of its file. `compact`
stores their kernels as

- float16: half-precision constants, each before a DEQUANTIZE to float32; or
- int8: with a scale for each output channel, symmetric. A convolution of at least 16 input
  channels reads them as they are, and one scale where all are equal: LiteRT's dynamic range, in
  which the float32 input is rounded to int8 as it comes, in steps of a 255th of its range in an
  image (XNNPACK: at a pixel, where the convolution is 1x1), products are summed up as integers,
  and the output is float32. All other kernels are unpacked by a DEQUANTIZE, too, and multiply in
  float32.

XNNPACK runs all of it: a DEQUANTIZE of a constant when a model is loaded, the dynamic range
with kernels of its own. Activations are float32 between any two layers, so binary layers and
the sums on the shortcuts stay what they are. So do biases and the factors of binary layers,
which make up a hundredth of the file.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras.tflite.model import (
    Graph,
    Operator,
    add_tensor,
    opcode,
    replace_constant,
    serialize,
    unpack,
)

PRECISIONS = ("float32", "float16", "int8")

# The axis of a layer's output channels in its kernel.
OUTPUT_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# With fewer, int8 takes longer than float32: kernels fill up the channels of a pixel to 4 or 8,
# and the three of a stem are rounded to int8 and padded to gain nothing.
_MIN_DYNAMIC_CHANNELS = 16
# The first versions of the operators that know float16, and int8 with several scales. A
# FULLY_CONNECTED of dynamic range would be 12: what came before, tflite-runtime 2.14 among them,
# applies the first channel's scale to all.
_DEQUANTIZE_FLOAT16, _DEQUANTIZE_INT8, _CONV_2D_DYNAMIC = 3, 5, 5


def compact(content: bytes, precision: str) -> bytes:
    """Stores the kernels of real-valued layers in another precision.

    Kernels are rounded to the nearest value. The tensors of the model keep their indices, and
    its operators their order; the same arguments give the same bytes.

    Args:
        content: of a TFLite model with float32 real-valued layers.
        precision: one of `PRECISIONS`; "float32" gives `content` back.

    Raises:
        ValueError: `precision` is not one of these, or a weight is too large for float16.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(PRECISIONS)}. Received: precision={precision}."
        )
    if precision == "float32":
        return content
    graph, model = Graph(content), unpack(content)
    changed = dict(zip(graph.operators, model.subgraphs[0].operators))
    for index, kernel, readers in _kernels(graph):
        layers = [changed[reader] for reader in readers]
        if precision == "float16":
            _store(model, index, _to_float16(kernel, graph.tensors[index].name))
            _dequantize(model, index, layers, _DEQUANTIZE_FLOAT16)
            continue
        axis = OUTPUT_AXES[readers[0].name]
        values, scales = quantize(kernel, axis)
        is_dynamic = all(_has_dynamic_range(graph, reader) for reader in readers)
        if is_dynamic and (scales == scales[0]).all():
            # Interpreters compute with one scale where all are equal. Older ones, LCE's among
            # them, do not look for it in a list of several, and every product is 0 there.
            scales = scales[:1]
        _store(model, index, values, scales, axis)
        if is_dynamic:
            for layer in layers:
                layer.opcodeIndex = opcode(model, schema.BuiltinOperator.CONV_2D, _CONV_2D_DYNAMIC)
        else:
            _dequantize(model, index, layers, _DEQUANTIZE_INT8)
    return serialize(model)


def quantize(kernel: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values from -127 to 127, shaped as `kernel`, and the float32 scale of each channel.

    Args:
        kernel: float32.
        axis: of its output channels.
    """
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    scales = np.abs(kernel).max(axis=others, keepdims=True) / np.float32(127)
    # So small, or zero, that dividing by it makes no sense.
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    values = np.clip(np.rint(kernel / scales), -127, 127).astype(np.int8)
    return values, scales.ravel()


def _kernels(graph: Graph) -> Iterator[tuple[int, np.ndarray, Sequence[Operator]]]:
    """The float32 kernels of real-valued layers, in the order in which they are read.

    Left out is one that something else reads, too, or that layers of two kinds read.

    Yields:
        The number of the tensor, its value, and the layers that read it.
    """
    for index in dict.fromkeys(index for operator in graph.operators for index in operator.inputs):
        readers = graph.readers(index)
        names = {reader.name for reader in readers}
        values = graph.tensors[index].values if index >= 0 else None
        if (
            values is not None
            and values.dtype == np.float32
            and len(names) == 1
            and names <= OUTPUT_AXES.keys()
            and all(_positions(reader, index) == [1] for reader in readers)
        ):
            yield index, values, readers


def _positions(operator: Operator, index: int) -> list[int]:
    """Where among the inputs of an operator a tensor is."""
    return [position for position, other in enumerate(operator.inputs) if other == index]


def _has_dynamic_range(graph: Graph, layer: Operator) -> bool:
    """Whether a layer reads int8 as it is; TFLite has no such convolution of groups."""
    inputs, kernel = (graph.tensors[index] for index in layer.inputs[:2])
    return layer.name == "CONV_2D" and inputs.shape[-1] == kernel.shape[-1] >= _MIN_DYNAMIC_CHANNELS


def _to_float16(kernel: np.ndarray, name: str) -> np.ndarray:
    limit, largest = np.finfo(np.float16).max, np.abs(kernel).max(initial=0)
    if largest > limit:
        raise ValueError(
            f"float16 holds values up to {limit:.0f}, and {name} goes up to {largest:.3g}. int8 "
            "has no such limit."
        )
    return kernel.astype(np.float16)


def _store(
    model: schema.ModelT,
    index: int,
    values: np.ndarray,
    scales: np.ndarray | None = None,
    axis: int = 0,
) -> None:
    """Gives a constant a new value: float16 without scales, int8 with them."""
    replace_constant(model, index, values)
    tensor = model.subgraphs[0].tensors[index]
    tensor.type = schema.TensorType.FLOAT16 if scales is None else schema.TensorType.INT8
    if scales is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = scales
        tensor.quantization.zeroPoint = np.zeros(scales.size, np.int64)
        tensor.quantization.quantizedDimension = axis


def _dequantize(
    model: schema.ModelT, index: int, layers: list[schema.OperatorT], version: int
) -> None:
    """Has layers read a constant through a DEQUANTIZE, which comes right before the first."""
    graph = model.subgraphs[0]
    stored = graph.tensors[index]
    name, float32 = stored.name + b"/dequantized", schema.TensorType.FLOAT32
    unpacked = add_tensor(model, name, stored.shape, float32)

    operator = schema.OperatorT()
    operator.opcodeIndex = opcode(model, schema.BuiltinOperator.DEQUANTIZE, version)
    operator.inputs, operator.outputs = [index], [unpacked]
    first = next(i for i, other in enumerate(graph.operators) if other is layers[0])
    graph.operators.insert(first, operator)
    for layer in layers:
        inputs = np.array(layer.inputs)
        inputs[1] = unpacked
        layer.inputs = inputs
