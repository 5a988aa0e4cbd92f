"""Compact kernels: what is in the file, and what stock interpreters compute with it."""

import importlib.util
import platform
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from export_helpers import CLASSES, SIZE, edit, operators
from lce_ops import Op, Tensor, build_model, constant

from bireal_keras import cost, runtime
from bireal_keras.export import probes, real_layers
from bireal_keras.export.real_layers import compact
from bireal_keras.runtime.profile import profile
from bireal_keras.tflite.model import serialize

# Every one of them converts a model.
pytestmark = pytest.mark.slow

COMPACT = ["float16", "int8"]

# The program runs files on images.npy: MODULE FILE ...
SCRIPT = """
import importlib, sys
import numpy as np
from bireal_keras.runtime import delegate_path
_, module, *files = sys.argv
if module == "tensorflow.lite":
    from tensorflow import lite
    load_delegate = lite.experimental.load_delegate
else:
    lite = importlib.import_module(module)
    load_delegate = lite.load_delegate
for file in files:
    delegate = load_delegate(delegate_path(), {})
    interpreter = lite.Interpreter(file, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    outputs = []
    for image in np.load("images.npy"):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        index = interpreter.get_output_details()[0]["index"]
        outputs.append(interpreter.get_tensor(index)[0])
    np.save(f"{file}.npy", outputs)
"""


@pytest.fixture(scope="module")
def files(small):
    return {precision: compact(small.content, precision) for precision in real_layers.PRECISIONS}


@pytest.fixture(scope="module")
def images():
    """Noise on colours, without which a network with average pooling finds all alike."""
    rng = np.random.default_rng(1)
    noise, colours = rng.normal(size=(16, SIZE, SIZE, 3)), rng.normal(size=(16, 1, 1, 3))
    return (noise + 2 * colours).astype(np.float32)


def unpacked(content):
    return schema.ModelT.InitFromPackedBuf(content, 0)


def value(model, tensor):
    types = {0: np.float32, 1: np.float16, 2: np.int32, 9: np.int8}
    return model.buffers[tensor.buffer].data.view(types[tensor.type]).reshape(tensor.shape)


def kernels(model):
    """The real-valued layers' kernels, as they are stored: stem, shortcut, classifier."""
    names = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED}
    graph = model.subgraphs[0]
    made_by = {int(operator.outputs[0]): operator for operator in graph.operators}
    found = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in names:
            index = int(operator.inputs[1])
            if index in made_by:
                index = int(made_by[index].inputs[0])
            found.append(graph.tensors[index])
    return found


def layer(name, inputs, kernel, output, options):
    """A model of one real-valued layer with a bias."""
    bias = np.random.default_rng(2).normal(size=output[-1]).astype(np.float32)
    tensors = [Tensor(inputs), constant(kernel), constant(bias), Tensor(output)]
    return build_model(tensors, [Op(name, [0, 1, 2], [3], builtin=options)], [0], [3]), bias


def convolution(inputs, kernel, output):
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.dilationHFactor = options.dilationWFactor = 1
    return layer("CONV_2D", inputs, kernel, output, ("Conv2DOptions", options))


def run(content, x, **options):
    interpreter = Interpreter(model_content=content, **options)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def rounded(kernel, precision):
    """The formula, by channel of the first axis."""
    if precision == "float16":
        return kernel.astype(np.float16).astype(np.float32)
    rows = kernel.reshape(len(kernel), -1).astype(np.float64)
    step = np.abs(rows).max(axis=1, keepdims=True) / 127
    return (np.round(rows / step) * step).astype(np.float32).reshape(kernel.shape)


