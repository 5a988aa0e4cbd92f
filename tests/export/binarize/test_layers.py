"""Kernels and layers of every kind, those that are packed and those that are not."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_helpers import operators
from float_file import VALID, FloatFile, binary_kernel, convolve, run, same_sides
from lce_layers import bconvs

from bireal_keras.export.binarize import binarize, told
from bireal_keras.tflite.model import serialize

SHAPE = (1, 4, 4, 64)
SIDES = [same_sides(4, 3)] * 2


def signs(shape=SHAPE):
    return np.random.default_rng(0).choice([-1.0, 1.0], shape).astype(np.float32)


def conv_of(kernel, shape=SHAPE):
    file = FloatFile()
    return file.build(file.conv(file.larq_sign(file.input(shape)), kernel))


def check(content, x, expected, **options):
    """Packs the only layer of a file and compares; returns it and its LceBconv2d."""
    result = binarize(content, **options)
    [layer] = result.layers
    assert layer.binary, layer
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(one.is_right for one in told.check(content, result, [[x]]))
    [bconv] = bconvs(result.content)
    return layer, bconv


@pytest.mark.parametrize(("groups", "binary"), [(1, True), (2, True), (4, False)])
def test_groups(groups, binary):
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64 // groups))
    content = conv_of(kernel)
    expected = convolve(signs(), kernel, sides=SIDES)
    if binary:
        check(content, signs(), expected)
        return
    [layer] = binarize(content).layers
    assert (layer.binary, layer.code) == (False, "groups")
    assert "4 groups has 16 input channels" in layer.explanation


@pytest.mark.parametrize("scale", [1e-41, 1e-6, 1.0, 1e30])
def test_scales(scale):
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64), np.full(8, scale))
    [bconv] = bconvs(binarize(conv_of(kernel)).content)
    assert (bconv.multiplier == np.float32(scale)).all()


def test_magnitudes_that_differ_by_rounding():
    """PyTorch's estimator, (s * sign(w) - c) + c, rounds each weight in its own way."""
    rng = np.random.default_rng(1)
    exact = binary_kernel(rng, (8, 3, 3, 64))
    clipped = rng.uniform(-1, 1, exact.shape).astype(np.float32)
    rounded = (exact - clipped) + clipped
    assert (rounded != exact).any()
    _, bconv = check(conv_of(rounded), signs(), convolve(signs(), exact, sides=SIDES))
    np.testing.assert_allclose(bconv.multiplier, np.abs(exact[:, 0, 0, 0]), rtol=1e-6)


def test_dead_filters_and_gammas_of_zero():
    """Neither keeps the layer in float; the signs of negative zeros survive."""
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    original = kernel.copy()
    kernel[2] *= 0.0  # Zeros of both signs.
    kernel[5] = 0.0
    _, bconv = check(conv_of(kernel), signs(), convolve(signs(), kernel, sides=SIDES))
    assert (bconv.multiplier[[2, 5]] == 0).all()
    [other] = bconvs(binarize(conv_of(original)).content)
    np.testing.assert_array_equal(bconv.filters[2], other.filters[2])
    assert not bconv.filters[5].any()


def test_zero_among_the_weights():
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    kernel[3, 1, 1, 7] = -0.0
    content = conv_of(kernel)
    result = binarize(content)
    [layer] = result.layers
    assert (layer.binary, layer.code) == (False, "zero_weights")
    assert "1 of the weights of filter 3 are exactly 0" in layer.explanation
    assert "zero_weights='+1'" in layer.explanation
    assert operators(result.content) == operators(content)

    kernel[3, 1, 1, 7] = np.abs(kernel[3, 0, 0, 0])
    expected = convolve(signs(), kernel, sides=SIDES)
    result = binarize(content, zero_weights="+1")
    assert (result.layers[0].binary, result.layers[0].zero_weights) == (True, 1)
    np.testing.assert_allclose(run(result.content, signs(), delegate=True)[0], expected, atol=1e-3)


@pytest.mark.parametrize("zero_weights", ["refuse", "+1"])
def test_ternary_kernels_stay(zero_weights):
    rng = np.random.default_rng(1)
    for values in ([-1.0, 0.0, 1.0], [0.0, 1.0]):
        kernel = rng.choice(values, (8, 3, 3, 64))
        [layer] = binarize(conv_of(kernel), zero_weights=zero_weights).layers
        assert (layer.binary, layer.code) == (False, "kernel_values")
        assert "exactly 0" in layer.explanation


@pytest.mark.parametrize("odd", [1.01, np.nan, np.inf])
def test_kernels_of_other_values_stay(odd):
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64), np.ones(8))
    kernel[6, 0, 2, 1] = odd
    [layer] = binarize(conv_of(kernel)).layers
    assert (layer.binary, layer.code) == (False, "kernel_values")
    assert "filter 6" in layer.explanation


