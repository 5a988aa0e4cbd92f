"""Real-valued layers whose weights are int8 or float16, and stems that take pixels.

What is expected comes from NumPy, in integers and in double precision, and from LiteRT's reference
kernels.
"""

import platform

import ai_edge_litert.interpreter as litert
import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from float_ops import assert_same_on_every_kernel, reported, rms, run, windows
from lce_ops import NONE, RELU, RELU6, SAME, VALID, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime

# Of the values, relative to their root mean square: as a stem of floats.
MAX_RMS_ERROR = 3e-7


def conv_options(*, stride=1, padding=SAME, activation=NONE):
    options = schema.Conv2DOptionsT()
    options.padding = padding
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = activation
    return ("Conv2DOptions", options)


def int8_weights(random, shape):
    """Weights, with -127 and 127 among them, and a scale for each output."""
    weights = random.integers(-127, 128, shape).astype(np.int8)
    weights.flat[:2] = -127, 127
    return weights, random.uniform(1e-3, 0.02, shape[0]).astype(np.float32)


class DynamicConv:
    """A 1x1 CONV_2D of dynamic range, after a pooling of signs that makes it the delegate's."""

    def __init__(self, size, channels_in, channels_out, *, batch=1, activation=NONE, seed=0):
        random = np.random.default_rng(seed)
        self.shape = (batch, *size, channels_in)
        self.x = random.normal(size=(batch, 2 * size[0], 2 * size[1], channels_in))
        self.x = self.x.astype(np.float32)
        # Products of signs and these have every sign and many values.
        self.mixer = random.normal(size=(channels_in, 1, 1, channels_in)).astype(np.float32)
        self.offsets = np.zeros(channels_in)
        self.weights, self.scales = int8_weights(random, (channels_out, 1, 1, channels_in))
        self.bias = random.normal(size=channels_out).astype(np.float32)
        self.activation = activation

    def output_shape(self):
        return (*self.shape[:3], len(self.weights))

    def model(self) -> bytes:
        """Its outputs are the convolution's input and output."""
        words = -(-self.shape[3] // 32)
        pool = schema.Pool2DOptionsT()
        pool.padding = VALID
        pool.filterHeight = pool.filterWidth = pool.strideH = pool.strideW = 2
        tensors = [
            Tensor(self.x.shape),
            Tensor((*self.x.shape[:3], words), np.int32),
            Tensor(self.x.shape),
            constant(self.mixer),
            constant(self.offsets.astype(np.float32)),
            Tensor(self.x.shape),
            Tensor(self.shape),
            constant(self.weights, self.scales),
            constant(self.bias),
            Tensor(self.output_shape()),
        ]
        ops = [
            Op("LceQuantize", [0], [1]),
            Op("LceDequantize", [1], [2]),
            Op("CONV_2D", [2, 3, 4], [5], builtin=conv_options()),
            Op("AVERAGE_POOL_2D", [5], [6], builtin=("Pool2DOptions", pool)),
            Op("CONV_2D", [6, 7, 8], [9], builtin=conv_options(activation=self.activation)),
        ]
        return build_model(tensors, ops, [0], [6, 9])

    def reference(self, x: np.ndarray) -> np.ndarray:
        """What LiteRT's reference kernel gives for the input of the convolution."""
        tensors = [Tensor(x.shape), constant(self.weights, self.scales), constant(self.bias)]
        tensors.append(Tensor(self.output_shape()))
        ops = [Op("CONV_2D", [0, 1, 2], [3], builtin=conv_options(activation=self.activation))]
        interpreter = litert.Interpreter(
            model_content=build_model(tensors, ops, [0], [3]),
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, x)
        interpreter.invoke()
        return interpreter.get_tensor(3)

    def expected(self, x: np.ndarray) -> np.ndarray:
        """The same by TensorFlow Lite's definition, with integers of 64 bits."""
        y = np.empty(self.output_shape(), np.float32)
        for image, out in zip(x, y):
            low, high = min(image.min(), np.float32(0)), max(image.max(), np.float32(0))
            if low == high:
                scale, zero, values = np.float32(1), 0, np.zeros(image.shape, np.int64)
            else:
                exact = np.float64(high - low) / 255
                candidates = -128 - low / exact, 127 - high / exact
                nearer = 128 + abs(low / exact) < 127 + abs(high / exact)
                zero = round_away(np.clip(candidates[0 if nearer else 1], -128, 127))
                scale = np.float32(exact)
                values = int(zero) + round_away(image * (np.float32(1) / scale))
                values = np.clip(values, -128, 127).astype(np.int64)
            sums = (values - int(zero)) @ self.weights[:, 0, 0].T.astype(np.int64)
            out[:] = sums.astype(np.float32) * self.scales * scale + self.bias
        return np.maximum(y, 0) if self.activation == RELU else y


def round_away(x):
    """Ties away from zero, in the precision of x."""
    return np.copysign(np.floor(np.abs(x.astype(np.float64)) + 0.5), x)


def assert_equals_reference(conv: DynamicConv, x: np.ndarray | None = None) -> None:
    model, x = conv.model(), conv.x if x is None else x
    inputs, outputs = run(model, x)
    assert outputs.tobytes() == conv.expected(inputs).tobytes()
    # LiteRT for Arm rounds ties, and sums, in another way.
    if platform.machine() in ("x86_64", "AMD64"):
        assert outputs.tobytes() == conv.reference(inputs).tobytes()
    assert_same_on_every_kernel(model, x, [inputs, outputs])


@pytest.mark.parametrize("channels_in", [1, 3, 4, 16, 17, 64, 130])
@pytest.mark.parametrize("channels_out", [2, 8, 17, 33, 64, 100])
def test_dynamic_range_is_the_reference_kernels(channels_in, channels_out):
    size = (1 + channels_in % 7, 1 + channels_out % 9)
    activation = RELU if channels_in % 2 else NONE
    assert_equals_reference(
        DynamicConv(size, channels_in, channels_out, activation=activation, seed=channels_out)
    )


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 15), (28, 28)], ids=str)
def test_dynamic_range_of_shortcuts(size):
    assert_equals_reference(DynamicConv(size, 64, 128))