class TestFile:
    def test_float32_is_the_same_file(self, small, files):
        assert files["float32"] is small.content

    def test_operators(self, small, files):
        before = operators(small.content)
        unpack = ("DEQUANTIZE", "FLOAT32")
        stem, shortcut, head = [
            index
            for index, (name, _) in enumerate(before)
            if name in ("CONV_2D", "FULLY_CONNECTED")
        ]
        expected = before.copy()
        expected.insert(head, unpack)
        # 16 channels: int8 by int8, without one.
        half = expected.copy()
        half.insert(shortcut, unpack)
        for after, precision in ((half, "float16"), (expected, "int8")):
            after.insert(stem, unpack)
            assert operators(files[precision]) == after

    def test_versions_that_know_the_types(self, files):
        def versions(precision):
            codes = unpacked(files[precision]).operatorCodes
            return {(code.builtinCode, code.version) for code in codes if not code.customCode}

        added = {p: versions(p) - versions("float32") for p in COMPACT}
        operator = schema.BuiltinOperator
        assert added["float16"] == {(operator.DEQUANTIZE, 3)}
        assert added["int8"] == {(operator.DEQUANTIZE, 5), (operator.CONV_2D, 5)}

    def test_float16_kernels(self, files):
        before, after = unpacked(files["float32"]), unpacked(files["float16"])
        pairs = list(zip(kernels(before), kernels(after)))
        assert len(pairs) == 3
        for old, new in pairs:
            assert new.type == schema.TensorType.FLOAT16
            np.testing.assert_array_equal(value(after, new), np.float16(value(before, old)))

    def test_int8_kernels_have_a_scale_for_each_channel(self, files):
        before, after = unpacked(files["float32"]), unpacked(files["int8"])
        pairs = list(zip(kernels(before), kernels(after)))
        assert len(pairs) == 3
        for old, new in pairs:
            assert new.type == schema.TensorType.INT8
            kernel, stored = value(before, old), value(after, new)
            quantization = new.quantization
            largest = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
            np.testing.assert_allclose(quantization.scale, largest / 127, rtol=1e-6)
            assert quantization.quantizedDimension == 0
            np.testing.assert_array_equal(quantization.zeroPoint, np.zeros(len(kernel)))
            steps = quantization.scale.reshape(-1, *[1] * (kernel.ndim - 1))
            np.testing.assert_allclose(stored * steps, rounded(kernel, "int8"), atol=1e-7)
            assert (np.abs(stored).reshape(len(kernel), -1).max(axis=1) == 127).all()

    @pytest.mark.parametrize("precision", COMPACT)
    def test_all_other_constants_are_the_same(self, precision, files):
        before, after = unpacked(files["float32"]), unpacked(files[precision])
        compacted = {tensor.name for tensor in kernels(after)}
        olds, news = (model.subgraphs[0].tensors for model in (before, after))
        same = 0
        for old, new in zip(olds, news):
            assert old.name == new.name
            if old.name not in compacted:
                data = [m.buffers[t.buffer].data for m, t in ((before, old), (after, new))]
                assert (old.type, data[0] is None) == (new.type, data[1] is None)
                np.testing.assert_array_equal(*data)
                same += data[0] is not None
        # There are filters, factors and summands of three binary layers, and three biases.
        assert same >= 10
        assert all(buffer.data is None for buffer in after.buffers[len(before.buffers) :])

    @pytest.mark.parametrize("precision", COMPACT)
    def test_same_bytes_each_time(self, precision, small, files):
        assert compact(small.content, precision) == files[precision]

    @pytest.mark.parametrize("precision", COMPACT)
    def test_constants_lie_on_boundaries_of_16_bytes(self, precision, files):
        content = np.frombuffer(files[precision], np.uint8)
        root = schema.Model.GetRootAs(content, 0)
        constants = [root.Buffers(index) for index in range(root.BuffersLength())]
        data = [buffer.DataAsNumpy() for buffer in constants if buffer.DataLength()]
        assert len(data) > 10
        assert {(values.ctypes.data - content.ctypes.data) % 16 for values in data} == {0}

    @pytest.mark.parametrize(("precision", "bits"), [("float16", 16), ("int8", 8)])
    def test_cost(self, precision, bits, files):
        before, after = (cost.of_tflite(files[name]) for name in ("float32", precision))
        assert [one.name for one in before.layers] == [one.name for one in after.layers]
        model = unpacked(files["float32"])
        weights = sum(value(model, kernel).size for kernel in kernels(model))
        assert before.total.memory_bits - after.total.memory_bits == (32 - bits) * weights
        assert before.total.flops == after.total.flops
        assert before.total.float_memory_bits == after.total.float_memory_bits


