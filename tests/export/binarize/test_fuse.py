"""What follows a binary layer: factors, biases, activations, thresholds."""

import numpy as np
import pytest
from export_helpers import operators
from float_file import SAME, VALID, FloatFile, binary_kernel, convolve, run, same_sides
from lce_layers import bconvs

from bireal_keras.export.binarize import binarize, told

SHAPE = (1, 6, 6, 40)
SIDES = [same_sides(6, 3)] * 2
OUT = 35
RNG = np.random.default_rng(3)
# Gammas of both signs, and none.
GAMMA = (RNG.uniform(0.5, 1.5, OUT) * RNG.choice([-1, 1], OUT)).astype(np.float32)
GAMMA[4] = 0
BETA = RNG.normal(size=OUT).astype(np.float32)
CONV = ["LceQuantize", "LceBconv2d"]
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3


def signs(seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], SHAPE).astype(np.float32)


def relu(x, low=0, high=np.inf):
    return np.clip(x, low, high)


# Name: what follows the sums in the file, what it means, which operators there are in the end;
# kernel magnitudes, padding with ones, activation of the layer itself.
FOLLOWING = {
    "nothing": (lambda f, y: y, lambda y: y, CONV, None, 0, 0),
    "batch_norm": (
        lambda f, y: f.op("ADD", f.op("MUL", y, GAMMA), BETA),
        lambda y: y * GAMMA + BETA,
        CONV,
        None,
        0,
        0,
    ),
    "all_arithmetic": (
        lambda f, y: f.op(
            "SUB", np.full((1, 6, 6, OUT), 3.0), f.op("DIV", f.op("SUB", y, BETA), 2.0)
        ),
        lambda y: 3 - (y - BETA) / 2,
        [*CONV, "SUB"],
        None,
        0,
        0,
    ),
    "on_the_left": (
        lambda f, y: f.op("SUB", BETA, y, shape=f.shape(y)),
        lambda y: BETA - y,
        CONV,
        None,
        0,
        0,
    ),
    "relu_on_ones": (
        lambda f, y: f.op("ADD", f.op("MUL", y, GAMMA), BETA),
        lambda y: relu(y) * GAMMA + BETA,
        CONV,
        None,
        1,
        RELU,
    ),
    "relu_operator": (lambda f, y: f.op("RELU", y), relu, CONV, None, 1, 0),
    "relu_on_zeros": (
        lambda f, y: f.op("MUL", y, GAMMA),
        lambda y: relu(y) * GAMMA,
        [*CONV, "RELU", "MUL"],
        None,
        0,
        RELU,
    ),
    "relu_after_bias": (
        lambda f, y: f.op("ADD", y, BETA, fusedActivationFunction=RELU),
        lambda y: relu(y + BETA),
        [*CONV, "RELU"],
        None,
        1,
        0,
    ),
    "relu_after_negative_factor": (
        lambda f, y: f.op("RELU", f.op("MUL", y, -GAMMA)),
        lambda y: relu(y * -GAMMA),
        [*CONV, "RELU"],
        None,
        1,
        0,
    ),
    "relu6_of_sums": (
        lambda f, y: f.op("MUL", y, GAMMA),
        lambda y: relu(y, 0, 6) * GAMMA,
        CONV,
        np.ones(OUT),
        1,
        RELU6,
    ),
    "relu6_of_multiples": (
        lambda f, y: f.op("MUL", y, GAMMA),
        lambda y: relu(y, 0, 6) * GAMMA,
        [*CONV, "RELU6", "MUL"],
        None,
        1,
        RELU6,
    ),
    "two_activations": (
        lambda f, y: f.op("RELU6", y),
        lambda y: relu(y, 0, 6),
        [*CONV, "RELU6"],
        np.ones(OUT),
        1,
        RELU,
    ),
    "for_each_pixel": (
        lambda f, y: f.op("ADD", y, np.arange(36).reshape(1, 6, 6, 1)),
        lambda y: y + np.arange(36).reshape(1, 6, 6, 1),
        [*CONV, "ADD"],
        None,
        0,
        0,
    ),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_following(name):
    follow, meaning, kinds, magnitudes, ones, activation = FOLLOWING[name]
    kernel = binary_kernel(np.random.default_rng(1), (OUT, 3, 3, SHAPE[-1]), magnitudes)
    file = FloatFile()
    sign = file.larq_sign(file.input(SHAPE))
    if ones:
        sign = file.pad(sign, SIDES, 1.0)
    y = file.conv(sign, kernel, padding=VALID if ones else SAME, activation=activation)
    content = file.build(follow(file, y))
    result = binarize(content)
    assert [kind for kind, _ in operators(result.content)] == kinds
    x = signs()
    expected = meaning(convolve(x, kernel, sides=SIDES, value=float(ones)))
    np.testing.assert_allclose(run(content, x)[0], expected, atol=1e-3)
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))


