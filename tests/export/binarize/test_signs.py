"""Every way to write a sign, and what looks like one and is none."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_helpers import operators
from float_file import SAME, VALID, FloatFile, binary_kernel, convolve, run, same_sides

from bireal_keras.export.binarize import binarize, told

SHAPE = (1, 6, 5, 34)
INT32 = schema.TensorType.INT32
SIDES = (same_sides(6, 3), same_sides(5, 3))


def compared(file, kind, left, right, low=-1.0, high=1.0):
    """tf.where(left kind right, high, low)."""
    operand = left if isinstance(left, int) else right
    condition = file.op(kind, left, right, shape=file.shape(operand), dtype=np.bool_)
    return file.op("SELECT_V2", condition, high, low, shape=file.shape(operand))


def ones_like(file, x):
    """With a free batch TensorFlow computes the shape of tf.ones_like."""
    condition = file.op("GREATER_EQUAL", x, 0.0, dtype=np.bool_)
    shape = file.op("SHAPE", x, shape=(4,), dtype=np.int32, outType=INT32)
    high, low = (
        file.op("BROADCAST_TO", file.constant(value), shape, shape=file.shape(x))
        for value in (1.0, -1.0)
    )
    return file.op("SELECT_V2", condition, high, low, shape=file.shape(x))


def cast(file, x):
    condition = file.op("GREATER_EQUAL", x, 0.0, dtype=np.bool_)
    return file.op("SUB", file.op("MUL", file.op("CAST", condition), 2.0), 1.0)


def inverted_cast(file, x):
    below = file.op("LESS", x, 0.0, dtype=np.bool_)
    inverted = file.op("LOGICAL_NOT", below, dtype=np.bool_)
    return file.op("ADD", file.op("MUL", file.op("CAST", inverted), 2.0), -1.0)


def straight_through(file, x):
    """x + stop_gradient(sign(x) - x)."""
    return file.op("ADD", x, file.op("SUB", file.larq_sign(x), x))


def clipped_straight_through(file, x):
    """(sign(x) - clip(x)) + clip(x)."""
    clipped = file.op("RELU_N1_TO_1", x)
    return file.op("ADD", file.op("SUB", file.larq_sign(x), clipped), clipped)


def zeros_replaced(file, x):
    sign = file.op("SIGN", x)
    is_zero = file.op("EQUAL", sign, 0.0, dtype=np.bool_)
    return file.op("SELECT_V2", is_zero, 1.0, sign, shape=file.shape(x))


def clipped_twice(file, x):
    """Finite operators on a sign: clip(3 * sign(x) + 1)."""
    return file.op("RELU_N1_TO_1", file.op("ADD", file.op("MUL", file.op("SIGN", x), 3.0), 1.0))


THRESHOLDS = np.linspace(-1, 1, SHAPE[-1], dtype=np.float32)


def plus(x):
    return np.where(x >= 0, 1.0, -1.0)


# Name: how a file writes it, and what it is.
SPELLINGS = {
    "larq": (lambda f, x: f.larq_sign(x), plus),
    "where_ge": (lambda f, x: compared(f, "GREATER_EQUAL", x, 0.0), plus),
    "where_lt": (lambda f, x: compared(f, "LESS", x, 0.0, 1.0, -1.0), plus),
    "where_gt": (lambda f, x: compared(f, "GREATER", x, 0.0), lambda x: np.where(x > 0, 1, -1)),
    "where_le": (
        lambda f, x: compared(f, "LESS_EQUAL", x, 0.0),
        lambda x: np.where(x <= 0, 1, -1),
    ),
    "zero_on_the_left": (
        lambda f, x: compared(f, "GREATER", f.constant(np.zeros(SHAPE)), x),
        lambda x: np.where(x < 0, 1, -1),
    ),
    "ones_like": (ones_like, plus),
    "cast": (cast, plus),
    "inverted_cast": (inverted_cast, plus),
    "straight_through": (straight_through, plus),
    "clipped_straight_through": (clipped_straight_through, plus),
    "zeros_replaced": (zeros_replaced, plus),
    "clipped_twice": (clipped_twice, plus),
    "half": (lambda f, x: f.op("MUL", f.larq_sign(x), 0.5), lambda x: 0.5 * plus(x)),
    "divided": (lambda f, x: f.op("DIV", f.larq_sign(x), -4.0), lambda x: -0.25 * plus(x)),
    "negated": (lambda f, x: f.op("NEG", f.larq_sign(x)), lambda x: -plus(x)),
    "threshold": (
        lambda f, x: compared(f, "GREATER_EQUAL", x, 0.5),
        lambda x: np.where(x >= 0.5, 1, -1),
    ),
    "threshold_on_the_left": (
        lambda f, x: compared(f, "GREATER_EQUAL", 0.5, x),
        lambda x: np.where(x <= 0.5, 1, -1),
    ),
    "thresholds": (
        lambda f, x: compared(f, "GREATER", x, THRESHOLDS),
        lambda x: np.where(x > THRESHOLDS, 1, -1),
    ),
}


@pytest.fixture
def x():
    """With zeros of both signs and values right at each threshold."""
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    flat = values.reshape(-1, SHAPE[-1])
    flat[0], flat[1], flat[2], flat[3] = 0.0, -0.0, 0.5, THRESHOLDS
    return values


@pytest.mark.parametrize("name", SPELLINGS)
def test_spelling(name, x):
    spell, meaning = SPELLINGS[name]
    rng = np.random.default_rng(1)
    kernel, bias = binary_kernel(rng, (40, 3, 3, SHAPE[-1])), rng.normal(size=40)
    file = FloatFile()
    content = file.build(file.conv(spell(file, file.input(SHAPE)), kernel, bias))
    result = binarize(content)
    assert [(layer.kind, layer.binary) for layer in result.layers] == [("CONV_2D", True)]
    kinds = [kind for kind, _ in operators(result.content)]
    assert kinds[-2:] == ["LceQuantize", "LceBconv2d"]
    # What is strict, or has a threshold, takes one operator more.
    assert kinds[:-2] in ([], ["GREATER"], ["GREATER_EQUAL"])
    expected = convolve(meaning(x), kernel, sides=SIDES) + bias
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


def test_comparison_of_two_tensors(x):
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, SHAPE[-1]))
    file = FloatFile()
    left, right = file.input(SHAPE), file.input(SHAPE)
    content = file.build(file.conv(compared(file, "LESS", left, right), kernel))
    result = binarize(content)
    assert result.layers[0].binary
    y = x[:, ::-1]
    expected = convolve(np.where(x < y, 1, -1), kernel, sides=SIDES)
    np.testing.assert_allclose(run(result.content, x, y, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x, y]]))


def transposed(file, x):
    axes = file.constant([0, 2, 1, 3], np.int32)
    return file.op("TRANSPOSE", x, axes, shape=(1, 5, 6, 34))


def reshaped(file, x):
    shape = file.constant([1, 3, 10, 34], np.int32)
    return file.op("RESHAPE", x, shape, shape=(1, 3, 10, 34), newShape=[1, 3, 10, 34])


def sliced(file, x, size=(1, 4, 5, 33)):
    begin = file.constant([0, 1, 0, 0], np.int32)
    return file.op("SLICE", x, begin, file.constant(size, np.int32), shape=size)


def pooled(file, x):
    return file.op(
        "MAX_POOL_2D",
        x,
        shape=(1, 3, 3, 34),
        padding=SAME,
        strideW=2,
        strideH=2,
        filterWidth=3,
        filterHeight=3,
    )


def pooled_in_numpy(x):
    padded = np.pad(x.astype(np.float32), [(0, 0), (0, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = [padded[:, i : i + 5 : 2, j : j + 5 : 2] for i in range(3) for j in range(3)]
    return np.max(windows, axis=0)


@pytest.mark.parametrize("back", [[0, 2, 3, 1], [0, 3, 2, 1]])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("turns_first", [False, True])
def test_transpositions_that_undo_each_other(turns_first, threshold, back, x):
    """As of torch.where, which litert-torch computes with the channels before height and width."""
    file = FloatFile()
    turned = tuple(SHAPE[axis] for axis in (0, 3, 1, 2))
    shape = tuple(turned[axis] for axis in back)
    first, second = (file.constant(order, np.int32) for order in ([0, 3, 1, 2], back))
    value = file.input(SHAPE)
    if turns_first:
        value = file.op("TRANSPOSE", value, first, shape=turned)
    value = file.op("GREATER_EQUAL", value, threshold, dtype=np.bool_)
    if not turns_first:
        value = file.op("TRANSPOSE", value, first, shape=turned, dtype=np.bool_)
    sign = file.op("SELECT_V2", value, 1.0, -1.0, shape=turned)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, shape[-1]))
    content = file.build(file.conv(file.op("TRANSPOSE", sign, second, shape=shape), kernel))
    result = binarize(content)
    assert result.layers[0].binary
    transpositions = [name for name, _ in operators(result.content) if name == "TRANSPOSE"]
    assert len(transpositions) == (0 if shape == SHAPE else 2)
    assert all(check.is_right for check in told.check(content, result, [[x]]))
    signs = np.where(x >= threshold, 1, -1).transpose(0, 3, 1, 2).transpose(back)
    expected = convolve(signs, kernel, sides=[same_sides(size, 3) for size in shape[1:3]])
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)


# What moves values between the sign and the layer.
MOVES = {
    "transposed": ([transposed], lambda x: x.transpose(0, 2, 1, 3)),
    "reshaped": ([reshaped], lambda x: x.reshape(1, 3, 10, 34)),
    "sliced": ([sliced], lambda x: x[:, 1:5, :, :33]),
    "pooled": ([pooled], pooled_in_numpy),
    "transposed_twice": (
        [transposed, reshaped],
        lambda x: x.transpose(0, 2, 1, 3).reshape(1, 3, 10, 34),
    ),
}


@pytest.mark.parametrize("spelling", ["larq", "threshold", "where_gt", "negated", "half"])
@pytest.mark.parametrize("name", MOVES)
def test_moved_sign(name, spelling, x):
    moves, meaning = MOVES[name]
    spell, sign = SPELLINGS[spelling]
    file = FloatFile()
    tensor = spell(file, file.input(SHAPE))
    for move in moves:
        tensor = move(file, tensor)
    shape = file.shape(tensor)
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, shape[-1]))
    content = file.build(file.conv(tensor, kernel))
    result = binarize(content)
    if (name, spelling) == ("pooled", "negated"):
        # The largest of negated signs is not the sign of a largest value.
        assert (result.layers[0].binary, result.layers[0].code) == (False, "pooled")
        return
    assert result.layers[0].binary
    sides = (same_sides(shape[1], 3), same_sides(shape[2], 3))
    expected = convolve(meaning(sign(x)), kernel, sides=sides)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


def test_pool_comes_after_the_signs(x):
    """Bits are pooled where real numbers would be: they are smaller."""
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, SHAPE[-1]))
    file = FloatFile()
    content = file.build(file.conv(file.larq_sign(pooled(file, file.input(SHAPE))), kernel))
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    assert kinds == ["LceQuantize", "LceBMaxPool2d", "LceBconv2d"]
    sides = (same_sides(3, 3), same_sides(3, 3))
    expected = convolve(plus(pooled_in_numpy(x)), kernel, sides=sides)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


def test_pool_that_is_read_as_real_numbers_stays(x):
    kernel = binary_kernel(np.random.default_rng(1), (34, 3, 3, SHAPE[-1]))
    file = FloatFile()
    pool = pooled(file, file.input(SHAPE))
    content = file.build(file.op("ADD", file.conv(file.larq_sign(pool), kernel), pool))
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    assert kinds == ["MAX_POOL_2D", "LceQuantize", "LceBconv2d", "ADD"]
    values = pooled_in_numpy(x)
    expected = convolve(plus(values), kernel, sides=(same_sides(3, 3), same_sides(3, 3))) + values
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)


def test_one_sign_for_several_layers(x):
    """Written twice, it is packed once, and what reads it as a real number still can."""
    rng = np.random.default_rng(1)
    kernels = [binary_kernel(rng, (34, 3, 3, SHAPE[-1])) for _ in range(2)]
    file = FloatFile()
    source = file.input(SHAPE)
    signs = [file.larq_sign(source), compared(file, "GREATER_EQUAL", source, 0.0)]
    outputs = [file.conv(sign, kernel) for sign, kernel in zip(signs, kernels)]
    content = file.build(*outputs, signs[0])
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    assert (kinds.count("LceQuantize"), kinds.count("LceBconv2d")) == (1, 2)
    for actual, expected in zip(run(result.content, x, delegate=True), run(content, x)):
        np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


def heaviside(file, x):
    """Larq's ste_heaviside: 0 or 1."""
    return file.op("SIGN", file.op("RELU", x))