def test_dynamic_range_rounds_each_image_on_its_own():
    conv = DynamicConv((5, 4), 32, 48, batch=3)
    assert_equals_reference(conv)


def test_dynamic_range_of_zeros():
    conv = DynamicConv((3, 3), 16, 24)
    conv.mixer[:] = 0
    assert_equals_reference(conv)


@pytest.mark.parametrize("sign", [-1, 1])
def test_dynamic_range_of_one_sign(sign):
    conv = DynamicConv((6, 5), 32, 24)
    conv.mixer = sign * np.abs(conv.mixer)
    # All signs are +1, so that every value has the mixer's.
    assert_equals_reference(conv, np.abs(conv.x))


@pytest.mark.parametrize(("least", "greatest"), [(0, 255), (-100, 155), (-255, 0)])
def test_dynamic_range_of_values_halfway_between_integers(least, greatest):
    conv = DynamicConv((1, 16), 16, 24)
    values = np.r_[least, greatest, np.arange(least + 0.5, greatest)].astype(np.float32)
    conv.mixer[:] = 0
    for first in range(0, len(values) - 2, 14):
        conv.offsets = np.r_[values[:2], np.resize(values[2 + first : 16 + first], 14)]
        assert_equals_reference(conv)


def test_dynamic_range_is_in_the_partition(capfd):
    conv = DynamicConv((4, 4), 32, 64)
    run(conv.model(), conv.x, verbose=1)
    claimed, steps = reported(capfd)
    assert claimed.startswith("5 of 5 nodes")
    assert steps == "5 nodes in 5 steps"


@pytest.mark.parametrize(
    "change",
    [
        lambda conv: setattr(conv, "activation", RELU6),
        # One scale: TensorFlow Lite rounds the input in another way then.
        lambda conv: setattr(conv, "scales", np.float32(0.01)),
        lambda conv: setattr(conv, "scales", np.full(64, 0.01, np.float32)),
        lambda conv: conv.__dict__.update(
            weights=conv.weights[:1], scales=conv.scales[:1], bias=conv.bias[:1]
        ),
    ],
)
def test_leaves_other_dynamic_ranges_to_litert(change, capfd):
    conv = DynamicConv((4, 4), 32, 64)
    change(conv)
    run(conv.model(), conv.x, verbose=1)
    assert reported(capfd)[0].startswith("4 of 5 nodes")


