"""MUL, ADD and PRELU by channel, CONCATENATION, SPLIT_V and LOGISTIC, alone and in other steps.

What is expected is computed in NumPy, float32 operator by operator: all but LOGISTIC is exact.
"""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from float_ops import assert_same_on_every_kernel, reported, run, supported
from lce_graph import Graph
from lce_ops import NONE, RELU, RELU6, Tensor, build_model, pack, run_resized

from bireal_keras import runtime

CHANNELS = [1, 3, 8, 16, 33, 64, 100]


class Signs(Graph):
    """A graph that begins with the bits of its input, whose values are `signs`."""

    def __init__(self, shape, seed=0):
        super().__init__(shape)
        self.random = np.random.default_rng(seed)
        self.x = self.random.normal(size=shape).astype(np.float32)

    def constants(self, *shape) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def convolution(self, channels=None) -> int:
        """Of the signs of the input, by which all that follows is the delegate's."""
        return self.bconv(self.quantize(0), channels=channels)

    def model(self, *outputs) -> bytes:
        return build_model(self.tensors, self.ops, [0], list(outputs))

    def values(self, *outputs, **options) -> list[np.ndarray]:
        return run(self.model(*outputs), self.x, **options)


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.float32(0), x)


def prelu(x: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return np.where(x < 0, x * slopes, x)


EXPECTED = {"ADD": np.add, "MUL": np.multiply, "PRELU": prelu}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 14)], ids=str)
def test_each_operator_is_exact(name, channels, size):
    """As a step of its own, in the convolution, and before the signs; batches of 1 and 3."""
    graph = Signs((1 + 2 * (channels % 2), *size, channels), seed=channels)
    activation = RELU if name != "PRELU" and size == (2, 3) else NONE
    swapped = name != "PRELU" and channels % 3 == 0
    operand = graph.constants(channels) if channels % 4 else graph.constants(1, 1, channels)
    value = graph.convolution()
    result = graph.channel_op(name, value, operand, activation=activation, swapped=swapped)
    signs = graph.quantize(result)
    before, apart = graph.values(value, result)
    expected = EXPECTED[name](before, operand)
    expected = relu(expected) if activation == RELU else expected
    assert apart.tobytes() == expected.tobytes()
    packed = pack(np.where(expected < 0, -1, 1))
    for outputs, wanted in (
        ((value, result, signs), [before, expected, packed]),
        ((value, signs), [before, packed]),
        ((result,), [expected]),
        ((signs,), [packed]),
    ):
        assert_same_on_every_kernel(graph.model(*outputs), graph.x, wanted)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)], ids=str)
def test_one_operand_for_all_channels(shape):
    graph = Signs((1, 4, 5, 40))
    operand = graph.constants(*shape)
    value = graph.convolution()
    result = graph.channel_op("MUL", graph.channel_op("ADD", value, operand), operand)
    (before,) = graph.values(value)
    wanted = (before + operand) * operand
    assert_same_on_every_kernel(graph.model(result), graph.x, [wanted])