def ternary(file, x):
    """Larq's ste_tern: sign(sign(x + t) + sign(x - t))."""
    both = [file.op("SIGN", file.op("ADD", x, shift)) for shift in (0.5, -0.5)]
    return file.op("SIGN", file.op("ADD", *both))


def after_fused_relu(file, x):
    return file.op("SIGN", file.op("ADD", x, 0.5, fusedActivationFunction=1))


def concatenated(file, x):
    signs = [file.larq_sign(x), file.larq_sign(file.op("NEG", x))]
    return file.op("CONCATENATION", *signs, shape=(*SHAPE[:3], 68), axis=3)


def resized(file, x):
    """Twice the size, as Keras's UpSampling2D."""
    size = file.constant([12, 10], np.int32)
    return file.op("RESIZE_NEAREST_NEIGHBOR", file.larq_sign(x), size, shape=(1, 12, 10, 34))


def space_to_depth(file, x):
    even = sliced(file, x, (1, 4, 4, 34))
    return file.op("SPACE_TO_DEPTH", file.larq_sign(even), shape=(1, 2, 2, 136), blockSize=2)


def depth_to_space(file, x):
    blocks = sliced(file, x, (1, 4, 5, 32))
    return file.op("DEPTH_TO_SPACE", file.larq_sign(blocks), shape=(1, 8, 10, 8), blockSize=2)