@pytest.mark.parametrize("reader", ["output", "sign", "sign_on_zeros", "both"])
@pytest.mark.parametrize(("channels", "is_deep"), [(55, False), (56, True)])
def test_clip_of_deep_sums(reader, channels, is_deep):
    """It stays an operator where digits would be lost: not where the sums become bits.

    A filter has 495 or 504 values for a range of 2; at 500 they are too many.
    """
    rng = np.random.default_rng(1)
    kernel = binary_kernel(rng, (OUT, 3, 3, channels), np.ones(OUT))
    second = binary_kernel(rng, (9, 3, 3, OUT))
    file = FloatFile()
    y = file.pad(file.larq_sign(file.input((1, 6, 6, channels))), SIDES, 1.0)
    y = file.conv(y, kernel, padding=VALID, activation=RELU_N1_TO_1)
    y = file.op("MUL", y, GAMMA)
    outputs = [y] if reader in ("output", "both") else []
    if reader != "output":
        sign = file.larq_sign(y)
        padded = sign if reader == "sign_on_zeros" else file.pad(sign, SIDES, 1.0)
        outputs.append(file.conv(padded, second, padding=SAME if sign == padded else VALID))
    content = file.build(*outputs)
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    is_apart = is_deep and reader in ("output", "both")
    assert ("RELU_N1_TO_1" in kinds, "MUL" in kinds) == (is_apart, is_apart)
    is_packed = ("LceBconv2d", "INT32") in operators(result.content)
    assert is_packed == (reader not in ("output", "both"))
    x = np.random.default_rng(0).choice([-1.0, 1.0], (1, 6, 6, channels)).astype(np.float32)
    assert all(check.is_right for check in told.check(content, result, [[x]]))
    for actual, expected in zip(run(result.content, x, delegate=True), run(content, x)):
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_what_several_read_is_not_followed():
    kernel = binary_kernel(np.random.default_rng(1), (OUT, 3, 3, SHAPE[-1]))
    file = FloatFile()
    y = file.conv(file.larq_sign(file.input(SHAPE)), kernel)
    content = file.build(file.op("MUL", y, GAMMA), y)
    result = binarize(content)
    assert [kind for kind, _ in operators(result.content)] == [*CONV, "MUL"]
    x = signs()
    for actual, expected in zip(run(result.content, x, delegate=True), run(content, x)):
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def chain(activation=0, ones=1, bias=BETA, second_sign=FloatFile.larq_sign, extra=False):
    """conv -> BatchNormalization -> sign -> conv, padded with ones."""
    rng = np.random.default_rng(1)
    kernels = [binary_kernel(rng, (OUT, 3, 3, SHAPE[-1])), binary_kernel(rng, (9, 3, 3, OUT))]
    file = FloatFile()
    y = file.larq_sign(file.input(SHAPE))
    y = file.pad(y, SIDES, 1.0) if ones else y
    y = file.conv(y, kernels[0], activation=activation, padding=VALID if ones else SAME)
    y = real = file.op("ADD", file.op("MUL", y, GAMMA), bias)
    y = file.conv(file.pad(second_sign(file, y), SIDES, 1.0), kernels[1], padding=VALID)
    return file.build(*([y, real] if extra else [y])), kernels


