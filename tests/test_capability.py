"""Representational capability: the formulas by brute force, the counter against NumPy."""

import itertools
import math
import re

import numpy as np
import pytest

from bireal_keras import blocks, capability
from bireal_keras._keras import keras, lq
from bireal_keras.capability import Conv, Count, values_per_entry


def all_signs(channels):
    """(2^channels, channels): every 1-bit activation of a 1x1 map."""
    return np.array(list(itertools.product([-1, 1], repeat=channels)))


def batch_norm(x):
    """Any scale and offset that make no two sums of different terms equal."""
    return x * math.sqrt(2) / 7 + 0.3


def distinct(values):
    return len(np.unique(np.round(values, 9)))


class TestFormulas:
    @pytest.mark.parametrize(("kernel_size", "channels"), [(1, 1), (1, 7), (2, 3), (3, 1)])
    def test_one_convolution(self, kernel_size, channels):
        """A kernel over all of its input: every input, every sum."""
        conv = Conv(kernel_size, channels)
        inputs = all_signs(kernel_size**2 * channels)
        weights = np.random.default_rng(0).choice([-1, 1], inputs.shape[1])
        assert distinct(batch_norm(inputs @ weights)) == conv.values
        assert values_per_entry([conv], shortcuts=False) == [Count.of(conv.values)]

    def test_plain_net_of_three_convolutions(self):
        """A 1x1 map of 6 channels, all inputs: 7 values before each sign, no more."""
        rng = np.random.default_rng(0)
        x = all_signs(6)
        for count in values_per_entry([Conv(1, 6)] * 3, shortcuts=False):
            x = batch_norm(np.where(x >= 0, 1, -1) @ rng.choice([-1, 1], (6, 6)))
            assert max(distinct(channel) for channel in x.T) <= count.exact == 7

    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_shortcut_multiplies(self, channels):
        """What comes along and what the convolution adds, in every combination."""
        first, second = values_per_entry([Conv(1, channels)] * 2, shortcuts=True)
        sums = np.unique(all_signs(channels).sum(axis=1))
        along = math.sqrt(3) * sums
        assert distinct(along) == first.exact == channels + 1
        assert distinct(along[:, None] + batch_norm(sums)) == second.exact == (channels + 1) ** 2

    def test_sign_of_the_shortcut_is_one_of_the_products(self):
        """Why a network stays below: channel 0 adds its own value to a sum with its own sign.

        All inputs of a 1x1 map of 4 channels, of 6 values each: 6 * 4, not 6 * 5.
        """
        values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) * math.sqrt(3)
        x = np.array(list(itertools.product(values, repeat=4)))
        entry = x[:, 0] + batch_norm(np.where(x >= 0, 1, -1) @ np.array([1, -1, 1, 1]))
        (bound,) = values_per_entry([Conv(1, 4)], shortcuts=True, start=6)
        assert bound.exact == 30
        assert distinct(entry) == 24

    def test_pooled_shortcut_has_many_inputs(self):
        """4 entries of 2 channels of 3 values each, weighted and added up."""
        weights = np.sqrt([2, 3, 5, 7, 11, 13, 17, 19])
        values = np.array(list(itertools.product([-1, 0, 1], repeat=8))) @ weights
        (count,) = values_per_entry([Conv(1, 2, shortcut_inputs=8)], shortcuts=True, start=3)
        sums = np.array([-2, 0, 2]) * math.sqrt(23)
        assert distinct(values[:, None] + sums) == count.exact == 3**8 * 3

    def test_the_papers_example(self):
        """3x3 kernels of 32 channels: 288 products, 289 values, 289^2 with a shortcut."""
        convs = [Conv(3, 32)] * 3
        plain = values_per_entry(convs, shortcuts=False)
        assert [count.exact for count in plain] == [289, 289, 289]
        shortcuts = values_per_entry(convs, shortcuts=True)
        assert [count.exact for count in shortcuts] == [289, 289**2, 289**3]

    def test_birealnet_18(self):
        convs = capability.birealnet((4, 4, 4, 4))
        channels = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 3
        assert [conv.channels for conv in convs] == channels
        pooled = {4: 4 * 64, 8: 4 * 128, 12: 4 * 256}
        assert [conv.shortcut_inputs for conv in convs] == [pooled.get(i, 1) for i in range(16)]
        counts = values_per_entry(convs, shortcuts=True)
        assert counts[4].exact == 577 ** (4 * 256) * 577
        assert counts[8].exact is None
        assert counts[8].log2 == pytest.approx(math.log2(1153) + 512 * counts[7].log2)
        assert str(counts[1]) == "332,929"
        assert str(counts[4]) == f"2^{1025 * math.log2(577):,.1f}"

    def test_the_documentation_has_our_figures(self, repository):
        text = (repository / "docs" / "capability.md").read_text()
        convs = capability.birealnet((4, 4, 4, 4), width=32)[:10]
        plain = values_per_entry(convs, shortcuts=False)
        shortcuts = values_per_entry(convs, shortcuts=True)
        rows = [line for line in text.splitlines() if re.match(r"\| \d+", line)]
        assert len(rows) == 10
        for row, *counts in zip(rows, plain, shortcuts):
            assert [cell.strip() for cell in row.split("|")[2:4]] == [
                str(count) for count in counts
            ]

    def test_start(self):
        (count,) = values_per_entry([Conv(3, 32)], shortcuts=True, start=256**27)
        assert count.exact == 289 * 256**27
        with pytest.raises(ValueError, match=r"`start` must be positive\. Received: start=0"):
            values_per_entry([], shortcuts=True, start=0)
        with pytest.raises(ValueError, match=r"`channels` must be positive\. .*channels=0"):
            Conv(3, 0)

    def test_finite_values(self):
        patterns = np.arange(2**16, dtype=np.uint16).view(np.float16)
        assert capability.finite_values(np.float16) == len(
            np.unique(patterns[np.isfinite(patterns)])
        )
        # 0x7f7fffff is the last finite pattern of one sign, and 0 belongs to both.
        assert capability.finite_values(np.float32) == 2 * (0x7F7FFFFF + 1) - 1 == 4_278_190_079
        assert capability.finite_values(np.float64) == 2 * (0x7FEFFFFFFFFFFFFF + 1) - 1


