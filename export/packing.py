"""Signs as bits, in the words of Larq Compute Engine's files.

A word is 32 channels, the first in its lowest bit; a set bit is -1, and unused bits are 0.
"""

import numpy as np


def pack_filters(negative: np.ndarray) -> np.ndarray:
    """Packs filters as LCE does.

    Args:
        negative: (out, height, width, in) bool, True for -1.

    Returns:
        (out, height, width, ceil(in / 32)) uint32.
    """
    padding = -negative.shape[-1] % 32
    negative = np.pad(negative, [(0, 0)] * 3 + [(0, padding)])
    # In whatever order the memory of a transposed kernel is, words take four bytes in a row.
    packed = np.ascontiguousarray(np.packbits(negative, axis=-1, bitorder="little"))
    return packed.view("<u4")


def unpack_signs(words: np.ndarray, channels: int) -> np.ndarray:
    """Bit-packed signs (..., words) int32 as (..., channels) bool, True for -1."""
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little", count=channels).astype(bool)