class TestComputation:
    def test_float16_is_the_float32_file_with_rounded_weights(self, small, files, images):
        expected = small.content
        for name, which in (("CONV_2D", 0), ("CONV_2D", 1), ("FULLY_CONNECTED", 0)):

            def change(data):
                weights = data.view(np.float32)
                weights[:] = rounded(weights, "float16")

            expected = edit(expected, name, 1, change, which=which)
        # The delegate takes no weights that another operator computes: it would add the products of
        # one file in its own order.
        actual, same = (
            runtime.Interpreter(content, float_ops="litert").predict(images)
            for content in (files["float16"], expected)
        )
        np.testing.assert_array_equal(actual, same)
        assert (actual != runtime.Interpreter(small.content).predict(images)).any()

    @pytest.mark.parametrize("precision", COMPACT)
    @pytest.mark.parametrize("channels", [3, 15])
    def test_few_channels_multiply_in_float32(self, channels, precision):
        kernel = random(8, 1, 1, channels)
        content, bias = convolution((1, 5, 7, channels), kernel, (1, 5, 7, 8))
        x = random(1, 5, 7, channels)
        expected = x @ rounded(kernel, precision).reshape(8, channels).T + bias
        np.testing.assert_allclose(run(compact(content, precision), x), expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("resolver", "axes"),
        [
            (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, (1, 2, 3)),
            (OpResolverType.AUTO, 3),
        ],
        ids=["without XNNPACK", "XNNPACK"],
    )
    def test_many_channels_multiply_in_int8(self, resolver, axes):
        """The range is the image's, and with XNNPACK that of each pixel, which is finer."""
        kernel = random(8, 1, 1, 40) * np.logspace(-2, 2, 8, dtype=np.float32).reshape(8, 1, 1, 1)
        content, bias = convolution((1, 5, 7, 40), kernel, (1, 5, 7, 8))
        x = random(1, 5, 7, 40) + np.float32(0.5)
        low, high = x.min(axes, keepdims=True), x.max(axes, keepdims=True)
        steps = (high - low) / 255
        zero = np.round(-128 - low / steps)
        integers = np.clip(np.round(x / steps) + zero, -128, 127) - zero
        expected = integers * steps @ rounded(kernel, "int8").reshape(8, 40).T + bias
        actual = run(compact(content, "int8"), x, experimental_op_resolver_type=resolver)
        # Nothing else is rounded to int8, neither the sums nor what becomes of them.
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)
        assert np.abs(actual - (x @ kernel.reshape(8, 40).T + bias)).max() > 0.1

    @pytest.mark.parametrize("channels_out", [1, 24])
    def test_filters_of_one_scale(self, channels_out, lce):
        """1-bit filters, say, of which LCE's older LiteRT makes zeros if each has its own scale."""
        kernel = np.sign(random(channels_out, 1, 1, 32)) * np.float32(0.3)
        shapes = (1, 5, 7, 32), (1, 5, 7, channels_out)
        content, bias = convolution(shapes[0], kernel, shapes[1])
        content = compact(content, "int8")
        [quantization] = [tensor.quantization for tensor in kernels(unpacked(content))]
        assert (len(quantization.scale), len(quantization.zeroPoint)) == (1, 1)
        x = random(*shapes[0])
        expected = x @ kernel.reshape(channels_out, 32).T + bias
        # This is half a step of the image's range for each of the products.
        allowed = 0.5 * (x.max() - x.min()) / 255 * 0.3 * 32 + 1e-5
        runners = (
            probes.run_on_lce(content),
            *(probes.run_on_runtime(content, xnnpack=xnnpack) for xnnpack in (False, True)),
        )
        for run_file in runners:
            np.testing.assert_allclose(run_file([x])[0], expected, rtol=0, atol=allowed)

    @pytest.mark.parametrize("precision", COMPACT)
    def test_depthwise(self, precision):
        kernel = random(1, 1, 1, 24)
        options = schema.DepthwiseConv2DOptionsT()
        options.strideH = options.strideW = options.depthMultiplier = 1
        options.dilationHFactor = options.dilationWFactor = 1
        name = "DEPTHWISE_CONV_2D"
        shape = (1, 5, 7, 24)
        content, bias = layer(name, shape, kernel, shape, ("DepthwiseConv2DOptions", options))
        content = compact(content, precision)
        x = random(*shape)
        channels = rounded(kernel.reshape(24, 1), precision).ravel()
        np.testing.assert_allclose(run(content, x), x * channels + bias, atol=1e-6)
        if precision == "int8":
            quantization = unpacked(content).subgraphs[0].tensors[1].quantization
            assert (quantization.quantizedDimension, len(quantization.scale)) == (3, 24)

    def test_groups(self):
        """TFLite has no int8 convolution of groups on float32 inputs."""
        kernel = random(8, 1, 1, 16)
        content, bias = convolution((1, 5, 7, 32), kernel, (1, 5, 7, 8))
        content = compact(content, "int8")
        assert operators(content) == [("DEQUANTIZE", "FLOAT32"), ("CONV_2D", "FLOAT32")]
        x = random(1, 5, 7, 32)
        halves = rounded(kernel, "int8").reshape(2, 4, 16)
        expected = np.concatenate([x[..., :16] @ halves[0].T, x[..., 16:] @ halves[1].T], -1) + bias
        np.testing.assert_allclose(run(content, x), expected, atol=1e-5)

    def test_filter_of_zeros(self):
        kernel = random(8, 1, 1, 32) * (np.arange(8, dtype=np.float32) != 3).reshape(8, 1, 1, 1)
        content, bias = convolution((1, 2, 2, 32), kernel, (1, 2, 2, 8))
        actual = run(compact(content, "int8"), random(1, 2, 2, 32))
        np.testing.assert_array_equal(actual[..., 3], np.full((1, 2, 2), bias[3]))

    @pytest.mark.parametrize("precision", COMPACT)
    def test_delegate_fuses_what_it_fused(self, precision, small, files):
        def steps(content):
            entries = profile(content, num_runs=1, float_ops="litert")
            return [entry.ops for entry in entries if entry.delegated]

        assert steps(files[precision]) == steps(small.content)
        assert len(steps(small.content)) == 4

    @pytest.mark.parametrize("module", ["tflite_runtime.interpreter", "tensorflow.lite"])
    def test_other_interpreters(self, module, files, images, tmp_path):
        package = module.split(".")[0]
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it has no wheel for this Python or platform")
        np.save(tmp_path / "images.npy", images)
        for precision in COMPACT:
            (tmp_path / precision).write_bytes(files[precision])
        command = [sys.executable, "-c", SCRIPT, module, *COMPACT]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert result.returncode == 0, result.stderr
        # Without XNNPACK, as in tflite-runtime, one image has one range, see above.
        for precision, tolerance in (("float16", 1e-4), ("int8", 0.1)):
            actual = np.log(np.load(tmp_path / f"{precision}.npy"))
            expected = np.log(runtime.Interpreter(files[precision]).predict(images))
            assert actual.shape == (len(images), CLASSES)
            assert np.mean(np.abs(actual - expected).max(axis=1) < tolerance) > 0.75
            assert expected.std(axis=0).min() > 0.2


