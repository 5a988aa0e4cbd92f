"""AVERAGE_POOL_2D, 1x1 CONV_2D, MEAN, FULLY_CONNECTED and SOFTMAX: a network's shortcuts and head.

What is expected is computed in double precision, in NumPy.
"""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from float_ops import assert_same_on_every_kernel, reported, rms, run, windows
from lce_ops import NONE, RELU, RELU6, SAME, VALID, Op, Tensor, build_model, constant

# Of the values, relative to their root mean square; LiteRT's own, which is tested by the same, adds
# up as many products one after the other.
MAX_RMS_ERROR = 5e-7


class Chain:
    """Float operators one after the other, after a pair of LCE's ops that makes them ours.

    Attributes:
        x: of the input, whose signs the operators get.
        expected: of the operators so far, in double precision.
    """

    def __init__(self, shape: tuple[int, int, int, int], seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.x = self.random.normal(size=shape).astype(np.float32)
        packed = (*shape[:-1], -(-shape[-1] // 32))
        self.tensors = [Tensor(shape), Tensor(packed, np.int32), Tensor(shape)]
        self.ops = [Op("LceQuantize", [0], [1]), Op("LceDequantize", [1], [2])]
        self.expected = np.where(self.x < 0, -1.0, 1.0)
        # Signs alone would add up without rounding.
        self.convolve(shape[-1])

    def append(self, name: str, constants, expected, options, named: str):
        inputs = [self.ops[-1].outputs[0]]
        for value in constants:
            inputs.append(-1 if value is None else len(self.tensors))
            if value is not None:
                self.tensors.append(constant(value))
        self.tensors.append(Tensor(expected.shape))
        self.ops.append(Op(name, inputs, [len(self.tensors) - 1], builtin=(named, options)))
        self.expected = expected
        return self

    def convolve(self, channels_out: int, activation: int = NONE):
        channels_in = self.expected.shape[-1]
        filters = self.random.normal(size=(channels_out, 1, 1, channels_in)).astype(np.float32)
        filters /= np.float32(np.sqrt(channels_in))
        bias = self.random.normal(size=channels_out).astype(np.float32)
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = activation
        y = self.expected @ filters[:, 0, 0].T.astype(np.float64) + bias
        y = np.maximum(y, 0) if activation == RELU else y
        return self.append("CONV_2D", [filters, bias], y, options, "Conv2DOptions")

    def pool(self, filter_size=(2, 2), strides=(2, 2), padding: int = VALID):
        options = schema.Pool2DOptionsT()
        options.padding = padding
        options.filterHeight, options.filterWidth = filter_size
        options.strideH, options.strideW = strides
        y = np.nanmean(windows(self.expected, filter_size, strides, padding, np.nan), axis=(-2, -1))
        return self.append("AVERAGE_POOL_2D", [], y, options, "Pool2DOptions")

    def depthwise(self, filter_size=(3, 3), strides=(2, 2), padding=SAME, activation: int = NONE):
        channels = self.expected.shape[-1]
        filters = self.random.normal(size=(1, *filter_size, channels)).astype(np.float32)
        bias = self.random.normal(size=channels).astype(np.float32)
        options = schema.DepthwiseConv2DOptionsT()
        options.padding = padding
        options.strideH, options.strideW = strides
        options.depthMultiplier = options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = activation
        views = windows(self.expected, filter_size, strides, padding, 0.0)
        y = np.einsum("bhwcij,ijc->bhwc", views, filters[0].astype(np.float64)) + bias
        y = np.maximum(y, 0) if activation == RELU else y
        return self.append(
            "DEPTHWISE_CONV_2D", [filters, bias], y, options, "DepthwiseConv2DOptions"
        )

    def mean(self, axes=(1, 2), keep_dims: bool = False):
        options = schema.ReducerOptionsT()
        options.keepDims = keep_dims
        y = self.expected.mean(axis=axes, keepdims=keep_dims)
        return self.append("MEAN", [np.array(axes, np.int32)], y, options, "ReducerOptions")

    def fully_connected(
        self, outputs: int, bias: bool = True, keep_dims: bool = False, activation: int = NONE
    ):
        inputs = self.expected.shape[-1]
        weights = self.random.normal(size=(outputs, inputs)).astype(np.float32)
        weights /= np.float32(np.sqrt(inputs))
        values = self.random.normal(size=outputs).astype(np.float32) if bias else None
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = keep_dims
        options.fusedActivationFunction = activation
        y = self.expected @ weights.T.astype(np.float64) + (0 if values is None else values)
        y = y if keep_dims else y.reshape(-1, outputs)
        y = np.maximum(y, 0) if activation == RELU else y
        return self.append(
            "FULLY_CONNECTED", [weights, values], y, options, "FullyConnectedOptions"
        )

    def softmax(self, beta: float = 1.0):
        options = schema.SoftmaxOptionsT()
        options.beta = beta
        y = np.exp(beta * (self.expected - self.expected.max(axis=-1, keepdims=True)))
        y /= y.sum(axis=-1, keepdims=True)
        return self.append("SOFTMAX", [], y, options, "SoftmaxOptions")

    def model(self) -> bytes:
        return build_model(self.tensors, self.ops, [0], [self.ops[-1].outputs[0]])


def assert_right(chain: Chain, tolerance: float = MAX_RMS_ERROR, **options) -> None:
    """Against double precision, as LiteRT is, and the same bytes on every kernel and thread."""
    model = chain.model()
    (ours,) = run(model, chain.x, **options)
    (theirs,) = run(model, chain.x, float_ops="litert")
    assert ours.shape == theirs.shape == chain.expected.shape
    for values in (ours, theirs):
        assert rms(values - chain.expected) <= tolerance * rms(chain.expected)
    assert_same_on_every_kernel(model, chain.x, [ours])


@pytest.mark.parametrize(
    "channels", [(1, 1), (3, 17), (16, 16), (33, 65), (9, 90), (64, 128), (257, 100)]
)
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 7), (14, 15)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_pointwise_convolutions(channels, size, batch):
    channels_in, channels_out = channels
    chain = Chain((batch, *size, channels_in), seed=size[1] + channels_in)
    assert_right(chain.convolve(channels_out, RELU if channels_out % 2 else NONE))


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("seed", range(12))
def test_average_pools(seed, padding):
    random = np.random.default_rng(seed)
    filter_size, strides = random.integers(1, 5, 2), random.integers(1, 4, 2)
    size = [int(random.integers(f if padding == VALID else 1, 20)) for f in filter_size]
    channels = [1, 3, 16, 33, 64, 100][seed % 6]
    chain = Chain((1 + 2 * (seed % 2), *size, channels), seed=seed)
    assert_right(chain.pool(tuple(map(int, filter_size)), tuple(map(int, strides)), padding))


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("seed", range(12))
def test_depthwise_convolutions(seed, padding):
    random = np.random.default_rng(seed)
    filter_size, strides = random.integers(1, 5, 2), [int(random.integers(1, 4))] * 2
    size = [int(random.integers(f if padding == VALID else 1, 20)) for f in filter_size]
    channels = [1, 3, 16, 33, 64, 100][seed % 6]
    chain = Chain((1 + 2 * (seed % 2), *size, channels), seed=seed)
    chain.depthwise(tuple(map(int, filter_size)), strides, padding, RELU if seed % 3 else NONE)
    assert_right(chain)


@pytest.mark.parametrize("axes", [(1, 2), (2, 1), (-3, -2)])
@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 7, 512), (3, 4, 5, 33), (2, 1, 1, 8)], ids=str)
def test_means_over_the_image(shape, keep_dims, axes):
    assert_right(Chain(shape).mean(axes, keep_dims))


