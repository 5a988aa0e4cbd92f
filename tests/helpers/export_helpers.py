"""Small Keras models to convert, and tools to look into what became of them."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bireal_keras import blocks
from bireal_keras._keras import keras, lq
from bireal_keras.export import from_keras, signature
from bireal_keras.export.binarize import binarize

SIZE = 12
CLASSES = 5
# The center crop of the images that the `small` model is to see.
CENTER_CROP = 0.875


def build(layers, shape=(SIZE, SIZE, 3)):
    """A model of `layers`, a function from tensor to tensor; the same weights each time.

    Its BatchNormalizations get random statistics, since with fresh ones a network gives
    nearly the same for all inputs, and gammas of both signs, since LCE folds them into
    factors and inverts filters for some.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, layers(inputs), name="small")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            layer.gamma.assign(rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels))
            layer.beta.assign(rng.normal(size=channels))
            layer.moving_mean.assign(rng.normal(size=channels))
            layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
    return model


def birealnet_features(x):
    """A Bi-Real Net of three 1-bit convolutions; maps shrink to 6x6."""
    x = blocks.cifar_stem(x, 16)
    conv = blocks.binary_conv()
    x = blocks.shortcut_block(x, 16, conv=conv, name="block1")
    x = blocks.shortcut_block(x, 40, strides=2, conv=conv, name="block2")
    return blocks.shortcut_block(x, 40, conv=conv, name="block3")


def birealnet(x):
    x = keras.layers.GlobalAveragePooling2D()(birealnet_features(x))
    return keras.layers.Dense(CLASSES, activation="softmax", name="head")(x)


def larq_conv(filters, **kwargs):
    """A 1-bit convolution as Larq's users write it."""
    arguments = {
        "kernel_size": 3,
        "padding": "same",
        "use_bias": False,
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        **kwargs,
    }
    return lq.layers.QuantConv2D(filters, **arguments)


class Uneven(lq.quantizers.SteSign):
    """A sign whose magnitudes differ within a filter, by a share of the first one's."""

    def __init__(self, share, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def call(self, inputs):
        count = int(np.prod(inputs.shape[:3]))
        uneven = np.where(np.arange(count) == count - 1, 1 + self.share, 1.0)
        return super().call(inputs) * uneven.reshape(*inputs.shape[:3], 1).astype(np.float32)


def packed(model):
    """The file that our converter makes of a model, before any check."""
    return binarize(from_keras.float_file(model, signature.of(model))).content


def operators(content):
    """Names of a TFLite model's operators with the type of each one's output."""
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = code.customCode.decode() if code.customCode else builtin[code.builtinCode]
        found.append((name, types[graph.tensors[operator.outputs[0]].type]))
    return found


def edit(content, name, index, change, *, which=0):
    """Changes a constant of a TFLite model.

    Args:
        content: the model.
        name: of the operator, as from `operators`.
        index: which of its inputs.
        change: takes the constant's bytes as a uint8 array to write to.
        which: counts the operators of that name.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    names = [n for n, _ in operators(content)]
    position = [i for i, n in enumerate(names) if n == name][which]
    buffer = model.buffers[graph.tensors[graph.operators[position].inputs[index]].buffer]
    data = np.array(buffer.data, np.uint8)
    change(data)
    buffer.data = data
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
