"""Packing filters as LCE does, bit by bit."""

import numpy as np
import pytest

from bireal_keras.export import flatbuffer


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("channels", [2, 32, 40])
def test_packed_filters_of_a_transposed_kernel(size, channels):
    """Keras' kernels are (height, width, in, out): packing takes what a transpose gives."""
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2, (size, size, channels, 5)).astype(bool).transpose(3, 0, 1, 2)
    packed = flatbuffer.packed_filters(signs)
    assert packed.shape == (5, size, size, -(-channels // 32))
    bits = [(packed[..., c // 32] >> np.uint32(c % 32)) & 1 for c in range(channels)]
    np.testing.assert_array_equal(np.stack(bits, axis=-1), signs)
    assert sum(int(word).bit_count() for word in packed.flat) == signs.sum()
