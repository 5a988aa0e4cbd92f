"""Which operators of the file are which layers of the Keras model.

Names cannot tell: LCE cuts them to 50 characters, and BatchNormalization, once folded in, has put
its own in front. Kernels can.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from bireal_keras import _keras_model
from bireal_keras._keras import keras
from bireal_keras.export.packing import pack_filters

# The cosine between a filter and the one that BatchNormalization has scaled, maybe in int8.
_SAME_DIRECTION = 1 - 1e-3
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


class HasKernel(Protocol):
    """An operator of a file, as far as its layer is looked for; see `Multiplication`."""

    @property
    def is_binary(self) -> bool: ...
    @property
    def kernel(self) -> np.ndarray | None: ...


class Kernel:
    """A kernel of a Keras layer, to be found in a file.

    Args:
        filters: (out, ...) float32, as the model computes with them.
    """

    def __init__(self, filters: np.ndarray):
        self._filters = filters

    @classmethod
    def of(cls, layer: keras.layers.Layer, name: str = "kernel") -> "Kernel":
        """A layer's kernel, by the name of its attribute."""
        kernel = _keras_model.quantized_kernel(layer, name)
        if name == "depthwise_kernel":
            kernel = kernel.reshape(*kernel.shape[:-2], -1)
        return cls(np.moveaxis(kernel, -2 if isinstance(layer, _TRANSPOSED) else -1, 0))

    def difference(self, operator: HasKernel) -> int | None:
        """In how many signs an operator's kernel differs; None if it is another kernel.

        Real filters do not differ if each is a multiple of the operator's, or the other way round;
        otherwise they are another kernel's.
        """
        if operator.kernel is None:
            return None
        if operator.is_binary:
            return self._different_signs(operator.kernel)
        return 0 if self._is_scaled(operator.kernel) else None

    @cached_property
    def _packed(self) -> np.ndarray | None:
        """The signs, packed as in a file; None where LCE has no such binary convolution."""
        filters = self._filters
        if filters.ndim in (2, 3):
            # A dense layer is a convolution of one pixel, one along a line one of a single row.
            ones = (1,) * (4 - filters.ndim)
            filters = filters.reshape(len(filters), *ones, *filters.shape[1:])
        return pack_filters(filters < 0) if filters.ndim == 4 else None

    def _different_signs(self, packed: np.ndarray) -> int | None:
        if self._packed is None or self._packed.shape != packed.shape:
            return None
        different = np.unpackbits((self._packed ^ packed).view(np.uint8), axis=-1)
        counts = different.sum(axis=(1, 2, 3))
        # Where the output is packed too, LCE inverts the filters that a negative factor follows.
        counts = np.minimum(counts, self._filters[0].size - counts)
        # The signs of a filter of zeros mean nothing.
        return int(counts[self._filters.reshape(len(counts), -1).any(axis=1)].sum())

    def _is_scaled(self, kernel: np.ndarray) -> bool:
        filters = self._filters.reshape(len(self._filters), -1)
        if kernel.shape != filters.shape:
            return False
        kernel = kernel.astype(np.float64)
        products = np.abs((filters * kernel).sum(axis=1))
        norms = np.linalg.norm(filters, axis=1) * np.linalg.norm(kernel, axis=1)
        return bool((products >= _SAME_DIRECTION * norms).all())


def kernels_of(layer: keras.layers.Layer) -> list[Kernel]:
    """A layer's kernels: two of a separable convolution, one of any other."""
    names = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return [Kernel.of(layer, name) for name in names if hasattr(layer, name)]


def match(
    kernels: Sequence[Kernel],
    operators: Sequence[HasKernel],
    *,
    may_differ: bool = False,
    can_be: Callable[[int, int], bool] = lambda kernel, operator: True,
) -> dict[int, tuple[int, int]]:
    """For each kernel the operator that has it; no operator belongs to two kernels.

    Those with the fewest different signs belong together, and among equal ones the first to the
    first. The kernel of a layer that is called twice stands in `kernels` twice.

    Args:
        kernels: of layers, in the order of their calls.
        operators: in the order of their execution.
        may_differ: whether a kernel and an operator with other signs may belong together.
        can_be: whether what a kernel and an operator compute from allows it, by their numbers.

    Returns:
        By number of the kernel: the number of its operator, and how many signs differ. Kernels that
        the file does not have are left out.
    """
    candidates = []
    for number, kernel in enumerate(kernels):
        for index, operator in enumerate(operators):
            if can_be(number, index):
                difference = kernel.difference(operator)
                if difference == 0 or (difference is not None and may_differ):
                    candidates.append((difference, number, index))
    found: dict[int, tuple[int, int]] = {}
    taken = set()
    for difference, number, index in sorted(candidates):
        if number not in found and index not in taken:
            found[number] = index, difference
            taken.add(index)
    return dict(sorted(found.items()))