class Stem:
    """A CONV_2D with its LceQuantize, of floats or pixels, with float32 or packed weights."""

    def __init__(self, size, *, filter_size=7, stride=2, channels_in=3, channels_out=64, batch=1,
                 padding=SAME, activation=NONE, seed=0):  # fmt: skip
        random = np.random.default_rng(seed)
        shape = (channels_out, filter_size, filter_size, channels_in)
        self.pixels = random.integers(0, 256, (batch, *size, channels_in)).astype(np.uint8)
        self.packed, self.scales = int8_weights(random, shape)
        self.bias = random.normal(size=channels_out).astype(np.float32)
        self.multiplier = np.float32([1 / 127.5])
        self.offset = np.float32([1])
        self.stride, self.padding, self.activation = stride, padding, activation

    def weights(self) -> np.ndarray:
        """As a DEQUANTIZE makes them."""
        if self.packed.dtype == np.int8:
            return self.packed * self.scales.reshape(-1, 1, 1, 1)
        return self.packed.astype(np.float32)

    def floats(self) -> np.ndarray:
        """As CAST, MUL and SUB make them."""
        x = self.pixels.astype(np.float32)
        x = x if self.multiplier is None else x * self.multiplier
        return x if self.offset is None else x - self.offset

    def expected(self) -> np.ndarray:
        """In double precision from the pixels on."""
        x = self.pixels.astype(np.float64)
        x = x if self.multiplier is None else x * self.multiplier
        x = x if self.offset is None else x - self.offset
        strides = (self.stride, self.stride)
        views = windows(x, self.packed.shape[1:3], strides, self.padding, 0.0)
        weights = self.packed.astype(np.float64)
        if self.packed.dtype == np.int8:
            weights = weights * self.scales.astype(np.float64).reshape(-1, 1, 1, 1)
        y = np.einsum("bhwcij,oijc->bhwo", views, weights, optimize=True) + self.bias
        return np.maximum(y, 0) if self.activation == RELU else y

    def model(self, *, of_pixels: bool, unpacked: bool = False, first: str | None = None) -> bytes:
        """Its outputs are the values and their signs; an operator may come first."""
        shape = self.expected().shape
        tensors, ops = [], []

        def add(tensor: Tensor) -> int:
            tensors.append(tensor)
            return len(tensors) - 1

        image = add(Tensor(self.pixels.shape, np.uint8 if of_pixels else np.float32))
        if of_pixels:
            cast = schema.CastOptionsT()
            cast.inDataType, cast.outDataType = schema.TensorType.UINT8, schema.TensorType.FLOAT32
            ops.append(Op("CAST", [image], [add(Tensor(self.pixels.shape))],
                          builtin=("CastOptions", cast)))  # fmt: skip
            for name, value in (("MUL", self.multiplier), ("SUB", self.offset)):
                if value is not None:
                    table = (f"{name.title()}Options", getattr(schema, f"{name.title()}OptionsT")())
                    inputs = [ops[-1].outputs[0], add(constant(value))]
                    ops.append(Op(name, inputs, [add(Tensor(self.pixels.shape))], builtin=table))
            image = ops[-1].outputs[0]
        if first is not None:
            ops.append(Op(first, [image], [add(Tensor(self.pixels.shape))]))
            image = ops[-1].outputs[0]
        if unpacked:
            weights = add(constant(self.weights()))
        else:
            is_int8 = self.packed.dtype == np.int8
            stored = add(constant(self.packed, self.scales if is_int8 else None))
            weights = add(Tensor(self.packed.shape))
            ops.append(Op("DEQUANTIZE", [stored], [weights]))
        options = conv_options(stride=self.stride, padding=self.padding, activation=self.activation)
        values = add(Tensor(shape))
        ops.append(Op("CONV_2D", [image, weights, add(constant(self.bias))], [values],
                      builtin=options))  # fmt: skip
        signs = add(Tensor((*shape[:3], -(-shape[3] // 32)), np.int32))
        ops.append(Op("LceQuantize", [values], [signs]))
        return build_model(tensors, ops, [0], [values, signs])


@pytest.mark.parametrize("dtype", [np.int8, np.float16])
@pytest.mark.parametrize(("filter_size", "stride"), [(7, 2), (3, 1), (3, 2)])
def test_packed_weights_give_the_bytes_of_unpacked_ones(dtype, filter_size, stride):
    stem = Stem((21, 18), filter_size=filter_size, stride=stride)
    if dtype == np.float16:
        stem.packed = (stem.packed * np.float64(1e-3)).astype(np.float16)
        # The least normal and subnormal numbers, zeros, and the largest.
        special = [2.0**-14, 2.0**-24, -(2.0**-24), 1023 * 2.0**-24, 0.0, -0.0, 65504, -65504]
        stem.packed.flat[: len(special)] = special
    x = stem.floats()
    outputs = run(stem.model(of_pixels=False), x)
    expected = run(stem.model(of_pixels=False, unpacked=True), x)
    for output, other in zip(outputs, expected, strict=True):
        assert output.tobytes() == other.tobytes()
    assert_same_on_every_kernel(stem.model(of_pixels=False), x, outputs)


def test_a_packed_stem_is_one_step(capfd):
    stem = Stem((20, 20))
    run(stem.model(of_pixels=False), stem.floats(), verbose=1)
    claimed, steps = reported(capfd)
    assert claimed.startswith("3 of 3 nodes")
    assert steps == "3 nodes in 1 steps"


def test_leaves_packed_weights_of_other_convolutions_to_litert(capfd):
    stem = Stem((20, 20), filter_size=5)
    values, _ = run(stem.model(of_pixels=False), stem.floats(), verbose=1)
    assert reported(capfd)[0].startswith("1 of 3 nodes")
    expected = stem.expected()
    assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)


def test_reads_packed_weights_in_the_first_turn_only(capfd):
    """Later the interpreter may hand the DEQUANTIZE over long before its reader."""
    stem = Stem((20, 20))
    stem.offset = np.float32([0])  # No value is negative.
    values, _ = run(stem.model(of_pixels=False, first="ABS"), stem.floats(), verbose=1)
    assert reported(capfd)[0].startswith("1 of 4 nodes")
    expected = stem.expected()
    assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)


def random_stem(seed: int) -> Stem:
    random = np.random.default_rng(seed)

    def choose(*options):
        return options[random.integers(len(options))]

    filter_size, stride = choose((7, 2), (3, 1), (3, 2))
    padding = choose(SAME, SAME, VALID)
    smallest = filter_size if padding == VALID else 1
    channels_in = choose(1, 2, 3, 3, 4)
    stem = Stem(
        tuple(int(random.integers(smallest, choose(smallest + 6, 65))) for _ in range(2)),
        filter_size=filter_size,
        stride=stride,
        batch=choose(1, 1, 3),
        channels_in=channels_in,
        channels_out=choose(1, 3, 8, 15, 16, 17, 32, 33, 48, 64, 65, 100),
        padding=padding,
        activation=choose(NONE, RELU),
        seed=seed,
    )
    stem.multiplier = choose(None, np.float32([1 / 127.5]), np.float32([0.013]))
    stem.offset = choose(None, np.float32([1]), random.normal(size=channels_in).astype(np.float32))
    return stem


@pytest.mark.parametrize("size", [(32, 32), (61, 45), (64, 80)], ids=str)
@pytest.mark.parametrize(("filter_size", "stride"), [(7, 2), (3, 1), (3, 2)])
def test_pixels_times_int8(size, filter_size, stride):
    stem = Stem(size, filter_size=filter_size, stride=stride)
    model, expected = stem.model(of_pixels=True), stem.expected()
    outputs = run(model, stem.pixels)
    theirs, _ = run(model, stem.pixels, float_ops="litert")
    for values in (outputs[0], theirs):
        assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)
    assert outputs[1].tobytes() == pack(np.where(outputs[0] < 0, -1, 1)).tobytes()
    assert_same_on_every_kernel(model, stem.pixels, outputs)


def test_pixels_of_zero_and_255_at_the_border():
    """Where the image ends, floats are 0 and not what a pixel of 0 stands for."""
    for value in (0, 255):
        stem = Stem((9, 10), padding=SAME)
        stem.pixels[:] = value
        values, _ = run(stem.model(of_pixels=True), stem.pixels)
        expected = stem.expected()
        assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)


