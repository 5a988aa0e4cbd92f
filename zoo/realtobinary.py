"""The Real-to-Binary network (Martinez et al., ICLR 2020, openreview BJg4NgBKvH)."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.zoo import _model, _published, _registry
from bireal_keras.zoo.birealnet import BLOCKS, BiRealNet18

_norm = functools.partial(blocks.batch_norm, momentum=0.99, epsilon=1e-3)
_STEMS = {
    **_model.STEMS,
    "imagenet": _model.Stem(
        functools.partial(blocks.imagenet_stem, norm=_norm, activation=blocks.prelu), 224, 32
    ),
}
_REDUCTION = 8  # of channels, between the two layers that make the gates


def _gates(x: tf.Tensor, filters: int, *, name: str) -> tf.Tensor:
    """A number in (0, 1) for each filter from the means of the channels, as (batch, 1, 1, filters).

    Source: Martinez et al., Section 4.3.
    """
    reduced = max(1, x.shape[-1] // _REDUCTION)
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}_gate_pool")(x)
    for units, activation, part in (
        (reduced, "relu", "reduce"),
        (filters, "sigmoid", "expand"),
    ):
        x = keras.layers.Dense(
            units,
            activation=activation,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_gate_{part}",
        )(x)
    return keras.layers.Reshape((1, 1, filters), name=f"{name}_gate_reshape")(x)


def _block(
    x: tf.Tensor, filters: int, *, strides: int, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """x ---> BN ---> sign ---> 1-bit conv ---> * ---> PReLU ---> + --->
    |     '------------- gates -------------'                   |
    '----------------- real-valued shortcut --------------------'
    """
    straight = blocks.shortcut(x, filters, strides, name=name, norm=_norm)
    x = _norm(x, f"{name}_bn")
    gates = _gates(x, filters, name=name)
    x = conv(x, filters, 3, strides, f"{name}_conv")
    x = keras.layers.Multiply(name=f"{name}_gate")([x, gates])
    x = blocks.prelu(x, name=f"{name}_prelu")
    return keras.layers.Add(name=f"{name}_add")([x, straight])


@_registry.register(
    family="RealToBinaryNet",
    weights=_published.larq_zoo(
        top=(
            "r2b-v0.1.0/r2b_weights.h5",
            "e8fd16ca1ab9810ac3835f24f5c62758a57bc32a615f73aaa50d382d2b9617e1",
        ),
        notop=(
            "r2b-v0.1.0/r2b_weights_notop.h5",
            "4ec47abf1a4da5c65f4908076257e8d5c812673891089a88c9d9e84e949d1dab",
        ),
        top1=65.01,
        top5=85.72,
    ),
)
@_model.with_arguments_of(BiRealNet18)
def RealToBinaryNet(
    *, width: int, padding: str, pad_values: float, **arguments: Any
) -> keras.Model:
    """The Real-to-Binary network: 16 1-bit convolutions whose filters are scaled image by image.

    The skeleton is that of `BiRealNet18`. Each block has BN before the sign, and after the
    convolution gates: factors in (0, 1) for each filter that two small real layers make of the
    means of what the sign sees, as in squeeze-and-excitation. Then comes a PReLU.
    11,995,624 parameters for 1,000 classes, as Keras counts them.

    Source: Martinez et al., ICLR 2020 (https://openreview.net/forum?id=BJg4NgBKvH), who train
    it in four steps with a teacher each, and Larq Zoo, which publishes weights with 65.01 %
    top-1 and 85.72 % top-5 on ImageNet.

    Arguments, result and errors are those of `BiRealNet18`; the stem "imagenet" has a PReLU
    before its pooling. `weights="imagenet"` are Larq Zoo's.
    """
    conv = blocks.binary_conv(
        pad_values=pad_values,
        padding=padding,
        input_quantizer=lq.quantizers.SteSign,
        kernel_quantizer=lq.quantizers.SteSign,
    )
    block = functools.partial(_block, conv=conv)

    def body(x: tf.Tensor) -> tf.Tensor:
        return _model.stages(x, block, BLOCKS[18], width)

    return _model.classifier(
        "RealToBinaryNet", body, width=width, padding=padding, stems=_STEMS, **arguments
    )
