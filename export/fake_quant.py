"""Fake quantization in Keras, and the int8 tensors that LCE makes of it.

Fake quantization rounds to one of 256 values: like a sign, a jump. Two correct programs may round a
value halfway between two steps to different sides.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras._keras import tf
from bireal_keras.tflite.model import Graph, Tensor

_OPERATORS = ("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars")
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
    """An int8 tensor of a file: real numbers in steps.

    Attributes:
        index: number of the tensor.
        name: as the file has it.
        step: between two neighbouring values.
        zero_point: the integer that stands for 0.
    """

    index: int
    name: str
    step: float
    zero_point: int

    @classmethod
    def of(cls, index: int, tensor: Tensor) -> "Int8 | None":
        """The tensor, if it is one of int8 with one scale."""
        if tensor.type != schema.TensorType.INT8 or len(tensor.scales) != 1:
            return None
        return cls(index, tensor.name, float(tensor.scales[0]), tensor.zero_point)

    def real(self, values: np.ndarray) -> np.ndarray:
        """What int8 values stand for, float32."""
        return np.float32(self.step) * (values.astype(np.int32) - self.zero_point).astype(
            np.float32
        )

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Real numbers, cut off where int8 ends."""
        low, high = self.real(np.array([-128, 127]))
        return np.clip(values, low, high)


def rounded_tensors(graph: Graph) -> list[Int8]:
    """The int8 tensors of a file whose values an operator has rounded, in their order."""
    found = [
        Int8.of(index, graph.tensors[index])
        for operator in graph.operators
        if operator.name not in _EXACT
        for index in operator.outputs
    ]
    return [tensor for tensor in found if tensor is not None]


@contextlib.contextmanager
def intercepted(
    intercept: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
) -> Iterator[None]:
    """While the block runs, `intercept` decides what fake quantization gives.

    It takes what is quantized, what comes of it, and the step. That holds for operators that run
    eagerly, whatever calls them; fake quantization with a range for each channel is left alone.
    """
    # There is no public name for it.
    from tensorflow.python.framework import op_callbacks

    def on_operator(
        kind: str | bytes,
        inputs: tuple,
        attributes: tuple,
        outputs: list,
        op_name: str | None = None,
        graph: tf.Graph | None = None,
    ) -> list | None:
        if graph is not None or (kind.decode() if isinstance(kind, bytes) else kind) not in (
            _OPERATORS
        ):
            return None
        options = dict(zip(attributes[::2], attributes[1::2]))
        low, high = inputs[1:3] if len(inputs) == 3 else (options["min"], options["max"])
        steps = 2 ** options["num_bits"] - (2 if options["narrow_range"] else 1)
        step = (float(high) - float(low)) / steps
        given = intercept(inputs[0].numpy(), outputs[0].numpy(), step)
        return [tf.constant(given.reshape(outputs[0].shape), tf.float32)]

    op_callbacks.add_op_callback(on_operator)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(on_operator)