def test_nan_and_zeros():
    """RELU and PRELU keep NaN and -0.0, whose signs are +1."""
    graph = Signs((1, 2, 2, 10))
    value = graph.convolution()
    # Whatever the convolution is, times 0 or infinity plus this it is one of these.
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1.0, -1.0, -1e-30]
    zeros = graph.channel_op("MUL", graph.channel_op("MUL", value, np.float32(0)), np.float32(0))
    result = graph.channel_op("ADD", zeros, np.array(special, np.float32))
    prelu_of = graph.channel_op("PRELU", result, np.full(10, 0.5, np.float32))
    relu_of = graph.channel_op("MUL", result, np.ones(10, np.float32), activation=RELU)
    outputs = [result, prelu_of, relu_of, graph.quantize(prelu_of), graph.quantize(relu_of)]
    # Whose values nobody reads.
    factors = np.array([1, 0, -1, -1, -1, 1e-30, 1e-30, np.nan, -np.inf, 1e-30], np.float32)
    summands = np.array([1, np.nan, np.inf, -0.0, 0.0, -1e-8, 1e9, 0, 1, 0], np.float32)
    scaled = graph.channel_op("MUL", result, factors)
    outputs += [graph.quantize(scaled), graph.quantize(graph.channel_op("ADD", scaled, summands))]
    outputs += [graph.quantize(graph.channel_op("ADD", result, summands))]
    for options in ({}, {"kernel": "avx2"}, {"kernel": "portable"}):
        if not supported(options.get("kernel", "portable")):
            continue
        values, of_prelu, of_relu, *signs = graph.values(*outputs, **options)
        *signs, of_product, of_both, of_sum = signs
        with np.errstate(all="ignore"):
            product = values * factors
            product[np.abs(product) < np.finfo(np.float32).tiny] = 0  # As the delegate flushes it.
            for packed, of in (
                (of_product, product),
                (of_both, product + summands),
                (of_sum, values + summands),
            ):
                assert packed.tobytes() == pack(np.where(of < 0, -1, 1)).tobytes()
        np.testing.assert_array_equal(of_prelu, prelu(values, np.float32(0.5)))
        np.testing.assert_array_equal(of_relu, relu(values))
        assert np.isnan(of_relu[..., 0]).all()
        for packed, of in zip(signs, (of_prelu, of_relu)):
            assert packed.tobytes() == pack(np.where(of < 0, -1, 1)).tobytes()


def reactnet(graph: Signs) -> int:
    """Bi-Real Net's block with RPReLU and with the next RSign's shift."""
    value = 0
    for _ in range(3):
        channels = graph.shape[-1]
        shifted = graph.channel_op("ADD", value, graph.constants(channels))
        total = graph.sum(graph.bconv(graph.quantize(shifted)), value)
        total = graph.channel_op("ADD", total, graph.constants(channels))
        total = graph.channel_op("PRELU", total, graph.constants(1, 1, channels))
        value = graph.channel_op("ADD", total, graph.constants(channels))
    return value


def real_to_binary(graph: Signs) -> int:
    """What a convolution computes is gated and activated before the shortcut is added."""
    value = graph.convolution()
    for _ in range(2):
        channels = graph.shape[-1]
        scaled = graph.channel_op("MUL", value, graph.constants(channels))
        gated = graph.channel_op("MUL", graph.bconv(graph.quantize(scaled)), graph.gate(scaled))
        activated = graph.channel_op("PRELU", gated, graph.constants(1, 1, channels))
        value = graph.sum(activated, value, activation=RELU)
    return value


def means_of_scaled_maps(graph: Signs) -> int:
    """What only signs and means read is not written. A mean does MUL, ADD, or both; not more."""
    value = graph.convolution()
    channels = graph.shape[-1]
    for names in (["MUL", "ADD"], ["ADD"], ["MUL", "MUL"], ["ADD", "MUL"], ["PRELU"]):
        scaled = value
        for name in names:
            scaled = graph.channel_op(name, scaled, graph.constants(channels))
        value = graph.channel_op("MUL", graph.bconv(graph.quantize(scaled)), graph.gate(scaled))
    # This one is a sum's, too, and this one only a mean's.
    scaled = graph.channel_op("MUL", value, graph.constants(channels), activation=RELU)
    alone = graph.channel_op("ADD", value, graph.constants(channels))
    return graph.sum(
        graph.channel_op("MUL", scaled, graph.gate(scaled)),
        graph.channel_op("MUL", value, graph.gate(alone)),
    )


def dense_net(graph: Signs) -> int:
    value = graph.convolution()
    for index in range(4):
        scaled = graph.channel_op("MUL", value, graph.constants(graph.tensors[value].shape[-1]))
        shifted = graph.channel_op("ADD", scaled, graph.constants(graph.tensors[value].shape[-1]))
        new = graph.bconv(graph.quantize(shifted), channels=32 + index)
        value = graph.concat(new, value) if index == 2 else graph.concat(value, new, axis=3)
    return graph.channel_op("MUL", value, graph.constants(graph.tensors[value].shape[-1]))