def test_kernel_that_is_computed():
    """As litert-torch leaves large ones: mean(|w|) * sign(w), clipped, in another order of axes."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(64, 3, 3, 8)).astype(np.float32)
    file = FloatFile()
    stored = file.constant(weights)
    axes = file.constant([0, 1, 2], np.int32)
    scale = file.op("MEAN", file.op("ABS", stored), axes, shape=(1, 1, 1, 8), keepDims=True)
    scaled = file.op("MUL", file.op("SIGN", stored), scale)
    clipped = file.op("RELU_N1_TO_1", stored)
    estimated = file.op("ADD", file.op("SUB", scaled, clipped), clipped)
    order = file.constant([3, 1, 2, 0], np.int32)
    kernel = file.op("TRANSPOSE", estimated, order, shape=(8, 3, 3, 64))
    content = file.build(file.conv(file.larq_sign(file.input(SHAPE)), kernel))
    quantized = np.sign(weights) * np.abs(weights).mean(axis=(0, 1, 2))
    check(content, signs(), convolve(signs(), quantized.transpose(3, 1, 2, 0), sides=SIDES))
    assert len(binarize(content).content) < weights.nbytes / 8


def test_half_precision_kernel():
    """A float16 file has a DEQUANTIZE before each kernel."""
    kernel = binary_kernel(np.random.default_rng(1), (8, 1, 1, 64), np.full(8, 0.25))
    file = FloatFile()
    half = file.op("DEQUANTIZE", file.constant(kernel, np.float16), shape=kernel.shape)
    content = file.build(file.conv(file.larq_sign(file.input(SHAPE)), half))
    check(content, signs(), convolve(signs(), kernel))


def dense_of(x, kernel, file=None, bias=None):
    """A FULLY_CONNECTED of a tensor, or of the sign of a new input."""
    file = file or FloatFile()
    rows = int(np.prod(file.shape(x))) // kernel.shape[1]
    bias = np.zeros(len(kernel)) if bias is None else bias
    return file.op("FULLY_CONNECTED", x, kernel, bias, shape=(rows, len(kernel)))


def dense_kernel(out, depth, seed=1):
    return binary_kernel(np.random.default_rng(seed), (out, 1, 1, depth)).reshape(out, depth)


@pytest.mark.parametrize("shape", [(1, 70), (5, 70), (1, 2, 3, 35)])
def test_dense(shape):
    """A 1x1 convolution; one that sums over several axes as well."""
    kernel, bias = dense_kernel(9, 70), np.arange(9)
    file = FloatFile()
    content = file.build(dense_of(file.larq_sign(file.input(shape)), kernel, file, bias))
    x = signs(shape)
    check(content, x, x.reshape(-1, 70).astype(np.float64) @ kernel.T + bias)
    kinds = [kind for kind, _ in operators(binarize(content).content)]
    assert kinds == ["RESHAPE", "LceQuantize", "LceBconv2d", "RESHAPE"]


def test_dense_layers_hand_on_bits():
    """dense -> BatchNormalization -> sign -> dense."""
    kernels = dense_kernel(40, 70), dense_kernel(9, 40, seed=2)
    rng = np.random.default_rng(5)
    gamma, beta = rng.choice([-1.5, 1.5], 40), rng.normal(size=40)
    file = FloatFile()
    y = dense_of(file.larq_sign(file.input((3, 70))), kernels[0], file)
    y = file.larq_sign(file.op("ADD", file.op("MUL", y, gamma), beta))
    content = file.build(dense_of(y, kernels[1], file))
    result = binarize(content)
    kinds = [kind for kind, _ in operators(result.content)]
    assert kinds == ["RESHAPE", "LceQuantize", "LceBconv2d", "LceBconv2d", "RESHAPE"]
    x = signs((3, 70))
    hidden = np.where((x @ kernels[0].T) * gamma + beta >= 0, 1, -1)
    expected = hidden @ kernels[1].T
    np.testing.assert_allclose(run(result.content, x, delegate=True)[0], expected, atol=1e-3)
    assert all(one.is_right for one in told.check(content, result, [[x]]))


def test_dense_after_a_pool_of_signs():
    """convolution's sign -> pool -> flatten -> dense, and the same sign read by a convolution."""
    rng = np.random.default_rng(1)
    file = FloatFile()
    sign = file.larq_sign(file.input(SHAPE))
    pool = file.op(
        "MAX_POOL_2D",
        sign,
        shape=(1, 2, 2, 64),
        padding=VALID,
        strideW=2,
        strideH=2,
        filterWidth=2,
        filterHeight=2,
    )
    flat = file.op("RESHAPE", pool, file.constant([1, 256], np.int32), shape=(1, 256))
    dense, kernel = dense_kernel(9, 256), binary_kernel(rng, (8, 1, 1, 64))
    content = file.build(dense_of(flat, dense, file), file.conv(sign, kernel))
    result = binarize(content)
    assert [layer.binary for layer in result.layers] == [True, True]
    x = signs()
    pooled = x.reshape(1, 2, 2, 2, 2, 64).max(axis=(2, 4))
    actual = run(result.content, x, delegate=True)
    np.testing.assert_allclose(actual[0], pooled.reshape(1, 256) @ dense.T, atol=1e-3)
    np.testing.assert_allclose(actual[1], convolve(x, kernel), atol=1e-3)
    assert all(one.is_right for one in told.check(content, result, [[x]]))


