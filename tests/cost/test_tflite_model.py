"""bireal_keras.cost.of_tflite: on single operators, and against the Keras model of a file."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lce_ops import Bconv2d, Op, Tensor, build_model, constant

from bireal_keras import cost


def only(content):
    (layer,) = cost.of_tflite(content).layers
    return layer


def figures(layer):
    return (
        layer.binary_macs,
        layer.real_macs,
        layer.binary_weights,
        layer.real_weights,
        layer.memory_bits,
    )


def one_op(kind, inputs, output, *, which=(0, 1, 2)):
    """A model of one builtin operator; the first of `inputs` is the model's input."""
    tensors = [*inputs, output]
    last = len(inputs)
    return build_model(tensors, [Op(kind, which[:last], [last])], [which[0]], [last])


def zeros(*shape, dtype=np.float32):
    return constant(np.zeros(shape, dtype))


class TestOperators:
    @pytest.mark.parametrize("output", ["float", "int8"])
    def test_binary_convolution(self, output):
        """It has 40 channels, which fill two words with 24 bits to spare; these cost nothing."""
        case = Bconv2d(1, 5, 7, 40, 6, filter_size=(3, 2), strides=(2, 1), output=output)
        weights = 3 * 2 * 40 * 6
        memory = weights + 32 * (6 + 6)
        layer = only(case.model())
        assert figures(layer) == (3 * 7 * weights, 0, weights, 12, memory)
        assert (layer.kind, layer.name) == ("LceBconv2d", "tensor2")

    def test_binary_convolution_with_packed_output(self):
        """One threshold for each filter in place of factor and summand."""
        weights = 9 * 64 * 40
        layer = only(Bconv2d(1, 5, 7, 64, 40, padding=1, output="packed").model())
        assert figures(layer) == (3 * 5 * weights, 0, weights, 40, weights + 32 * 40)

    def test_binary_convolution_with_groups(self):
        weights = 9 * 32 * 8
        layer = only(Bconv2d(1, 5, 7, 64, 8, groups=2).model())
        assert figures(layer) == (35 * weights, 0, weights, 16, weights + 32 * 16)

    def test_convolution(self):
        inputs = [Tensor((1, 5, 7, 4)), zeros(6, 3, 3, 4), zeros(6)]
        content = one_op("CONV_2D", inputs, Tensor((1, 3, 4, 6)))
        assert figures(only(content)) == (0, 12 * 216, 0, 222, 32 * 222)

    def test_convolution_with_groups(self):
        inputs = [Tensor((1, 5, 7, 4)), zeros(6, 3, 3, 2), zeros(6)]
        assert only(one_op("CONV_2D", inputs, Tensor((1, 3, 4, 6)))).real_macs == 12 * 108

    def test_depthwise(self):
        inputs = [Tensor((1, 5, 7, 4)), zeros(1, 3, 3, 8), zeros(8)]
        content = one_op("DEPTHWISE_CONV_2D", inputs, Tensor((1, 3, 5, 8)))
        assert figures(only(content)) == (0, 15 * 72, 0, 80, 32 * 80)

    def test_fully_connected(self):
        content = one_op("FULLY_CONNECTED", [Tensor((1, 5)), zeros(7, 5)], Tensor((1, 7)))
        assert figures(only(content)) == (0, 35, 0, 35, 32 * 35)
        content = one_op("FULLY_CONNECTED", [Tensor((1, 3, 5)), zeros(7, 5)], Tensor((1, 3, 7)))
        assert only(content).real_macs == 105

    def test_transposed_convolution(self):
        sizes = constant(np.array([1, 11, 15, 6], np.int32))
        tensors = [Tensor((1, 5, 7, 4)), zeros(6, 3, 3, 4), sizes, Tensor((1, 11, 15, 6))]
        content = build_model(tensors, [Op("TRANSPOSE_CONV", [2, 1, 0], [3])], [0], [3])
        assert only(content).real_macs == 35 * 216

    def test_int8_weights_take_eight_bits(self):
        inputs = [
            Tensor((1, 5), np.int8, scale=1),
            zeros(7, 5, dtype=np.int8),
            zeros(7, dtype=np.int32),
        ]
        content = one_op("FULLY_CONNECTED", inputs, Tensor((1, 7), np.int8, scale=1))
        assert figures(only(content)) == (0, 35, 0, 42, 8 * 35 + 32 * 7)

    def test_weights_behind_a_dequantize_are_those_of_the_layer(self):
        tensors = [Tensor((1, 5)), zeros(7, 5, dtype=np.int8), Tensor((7, 5)), Tensor((1, 7))]
        ops = [Op("DEQUANTIZE", [1], [2]), Op("FULLY_CONNECTED", [0, 2], [3])]
        layer = only(build_model(tensors, ops, [0], [3]))
        assert (layer.kind, *figures(layer)) == ("FULLY_CONNECTED", 0, 35, 0, 35, 8 * 35)

    def test_constants_of_other_operators(self):
        layer = only(one_op("ADD", [Tensor((1, 5, 7)), zeros(5, 7)], Tensor((1, 5, 7))))
        assert (figures(layer), layer.note) == ((0, 0, 0, 35, 32 * 35), "")
        layer = only(one_op("PRELU", [Tensor((1, 5, 4)), zeros(1, 4)], Tensor((1, 5, 4))))
        assert layer.real_weights == 4
        layer = only(one_op("MUL", [Tensor((1, 4)), constant(np.float32(2))], Tensor((1, 4))))
        assert layer.real_weights == 1

    def test_unknown_operator_is_counted_and_named(self):
        layer = only(one_op("Mystery", [Tensor((1, 5)), zeros(7, 5)], Tensor((1, 7))))
        assert (layer.kind, layer.real_weights) == ("Mystery", 35)
        assert "multiplications, if any, are not" in layer.note

    def test_shapes_and_axes_are_no_weights(self):
        shape = constant(np.array([1, 35], np.int32))
        content = one_op("RESHAPE", [Tensor((1, 5, 7)), shape], Tensor((1, 35)))
        assert cost.of_tflite(content).layers == ()

    def test_a_constant_that_two_operators_read_counts_once(self):
        tensors = [Tensor((1, 5)), zeros(5, 5), Tensor((1, 5)), Tensor((1, 5))]
        ops = [Op("FULLY_CONNECTED", [0, 1], [2]), Op("FULLY_CONNECTED", [2, 1], [3])]
        first, second = cost.of_tflite(build_model(tensors, ops, [0], [3])).layers
        assert figures(first) == (0, 25, 0, 25, 32 * 25)
        assert figures(second) == (0, 25, 0, 0, 0)