def dense_nets_stage(graph: Signs) -> int:
    """Each concatenation can lie where the one before it does."""
    value = graph.convolution()
    for index in range(5):
        scaled = graph.channel_op("MUL", value, graph.constants(graph.tensors[value].shape[-1]))
        packed = graph.quantize(value if index == 3 else scaled)
        value = graph.concat(value, graph.bconv(packed, channels=32 + index % 2))
    return graph.channel_op("MUL", value, graph.constants(graph.tensors[value].shape[-1]))


def grown_tensor_that_is_read_again(graph: Signs) -> int:
    value = graph.convolution()
    joined = graph.concat(value, graph.bconv(graph.quantize(value)))
    more = graph.concat(joined, graph.bconv(graph.quantize(joined)))
    return graph.concat(graph.concat(more, joined), graph.bconv(graph.quantize(more)))


def melius_net(graph: Signs) -> int:
    """A convolution adds channels, another one is added to these."""
    value = graph.convolution()
    for _ in range(2):
        channels = graph.tensors[value].shape[-1]
        value = graph.concat(value, graph.bconv(graph.quantize(value), channels=32))
        scaled = graph.channel_op("MUL", value, graph.constants(channels + 32))
        correction = graph.bconv(graph.quantize(scaled), channels=32)
        others, newest = graph.split(value, [channels, 32])
        value = graph.concat(others, graph.sum(correction, newest))
    return value


def improved(graph: Signs, value: int, channels: int, **options) -> int:
    """MeliusNet's improvement, split first: a convolution is added to the last channels."""
    first = graph.tensors[value].shape[-1] - channels
    others, last = graph.split(value, [first, channels])
    correction = graph.bconv(graph.quantize(value), channels=channels)
    return graph.concat(others, graph.sum(last, correction, **options))


def improvements_that_something_follows(graph: Signs) -> int:
    """Of a convolution alone, of a concatenation, twice of one tensor; what follows acts on all."""
    value = improved(graph, graph.convolution(), 9)
    value = graph.concat(value, graph.bconv(graph.quantize(value), channels=33))
    value = improved(graph, improved(graph, value, 33), 40)
    value = graph.channel_op("PRELU", value, graph.constants(graph.tensors[value].shape[-1]))
    return graph.channel_op("ADD", value, graph.constants(graph.tensors[value].shape[-1]))


def improved_tensor_that_is_read_again(graph: Signs) -> int:
    value = graph.convolution()
    wide = graph.concat(value, graph.bconv(graph.quantize(value)))
    return graph.sum(improved(graph, wide, graph.shape[-1]), wide)


def almost_improvements(graph: Signs) -> int:
    """An ADD with RELU, parts in another order, parts and sums that others read as well."""
    value = improved(graph, graph.convolution(), 8, activation=RELU)
    half = graph.shape[-1] // 2
    for index in range(4):
        first, last = graph.split(value, [graph.shape[-1] - half, half])
        correction = graph.bconv(graph.quantize(value), channels=half)
        total = graph.sum(correction, last)
        value = graph.concat(total, first) if index == 0 else graph.concat(first, total)
        if index > 0:
            again = graph.quantize({1: first, 2: last, 3: total}[index])
            value = graph.sum(graph.bconv(again, channels=graph.shape[-1]), value)
    # What is added is made of the first part; once by what does not add it by itself.
    rest = graph.shape[-1] - half
    first, last = graph.split(value, [half, rest])
    value = graph.sum(graph.bconv(graph.quantize(first), channels=rest), last)
    first, last = graph.split(graph.concat(value, value), [rest, rest])
    others, _ = graph.split(graph.concat(graph.bconv(graph.quantize(first)), first), [rest, rest])
    return graph.sum(others, last)


def twice_the_channels(graph: Signs) -> int:
    value = graph.convolution()
    total = graph.sum(
        graph.bconv(graph.quantize(value), channels=2 * graph.shape[-1]), graph.concat(value, value)
    )
    return graph.bconv(graph.quantize(total))


