"""Fake-quantized models: Keras and the file agree in every int8 value, or the check says where."""

import importlib.util

import numpy as np
import pytest
from export_helpers import edit, larq_conv

from bireal_keras import _layer_calls, export
from bireal_keras._keras import keras, tf
from bireal_keras.export import comparison, fake_quant, probes
from bireal_keras.export.samples import random_samples
from bireal_keras.export.verification import verify
from bireal_keras.tflite.model import Graph

# Every one of them converts a model.
pytestmark = pytest.mark.slow

L = keras.layers
SHAPE = (12, 12, 3)
STEP = 6 / 255


def quantized(x):
    return tf.quantization.fake_quant_with_min_max_args(x, -3.0, 3.0)


@keras.utils.register_keras_serializable("tests")
class QuantizedKernel(L.Conv2D):
    """A convolution with an int8 kernel, as quantization-aware training has it."""

    def convolution_op(self, inputs, kernel):
        kernel = tf.quantization.fake_quant_with_min_max_args(kernel, -0.5, 0.5, narrow_range=True)
        return super().convolution_op(inputs, kernel)


@keras.utils.register_keras_serializable("tests")
class Quantize(L.Layer):
    """Fake quantization inside a layer, with ranges that are variables."""

    def build(self, shape):
        self.low = self.add_weight("low", (), initializer=keras.initializers.Constant(-3))
        self.high = self.add_weight("high", (), initializer=keras.initializers.Constant(3))

    def call(self, inputs):
        return tf.quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high)


def witnesses():
    has_lce = importlib.util.find_spec("larq_compute_engine") is not None
    return [probes.run_on_runtime, *([probes.run_on_lce] if has_lce else [])]


def model_of(*places, quantize=quantized):
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    x = quantize(image) if "input" in places else image
    x = QuantizedKernel(32, 3, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = quantize(x) if "stem" in places else x
    for name in ("first", "second"):
        y = larq_conv(32, name=name, pad_values=1)(x)
        y = L.BatchNormalization()(y)
        y = quantize(y) if "blocks" in places else y
        x = L.Add()([x, y])
        x = quantize(x) if "blocks" in places else x
    return keras.Model(image, L.Dense(10)(L.GlobalAveragePooling2D()(x)), name="quantized")


@pytest.mark.parametrize(
    ("converter", "quantize"),
    [("lce", quantized), ("lce", lambda x: Quantize()(x)), ("bireal", lambda x: Quantize()(x))],
    ids=["lce-function", "lce-layer", "bireal-layer"],
)
@pytest.mark.parametrize(
    "places", [("input",), ("stem",), ("input", "stem"), ("input", "stem", "blocks")], ids="-".join
)
def test_right_files(places, converter, quantize, tmp_path):
    model = model_of(*places, quantize=quantize)
    report = export.convert(model, tmp_path / "model.tflite", converter=converter)
    assert report.binary_convolutions == 2
    # The stem's kernel is a constant in the file, quantized before.
    assert [layer.name for layer in report.layers if not layer.binary] == [
        *("quantized_kernel", "dense")
    ]
    content = (tmp_path / "model.tflite").read_bytes()
    count = len(places) + 3 * ("blocks" in places)
    assert len(fake_quant.rounded_tensors(Graph(content))) == count
    _, found = comparison.compare(model, content, [random_samples(SHAPE)], witnesses())
    for compared in found:
        assert compared.all_signs_told
        int8 = [layer for layer in compared.layers if layer.name.startswith("int8 tensor ")]
        assert len(int8) == count
        # What is not rounding of real numbers is exact: nothing is near a whole step.
        assert all(layer.difference < 1e-4 * STEP for layer in int8)
        assert all(layer.difference < 0.2 * layer.tolerance for layer in compared.layers)


@pytest.mark.parametrize("shift", [0.1 * STEP, STEP])
def test_an_error_of_a_part_of_a_step_is_found(shift, lce, tmp_path):
    model = model_of("input", "stem")
    export.convert(model, tmp_path / "model.tflite", converter="lce")

    def change(data):
        data.view(np.float32)[3] += shift

    content = edit((tmp_path / "model.tflite").read_bytes(), "CONV_2D", 2, change)
    with pytest.raises(
        ValueError, match=r"same signs before, the int8 tensor .* beyond half a step"
    ):
        verify(model, content, [random_samples(SHAPE)])


def test_a_wrong_step_is_found(tmp_path):
    """The file rounds to other values than Keras, which the results hardly show."""
    from bireal_keras.tflite.model import serialize, unpack

    model = model_of("stem")
    export.convert(model, tmp_path / "model.tflite")
    changed = unpack((tmp_path / "model.tflite").read_bytes())
    for tensor in changed.subgraphs[0].tensors:
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale = tensor.quantization.scale * np.float32(1.5)
    with pytest.raises(ValueError, match=r"the int8 tensor .* beyond half a step"):
        verify(model, serialize(changed), [random_samples(SHAPE)])


def test_the_functions_are_what_they_were():
    before = tf.quantization.fake_quant_with_min_max_args
    model = model_of("input")
    [layer] = [one for one in model.layers if getattr(one, "function", None) is before]
    seen = []

    def intercept(values, outputs, step):
        seen.append((values.shape, step))
        return np.zeros_like(outputs)

    def fail_inside():
        with fake_quant.intercepted(_layer_calls.layers_of(model), intercept):
            model(np.ones((2, *SHAPE), np.float32))
            raise RuntimeError("fire")

    with pytest.raises(RuntimeError, match="fire"):
        fail_inside()
    assert seen == [((2, *SHAPE), pytest.approx(STEP)), ((3, 3, 3, 32), pytest.approx(1 / 254))]
    assert tf.quantization.fake_quant_with_min_max_args is before
    assert layer.function is before


def test_int8_stands_for_real_numbers():
    tensor = fake_quant.Int8(index=0, name="t", step=0.5, zero_point=-3)
    values = np.array([-128, -3, 127], np.int8)
    np.testing.assert_array_equal(tensor.real(values), np.float32([-62.5, 0, 65]))


def test_kernels_that_only_the_file_rounds(lce, tmp_path):
    """Between int8 tensors LCE stores kernels in int8, though Keras has them real."""
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    x = L.Conv2D(32, 3, padding="same", use_bias=False)(quantized(image))
    x = quantized(L.BatchNormalization()(x))
    x = larq_conv(32, pad_values=1)(x)
    model = keras.Model(image, L.GlobalAveragePooling2D()(x))
    path = tmp_path / "model.tflite"
    export.convert(model, path, converter="lce")
    graph = Graph(path.read_bytes())
    _, stem, *_ = fake_quant.rounded_tensors(graph)
    [kernel] = [t for t in graph.tensors if t.shape == (32, 3, 3, 3)]
    # 27 products of a weight, off by a step over the square root of 12, and a value of up to 3.
    largest = 128 * STEP
    deviation = float(kernel.scales.max()) / 12**0.5 * 27**0.5 * largest
    assert stem.kernel_error == pytest.approx(6 * deviation, rel=0.01)

    def change(data):
        data.view(np.int8).reshape(32, 27)[:, 0] //= 2

    content = edit(path.read_bytes(), "CONV_2D", 1, change)
    with pytest.raises(ValueError, match=r"the int8 tensor .* beyond half a step"):
        verify(model, content, [random_samples(SHAPE)])
