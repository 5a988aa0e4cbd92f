"""Packing as LCE does, bit by bit."""

import numpy as np
import pytest

from bireal_keras.export.packing import pack_filters, unpack_signs


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("channels", [2, 32, 40])
def test_pack_filters_of_a_transposed_kernel(size, channels):
    """Keras' kernels are (height, width, in, out): packing takes what a transpose gives."""
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2, (size, size, channels, 5)).astype(bool).transpose(3, 0, 1, 2)
    packed = pack_filters(signs)
    assert packed.shape == (5, size, size, -(-channels // 32))
    bits = [(packed[..., c // 32] >> np.uint32(c % 32)) & 1 for c in range(channels)]
    np.testing.assert_array_equal(np.stack(bits, axis=-1), signs)
    assert sum(int(word).bit_count() for word in packed.flat) == signs.sum()


def test_unpack_signs():
    """Two pixels of 40 channels: of the second word, 24 bits only fill up."""
    words = np.zeros((1, 2, 2), np.int32)
    words[0, 0] = [0b101, 1 << 7]
    words[0, 1] = [-(2**31), 0]
    negative = unpack_signs(words, 40)
    assert negative.shape == (1, 2, 40)
    assert np.argwhere(negative).tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 39], [0, 1, 31]]