def concatenation_that_only_signs_read(graph: Signs) -> int:
    value = graph.convolution()
    joined = graph.concat(graph.bconv(graph.quantize(value)), value)
    return graph.bconv(graph.quantize(joined))


def values_and_scaled_signs(graph: Signs) -> int:
    """The product is read by its signs and by the sum."""
    value = graph.convolution()
    scaled = graph.channel_op("MUL", value, graph.constants(graph.shape[-1]))
    return graph.sum(graph.bconv(graph.quantize(scaled)), scaled)


NETS = [
    reactnet,
    real_to_binary,
    means_of_scaled_maps,
    dense_net,
    dense_nets_stage,
    grown_tensor_that_is_read_again,
    melius_net,
    improvements_that_something_follows,
    improved_tensor_that_is_read_again,
    almost_improvements,
    twice_the_channels,
    concatenation_that_only_signs_read,
    values_and_scaled_signs,
]


@pytest.mark.parametrize("shape", [(1, 7, 6, 96), (3, 3, 5, 40), (2, 1, 1, 64)], ids=str)
@pytest.mark.parametrize("arrange", NETS, ids=lambda function: function.__name__)
def test_fused_equals_unfused(arrange, shape):
    """With every intermediate tensor as an output of the model nothing can be fused away."""
    graph = Signs(shape, seed=5)
    result = arrange(graph)
    intermediates = [output for op in graph.ops for output in op.outputs if output != result]
    expected, *_ = graph.values(result, *intermediates, kernel="portable")
    assert_same_on_every_kernel(graph.model(result), graph.x, [expected])


@pytest.mark.parametrize(
    "arrange", [dense_nets_stage, real_to_binary, means_of_scaled_maps, melius_net]
)
def test_in_another_batch_size_and_back(arrange):
    graph = Signs((3, 4, 5, 40), seed=7)
    result = arrange(graph)
    delegate = runtime.load_delegate(num_threads=2, float_ops="delegate")
    interpreter = litert.Interpreter(
        model_content=graph.model(result), experimental_delegates=[delegate]
    )
    (expected,) = graph.values(result)
    for batch in (3, 1, 3):
        interpreter.resize_tensor_input(0, (batch, *graph.shape[1:]))
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, graph.x[:batch])
        interpreter.invoke()
        assert interpreter.get_tensor(result).tobytes() == expected[:batch].tobytes()


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("by", ["convolution", "step"])
@pytest.mark.parametrize("size", [(1, 4, 5), (3, 1, 1), (1, 1, 5)], ids=str)
def test_a_resized_improvement_broadcasts(size, by, joins, signs):
    """The convolution's map becomes smaller than the one whose last channels it is added to."""
    graph = Graph((3, 4, 5, 64))
    packed = [graph.add_tensor(Tensor((3, 4, 5, 2), np.int32)) for _ in range(2)]
    wide, correction = (graph.bconv(x, channels=n) for x, n in zip(packed, (70, 40)))
    others, last = graph.split(wide, [30, 40])
    result = graph.sum(correction, last)
    if joins:
        result = graph.concat(others, result)
    result = graph.channel_op("MUL", result, np.float32(-0.5))
    outputs = [result] + [correction] * (by == "step") + [graph.quantize(result)] * signs
    values = outputs + [wide, correction]
    shapes = [(3, 4, 5), size]
    random = np.random.default_rng(size[0])
    inputs = [pack(random.choice([-1, 1], (*shape, 64))) for shape in shapes]

    def run(outputs, **options):
        model = build_model(graph.tensors, graph.ops, packed, list(dict.fromkeys(outputs)))
        return run_resized(model, outputs, *inputs, float_ops="delegate", **options)

    *_, wide_map, correction_map = run(values)
    expected = correction_map + wide_map[..., 30:]
    if joins:
        expected = np.concatenate([wide_map[..., :30], expected], axis=-1)
    expected *= np.float32(-0.5)
    for options in ({}, {"num_threads": 3}, {"kernel": "portable"}):
        results = run(outputs, **options)
        assert results[0].shape == expected.shape
        assert results[0].tobytes() == expected.tobytes(), options
        if signs:
            assert results[-1].tobytes() == pack(np.where(expected < 0, -1, 1)).tobytes()