class TestDistinctValues:
    def net(self):
        inputs = keras.Input((6, 6, 3))
        x = blocks.cifar_stem(inputs, 8)
        for index in range(2):
            x = blocks.shortcut_block(x, 8, conv=blocks.binary_conv(), name=f"block{index}")
        return keras.Model(inputs, x)

    def test_equals_numpy(self):
        model = self.net()
        # Few colours, so that values repeat.
        images = np.random.default_rng(0).choice([-1, 0, 1], (40, 1, 1, 3)) * np.ones((6, 6, 1))
        images = images.astype(np.float32)
        counts = capability.distinct_values(model, images, entries=1000, tolerance=0)
        assert list(counts) == ["block0_conv", "block1_conv"]
        for name, actual in counts.items():
            watched = keras.Model(model.inputs, model.get_layer(name).input)
            values = watched(images).numpy().reshape(40, -1)
            np.testing.assert_array_equal(actual, [len(np.unique(column)) for column in values.T])
        assert max(counts["block0_conv"]) <= 27

    def test_batches(self):
        images = np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype(np.float32)
        model = self.net()
        whole, parts = (capability.distinct_values(model, images, batch_size=n) for n in (40, 7))
        for name, counts in whole.items():
            np.testing.assert_allclose(parts[name], counts, atol=1)

    def test_equal_sums_of_scaled_kernels_count_once(self):
        """They differ in their last digits, and a plain net seems to have more values."""
        inputs = keras.Input((5, 5, 4))
        conv = blocks.binary_conv()
        x = conv(inputs, 4, 3, 1, "first")
        model = keras.Model(inputs, conv(blocks.batch_norm(x, "bn"), 4, 3, 1, "second"))
        images = np.random.default_rng(0).normal(size=(400, 5, 5, 4)).astype(np.float32)
        exact = capability.distinct_values(model, images, tolerance=0)
        counts = capability.distinct_values(model, images)
        assert min(counts["first"]) > 395
        assert 15 < max(counts["second"]) <= Conv(3, 4).values < max(exact["second"])

    def test_draws_entries(self):
        images = np.zeros((3, 6, 6, 3), np.float32)
        counts = capability.distinct_values(self.net(), images, entries=10)
        assert {name: values.tolist() for name, values in counts.items()} == {
            "block0_conv": [1] * 10,
            "block1_conv": [1] * 10,
        }

    def test_a_model_without_signs(self):
        model = keras.Sequential([keras.Input((4,)), lq.layers.QuantDense(2)])
        with pytest.raises(ValueError, match="must have layers with a 1-bit `input_quantizer`"):
            capability.distinct_values(model, np.zeros((1, 4)))