def reversed_columns(file, x):
    return file.op("REVERSE_V2", file.larq_sign(x), file.constant([2], np.int32))


def tiled(file, x):
    repeats = file.constant([1, 1, 1, 2], np.int32)
    return file.op("TILE", file.larq_sign(x), repeats, shape=(*SHAPE[:3], 68))


# Name: how a file writes it, the reason's code, a part of its text.
NO_SIGNS = {
    "tf_sign": (lambda f, x: f.op("SIGN", x), "tf_sign", "zero_sign='+1'"),
    "heaviside": (heaviside, "zero_one", "x >= 0"),
    "after_fused_relu": (after_fused_relu, "zero_one", "never negative"),
    "absolute": (lambda f, x: f.op("SIGN", f.op("ABS", x)), "zero_one", "never negative"),
    "ternary": (ternary, "ternary", "-1, 0 and \\+1"),
    "zero_one": (lambda f, x: f.op("RELU", f.larq_sign(x)), "zero_one", "values 0, 1"),
    "shifted": (lambda f, x: f.op("ADD", f.larq_sign(x), 0.5), "more_bits", "values -0.5, 1.5"),
    "per_channel": (lambda f, x: f.op("MUL", f.larq_sign(x), THRESHOLDS), "scaled", "more than"),
    "concatenated": (concatenated, "moved", "CONCATENATION"),
    "resized": (resized, "moved", "RESIZE_NEAREST_NEIGHBOR"),
    "space_to_depth": (space_to_depth, "moved", "SPACE_TO_DEPTH"),
    "depth_to_space": (depth_to_space, "moved", "DEPTH_TO_SPACE"),
    "reversed": (reversed_columns, "moved", "REVERSE_V2"),
    "tiled": (tiled, "moved", "TILE"),
    "clipped": (lambda f, x: f.op("RELU_N1_TO_1", x), "unknown_sign", "not a sign"),
}


