"""Which operators of the file are which layer of the Keras model.

Names cannot tell: LCE cuts them to 50 characters, and BatchNormalization, once folded in, has put
its own in front. Kernels can.
"""

from collections.abc import Sequence

import numpy as np

from bireal_keras._keras import keras
from bireal_keras.export import diagnosis
from bireal_keras.export.flatbuffer import Multiplication, packed_filters

# The cosine between a filter and the one that BatchNormalization has scaled, maybe in int8.
_SAME_DIRECTION = 1 - 1e-3
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def match(
    layers: Sequence[keras.layers.Layer], operators: Sequence[Multiplication]
) -> list[list[Multiplication]]:
    """For each layer the operators that have its kernels; no operator belongs to two layers.

    A layer that is called twice stands in `layers` twice. A separable convolution has two
    operators, any other one, or none if the file does not have its kernel.
    """
    free = list(operators)
    found: list[list[Multiplication]] = []
    for layer in layers:
        found.append([])
        for filters in _filters(layer):
            operator = next((op for op in free if _is_kernel(filters, op)), None)
            if operator is not None:
                # By identity: two operators may be equal.
                free = [op for op in free if op is not operator]
                found[-1].append(operator)
    return found


def _filters(layer: keras.layers.Layer) -> list[np.ndarray]:
    """A layer's kernels with the filters along the first axis."""
    if hasattr(layer, "depthwise_kernel"):
        kernel = diagnosis.kernel(layer, "depthwise_kernel")
        kernels = [kernel.reshape(*kernel.shape[:-2], -1)]
        if hasattr(layer, "pointwise_kernel"):
            kernels.append(diagnosis.kernel(layer, "pointwise_kernel"))
    else:
        kernels = [diagnosis.kernel(layer)]
    axis = -2 if isinstance(layer, _TRANSPOSED) else -1
    return [np.moveaxis(kernel, axis, 0) for kernel in kernels]


def _is_kernel(filters: np.ndarray, operator: Multiplication) -> bool:
    if operator.kernel is None:
        return False
    if operator.is_binary:
        return _are_signs(filters, operator.kernel)
    return _are_scaled(filters.reshape(len(filters), -1), operator.kernel)


def _are_signs(filters: np.ndarray, packed: np.ndarray) -> bool:
    """Whether LCE has packed the filters' signs."""
    if filters.ndim == 2:
        filters = filters[:, None, None, :]
    if filters.ndim != 4:
        return False
    negative = filters < 0
    same, inverted = packed_filters(negative), packed_filters(~negative)
    if packed.shape != same.shape:
        return False
    # Where the output is packed too, LCE inverts the filters that a negative factor follows.
    axes = (1, 2, 3)
    return bool(((packed == same).all(axes) | (packed == inverted).all(axes)).all())


def _are_scaled(filters: np.ndarray, kernel: np.ndarray) -> bool:
    """Whether each filter is a multiple of the file's, or of the other way round."""
    if kernel.shape != filters.shape:
        return False
    kernel = kernel.astype(np.float64)
    products = np.abs((filters * kernel).sum(axis=1))
    norms = np.linalg.norm(filters, axis=1) * np.linalg.norm(kernel, axis=1)
    return bool((products >= _SAME_DIRECTION * norms).all())