@pytest.mark.parametrize(
    "change",
    [
        # A factor for each channel cannot be taken out of the sums.
        lambda stem: setattr(stem, "multiplier", np.float32([0.01, 0.02, 0.03])),
        lambda stem: setattr(stem, "packed", (stem.packed * 0.01).astype(np.float16)),
    ],
)
def test_other_pixels_give_the_bytes_of_floats(change):
    stem = Stem((19, 22))
    stem.offset = np.float32([0.5, 1.5, -2.5])
    change(stem)
    outputs = run(stem.model(of_pixels=True), stem.pixels)
    expected = run(stem.model(of_pixels=False), stem.floats())
    for output, other in zip(outputs, expected, strict=True):
        assert output.tobytes() == other.tobytes()
    assert_same_on_every_kernel(stem.model(of_pixels=True), stem.pixels, outputs)


def test_a_stem_of_pixels_is_one_step(capfd):
    stem = Stem((20, 20))
    run(stem.model(of_pixels=True), stem.pixels, verbose=1)
    claimed, steps = reported(capfd)
    assert claimed.startswith("6 of 6 nodes")
    assert steps == "6 nodes in 1 steps"


def changed(content: bytes, change) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_leaves_pixels_to_litert_whose_floats_others_read(capfd):
    """The delegate computes the convolution all the same, from the floats that LiteRT makes."""
    stem = Stem((20, 20))

    def add_reader(graph):
        operators = {operator.outputs[0]: operator for operator in graph.operators}
        floats = next(t for t, operator in operators.items() if len(operator.inputs) == 3)
        image = operators[floats].inputs[0]
        copy = graph.operators[2]
        reader = schema.OperatorT()
        reader.opcodeIndex = copy.opcodeIndex
        reader.builtinOptionsType = copy.builtinOptionsType
        reader.builtinOptions = copy.builtinOptions
        output = schema.TensorT()
        output.name, output.shape, output.type = b"other", graph.tensors[image].shape, 0
        graph.tensors.append(output)
        reader.inputs = [image, copy.inputs[1]]
        reader.outputs = [len(graph.tensors) - 1]
        graph.operators.append(reader)
        graph.outputs = [*graph.outputs, len(graph.tensors) - 1]

    values, signs, other = run(
        changed(stem.model(of_pixels=True, unpacked=True), add_reader), stem.pixels, verbose=1
    )
    assert reported(capfd)[0].startswith("2 of 6 nodes")
    np.testing.assert_array_equal(other, stem.floats() - stem.offset)
    expected = run(stem.model(of_pixels=False, unpacked=True), stem.floats())
    assert (values.tobytes(), signs.tobytes()) == tuple(e.tobytes() for e in expected)