@pytest.mark.parametrize("zero_sign", ["refuse", "+1"])
@pytest.mark.parametrize("name", NO_SIGNS)
def test_no_sign(name, zero_sign, x):
    spell, code, text = NO_SIGNS[name]
    file = FloatFile()
    tensor = spell(file, file.input(SHAPE))
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, file.shape(tensor)[-1]))
    content = file.build(file.conv(tensor, kernel))
    result = binarize(content, zero_sign=zero_sign)
    [layer] = result.layers
    if (name, zero_sign) == ("tf_sign", "+1"):
        assert (layer.binary, layer.code, layer.explanation) == (True, "", "")
        return
    assert (layer.binary, layer.code) == (False, code)
    assert pytest.approx(run(content, x)[0]) == run(result.content, x)[0]
    assert text.replace("\\", "") in layer.explanation


@pytest.mark.parametrize("ones", [False, True])
@pytest.mark.parametrize(
    ("low", "high", "spell"),
    [
        (0, 1, lambda f, x: f.op("CAST", f.op("GREATER_EQUAL", x, 0.0, dtype=np.bool_))),
        (1, 0, lambda f, x: f.op("CAST", f.op("LESS", x, 0.0, dtype=np.bool_))),
        (0, 1, lambda f, x: f.op("RELU", f.larq_sign(x))),
        (-0.5, 1.5, lambda f, x: f.op("ADD", f.larq_sign(x), 0.5)),
    ],
    ids=["cast", "inverted", "relu", "shifted"],
)
def test_two_other_values(low, high, spell, ones, x):
    """Where no zeros are padded, their mean goes into the bias: so TensorFlow leaves 2 * x - 1."""
    rng = np.random.default_rng(1)
    kernel, bias = binary_kernel(rng, (40, 3, 3, SHAPE[-1])), rng.normal(size=40)
    file = FloatFile()
    y = spell(file, file.input(SHAPE))
    # Padding with the value above the threshold is padding with +1.
    y = file.pad(y, SIDES, float(high)) if ones else y
    content = file.build(file.conv(y, kernel, bias, padding=VALID))
    result = binarize(content)
    assert [kind for kind, _ in operators(result.content)] == ["LceQuantize", "LceBconv2d"]
    sides = SIDES if ones else [(0, 0), (0, 0)]
    expected = convolve(np.where(x >= 0, high, low), kernel, sides=sides, value=float(high)) + bias
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


