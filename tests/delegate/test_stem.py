"""CONV_2D of few channels, MAX_POOL_2D and LceQuantize: the stem of a network.

What is expected is computed in double precision, in NumPy, from sliding windows.
"""

import dataclasses

import ai_edge_litert.interpreter as litert
import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from float_ops import (
    KERNELS,
    assert_same_on_every_kernel,
    reported,
    rms,
    run,
    supported,
    windows,
)
from lce_ops import NONE, RELU, RELU6, SAME, VALID, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime

# Of the values, relative to their root mean square.
MAX_RMS_ERROR = 3e-7


@dataclasses.dataclass
class Pool:
    filter_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (2, 2)
    padding: int = SAME

    def __call__(self, x: np.ndarray) -> np.ndarray:
        views = windows(x, self.filter_size, self.strides, self.padding, -np.inf)
        return views.max(axis=(-2, -1))

    def op(self, source: int, target: int) -> Op:
        options = schema.Pool2DOptionsT()
        options.padding = self.padding
        options.filterHeight, options.filterWidth = self.filter_size
        options.strideH, options.strideW = self.strides
        return Op("MAX_POOL_2D", [source], [target], builtin=("Pool2DOptions", options))


class Stem:
    """A CONV_2D with random weights, perhaps a MAX_POOL_2D, and an LceQuantize."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        filter_size: int = 7,
        stride: int = 2,
        batch: int = 1,
        channels_in: int = 3,
        channels_out: int = 64,
        groups: int = 1,
        padding: int = SAME,
        activation: int = NONE,
        pool: Pool | None = None,
        seed: int = 0,
    ):
        random = np.random.default_rng(seed)
        shape = (channels_out, filter_size, filter_size, channels_in // groups)
        self.groups = groups
        self.x = random.normal(size=(batch, *size, channels_in)).astype(np.float32)
        self.filter = random.normal(size=shape).astype(np.float32)
        self.bias = random.normal(size=channels_out).astype(np.float32)
        self.stride, self.padding, self.activation, self.pool = stride, padding, activation, pool

    def convolution(self) -> np.ndarray:
        size = self.filter.shape[1:3]
        strides = (self.stride, self.stride)
        views = windows(self.x.astype(np.float64), size, strides, self.padding, 0.0)
        parts = np.split(self.filter.astype(np.float64), self.groups)
        y = [
            np.einsum("bhwcij,oijc->bhwo", view, part, optimize=True)
            for view, part in zip(np.split(views, self.groups, axis=3), parts)
        ]
        y = np.concatenate(y, axis=3) + self.bias
        return np.maximum(y, 0) if self.activation == RELU else y

    def expected(self) -> np.ndarray:
        y = self.convolution()
        return y if self.pool is None else self.pool(y)

    def model(self, *, unfused: bool = False) -> bytes:
        """Its outputs are the values and their signs, if `unfused` the convolution's, too."""
        convolved, result = self.convolution().shape, self.expected().shape
        options = schema.Conv2DOptionsT()
        options.padding = self.padding
        options.strideH = options.strideW = self.stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = self.activation
        packed = (*result[:3], -(-result[3] // 32))
        tensors = [Tensor(self.x.shape), constant(self.filter), constant(self.bias)]
        tensors += [Tensor(convolved), Tensor(result), Tensor(packed, np.int32)]
        ops = [Op("CONV_2D", [0, 1, 2], [3], builtin=("Conv2DOptions", options))]
        values = 3
        if self.pool is not None:
            ops.append(self.pool.op(3, 4))
            values = 4
        ops.append(Op("LceQuantize", [values], [5]))
        outputs = [values, 5] + ([3] if unfused and values != 3 else [])
        return build_model(tensors, ops, [0], outputs)


def assert_right(stem: Stem, outputs: list[np.ndarray], expected: np.ndarray) -> None:
    values, signs = outputs
    assert values.shape == expected.shape
    assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)
    assert signs.tobytes() == pack(np.where(values < 0, -1, 1)).tobytes()


SIZES = [(32, 32), (33, 47), (64, 64), (97, 65), (128, 131), (224, 224), (225, 223), (512, 509)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("filter_size", "stride"), [(7, 2), (3, 1), (3, 2)])
def test_is_right_in_sizes_of_images(size, filter_size, stride):
    channels_out = 64 if max(size) < 500 else 16
    pool = Pool() if filter_size == 7 else None
    stem = Stem(size, filter_size=filter_size, stride=stride, channels_out=channels_out, pool=pool)
    model, expected = stem.model(), stem.expected()
    outputs = run(model, stem.x)
    assert_right(stem, outputs, expected)
    for kernel in filter(supported, KERNELS):
        # One value at a time, the portable kernel takes a while for the largest.
        if kernel != "portable" or max(size) < 225:
            threads = 2 if kernel == "portable" else 4
            others = run(model, stem.x, kernel=kernel, num_threads=threads)
            for output, other in zip(outputs, others, strict=True):
                assert output.tobytes() == other.tobytes(), kernel


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels_in", "channels_out", "groups"),
    [
        (32, 32, 4),
        (32, 64, 8),
        (8, 8, 8),
        (48, 3, 3),
        (30, 40, 10),
        (32, 132, 2),
    ],
)
def test_groups_of_channels(channels_in, channels_out, groups, stride):
    """As MeliusNet's stem has them; batches of 1 and 3, odd sizes, both paddings."""
    for seed, (size, padding) in enumerate([((9, 13), SAME), ((12, 7), VALID), ((3, 3), SAME)]):
        stem = Stem(
            size,
            filter_size=3,
            stride=stride,
            batch=1 + 2 * (seed % 2),
            channels_in=channels_in,
            channels_out=channels_out,
            groups=groups,
            padding=padding,
            activation=RELU if groups == 8 else NONE,
            pool=Pool() if groups == 4 else None,
            seed=seed,
        )
        outputs = run(stem.model(), stem.x)
        assert_right(stem, outputs, stem.expected())
        assert_same_on_every_kernel(stem.model(), stem.x, outputs)


