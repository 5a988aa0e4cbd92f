"""Fake quantization in Keras, and the tensors of 8 bits that converters make of it.

LCE's are int8, those of TensorFlow's converter uint8.

Fake quantization rounds to one of 256 values: like a sign, a jump. Two correct programs may round a
value halfway between two steps to different sides.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras import _layer_calls
from bireal_keras._keras import keras, tf
from bireal_keras.export.real_layers import OUTPUT_AXES
from bireal_keras.tflite.model import Graph, Operator, Tensor

_FUNCTIONS = ("fake_quant_with_min_max_args", "fake_quant_with_min_max_vars")

_TYPES = (schema.TensorType.INT8, schema.TensorType.UINT8)
# These move int8 values and do not round.
_EXACT = {
    "CONCATENATION",
    "DEPTH_TO_SPACE",
    "MAX_POOL_2D",
    "PAD",
    "PADV2",
    "RELU",
    "RESHAPE",
    "SLICE",
    "SPACE_TO_DEPTH",
    "SPLIT",
    "SQUEEZE",
    "STRIDED_SLICE",
    "TRANSPOSE",
}


@dataclass(frozen=True)
class Int8:
    """An int8 or uint8 tensor of a file: real numbers in steps.

    Attributes:
        index: number of the tensor.
        name: as the file has it.
        step: between two neighbouring values.
        zero_point: the integer that stands for 0.
        kernel_error: how far values may be off because LCE has rounded the kernel that they are
            computed with to int8, which Keras has not.
    """

    index: int
    name: str
    step: float
    zero_point: int
    kernel_error: float = 0.0

    @classmethod
    def of(cls, index: int, tensor: Tensor) -> "Int8 | None":
        """The tensor, if it is one of 8 bits with one scale."""
        if tensor.type not in _TYPES or len(tensor.scales) != 1:
            return None
        return cls(index, tensor.name, float(tensor.scales[0]), tensor.zero_point)

    def real(self, values: np.ndarray) -> np.ndarray:
        """What its values stand for, float32."""
        return np.float32(self.step) * (values.astype(np.int32) - self.zero_point).astype(
            np.float32
        )


def rounded_tensors(graph: Graph) -> list[Int8]:
    """The tensors of 8 bits of a file whose values an operator has rounded, in their order."""
    found = []
    for operator in graph.operators:
        for index in operator.outputs:
            tensor = Int8.of(index, graph.tensors[index])
            if tensor is not None and operator.name not in _EXACT:
                error = _kernel_error(graph, operator)
                found.append(dataclasses.replace(tensor, kernel_error=error))
    return found


def _kernel_error(graph: Graph, operator: Operator) -> float:
    """See `Int8.kernel_error`: six standard deviations of a sum of rounded weights times inputs."""
    if operator.name not in OUTPUT_AXES:
        return 0.0
    source = Int8.of(operator.inputs[0], graph.tensors[operator.inputs[0]])
    kernel = graph.tensors[operator.inputs[1]]
    if source is None or kernel.type != schema.TensorType.INT8:
        return 0.0
    # A weight is off by up to half a step either way: a step over the square root of 12 deviates.
    largest = float(np.abs(source.real(np.array([-128, 127]))).max())
    terms = np.prod(kernel.shape) / kernel.shape[OUTPUT_AXES[operator.name]]
    return float(6 * kernel.scales.max() / np.sqrt(12) * np.sqrt(terms) * largest)


@contextlib.contextmanager
def intercepted(
    layers: Sequence[keras.layers.Layer],
    intercept: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
) -> Iterator[None]:
    """While the block runs, `intercept` decides what fake quantization gives in a model's layers.

    It takes what is quantized, what comes of it, and the step. Fake quantization is found where
    it is a layer of a functional model, or where a layer calls it by its name in TensorFlow; with
    a range for each channel it is left alone. The model has to run eagerly.
    """
    wrapped = {
        getattr(tf.quantization, name): _wrapped(getattr(tf.quantization, name), intercept)
        for name in _FUNCTIONS
    }
    replacements = [
        _layer_calls.Replacement(layer, "function", wrapped[layer.function])
        for layer in layers
        if getattr(layer, "function", None) in wrapped
    ]
    with _layer_calls.replaced(replacements):
        try:
            for function, wrapper in wrapped.items():
                setattr(tf.quantization, function.__name__, wrapper)
            yield
        finally:
            for function in wrapped:
                setattr(tf.quantization, function.__name__, function)


def _wrapped(
    function: Callable[..., tf.Tensor],
    intercept: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
) -> Callable[..., tf.Tensor]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def fake_quant(*args: Any, **kwargs: Any) -> tf.Tensor:
        outputs = function(*args, **kwargs)
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        options = call.arguments
        steps = 2 ** options["num_bits"] - (2 if options["narrow_range"] else 1)
        step = (float(options["max"]) - float(options["min"])) / steps
        values = tf.convert_to_tensor(options["inputs"]).numpy()
        given = intercept(values, outputs.numpy(), step)
        return tf.constant(given.reshape(outputs.shape), outputs.dtype)

    return fake_quant
