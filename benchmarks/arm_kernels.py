"""How often the loops of the delegate's kernels for 64-bit Arm run, given a layer's shape.

A loop's work is counted in the units that arm_inner_loop.py names; so it does not matter how far a
compiler unrolled it. For tiles of a convolution, what is around the loop counts once for each.
"""

import collections
import dataclasses
from collections.abc import Iterator
from math import ceil

_WORD = 32
# delegate/kernels/neon_tile.h, lookup.h, float_conv.h with neon_float.cc, and steps/dense.cc.
_TILE_PIXELS, _TILE_FILTERS = 4, 32
_MAX_LOOKUPS = 60
_FLOAT_PIXELS, _FLOAT_LANES, _CHUNK_PIXELS = 4, 4, 48
_WINOGRAD_POINTS, _WINOGRAD_PIXELS, _INTERPOLATIONS = 7, 4, 6


@dataclasses.dataclass(frozen=True)
class Axis:
    """A window along one axis of a map, padded so that the output has its size.

    Attributes:
        size_in, size_out, taps, stride, dilation: as an operator has them.
        before: padding before the first value.
    """

    size_in: int
    size_out: int
    taps: int
    stride: int
    dilation: int = 1
    before: int = 0

    def columns(self, places: int) -> int:
        """How many values of the padded map the first places of the output look at."""
        return (places - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def values_in(self, columns: int) -> int:
        """How many of the padded map's first values are the map's."""
        return min(self.size_in, columns - self.before)

    def inside(self) -> list[int]:
        """How many taps lie in the map, for each place of the output."""
        return [
            sum(
                0 <= place * self.stride - self.before + tap * self.dilation < self.size_in
                for tap in range(self.taps)
            )
            for place in range(self.size_out)
        ]


def same_axis(size_in: int, size_out: int, taps: int, stride: int, dilation: int = 1) -> Axis:
    """An axis with TensorFlow's padding SAME; VALID where the output is that small."""
    missing = max((size_out - 1) * stride + (taps - 1) * dilation + 1 - size_in, 0)
    return Axis(size_in, size_out, taps, stride, dilation, missing // 2)


@dataclasses.dataclass(frozen=True)
class BinaryConvolution:
    """An LceBconv2d of one image.

    Attributes:
        height, width: its windows.
        words: of 32 channels in a pixel of a group.
        filters: of all groups.
        groups: of channels.
        pads_with_ones: whether +1 lies outside of the image, or 0.
    """

    height: Axis
    width: Axis
    words: int
    filters: int
    groups: int
    pads_with_ones: bool

    def units(self, kernel: str, store: str) -> collections.Counter[str]:
        """Counting bits, with the kernel `neon` or `neon_lookup`.

        Args:
            kernel: that does it.
            store: what its tiles write: "counts", "floats", "floats with shortcut" or either of the
                latter with "clamped" before it.
        """
        units = self._neon() if kernel == "neon" else self._lookup()
        for pixels, tiles in self._tiles():
            units[f"{kernel} {pixels}x32, {store}"] += tiles * self.height.size_out
        return units

    @property
    def values(self) -> int:
        """Of the output."""
        return self.height.size_out * self.width.size_out * self.filters

    def _tiles(self) -> Iterator[tuple[int, int]]:
        """Pixels of the tiles of a row, and how many of them there are."""
        blocks = self.groups * ceil(self.filters / self.groups / _TILE_FILTERS)
        full, rest = divmod(self.width.size_out, _TILE_PIXELS)
        for pixels, tiles in ((_TILE_PIXELS, full), (rest, 1)):
            if pixels and tiles:
                yield pixels, tiles * blocks

    @property
    def _filter_rows(self) -> int:
        """Of all rows of the output, those in the image."""
        return sum(self.height.inside())

    def _neon(self) -> collections.Counter[str]:
        units: collections.Counter[str] = collections.Counter()
        for pixels, tiles in self._tiles():
            # Of 16 channels and 8 filters.
            per_tap = pixels * self.words * (_WORD // 16) * (_TILE_FILTERS // 8)
            units[f"neon {pixels}x32"] += tiles * self._filter_rows * self.width.taps * per_tap
        spread = self.width.values_in(self.width.columns(self.width.size_out))
        units["neon spread"] = self._filter_rows * spread * self.words * self.groups
        skipped = self.height.taps * self.height.size_out - self._filter_rows
        if self.pads_with_ones:
            # Once for all pixels of a row.
            outside = skipped * self.width.taps
        else:
            outside = self._filter_rows * sum(
                self.width.taps - taps for taps in self.width.inside()
            )
        units["neon border"] = outside * self.filters // 8
        return units

    def _lookup(self) -> collections.Counter[str]:
        units: collections.Counter[str] = collections.Counter()
        rows = self._filter_rows
        if self.pads_with_ones:
            rows = self.height.taps * self.height.size_out
        lookups = self.width.taps * self.words * 8  # Of a filter row.
        for pixels, tiles in self._tiles():
            name = f"neon_lookup {pixels}x32"
            pairs = ceil(pixels / 2)
            units[name] += tiles * rows * lookups * pairs * (_TILE_FILTERS // 16)
            units[f"{name}, sums"] += tiles * rows * ceil(lookups / _MAX_LOOKUPS)
        pixel = self.words * self.groups * 8
        # Of the left pixels of all pairs; the right ones' are a stride further on.
        columns = self.width.columns(2 * ceil(self.width.size_out / 2) - 1)
        units["neon_lookup positions"] = rows * columns * pixel // 16
        unpacked = self.width.values_in(columns + self.width.stride)
        units["neon_lookup unpack"] = rows * unpacked * pixel // 32
        return units


def float_convolution(
    height: Axis, width: Axis, channels_in: int, filters: int, groups: int = 1
) -> collections.Counter[str]:
    """A stem on our kernels: Winograd's product for 7 taps and stride 2, else directly.

    Args:
        height, width: its windows.
        channels_in: of a group.
        filters: of all groups.
        groups: of channels.
    """
    units: collections.Counter[str] = collections.Counter()
    vectors, blocks = _float_block(filters // groups)
    blocks *= groups
    tile = f"{_FLOAT_PIXELS}x{vectors * _FLOAT_LANES}"
    rows = height.size_out
    if width.taps == 7 and width.stride == 2:
        depth = 2 * channels_in
        tiles = ceil(ceil(width.size_out / _WINOGRAD_PIXELS) / _FLOAT_PIXELS)
        all_tiles = rows * blocks * _WINOGRAD_POINTS * tiles
        units[f"winograd {tile}"] = all_tiles * height.taps * depth * _FLOAT_PIXELS * vectors
        units[f"winograd {tile}, around"] = all_tiles
        transformed = height.size_in * tiles * _FLOAT_PIXELS * ceil(depth / _FLOAT_LANES)
        units["winograd transform"] = transformed * _WINOGRAD_POINTS
        interpolated = rows * ceil(width.size_out / _WINOGRAD_PIXELS) * blocks * vectors
        units["winograd interpolate"] = interpolated * _INTERPOLATIONS
    else:
        depth = width.taps * channels_in
        all_tiles = rows * blocks * ceil(width.size_out / _FLOAT_PIXELS)
        units[f"direct {tile}"] = all_tiles * height.taps * depth * _FLOAT_PIXELS * vectors
        units[f"direct {tile}, around"] = all_tiles
    return units


def dense(pixels: int, channels_in: int, filters: int) -> collections.Counter[str]:
    """A 1x1 convolution, or a fully connected layer, on our kernels."""
    units: collections.Counter[str] = collections.Counter()
    vectors, blocks = _float_block(filters)
    tile = f"pixels {_FLOAT_PIXELS}x{vectors * _FLOAT_LANES}"
    for first in range(0, pixels, _CHUNK_PIXELS):
        chunk = min(_CHUNK_PIXELS, pixels - first)
        if chunk < _FLOAT_PIXELS:
            units["pixel 1x16"] += chunk * blocks * channels_in * vectors
        else:
            tiles = ceil(chunk / _FLOAT_PIXELS) * blocks
            units[tile] += tiles * channels_in * _FLOAT_PIXELS * vectors
            units[f"{tile}, around"] += tiles
    return units


def _float_block(filters: int) -> tuple[int, int]:
    """Vectors of a block of filters, and how many blocks there are."""
    # Four filters at most are counted as eight: no network here has so few.
    vectors = 2 if filters <= 2 * _FLOAT_LANES else 4
    return vectors, ceil(filters / (vectors * _FLOAT_LANES))
