"""bireal_keras.cost.of_model: against figures worked out by hand, and against the paper's."""

import functools
import re

import numpy as np
import pytest

from bireal_keras import cost, zoo
from bireal_keras._keras import keras, lq

BINARY = {"input_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
# The paper's authors published these FLOPs and Mbit.
PUBLISHED = {
    "BiRealNet18": (1.63e8, 33.6),
    "BiRealNet34": (1.93e8, 43.7),
    "BiRealNet18Float": (1.81e9, 374.1),  # ResNet-18
    "BiRealNet34Float": (3.66e9, 697.3),  # ResNet-34
}
BLOCKS = {"18": (4, 4, 4, 4), "34": (6, 8, 12, 6)}


@functools.cache
def zoo_cost(name):
    return cost.of_model(zoo.create_model(name))


def of_layers(*layers, shape=(8, 10, 4)):
    """Cost of a chain of layers."""
    return cost.of_model(keras.Sequential([keras.Input(shape), *layers]))


def figures(layer):
    return (
        layer.binary_macs,
        layer.real_macs,
        layer.binary_weights,
        layer.real_weights,
        layer.memory_bits,
    )


def only(result):
    (layer,) = result.layers
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_reproduces_the_papers_figures(name):
    total = zoo_cost(name).total
    flops, megabits = PUBLISHED[name]
    assert total.flops == pytest.approx(flops, rel=0.01)
    assert total.memory_bits / 1e6 == pytest.approx(megabits, rel=0.005)


@pytest.mark.slow
def test_the_documentation_has_our_figures(repository):
    lines = (repository / "docs" / "cost.md").read_text().splitlines()
    for name in PUBLISHED:
        (row,) = [line.split("|") for line in lines if re.match(rf"\| {name}\b", line)]
        result = zoo_cost(name)
        assert float(row[2]) == float(f"{result.total.flops:.3e}")
        assert row[4].strip() == f"{result.total.memory_bits / 1e6:.2f} Mbit"
        assert float(row[6]) == round(result.flops_ratio, 2)
        assert float(row[7]) == round(result.memory_ratio, 2)


@pytest.mark.slow
@pytest.mark.parametrize("depth", BLOCKS)
def test_closed_form_of_birealnet(depth):
    """Sizes 56, 28, 14 and 7; the work of a 3x3 convolution is the same in every stage."""
    stages = [(56 // 2**s, 64 * 2**s, count) for s, count in enumerate(BLOCKS[depth])]
    binary_macs = binary_weights = 0
    real_macs, real_weights = 112**2 * 64 * 147 + 512 * 1000, 64 * 147 + 513 * 1000 + 2 * 64
    before = 64
    for size, channels, count in stages:
        kernels = 9 * before * channels + (count - 1) * 9 * channels**2
        binary_weights += kernels
        binary_macs += size**2 * kernels
        real_weights += 2 * channels * count
        if before != channels:
            real_weights += before * channels + 2 * channels
            real_macs += size**2 * before * channels
        before = channels
    total = zoo_cost(f"BiRealNet{depth}").total
    memory = binary_weights + 32 * real_weights
    assert figures(total) == (binary_macs, real_macs, binary_weights, real_weights, memory)
    assert total.flops == real_macs + binary_macs / 64

    twin = zoo_cost(f"BiRealNet{depth}Float")
    assert twin.total.flops == total.float_flops == real_macs + binary_macs
    assert twin.total.memory_bits == total.float_memory_bits == 32 * (binary_weights + real_weights)
    assert (twin.flops_ratio, twin.memory_ratio) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BiRealNet18", "BiRealNet34Float"])
def test_macs_are_those_of_larq(name):
    model = zoo.create_model(name, width=8, input_shape=(64, 64, 3), num_classes=10)
    profile = lq.models.ModelProfile(model)
    total = cost.of_model(model).total
    assert total.binary_macs == profile.op_count("mac", 1)
    assert total.float_flops == profile.op_count("mac")


class TestLayers:
    def test_real_convolution_with_bias_and_stride(self):
        # ceil(8 / 2) * ceil(10 / 2) positions, 3 * 3 * 4 * 6 weights and 6 biases.
        layer = only(of_layers(keras.layers.Conv2D(6, 3, strides=2, padding="same")))
        assert figures(layer) == (0, 20 * 216, 0, 222, 32 * 222)

    def test_convolution_without_padding(self):
        layer = only(of_layers(keras.layers.Conv2D(6, (3, 5), dilation_rate=2, use_bias=False)))
        assert figures(layer) == (0, 4 * 2 * 360, 0, 360, 32 * 360)

    def test_groups(self):
        layer = only(of_layers(keras.layers.Conv2D(6, 1, groups=2, use_bias=False)))
        assert figures(layer) == (0, 80 * 12, 0, 12, 32 * 12)

    @pytest.mark.parametrize("pad_values", [0, 1])
    def test_binary_convolution(self, pad_values):
        layer = only(
            of_layers(
                lq.layers.QuantConv2D(
                    *(6, 3),
                    padding="same",
                    pad_values=pad_values,
                    kernel_quantizer="ste_sign",
                    **BINARY,
                )
            )
        )
        assert figures(layer) == (80 * 216, 0, 216, 6, 216 + 32 * 6)
        assert layer.flops == 80 * 216 / 64
        assert layer.note == ""

    def test_binary_convolution_with_groups(self):
        conv = lq.layers.QuantConv2D(
            6, 3, groups=2, kernel_quantizer="ste_sign", use_bias=False, **BINARY
        )
        assert figures(only(of_layers(conv))) == (6 * 8 * 108, 0, 108, 0, 108)

    def test_binary_weights_and_real_input(self):
        conv = lq.layers.QuantConv2D(
            6, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False
        )
        layer = only(of_layers(conv))
        assert figures(layer) == (0, 48 * 216, 216, 0, 216)
        assert "multiplied as reals" in layer.note

    def test_real_weights_and_binary_input(self):
        conv = lq.layers.QuantConv2D(6, 3, input_quantizer="ste_sign", use_bias=False)
        layer = only(of_layers(conv))
        assert figures(layer) == (0, 48 * 216, 0, 216, 32 * 216)
        assert "multiplied as reals" in layer.note

    def test_input_that_a_quantizer_in_front_made_binary(self):
        def conv():
            return lq.layers.QuantConv2D(
                6, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False
            )

        sign = lq.quantizers.SteSign()
        for layer in (sign, keras.layers.Activation(sign)):
            assert only(of_layers(layer, conv())).binary_macs == 48 * 216
        between = keras.layers.AveragePooling2D(1)
        assert only(of_layers(sign, between, conv())).real_macs == 48 * 216

    def test_weights_of_two_bits(self):
        conv = lq.layers.QuantConv2D(
            6, 3, input_quantizer="ste_sign", kernel_quantizer="ste_tern", use_bias=False
        )
        assert figures(only(of_layers(conv))) == (0, 48 * 216, 0, 216, 2 * 216)

    def test_dense(self):
        assert figures(only(of_layers(keras.layers.Dense(7), shape=(5,)))) == (
            *(0, 35, 0, 42),
            32 * 42,
        )
        # It runs on (3, 5), once for each of the three.
        assert only(of_layers(keras.layers.Dense(7), shape=(3, 5))).real_macs == 105

    def test_binary_dense(self):
        dense = lq.layers.QuantDense(7, kernel_quantizer="ste_sign", **BINARY)
        assert figures(only(of_layers(dense, shape=(5,)))) == (35, 0, 35, 7, 35 + 32 * 7)

    def test_depthwise(self):
        layer = only(of_layers(keras.layers.DepthwiseConv2D(3, depth_multiplier=2)))
        assert figures(layer) == (0, 48 * 72, 0, 80, 32 * 80)

    def test_binary_depthwise(self):
        conv = lq.layers.QuantDepthwiseConv2D(
            3,
            input_quantizer="ste_sign",
            depthwise_quantizer="ste_sign",
            depthwise_constraint="weight_clip",
            use_bias=False,
        )
        assert figures(only(of_layers(conv))) == (48 * 36, 0, 36, 0, 36)

    def test_separable_multiplies_reals_in_its_second_half(self):
        """The 1x1 half takes sums of signs."""
        conv = lq.layers.QuantSeparableConv2D(
            6,
            3,
            input_quantizer="ste_sign",
            depthwise_quantizer="ste_sign",
            pointwise_quantizer="ste_sign",
            depthwise_constraint="weight_clip",
            pointwise_constraint="weight_clip",
            use_bias=False,
        )
        layer = only(of_layers(conv))
        assert figures(layer) == (48 * 36, 48 * 24, 60, 0, 60)
        assert "multiplied as reals" in layer.note

    def test_transposed(self):
        """The kernel is applied once for each input."""
        conv = keras.layers.Conv2DTranspose(6, 3, strides=2, use_bias=False)
        assert figures(only(of_layers(conv))) == (0, 80 * 216, 0, 216, 32 * 216)

    def test_one_dimension(self):
        conv = keras.layers.Conv1D(6, 3, use_bias=False)
        assert only(of_layers(conv, shape=(10, 4))).real_macs == 8 * 72

    def test_batch_normalization_counts_gamma_and_beta(self):
        assert figures(only(of_layers(keras.layers.BatchNormalization()))) == (0, 0, 0, 8, 256)
        frozen = keras.layers.BatchNormalization(scale=False, trainable=False)
        assert figures(only(of_layers(frozen))) == (0, 0, 0, 4, 128)

    def test_prelu(self):
        layer = only(of_layers(keras.layers.PReLU(shared_axes=[1, 2])))
        assert figures(layer) == (0, 0, 0, 4, 128)
        layer = only(of_layers(keras.layers.PReLU()))
        assert (layer.real_weights, layer.note) == (8 * 10 * 4, "")

    def test_layers_without_weights_have_no_entry(self):
        assert of_layers(keras.layers.ReLU(), keras.layers.MaxPool2D()).layers == ()
        assert of_layers(keras.layers.Flatten()).flops_ratio == 1

    def test_unknown_layer_is_counted_and_named(self):
        layer = only(of_layers(keras.layers.LSTM(3), shape=(5, 4)))
        assert layer.real_weights == 4 * (4 * 3 + 3 * 3 + 3)
        assert "multiplications, if any, are not" in layer.note

    def test_unknown_layer_with_a_factor_for_each_channel(self):
        class Shift(keras.layers.Layer):
            def build(self, input_shape):
                self.shift = self.add_weight("shift", (1, 1, input_shape[-1]))

            def call(self, inputs):
                return inputs + self.shift

        layer = only(of_layers(Shift()))
        assert (layer.kind, layer.real_weights, layer.note) == ("Shift", 4, "")


class TestModels:
    def test_a_layer_called_twice_has_its_weights_once(self):
        inputs = keras.Input((8, 10, 4))
        conv = keras.layers.Conv2D(4, 3, use_bias=False)
        model = keras.Model(inputs, conv(conv(inputs)))
        assert figures(only(cost.of_model(model))) == (0, (48 + 24) * 144, 0, 144, 32 * 144)

    def test_models_inside_models(self):
        inner = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3)])
        inputs = keras.Input((8, 10, 4))
        outer = keras.Model(inputs, keras.layers.Dense(2)(inner(inner(inputs))))
        conv, dense = cost.of_model(outer).layers
        assert figures(conv) == (0, (48 + 24) * 144, 0, 148, 32 * 148)
        assert figures(dense) == (0, 24 * 8, 0, 10, 320)

    def test_layers_inside_a_wrapper(self):
        wrapper = keras.layers.TimeDistributed(keras.layers.Conv2D(6, 3, use_bias=False))
        layer = only(of_layers(wrapper, shape=(5, 8, 10, 4)))
        assert figures(layer) == (0, 5 * 48 * 216, 0, 216, 32 * 216)

    def test_subclassed_model(self):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.conv = keras.layers.Conv2D(6, 3, use_bias=False)
                self.scale = self.add_weight("scale", (6,))

            def call(self, inputs):
                return self.conv(inputs) * self.scale

        model = Net()
        result = cost.of_model(model, input_shape=(8, 10, 4))
        assert figures(result.total) == (0, 48 * 216, 0, 222, 32 * 222)
        assert {layer.kind for layer in result.layers} == {"Net", "Conv2D"}
        assert model(np.zeros((2, 8, 10, 4))).shape == (2, 6, 8, 6)
        assert "call" not in vars(model.conv)

    def test_two_inputs(self):
        a, b = keras.Input((3,)), keras.Input((5,))
        model = keras.Model([a, b], keras.layers.Add()([keras.layers.Dense(2)(x) for x in (a, b)]))
        assert cost.of_model(model).total.real_macs == 16

    def test_layer_that_takes_no_part(self):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.spare = keras.layers.Dense(3)
        model.spare.build((4,))
        used, spare = cost.of_model(model).layers
        assert (used.real_macs, used.note) == (8, "")
        assert (spare.real_macs, spare.real_weights) == (0, 15)
        assert "takes no part" in spare.note

    def test_input_of_unknown_size(self):
        model = zoo.BiRealNet18(include_top=False, width=4)
        with pytest.raises(ValueError, match=r"`input_shape` is needed .*\(None, None, None, 3\)"):
            cost.of_model(model)
        small = cost.of_model(model, input_shape=(32, 32, 3)).total
        large = cost.of_model(model, input_shape=(64, 64, 3)).total
        assert large.binary_macs == 4 * small.binary_macs
        assert large.memory_bits == small.memory_bits

    @pytest.mark.parametrize("shape", [(), (4, 4), (-1, 5, 4), (0, 5, 4), (2.5, 5, 4), "444"])
    def test_what_is_no_shape(self, shape):
        model = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(2, 1)])
        message = r"`input_shape` must be whole numbers .* of \(None, None, 4\)\. Received: \("
        with pytest.raises(ValueError, match=message):
            cost.of_model(model, input_shape=shape)

    def test_what_is_no_model(self):
        with pytest.raises(ValueError, match=r"`model` must be .* Received: builtins\.int"):
            cost.of_model(3)
