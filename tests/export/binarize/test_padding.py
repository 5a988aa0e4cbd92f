"""Padding of every kind: TensorFlow's, PyTorch's, with ones, around dilated convolutions."""

import itertools

import numpy as np
import pytest
from export_helpers import operators
from float_file import SAME, VALID, FloatFile, binary_kernel, convolve, run, same_sides
from lce_layers import bconvs

from bireal_keras.export.binarize import binarize, told

CHANNELS = 33


def signs(shape):
    return np.random.default_rng(0).choice([-1.0, 1.0], shape).astype(np.float32)


def check(file, output, kernel, expected, x, *, kinds=None):
    """Builds the file, packs it and compares what comes out; returns its one LceBconv2d."""
    content = file.build(output)
    result = binarize(content)
    assert [layer.binary for layer in result.layers] == [True], result.layers
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(one.is_right for one in told.check(content, result, [[x]]))
    if kinds is not None:
        assert [kind for kind, _ in operators(result.content)] == kinds
    [bconv] = bconvs(result.content)
    return bconv


@pytest.mark.parametrize("taps", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("padding", [SAME, VALID])
def test_padding_of_tensorflow(taps, stride, dilation, padding):
    shape = (1, 7, 6, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, taps, taps, CHANNELS))
    file = FloatFile()
    sign = file.larq_sign(file.input(shape))
    output = file.conv(sign, kernel, stride=stride, dilation=dilation, padding=padding)
    sides = [same_sides(size, taps, stride, dilation) for size in shape[1:3]]
    sides = sides if padding == SAME else ((0, 0), (0, 0))
    x = signs(shape)
    expected = convolve(x, kernel, stride=stride, dilation=dilation, sides=sides)
    bconv = check(file, output, kernel, expected, x, kinds=["LceQuantize", "LceBconv2d"])
    pads = any(any(pair) for pair in sides)
    assert (bconv.options["padding"], bconv.options["pad_values"]) == (int(not pads), 0)


@pytest.mark.parametrize("value", [None, 0.0, 1.0])
@pytest.mark.parametrize("size", [7, 8])
def test_padding_as_same(size, value):
    """Of PAD, which has no value, and of PADV2."""
    shape = (1, size, size, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, CHANNELS))
    file = FloatFile()
    sign = file.larq_sign(file.input(shape))
    sides = [same_sides(size, 3, 2)] * 2
    output = file.conv(file.pad(sign, sides, value), kernel, stride=2, padding=VALID)
    x = signs(shape)
    expected = convolve(x, kernel, stride=2, sides=sides, value=value or 0.0)
    bconv = check(file, output, kernel, expected, x, kinds=["LceQuantize", "LceBconv2d"])
    assert (bconv.options["padding"], bconv.options["pad_values"]) == (SAME, int(value or 0))


@pytest.mark.parametrize("size", [4, 5, 6, 7])
@pytest.mark.parametrize("taps", [3, 5, 7])
def test_padding_of_pytorch(taps, size):
    """With stride 2 and `taps // 2` zeros on all sides, whatever the size of the map."""
    shape = (1, size, size, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, taps, taps, CHANNELS))
    file = FloatFile()
    sign = file.larq_sign(file.input(shape))
    sides = [(taps // 2, taps // 2)] * 2
    output = file.conv(file.pad(sign, sides), kernel, stride=2, padding=VALID)
    x = signs(shape)
    expected = convolve(x, kernel, stride=2, sides=sides)
    content = file.build(output)
    result = binarize(content)
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(one.is_right for one in told.check(content, result, [[x]]))
    kinds = [kind for kind, _ in operators(result.content)]
    if size % 2:
        assert kinds == ["LceQuantize", "LceBconv2d"]
    elif taps == 3:
        assert kinds == ["LceQuantize", "PAD", "LceBconv2d", "SLICE"]
    else:
        # Its last window needs zeros after the last row, where the added row would be.
        assert not result.layers[0].binary
        assert f"{taps // 2} columns of zeros" in result.layers[0].explanation


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_any_padding(before, after, stride, value):
    """It is computed as in the float file, or stays there with its reason."""
    shape = (1, 6, 7, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 2, CHANNELS))
    file = FloatFile()
    sign = file.larq_sign(file.input(shape))
    sides = [(before, after), (after, before)]
    padded = file.pad(sign, sides, value)
    content = file.build(file.conv(padded, kernel, stride=stride, padding=VALID))
    result = binarize(content)
    x = signs(shape)
    expected = convolve(x, kernel, stride=stride, sides=sides, value=value)
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    [layer] = result.layers
    assert layer.binary or (value == 0 and layer.code == "padded")


def dilated(file, sign, kernel, rate, paddings, crops):
    """As TensorFlow writes a dilated convolution."""
    shape = file.shape(sign)
    block = file.constant([rate, rate], np.int32)
    padded = [size + sum(pair) for size, pair in zip(shape[1:3], paddings)]
    assert not any(size % rate for size in padded)
    blocks = (rate * rate, padded[0] // rate, padded[1] // rate, shape[3])
    x = file.op("SPACE_TO_BATCH_ND", sign, block, file.constant(paddings, np.int32), shape=blocks)
    x = file.conv(x, kernel, padding=VALID)
    out = [size * rate - sum(pair) for size, pair in zip(file.shape(x)[1:3], crops)]
    crops = file.constant(crops, np.int32)
    return file.op("BATCH_TO_SPACE_ND", x, block, crops, shape=(1, *out, len(kernel)))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("value", [None, 0.0, 1.0])
def test_dilation_by_space_to_batch(size, value):
    """SAME padding by 2 on each side; what makes the map a multiple of the rate is cropped."""
    shape = (1, size, size, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, CHANNELS))
    factor = np.random.default_rng(2).uniform(0.5, 1, 8)
    file = FloatFile()
    sign = file.larq_sign(file.input(shape))
    missing = size % 2
    if value is None:
        y = dilated(file, sign, kernel, 2, [(2, 2 + missing)] * 2, [(0, missing)] * 2)
    else:
        sign = file.pad(sign, [(2, 2)] * 2, value)
        y = dilated(file, sign, kernel, 2, [(0, missing)] * 2, [(0, missing)] * 2)
    y = file.op("ADD", file.op("MUL", y, factor), 0.25)
    x = signs(shape)
    result = convolve(x, kernel, dilation=2, sides=[(2, 2)] * 2, value=value or 0.0)
    bconv = check(file, y, kernel, result * factor + 0.25, x, kinds=["LceQuantize", "LceBconv2d"])
    assert bconv.options["dilation_height_factor"] == bconv.options["dilation_width_factor"] == 2
    assert bconv.options["pad_values"] == int(value or 0)


def test_dilation_without_its_end_stays():
    """Something else reads the blocks."""
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, CHANNELS))
    file = FloatFile()
    sign = file.larq_sign(file.input((1, 8, 8, CHANNELS)))
    block = file.constant([2, 2], np.int32)
    sides = file.constant(np.zeros((2, 2)), np.int32)
    blocks = file.op("SPACE_TO_BATCH_ND", sign, block, sides, shape=(4, 4, 4, CHANNELS))
    content = file.build(file.conv(blocks, kernel, padding=VALID))
    [layer] = binarize(content).layers
    assert (layer.binary, layer.code) == (False, "dilation")