class TestKernelsWithOtherReaders:
    def test_two_layers_share_one(self):
        kernel = random(16, 16)
        tensors = [Tensor((1, 16)), constant(kernel), Tensor((1, 16)), Tensor((1, 16))]
        options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
        ops = [
            Op("FULLY_CONNECTED", [0, 1, -1], [2], builtin=options),
            Op("FULLY_CONNECTED", [2, 1, -1], [3], builtin=options),
        ]
        content = compact(build_model(tensors, ops, [0], [3]), "int8")
        assert [name for name, _ in operators(content)] == ["DEQUANTIZE"] + 2 * ["FULLY_CONNECTED"]
        x, weights = random(1, 16), rounded(kernel, "int8")
        np.testing.assert_allclose(run(content, x), x @ weights.T @ weights.T, rtol=1e-4, atol=1e-4)

    def test_something_else_reads_it(self):
        tensors = [Tensor((1, 16)), constant(random(16, 16)), Tensor((1, 16)), Tensor((16, 16))]
        options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
        ops = [
            Op("FULLY_CONNECTED", [0, 1, -1], [2], builtin=options),
            Op("ADD", [1, 1], [3], builtin=("AddOptions", schema.AddOptionsT())),
        ]
        content = build_model(tensors, ops, [0], [2, 3])
        assert operators(compact(content, "float16")) == operators(content)

    def test_two_tensors_share_a_buffer(self):
        kernel = random(16, 16)
        tensors = [Tensor((1, 16)), *2 * [constant(kernel)], Tensor((1, 16)), Tensor((16, 16))]
        options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
        ops = [
            Op("FULLY_CONNECTED", [0, 1, -1], [3], builtin=options),
            Op("ADD", [2, 2], [4], builtin=("AddOptions", schema.AddOptionsT())),
        ]
        model = unpacked(build_model(tensors, ops, [0], [4, 3]))
        model.subgraphs[0].tensors[2].buffer = model.subgraphs[0].tensors[1].buffer
        content = compact(serialize(model), "float16")
        np.testing.assert_array_equal(run(content, random(1, 16)), kernel + kernel)


