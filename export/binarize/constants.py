"""Which tensors are constant, and their values.

A converter may leave arithmetic on constants in a file: litert-torch does not fold large kernels,
nor does LCE's, and TensorFlow computes the shape that `tf.ones_like` has. It is done here in NumPy,
for the few operators that occur.
"""

from collections.abc import Callable

import numpy as np

from bireal_keras.export.binarize import elementwise
from bireal_keras.export.binarize.graph import NONE, Graph, Operator

# So many bytes may be computed for each byte of the file: the kernel of an XNOR-Net goes through
# about ten operators.
_COMPUTED_BYTES = 16
_SLACK_BYTES = 1 << 20


class Constants:
    """The values of the constant tensors of a graph.

    Args:
        graph: in which every size but the batch, which is taken to be what the shapes say, is
            fixed.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._computed: dict[int, np.ndarray] = {}
        self._left = _COMPUTED_BYTES * graph.size_bytes + _SLACK_BYTES
        for operator in graph.operators:
            self._compute(operator)

    def get(self, tensor: int) -> np.ndarray | None:
        """The value of a constant, None for another tensor.

        Repeated values may share memory, so a constant can be larger than the file.
        """
        if tensor in self._computed:
            return self._computed[tensor]
        return None if tensor == NONE else self._graph.stored(tensor)

    def scalar(self, tensor: int) -> np.generic | None:
        """The one value that all of a constant has, None if there are several."""
        value = self.get(tensor)
        if value is None or value.size == 0:
            return None
        compact = _without_repetition(value)
        first = compact.flat[0]
        return first if compact.size == 1 or bool((compact == first).all()) else None

    def _compute(self, operator: Operator) -> None:
        if len(operator.outputs) != 1 or not operator.inputs:
            return
        output = operator.outputs[0]
        if operator.name == "SHAPE":
            result = self._shape(operator)
        else:
            values = [self.get(tensor) for tensor in operator.inputs]
            known = [value for value in values if value is not None]
            result = self._result(operator, known) if len(known) == len(values) else None
        if result is None or result.dtype != self._graph.dtype(output):
            return
        if result.shape == self._graph.shape(output):
            self._computed[output] = result

    def _shape(self, operator: Operator) -> np.ndarray | None:
        source, dtype = operator.inputs[0], self._graph.dtype(operator.outputs[0])
        if source == NONE or dtype is None or not self._graph.is_static(source):
            return None
        return np.array(self._graph.shape(source), dtype)

    def _result(self, operator: Operator, values: list[np.ndarray]) -> np.ndarray | None:
        shape = self._graph.shape(operator.outputs[0])
        if elementwise.operands(operator) == len(values):
            parts = [_without_repetition(value) for value in values]
            try:
                if not self._affordable(np.broadcast_shapes(*(part.shape for part in parts))):
                    return None
                result = elementwise.evaluate(self._graph, operator, *parts)
                return None if result is None else np.broadcast_to(result, shape)
            except ValueError:  # Shapes that do not fit, or overflow.
                return None
        compute = _OTHERS.get(operator.name)
        if compute is None or (operator.name not in _VIEWS and not self._affordable(shape)):
            return None
        try:
            return compute(values, shape, operator)
        except (IndexError, TypeError, ValueError):  # As above.
            return None

    def _affordable(self, shape: tuple[int, ...]) -> bool:
        size = 8
        for length in shape:
            size *= length
        self._left -= size
        return self._left >= 0


def _without_repetition(value: np.ndarray) -> np.ndarray:
    """A constant with one in place of the length of each axis along which it is repeated."""
    return value[tuple(slice(0, 1) if step == 0 else slice(None) for step in value.strides)]


def _mean(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    axes = tuple(int(axis) for axis in values[1].ravel())
    return np.mean(values[0], axes, np.float64).astype(values[0].dtype).reshape(shape)


def _sum(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    axes = tuple(int(axis) for axis in values[1].ravel())
    return np.sum(values[0], axes, np.float64).astype(values[0].dtype).reshape(shape)


def _reshape(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    return values[0].reshape(shape)


def _broadcast(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    return np.broadcast_to(values[0], shape)


def _packed(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    """Of float32: a bit for each sign along the last axis, and 0 for what fills the last word."""
    if values[0].dtype != np.float32:
        raise TypeError(f"LceQuantize of {values[0].dtype}")
    bits = np.packbits(values[0] < 0, axis=-1, bitorder="little")
    missing = 4 * shape[-1] - bits.shape[-1]
    return np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)]).view("<i4")


def _unpacked(values: list[np.ndarray], shape: tuple[int, ...], operator: Operator) -> np.ndarray:
    """Only the result's shape knows how many channels the words have."""
    octets = np.ascontiguousarray(values[0]).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, count=shape[-1], bitorder="little")
    return np.where(bits, np.float32(-1), np.float32(1))


# They repeat values, and take no memory.
_VIEWS = ("BROADCAST_TO", "FILL")
_Compute = Callable[[list[np.ndarray], tuple[int, ...], Operator], np.ndarray]
_OTHERS: dict[str, _Compute] = {
    "BROADCAST_TO": _broadcast,
    # Of float16; other types are quantized, and `graph.dtype` does not know them.
    "DEQUANTIZE": lambda values, shape, operator: values[0].astype(np.float32),
    "EXPAND_DIMS": _reshape,
    "FILL": lambda values, shape, operator: np.broadcast_to(values[1], shape),
    "LceDequantize": _unpacked,
    "LceQuantize": _packed,
    "MEAN": _mean,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "SUM": _sum,
    "TRANSPOSE": lambda values, shape, operator: values[0].transpose(values[1]),
}