@pytest.mark.parametrize("activation", [0, RELU])
def test_packed_output(activation):
    """The first layer compares its sums with thresholds: the float file decides on each of them."""
    content, kernels = chain(activation)
    result = binarize(content)
    assert operators(result.content) == [
        ("LceQuantize", "INT32"),
        ("LceBconv2d", "INT32"),
        ("LceBconv2d", "FLOAT32"),
    ]
    first = bconvs(result.content)[0]
    assert (first.multiplier, first.bias) == (None, None)
    assert first.options["fused_activation_function"] == activation
    for seed in range(3):
        x = signs(seed)
        sums = convolve(x, kernels[0], sides=SIDES, value=1.0)
        real = (relu(sums) if activation else sums) * GAMMA + BETA
        bits = np.where(real >= 0, 1.0, -1.0)
        expected = convolve(bits, kernels[1], sides=SIDES, value=1.0)
        np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    checks = told.check(content, result, [[signs(seed)] for seed in range(3)])
    assert all(check.is_right for check in checks)


def test_threshold_on_every_sum():
    """Depth 1x1x6: each count of different signs, with biases right between and right on sums."""
    depth = 6
    multipliers = np.array([0.5, -0.5, 2.0, -2.0, 0.0, 0.0, 1.0, 1.0, -1.0, 1.0], np.float32)
    biases = np.array([0.0, 0.0, 4.0, 4.0, 1.0, -1.0, 6.0, 6.5, -6.5, -2.0], np.float32)
    kernel = np.ones((len(biases), 1, 1, depth)) * multipliers[:, None, None, None]
    rows = np.array([[1] * i + [-1] * (depth - i) for i in range(depth + 1)], np.float32)
    x = rows.reshape(1, depth + 1, 1, depth)
    file = FloatFile()
    y = file.conv(file.larq_sign(file.input(x.shape)), kernel, biases)
    one_hot = np.eye(len(biases))[:, None, None, :]
    # The sum of all signs and one twice tells that one.
    second = np.where(one_hot, 1.0, -1.0)
    content = file.build(file.conv(file.larq_sign(y), second))
    result = binarize(content)
    assert [kind for _, kind in operators(result.content)] == ["INT32", "INT32", "FLOAT32"]
    sums = 2 * np.arange(depth + 1) - depth
    bits = np.where(sums[:, None] * multipliers + biases >= 0, 1.0, -1.0)
    expected = bits @ second[:, 0, 0, :].T
    actual = run(result.content, x, delegate=True)[0].reshape(expected.shape)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(run(content, x)[0].reshape(expected.shape), expected, atol=1e-5)


def greater(file, y):
    condition = file.op("GREATER", y, 0.0, dtype=np.bool_)
    return file.op("SELECT_V2", condition, 1.0, -1.0, shape=file.shape(y))


@pytest.mark.parametrize(
    "arguments",
    [{"ones": 0}, {"extra": True}, {"second_sign": greater}],
    ids=["zeros", "read_as_real", "strict"],
)
def test_output_that_cannot_be_packed(arguments):
    content, _ = chain(**arguments)
    result = binarize(content)
    assert [kind for kind in operators(result.content) if kind[0] == "LceBconv2d"] == [
        ("LceBconv2d", "FLOAT32"),
        ("LceBconv2d", "FLOAT32"),
    ]
    assert all(check.is_right for check in told.check(content, result, [[signs()]]))


def test_packed_output_through_a_pool():
    """conv -> pool -> sign -> conv: the pool is one of bits."""
    rng = np.random.default_rng(1)
    kernels = [binary_kernel(rng, (OUT, 1, 1, SHAPE[-1])), binary_kernel(rng, (9, 1, 1, OUT))]
    file = FloatFile()
    y = file.conv(file.larq_sign(file.input(SHAPE)), kernels[0], BETA)
    y = file.op(
        "MAX_POOL_2D",
        y,
        shape=(1, 3, 3, OUT),
        padding=VALID,
        strideW=2,
        strideH=2,
        filterWidth=2,
        filterHeight=2,
    )
    content = file.build(file.conv(file.larq_sign(y), kernels[1]))
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    assert kinds == ["LceQuantize", "LceBconv2d", "LceBMaxPool2d", "LceBconv2d"]
    x = signs()
    y = convolve(x, kernels[0]) + BETA
    y = y.reshape(1, 3, 2, 3, 2, OUT).max(axis=(2, 4))
    expected = convolve(np.where(y >= 0, 1, -1), kernels[1])
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(check.is_right for check in told.check(content, result, [[x]]))