def test_the_mean_of_a_large_map_is_as_exact():
    """LiteRT adds up all values one after the other, and is off by ten times as much."""
    chain = Chain((1, 56, 56, 33)).convolve(33, RELU).mean()
    (ours,) = run(chain.model(), chain.x)
    assert rms(ours - chain.expected) <= MAX_RMS_ERROR * rms(chain.expected)
    assert_same_on_every_kernel(chain.model(), chain.x, [ours])


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_heads(batch, bias):
    assert_right(Chain((batch, 7, 7, 96)).mean().fully_connected(1000, bias))


@pytest.mark.parametrize("beta", [0.25, 1.0, 30.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 33, 1000])
def test_softmax(classes, beta):
    """Every value, of the logits as the delegate computes them."""
    chain = Chain((2, 3, 3, 8)).mean().fully_connected(classes)
    (logits,) = run(chain.model(), chain.x)
    (values,) = run(chain.softmax(beta).model(), chain.x)
    arguments = beta * (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    expected = np.exp(arguments)
    expected /= expected.sum(axis=-1, keepdims=True)
    # exp() turns the rounding of its argument into a relative error. What is less than the
    # smallest normal number is 0.
    tolerance = (4e-7 + 1.2e-7 * np.abs(arguments)) * expected + 1.2e-38
    assert (np.abs(values - expected) <= tolerance).all()
    np.testing.assert_allclose(values.sum(axis=-1), 1, rtol=3e-7)
    assert_same_on_every_kernel(chain.model(), chain.x, [values])


def test_a_softmax_of_values_far_apart():
    """exp() of what is far below the maximum is 0, and no NaN comes from it."""
    chain = Chain((1, 2, 2, 4)).mean().fully_connected(64)
    weights = chain.tensors[chain.ops[-1].inputs[1]]
    weights.value = weights.value * np.float32(1000)
    chain.tensors[chain.ops[-1].inputs[2]].value *= np.float32(1000)
    chain.softmax()
    (values,) = run(chain.model(), chain.x)
    assert np.isfinite(values).all()
    assert np.count_nonzero(values == 0) > 30
    np.testing.assert_allclose(values.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("keep_dims", [False, True])
def test_fully_connected_of_images(keep_dims):
    assert_right(Chain((2, 3, 4, 24)).fully_connected(10, keep_dims=keep_dims, activation=RELU))


def test_leaves_sparse_weights_to_litert(capfd):
    """The file has the values that are not 0, row by row, and where in its row each is."""
    chain = Chain((1, 1, 1, 4)).fully_connected(4)
    dense = np.diag(np.float32([2, 3, 4, 5]))
    weights = chain.ops[-1].inputs[1]
    chain.tensors[weights] = constant(dense)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(chain.model(), 0))
    tensor = model.subgraphs[0].tensors[weights]
    model.buffers[tensor.buffer].data = np.frombuffer(dense.diagonal().tobytes(), np.uint8)
    tensor.sparsity = schema.SparsityParametersT()
    tensor.sparsity.traversalOrder, tensor.sparsity.blockMap = [0, 1], []
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 4
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegments, columns.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    columns.arraySegments.values, columns.arrayIndices.values = [0, 1, 2, 3, 4], [0, 1, 2, 3]
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    tensor.sparsity.dimMetadata = [rows, columns]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")

    run(bytes(builder.Output()), chain.x, verbose=1)
    assert reported(capfd)[0].startswith("3 of 4 nodes")


def test_a_network_is_one_partition(capfd):
    chain = (
        Chain((1, 14, 14, 64)).depthwise().pool().convolve(128).mean().fully_connected(10).softmax()
    )
    run(chain.model(), chain.x, verbose=1)
    claimed, steps = reported(capfd)
    assert claimed.startswith("9 of 9 nodes")
    assert steps == "9 nodes in 9 steps"


@pytest.mark.parametrize(
    "change",
    [
        lambda chain: chain.convolve(8, RELU6),
        lambda chain: chain.depthwise(activation=RELU6),
        lambda chain: chain.mean((1,)),
        lambda chain: chain.mean((0, 1)),
        lambda chain: chain.mean((1, 2, 3)),
        lambda chain: chain.fully_connected(8, activation=RELU6),
    ],
)
def test_leaves_others_to_litert(change, capfd):
    chain = Chain((2, 4, 4, 16))
    ours = len(chain.ops)
    change(chain)
    (values,) = run(chain.model(), chain.x, verbose=1)
    assert reported(capfd)[0].startswith(f"{ours} of {ours + 1} nodes")
    if chain.ops[-1].name == "MEAN":
        assert rms(values - chain.expected) <= MAX_RMS_ERROR * rms(chain.expected)


def test_leaves_them_to_litert_where_nothing_before_is_ours(capfd):
    """A float network with a binary layer somewhere else stays as it was."""
    chain = Chain((1, 4, 4, 16)).pool()
    first = chain.ops[2]
    # The first convolution reads the graph's input.
    first.inputs[0] = 0
    run(chain.model(), chain.x, verbose=1)
    assert reported(capfd)[0].startswith("2 of 4 nodes")


def test_leaves_groups_of_channels_to_litert(capfd):
    chain = Chain((1, 4, 4, 16))
    filters = chain.tensors[chain.ops[-1].inputs[1]]
    halves = filters.value[:, 0, 0]
    filters.value = np.ascontiguousarray(filters.value[..., :8])
    filters.shape = filters.value.shape
    signs = np.where(chain.x < 0, -1.0, 1.0)
    bias = chain.tensors[chain.ops[-1].inputs[2]].value
    expected = [signs[..., half] @ halves[half, :8].T for half in (slice(8), slice(8, 16))]
    (values,) = run(chain.model(), chain.x, verbose=1)
    assert reported(capfd)[0].startswith("2 of 3 nodes")
    np.testing.assert_allclose(values, np.concatenate(expected, -1) + bias, atol=1e-5)