def test_depthwise_stays():
    file = FloatFile()
    kernel = np.random.default_rng(1).choice([-1.0, 1.0], (1, 3, 3, 64))
    output = file.op(
        "DEPTHWISE_CONV_2D",
        file.larq_sign(file.input(SHAPE)),
        kernel,
        np.zeros(64),
        depthMultiplier=1,
        strideW=1,
        strideH=1,
        dilationWFactor=1,
        dilationHFactor=1,
    )
    content = file.build(output)
    result = binarize(content)
    [layer] = result.layers
    assert (layer.kind, layer.binary, layer.code) == ("DEPTHWISE_CONV_2D", False, "kind")
    np.testing.assert_array_equal(run(result.content, signs())[0], run(content, signs())[0])


def test_real_layers_are_not_listed():
    """Neither the input nor the kernel is 1-bit."""
    rng = np.random.default_rng(1)
    file = FloatFile()
    content = file.build(file.conv(file.input(SHAPE), rng.normal(size=(8, 3, 3, 64))))
    assert binarize(content).layers == ()


def edited(content, edit):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    edit(model)
    return serialize(model)


def test_free_size_stays():
    def free(model):
        for tensor in model.subgraphs[0].tensors:
            if len(tensor.shape) == 4:
                tensor.shapeSignature = [-1, -1, -1, tensor.shape[3]]

    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    [layer] = binarize(edited(conv_of(kernel), free)).layers
    assert (layer.binary, layer.code) == (False, "dynamic")


def test_free_batch_becomes_one():
    def free(model):
        for tensor in model.subgraphs[0].tensors:
            if len(tensor.shape) == 4 and tensor.buffer == 0:
                tensor.shapeSignature = [-1, *tensor.shape[1:]]

    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    content = binarize(edited(conv_of(kernel), free)).content
    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    assert all(tensor.shapeSignature is None for tensor in graph.tensors)
    assert list(graph.tensors[graph.inputs[0]].shape) == [1, 4, 4, 64]


def test_int8_kernels_are_refused():
    def quantize(model):
        graph = model.subgraphs[0]
        tensor = graph.tensors[graph.operators[-1].inputs[1]]
        tensor.type = schema.TensorType.INT8
        model.buffers[tensor.buffer].data = np.zeros(int(np.prod(tensor.shape)), np.uint8)

    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    with pytest.raises(ValueError, match=r"quantized to integers.*without `optimizations`"):
        binarize(edited(conv_of(kernel), quantize))


def test_variables_are_refused():
    def add_variable(model):
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.VAR_HANDLE, 127
        model.operatorCodes.append(code)

    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    with pytest.raises(ValueError, match=r"VAR_HANDLE.*SavedModel"):
        binarize(edited(conv_of(kernel), add_variable))


def test_a_state_is_refused():
    def add_state(model):
        state = schema.TensorT()
        state.name, state.shape, state.type = b"state", [1, 4], schema.TensorType.FLOAT32
        state.isVariable = True
        model.subgraphs[0].tensors.append(state)

    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    with pytest.raises(ValueError, match=r"a state from one run to the next.* unroll=True"):
        binarize(edited(conv_of(kernel), add_state))


def test_several_subgraphs_are_refused():
    kernel = binary_kernel(np.random.default_rng(1), (8, 3, 3, 64))
    with pytest.raises(ValueError, match=r"one subgraph.* Received: 2\. .*unroll=True"):
        binarize(edited(conv_of(kernel), lambda model: model.subgraphs.append(model.subgraphs[0])))


@pytest.mark.parametrize("argument", ["zero_sign", "zero_weights"])
def test_unfit_arguments(argument):
    with pytest.raises(ValueError, match=rf"`{argument}` must be 'refuse' or '\+1'.*'-1'"):
        binarize(b"", **{argument: "-1"})
