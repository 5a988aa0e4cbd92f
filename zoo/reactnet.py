"""ReActNet (Liu et al., ECCV 2020, arXiv:2003.03488), and its activations on Bi-Real Net."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _registry
from bireal_keras.zoo.birealnet import BLOCKS, BiRealNet18


def _react_birealnet(
    name: str, depth: int, *, width: int, pad_values: float, padding: str, **arguments: Any
) -> keras.Model:
    conv = blocks.binary_conv(pad_values=pad_values, padding=padding)
    block = functools.partial(blocks.react_block, conv=conv)

    def body(x: tf.Tensor) -> tf.Tensor:
        return _model.stages(x, block, BLOCKS[depth], width)

    return _model.classifier(name, body, width=width, padding=padding, **arguments)


@_registry.register(family="ReActBiRealNet", depth=18, top1=65.9)
@_model.with_arguments_of(BiRealNet18)
def ReActBiRealNet18(**arguments: Any) -> keras.Model:
    """`BiRealNet18` with ReActNet's activations: RSign before and RPReLU after each block.

    Both are learnable for each channel: `blocks.rsign` shifts what the sign sees,
    `blocks.rprelu` shifts, bends and shifts the sum. 11,714,024 parameters for 1,000 classes,
    as Keras counts them; the 1-bit convolutions are those of `BiRealNet18`.

    Source: Liu et al., ECCV 2020 (https://arxiv.org/abs/2003.03488); the authors publish
    65.9 % top-1 on ImageNet for it, trained in two steps and with a teacher.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _react_birealnet("ReActBiRealNet18", 18, **arguments)


@_registry.register(family="ReActBiRealNet", depth=34)
@_model.with_arguments_of(BiRealNet18)
def ReActBiRealNet34(**arguments: Any) -> keras.Model:
    """`BiRealNet34` with ReActNet's activations, as `ReActBiRealNet18`.

    21,844,456 parameters for 1,000 classes, as Keras counts them.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _react_birealnet("ReActBiRealNet34", 34, **arguments)


def _stem(x: tf.Tensor, filters: int, *, padding: str) -> tf.Tensor:
    """Real 3x3 convolution with stride 2, BN: (h/2, w/2)."""
    x = blocks.plain_conv(x, filters, 3, 2, "stem_conv", padding=padding)
    return blocks.batch_norm(x, "stem_bn")


# Of the stages, four halve the map.
_STEMS = {
    "imagenet": _model.Stem(_stem, 224, 32),
    "cifar": _model.Stem(blocks.cifar_stem, 32, 16),
}
# Per stage: those of MobileNetV1 by the size of their maps.
_BLOCKS = (1, 2, 2, 6, 2)


def _separable_block(
    x: tf.Tensor, filters: int, *, strides: int, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """MobileNet's pair, both 1-bit, neither depthwise, each with a shortcut of its own:

        x ---> RSign ---> 1-bit 3x3 ---> BN ---> + ---> RPReLU --->
           '-- average pooling, if it halves ----'

        x ---> RSign ---> 1-bit 1x1 ---> BN ---> + ---> RPReLU --->
           '---- x twice, if it doubles ---------'

    The authors double by two 1x1 convolutions side by side, each with the shortcut; this is one
    of all their filters.
    """
    conv = blocks.rsign(conv)
    channels = x.shape[-1]
    straight = x if strides == 1 else blocks.average_pool(x, f"{name}_shortcut_pool")
    x = conv(x, channels, 3, strides, f"{name}_conv3x3")
    x = blocks.batch_norm(x, f"{name}_bn3x3")
    x = keras.layers.Add(name=f"{name}_add3x3")([x, straight])
    x = blocks.rprelu(x, name=f"{name}_prelu3x3")

    straight = x
    if filters != channels:
        straight = keras.layers.Concatenate(name=f"{name}_shortcut_twice")([x, x])
    x = conv(x, filters, 1, 1, f"{name}_conv1x1")
    x = blocks.batch_norm(x, f"{name}_bn1x1")
    x = keras.layers.Add(name=f"{name}_add1x1")([x, straight])
    return blocks.rprelu(x, name=f"{name}_prelu1x1")


@_registry.register(family="ReActNet", top1=69.4)
@_model.with_arguments_of(BiRealNet18, width=32)
def ReActNetA(*, width: int, padding: str, pad_values: float, **arguments: Any) -> keras.Model:
    """ReActNet-A: MobileNetV1 with 1-bit convolutions and ReActNet's activations.

    13 blocks of a 3x3 convolution that keeps the channels and a 1x1 convolution that may double
    them. Neither is depthwise; both have a shortcut, RSign and RPReLU. 29,365,480 parameters for
    1,000 classes, as Keras counts them.

    Source: Liu et al., ECCV 2020 (https://arxiv.org/abs/2003.03488), and the authors' PyTorch
    code (https://github.com/liuzechun/ReActNet), whose weights `from_torch` reads; the paper has
    69.4 % top-1 on ImageNet for it, trained in two steps and with a teacher.

    Arguments, result and errors are those of `BiRealNet18`, but that `width` is the stem's, of
    which the five stages have 2, 4, 8, 16 and 32 times as many channels, that the stem
    "imagenet" is a 3x3 convolution of stride 2, and that there is no stem "cheap". Features are
    of (height / 32, width / 32), rounded up; / 16 with the CIFAR stem.
    """
    conv = blocks.binary_conv(pad_values=pad_values, padding=padding)
    block = functools.partial(_separable_block, conv=conv)

    def body(x: tf.Tensor) -> tf.Tensor:
        return _model.stages(x, block, _BLOCKS, 2 * width)

    return _model.classifier(
        "ReActNetA", body, width=width, padding=padding, stems=_STEMS, **arguments
    )