@pytest.mark.parametrize("arrange", [reactnet, dense_net, melius_net, twice_the_channels])
def test_equals_litert(arrange):
    """Whose MUL, ADD and PRELU round alike."""
    graph = Signs((1, 6, 6, 64), seed=6)
    result = arrange(graph)
    (ours,) = graph.values(result)
    (theirs,) = graph.values(result, float_ops="litert")
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    ("arrange", "steps"),
    [
        # The first shift is of what is not ours. Then signs, and a step for each block.
        (reactnet, "20 nodes in 4 steps"),
        # Signs and a convolution. Then of each block: mean, sigmoid, and the convolution.
        (real_to_binary, "18 nodes in 8 steps"),
        (means_of_scaled_maps, "44 nodes in 25 steps"),
        (dense_net, "23 nodes in 6 steps"),
        (melius_net, "20 nodes in 6 steps"),
        (improvements_that_something_follows, "22 nodes in 6 steps"),
    ],
)
def test_is_one_partition(arrange, steps, capfd):
    graph = Signs((1, 7, 6, 96))
    result = arrange(graph)
    graph.values(result, verbose=1)
    claimed, *partitions = reported(capfd)
    assert partitions == [steps], (claimed, partitions)


@pytest.mark.parametrize(
    "change",
    [
        lambda graph, x: graph.channel_op("MUL", x, graph.constants(16), activation=RELU6),
        lambda graph, x: graph.channel_op("MUL", x, graph.constants(4, 16)),
        lambda graph, x: graph.channel_op("PRELU", x, graph.constants(4, 4, 16)),
        lambda graph, x: graph.split(x, [2, 2], axis=1)[0],
        lambda graph, x: graph.split(x, [2, 6, 8])[0],
        lambda graph, x: graph.concat(x, x, axis=1),
    ],
)
def test_leaves_others_to_litert(change, capfd):
    graph = Signs((1, 4, 4, 16))
    value = graph.convolution()
    result = change(graph, value)
    graph.values(result, verbose=1)
    assert reported(capfd)[0].startswith("2 of 3 nodes")


def test_parts_that_do_not_add_up_are_refused():
    graph = Signs((1, 2, 2, 16))
    _, rest = graph.split(graph.convolution(), [4, 11])
    with pytest.raises((RuntimeError, ValueError), match=r"SPLIT_V \(node 2\): sizes: must be two"):
        graph.values(rest)


@pytest.mark.parametrize(
    ("name", "join"),
    [
        ("CONCATENATION", lambda graph, a, b: graph.concat(a, b, axis=1)),
        ("SPLIT_V", lambda graph, a, _: graph.split(a, [1, 1], axis=1)[0]),
    ],
)
def test_an_axis_that_is_the_last_one_in_the_file_alone_is_refused(name, join):
    """A file may declare two dimensions for what a convolution writes, which has four."""
    graph = Signs((1, 2, 2, 32))
    packed = graph.quantize(0)
    a, b = graph.bconv(packed), graph.bconv(packed)
    for tensor in (a, b):
        graph.tensors[tensor].shape = (2, 2)
    with pytest.raises((RuntimeError, ValueError), match=rf"{name} \(node 3\): axis: 1 of 4"):
        graph.values(join(graph, a, b))


def test_sigmoids():
    graph = Signs((2, 3, 3, 40))
    value = graph.convolution()
    mean = graph.gate(value) - 1
    before, sigmoids = graph.values(mean, mean + 1)
    assert np.abs(before).max() > 8
    expected = 1 / (1 + np.exp(-before.astype(np.float64)))
    np.testing.assert_allclose(sigmoids, expected, rtol=1e-6)
    assert_same_on_every_kernel(graph.model(mean + 1), graph.x, [sigmoids])