def test_zero_that_counts_as_one_is_looked_for(x):
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, SHAPE[-1]))
    file = FloatFile()
    content = file.build(file.conv(file.op("SIGN", file.input(SHAPE)), kernel))
    result = binarize(content, zero_sign="+1")
    [sign, output] = told.check(content, result, [[x]])
    assert (sign.zeros, sign.is_right) == (np.count_nonzero(x == 0), False)
    assert output.is_right
    x[x == 0] = 1
    assert all(check.is_right for check in told.check(content, result, [[x]]))
    expected = convolve(plus(x), kernel, sides=SIDES)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)


def test_zeros_of_rounding_do_not_refuse_a_network():
    """Float32 makes a few of four million sums exactly 0, and a ReLU half of a channel's."""
    rng = np.random.default_rng(0)
    file = FloatFile()
    signs = file.op("SIGN", file.input((1, 64, 64, 32)))
    content = file.build(file.conv(signs, binary_kernel(rng, (4, 1, 1, 32))))
    result = binarize(content, zero_sign="+1")
    terms = rng.normal(size=(32, 1, 1, 64, 64, 32)).astype(np.float32) + np.float32(20)
    sums = terms - np.float32(20)
    [sign, _] = told.check(content, result, sums)
    assert sign.zeros == np.count_nonzero(sums == 0) > 0
    assert sign.is_right
    sums[0, ..., 0] = np.maximum(sums[0, ..., 0], 0)
    [sign, _] = told.check(content, result, sums)
    assert not sign.is_right