@pytest.mark.parametrize(("filter_size", "stride"), [(7, 2), (3, 1), (3, 2)])
def test_differs_from_xnnpack_by_rounding_only(filter_size, stride):
    stem = Stem((96, 112), filter_size=filter_size, stride=stride, pool=Pool(), seed=1)
    expected = stem.expected()
    ours, _ = run(stem.model(), stem.x)
    theirs, _ = run(stem.model(), stem.x, float_ops="litert")
    assert rms(theirs - expected) <= MAX_RMS_ERROR * rms(expected)
    assert rms(ours - expected) <= MAX_RMS_ERROR * rms(expected)
    assert rms(ours - theirs) <= 1.5 * MAX_RMS_ERROR * rms(expected)


def random_stem(seed: int) -> Stem:
    random = np.random.default_rng(seed)

    def choose(*options):
        return options[random.integers(len(options))]

    filter_size, stride = choose((7, 2), (3, 1), (3, 2))
    padding = choose(SAME, SAME, VALID)
    smallest = filter_size if padding == VALID else 1
    size = tuple(int(random.integers(smallest, choose(smallest + 6, 65))) for _ in range(2))
    pool = None
    if choose(True, False):
        pool = Pool(
            (choose(2, 3), choose(2, 3)), (choose(1, 2, 3), choose(1, 2, 3)), choose(SAME, VALID)
        )
        extent = [(s - (padding == VALID) * (filter_size - 1) - 1) // stride + 1 for s in size]
        if any(s < f for s, f in zip(extent, pool.filter_size)):
            pool.padding = SAME
    return Stem(
        size,
        filter_size=filter_size,
        stride=stride,
        batch=choose(1, 1, 3),
        channels_in=choose(1, 2, 3, 3, 4),
        channels_out=choose(1, 3, 8, 15, 16, 17, 32, 33, 48, 64, 65, 100),
        padding=padding,
        activation=choose(NONE, RELU),
        pool=pool,
        seed=seed,
    )


@pytest.mark.parametrize("part", range(6))
def test_grid(part):
    """Small and odd sizes, all strides, paddings and channels: right, and the same everywhere."""
    for seed in range(20 * part, 20 * part + 20):
        stem = random_stem(seed)
        model, expected = stem.model(), stem.expected()
        outputs = run(model, stem.x)
        # A few values may cancel: compared with the largest.
        error = np.abs(outputs[0] - expected).max()
        assert error <= 2e-6 * np.abs(stem.convolution()).max(initial=1), seed
        assert outputs[1].tobytes() == pack(np.where(outputs[0] < 0, -1, 1)).tobytes()
        assert_same_on_every_kernel(model, stem.x, outputs)
        # Its third output is the map that the fused step never makes.
        for output, other in zip(outputs, run(stem.model(unfused=True), stem.x)):
            assert output.tobytes() == other.tobytes(), seed


def test_a_stem_is_one_step(capfd):
    stem = Stem((20, 20), pool=Pool())
    run(stem.model(), stem.x, verbose=1)
    assert reported(capfd)[1:] == ["3 nodes in 1 steps"]


def test_a_convolution_that_others_read_is_a_step_of_its_own(capfd):
    stem = Stem((20, 20), pool=Pool())
    run(stem.model(unfused=True), stem.x, verbose=1)
    assert reported(capfd)[1:] == ["3 nodes in 3 steps"]


@pytest.mark.parametrize(
    ("float_ops", "kernel", "claimed"),
    [
        ("litert", "portable", 1),
        ("delegate", "portable", 3),
        # One value at a time is not what is fastest.
        ("fastest", "portable", 1),
        ("fastest", "avx2", 3),
        ("fastest", "avx512", 3),
        ("fastest", "neon", 3),
        ("fastest", "neon_lookup", 3),
    ],
)
def test_who_runs_float_operators(float_ops, kernel, claimed, capfd):
    if not supported(kernel):
        pytest.skip(f"this CPU cannot run the kernel {kernel}")
    stem = Stem((20, 20), pool=Pool())
    run(stem.model(), stem.x, verbose=1, float_ops=float_ops, kernel=kernel)
    assert reported(capfd)[0].startswith(f"{claimed} of 3 nodes")


def test_leaves_a_model_without_binary_layers_to_litert(capfd):
    stem = Stem((20, 20))
    model = schema.ModelT.InitFromPackedBuf(stem.model(), 0)
    (graph,) = model.subgraphs
    graph.operators, graph.outputs = graph.operators[:1], [3]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    (values,) = run(bytes(builder.Output()), stem.x, verbose=1)
    assert reported(capfd)[0].startswith("0 of 1 nodes")
    assert rms(values - stem.expected()) <= MAX_RMS_ERROR * rms(stem.expected())


def test_a_bias_of_another_length_is_an_error():
    stem = Stem((20, 20))
    stem.bias = stem.bias[:63]
    shape = (1, 10, 10, 64)
    tensors = [Tensor(stem.x.shape), constant(stem.filter), constant(stem.bias)]
    tensors += [Tensor(shape), Tensor((*shape[:3], 2), np.int32)]
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 2
    options.dilationHFactor = options.dilationWFactor = 1
    ops = [Op("CONV_2D", [0, 1, 2], [3], builtin=("Conv2DOptions", options))]
    ops.append(Op("LceQuantize", [3], [4]))
    with pytest.raises(RuntimeError, match=r"bias: has 63 elements, .* 64 output channels"):
        run(build_model(tensors, ops, [0], [4]), stem.x)


def test_float_ops_is_checked():
    with pytest.raises(ValueError, match="must be one of: fastest, delegate, litert"):
        litert.load_delegate(runtime.delegate_path(), {"float_ops": "xnnpack"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels_in": 5},
        {"filter_size": 5},
        {"filter_size": 1, "stride": 1},
        {"filter_size": 7, "stride": 1},
        {"filter_size": 3, "stride": 3},
        {"activation": RELU6},
    ],
    ids=str,
)
def test_leaves_other_convolutions_to_litert(arguments, capfd):
    stem = Stem((20, 20), **arguments)
    outputs = run(stem.model(), stem.x, verbose=1)
    assert reported(capfd)[0].startswith("1 of 2 nodes")
    if stem.activation != RELU6:
        assert_right(stem, outputs, stem.expected())


def test_a_stem_in_another_batch_and_image_size_and_back():
    stem = Stem((40, 36), pool=Pool(), batch=3)
    other = Stem((29, 51), pool=Pool(), batch=2)
    other.filter, other.bias = stem.filter, stem.bias
    delegate = runtime.load_delegate(num_threads=2, float_ops="delegate")
    interpreter = litert.Interpreter(model_content=stem.model(), experimental_delegates=[delegate])
    for now in (stem, other, stem):
        interpreter.resize_tensor_input(0, now.x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, now.x)
        interpreter.invoke()
        outputs = [interpreter.get_tensor(out["index"]) for out in interpreter.get_output_details()]
        assert_right(now, outputs, now.expected())


def test_a_not_a_number_stays_in_its_image():
    """And makes no other image of the batch one."""
    stem = Stem((30, 30), batch=3, pool=Pool())
    expected, _ = run(stem.model(), stem.x)
    x = stem.x.copy()
    x[1, 10, 10] = np.nan
    values, _ = run(stem.model(), x)
    assert np.isnan(values[1]).any()
    assert values[[0, 2]].tobytes() == expected[[0, 2]].tobytes()