@pytest.mark.parametrize(
    ("amplitude", "value", "code"),
    [(1.0, -1.0, "pad_values"), (0.5, 0.5, ""), (0.5, 1.0, "pad_values"), (-1.0, -1.0, "")],
)
def test_value_of_the_padding_is_compared_with_the_sign(amplitude, value, code):
    shape = (1, 6, 6, CHANNELS)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, CHANNELS))
    file = FloatFile()
    sign = file.op("MUL", file.larq_sign(file.input(shape)), amplitude)
    content = file.build(file.conv(file.pad(sign, [(1, 1)] * 2, value), kernel, padding=VALID))
    result = binarize(content)
    assert result.layers[0].code == code
    x = signs(shape)
    expected = convolve(amplitude * x, kernel, sides=[(1, 1)] * 2, value=value)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)


def test_zeros_around_ones_stay():
    file = FloatFile()
    sign = file.pad(file.larq_sign(file.input((1, 6, 6, CHANNELS))), [(1, 1)] * 2, 1.0)
    kernel = binary_kernel(np.random.default_rng(1), (8, 5, 5, CHANNELS))
    [layer] = binarize(file.build(file.conv(sign, kernel))).layers
    assert (layer.binary, layer.code) == (False, "padded")


def test_padded_channels_stay():
    file = FloatFile()
    sign = file.larq_sign(file.input((1, 6, 6, CHANNELS)))
    sides = file.constant([(0, 0), (1, 1), (1, 1), (0, 1)], np.int32)
    padded = file.op("PAD", sign, sides, shape=(1, 8, 8, CHANNELS + 1))
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, CHANNELS + 1))
    [layer] = binarize(file.build(file.conv(padded, kernel, padding=VALID))).layers
    assert (layer.binary, layer.code) == (False, "padded")


def test_every_geometry_agrees_with_numpy():
    """Padding of the module against windows counted one by one."""
    from bireal_keras.export.binarize.padding import Axis, Padding, solve

    other = Axis(size=5, filter=1, stride=1, dilation=1, before=0, out=5)
    solved = 0
    for size, taps, stride, dilation, before, after in itertools.product(
        range(1, 8), range(1, 5), range(1, 4), range(1, 3), range(4), range(4)
    ):
        extent = (taps - 1) * dilation + 1
        out = (size + before + after - extent) // stride + 1
        if out < 1:
            continue
        found = solve(Axis(size, taps, stride, dilation, before, out), other, ones=False)
        if not isinstance(found, Padding):
            continue
        solved += 1
        added = found.added[0]
        # Where an added one is read is not where a zero should be.
        rows = size + sum(added)
        start, wanted = 0, (rows - extent) // stride + 1
        if found.same:
            wanted = -(-rows // stride)
            start = max(0, (wanted - 1) * stride + extent - rows) // 2
        assert found.out[0] == wanted >= out
        for window in range(out):
            taps_read = [window * stride - before + i * dilation for i in range(taps)]
            taps_there = [window * stride - start + i * dilation - added[0] for i in range(taps)]
            inside = [tap for tap in taps_read if 0 <= tap < size]
            assert inside == [tap for tap in taps_there if -added[0] <= tap < rows - added[0]]
    assert solved > 300
