"""Kernels whose filters have one magnitude each."""

from typing import NamedTuple

import numpy as np

from bireal_keras.export.binarize import reasons
from bireal_keras.export.binarize.reasons import Reason

# By how much the magnitudes of a filter may differ, as a share. PyTorch's estimator,
# (s * sign(w) - c) + c, rounds in each weight.
_SAME_MAGNITUDE = 1e-3
# Of more zeros than one in so many weights nobody can say that they are rare accidents.
_WEIGHTS_PER_ZERO = 100


class Filters(NamedTuple):
    """A 1-bit kernel.

    Attributes:
        negative: (out, height, width, in) bool, True for -1.
        magnitudes: (out,) float32.
        zeros: how many weights are exactly 0 in filters that are not, and count as +1.
    """

    negative: np.ndarray
    magnitudes: np.ndarray
    zeros: int

    @property
    def sums(self) -> np.ndarray:
        """(out,) float32: of all weights of each filter."""
        signs = np.where(self.negative, -1, 1).sum(axis=(1, 2, 3))
        return self.magnitudes * signs.astype(np.float32)


def signs_of(kernel: np.ndarray, *, zero_is_one: bool) -> Filters | Reason:
    """The signs and magnitudes of a kernel, or why it is not 1-bit.

    A filter of zeros has magnitude 0, and signs by the bit of its zeros: BatchNormalization with a
    gamma of 0 leaves negative ones.

    Args:
        kernel: (out, height, width, in) float32.
        zero_is_one: whether a weight of exactly 0 counts as +1, if there are few.
    """
    magnitudes = np.abs(kernel).reshape(len(kernel), -1)
    low, high = magnitudes.min(axis=1), magnitudes.max(axis=1)
    typical = high.copy()
    zeros: dict[int, int] = {}
    for index in map(int, np.flatnonzero(~(low == high))):
        filter_magnitudes = magnitudes[index]
        nonzero = filter_magnitudes[filter_magnitudes != 0]
        # An element, not a mean of two.
        typical[index] = np.sort(nonzero)[(len(nonzero) - 1) // 2]
        with np.errstate(invalid="ignore"):  # Infinities.
            differences = np.abs(nonzero - typical[index])
        if not (differences <= _SAME_MAGNITUDE * typical[index]).all():
            return reasons.kernel_values(index, float(low[index]), float(high[index]))
        if len(nonzero) < len(filter_magnitudes):
            zeros[index] = len(filter_magnitudes) - len(nonzero)
    if not np.isfinite(typical).all():
        index = int(np.flatnonzero(~np.isfinite(typical))[0])
        return reasons.kernel_values(index, float(low[index]), float(high[index]))
    if sum(zeros.values()) > max(1, kernel.size // _WEIGHTS_PER_ZERO):
        return reasons.ternary_kernel(sum(zeros.values()), kernel.size)
    if zeros and not zero_is_one:
        return reasons.zero_weights(*next(iter(zeros.items())))
    dead = (typical == 0)[:, None, None, None]
    negative = np.where(dead, np.signbit(kernel), kernel < 0)
    return Filters(negative, typical, sum(zeros.values()))
