"""How LceBconv2d pads as a float convolution does.

LceBconv2d pads like TensorFlow, SAME or VALID, with zeros or with ones. PyTorch's padding is
another one: with stride 2 on an even map it has its zeros before the first row and uses none after
the last. Such a convolution is computed as a larger one, and cropped: packed rows are added at the
end, until SAME pads in the right place, and the results that would see them are cut off. Ones are
simply added, on all sides: a one is a bit.
"""

from dataclasses import dataclass
from typing import NamedTuple

from bireal_keras.export.binarize import reasons
from bireal_keras.export.binarize.reasons import Reason


class Axis(NamedTuple):
    """A convolution along one axis; the window of result o starts at o * stride - before.

    Attributes:
        size: of the map.
        filter: size of the filter.
        stride: between windows.
        dilation: between the taps of a filter.
        before: how many values of padding come before the map.
        out: how many results there are.
    """

    size: int
    filter: int
    stride: int
    dilation: int
    before: int
    out: int

    @property
    def extent(self) -> int:
        """From a window's first tap to its last, both included."""
        return (self.filter - 1) * self.dilation + 1

    @property
    def end(self) -> int:
        """Where the last window ends."""
        return (self.out - 1) * self.stride - self.before + self.extent

    @property
    def needs_padding(self) -> bool:
        return self.before > 0 or self.end > self.size


@dataclass(frozen=True)
class Padding:
    """How LceBconv2d is to pad.

    Attributes:
        same: SAME padding, not VALID.
        ones: whether with ones, not with zeros.
        added: (before, after) rows and columns of packed ones to add to the map first.
        out: (height, width) of its result, of which the convolution's is the beginning.
    """

    same: bool
    ones: bool
    added: tuple[tuple[int, int], tuple[int, int]]
    out: tuple[int, int]

    @property
    def is_exact_on_bits(self) -> bool:
        """Whether no zero is involved, so that results can be compared with thresholds."""
        return self.ones or not self.same


def same_before(axis: Axis, size: int) -> tuple[int, int]:
    """How much padding SAME has before a map of `size`, and its number of results."""
    out = -(-size // axis.stride)
    return max(0, (out - 1) * axis.stride + axis.extent - size) // 2, out


def solve(height: Axis, width: Axis, *, ones: bool) -> Padding | Reason:
    """How to pad for these two axes, or why it cannot be done.

    Args:
        height: of the convolution.
        width: of the convolution.
        ones: whether it pads with ones, not with zeros.
    """
    axes = (height, width)
    if not any(axis.needs_padding for axis in axes):
        out = tuple((axis.size - axis.extent) // axis.stride + 1 for axis in axes)
        return Padding(False, False, ((0, 0), (0, 0)), (out[0], out[1]))
    same = [same_before(axis, axis.size) for axis in axes]
    if all(before == axis.before and out >= axis.out for (before, out), axis in zip(same, axes)):
        return Padding(True, ones, ((0, 0), (0, 0)), (same[0][1], same[1][1]))
    if ones:
        after = [max(0, axis.end - axis.size) for axis in axes]
        added = ((height.before, after[0]), (width.before, after[1]))
        return Padding(False, False, added, (height.out, width.out))
    found = [_extended(axis) for axis in axes]
    if found[0] is None or found[1] is None:
        return reasons.padding((height.before, width.before), (height.size, width.size))
    return Padding(True, False, ((0, found[0][0]), (0, found[1][0])), (found[0][1], found[1][1]))


def _extended(axis: Axis) -> tuple[int, int] | None:
    """How many rows to add for SAME to pad where the convolution does, and the results then."""
    for added in range(axis.stride + 1):
        before, out = same_before(axis, axis.size + added)
        sees_no_added_row = added == 0 or axis.end <= axis.size
        if before == axis.before and out >= axis.out and sees_no_added_row:
            return added, out
    return None