def test_floats_that_are_an_output_as_well_are_an_error():
    stem = Stem((20, 20))

    def add_output(graph):
        graph.outputs = [*graph.outputs, graph.operators[2].outputs[0]]

    model = changed(stem.model(of_pixels=True), add_output)
    with pytest.raises(RuntimeError, match=r"tensor \d+, .* float_ops=litert"):
        run(model, stem.pixels)
    assert len(run(model, stem.pixels, float_ops="litert")) == 3


def test_pixels_in_another_batch_and_image_size_and_back():
    stem, other = Stem((40, 36), batch=3), Stem((29, 51), batch=2, seed=1)
    other.packed, other.scales, other.bias = stem.packed, stem.scales, stem.bias
    delegate = runtime.load_delegate(num_threads=2, float_ops="delegate")
    interpreter = litert.Interpreter(
        model_content=stem.model(of_pixels=True), experimental_delegates=[delegate]
    )
    for now in (stem, other, stem):
        interpreter.resize_tensor_input(0, now.pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, now.pixels)
        interpreter.invoke()
        values = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        expected = now.expected()
        assert rms(values - expected) <= MAX_RMS_ERROR * rms(expected)


@pytest.mark.parametrize("part", range(6))
def test_pixels_grid(part):
    """Small and odd sizes, all strides, paddings and channels: right, and the same everywhere."""
    for seed in range(15 * part, 15 * part + 15):
        stem = random_stem(seed)
        model, expected = stem.model(of_pixels=True), stem.expected()
        outputs = run(model, stem.pixels)
        assert np.abs(outputs[0] - expected).max() <= 1e-6 * np.abs(expected).max(initial=1), seed
        assert outputs[1].tobytes() == pack(np.where(outputs[0] < 0, -1, 1)).tobytes()
        assert_same_on_every_kernel(model, stem.pixels, outputs)