class TestErrors:
    def test_no_model(self, tmp_path):
        path = tmp_path / "model.tflite"
        path.write_bytes(b"this is no model")
        with pytest.raises(ValueError, match=rf"{path}: is not a TFLite model"):
            cost.of_tflite(path)
        with pytest.raises(OSError, match="missing"):
            cost.of_tflite(tmp_path / "missing.tflite")

    def test_damaged_files(self):
        """Any byte may be wrong: the cost of something else, or a ValueError."""
        content = Bconv2d(1, 5, 7, 40, 6).model()
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(300):
            damaged = bytearray(content)
            damaged[rng.integers(8, len(damaged))] = rng.integers(256)
            try:
                cost.of_tflite(bytes(damaged))
            except ValueError:
                refused += 1
        assert refused > 3
        for length in range(8, len(content), 97):
            with pytest.raises(ValueError, match="the model: "):
                cost.of_tflite(content[:length])

    def test_size_that_is_not_fixed(self):
        model = schema.ModelT.InitFromPackedBuf(
            one_op("CONV_2D", [Tensor((1, 1, 1, 4)), zeros(6, 3, 3, 4)], Tensor((1, 1, 1, 6))), 0
        )
        model.subgraphs[0].tensors[2].shapeSignature = [-1, -1, -1, 6]
        with pytest.raises(ValueError, match=r"must have a fixed input size.*-1, -1, -1, 6"):
            cost.of_tflite(packed(model))
        model.subgraphs[0].tensors[2].shapeSignature = [-1, 1, 1, 6]
        assert only(packed(model)).real_macs == 216

    def test_several_subgraphs(self):
        model = schema.ModelT.InitFromPackedBuf(Bconv2d(1, 5, 7, 40, 6).model(), 0)
        model.subgraphs *= 2
        with pytest.raises(ValueError, match=r"must have one subgraph\. Received: 2"):
            cost.of_tflite(packed(model))


def packed(model):
    from flatbuffers import Builder

    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class TestAgainstKeras:
    """The file of a model: the same multiplications and 1-bit weights, and what folding leaves."""

    def convert(self, model):
        from export_helpers import packed

        return cost.of_tflite(packed(model)).total

    def check(self, model, folded):
        from bireal_keras.cost import of_model

        ours, keras_cost = self.convert(model), of_model(model).total
        assert ours.binary_macs == keras_cost.binary_macs > 0
        assert ours.real_macs == keras_cost.real_macs
        assert ours.binary_weights == keras_cost.binary_weights
        assert ours.real_weights == keras_cost.real_weights + folded
        assert ours.memory_bits == keras_cost.memory_bits + 32 * folded

    @pytest.mark.slow
    def test_birealnet(self):
        """BatchNormalization's gammas go into the kernel of a real convolution, which frees one
        value for each channel; factor and summand stay where the kernel is 1-bit."""
        from export_helpers import birealnet, build

        model = build(birealnet)
        model.get_layer("head").bias.assign([1, 2, 3, 4, 5])  # Zeros would be left out.
        self.check(model, folded=-(16 + 40))

    @pytest.mark.slow
    def test_layers_of_all_kinds(self):
        from export_helpers import build, larq_conv

        from bireal_keras._keras import keras

        def layers(x):
            x = keras.layers.Conv2D(64, 3, padding="same", kernel_initializer="he_normal")(x)
            x = keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer="glorot_normal")(x)
            x = larq_conv(64, groups=2)(x)
            x = keras.layers.BatchNormalization()(x)
            x = larq_conv(8, strides=2, use_bias=True, bias_initializer="normal")(x)
            x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="normal")(x)
            x = keras.layers.Conv2D(6, 1, groups=2, bias_initializer="normal")(x)
            return keras.layers.Dense(5, bias_initializer="normal")(keras.layers.Flatten()(x))

        # The second 1-bit convolution has a factor for each of its 8 filters.
        self.check(build(layers), folded=8)