class TestErrors:
    def test_unknown_precision(self, small):
        with pytest.raises(ValueError, match=r"float32, float16, int8\. Received: precision=int4"):
            compact(small.content, "int4")

    def test_too_large_for_float16(self, small):
        def change(data):
            data.view(np.float32)[0] = 1e5

        content = edit(small.content, "CONV_2D", 1, change)
        with pytest.raises(ValueError, match=r"up to 65504, and .*goes up to 1e\+05"):
            compact(content, "float16")
        compact(content, "int8")


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="LiteRT for Arm rounds so"
)
def test_dynamic_range_gives_the_bytes_of_the_reference_kernel(files, images):
    """On the delegate, of a file as it is written, on what its layer reads there."""
    model = schema.ModelT.InitFromPackedBuf(files["int8"], 0)
    graph = model.subgraphs[0]
    layers = [
        operator
        for operator in graph.operators
        if graph.tensors[operator.inputs[-1]].type == schema.TensorType.FLOAT32
        and len(operator.inputs) == 3
        and graph.tensors[operator.inputs[1]].type == schema.TensorType.INT8
    ]
    assert len(layers) == 1
    [layer] = layers
    source, kernel, bias = (graph.tensors[index] for index in layer.inputs)
    weights = model.buffers[kernel.buffer].data.view(np.int8).reshape(kernel.shape)
    biases = model.buffers[bias.buffer].data.view(np.float32)
    graph.outputs = [layer.inputs[0], layer.outputs[0]]
    model.signatureDefs = None
    inputs, outputs = runtime.Interpreter(serialize(model), float_ops="delegate").run([images])
    assert np.unique(outputs).size > 1000

    tensors = [Tensor(source.shape), constant(weights, kernel.quantization.scale)]
    tensors += [constant(biases), Tensor((1, *outputs.shape[1:]))]
    options = ("Conv2DOptions", layer.builtinOptions)
    alone = build_model(tensors, [Op("CONV_2D", [0, 1, 2], [3], builtin=options)], [0], [3])
    reference = Interpreter(
        model_content=alone, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    reference.allocate_tensors()
    for x, y in zip(inputs, outputs):
        reference.set_tensor(0, x[None])
        reference.invoke()
        assert reference.get_tensor(3)[0].tobytes() == y.tobytes()
