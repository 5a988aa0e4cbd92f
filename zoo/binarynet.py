"""1-bit CNNs without Bi-Real Net's shortcuts, to compare with: what do the shortcuts bring?

Stem, widths, 1-bit convolutions, 1x1 convolutions and classifier are those of Bi-Real Net
18 and 34. These are the "Plain" and "Res" networks that the paper (Liu et al., ECCV 2018,
arXiv:1808.00278) compares with.

Before training, much of what their signs see is a sum of as many +1 as -1: zero, but for
rounding, which Keras and a converted file do differently. `export.convert` then says that the
two disagree. The first training step ends that: no BatchNormalization leaves such sums at zero.
"""

import functools
from collections.abc import Callable
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _registry
from bireal_keras.zoo.birealnet import BLOCKS, BiRealNet18

# Blocks per stage: half as many as Bi-Real Net has, of two convolutions each.
PAIRS = {depth: tuple(count // 2 for count in BLOCKS[depth]) for depth in (18, 34)}


def plain_block(
    x: tf.Tensor, filters: int, *, strides: int, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """x ---> sign ---> 1-bit conv ---> BN --->"""
    x = conv(x, filters, 3, strides, f"{name}_conv")
    return blocks.batch_norm(x, f"{name}_bn")


def residual_block(
    x: tf.Tensor, filters: int, *, strides: int, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """x ---> sign ---> 1-bit conv ---> BN ---> sign ---> 1-bit conv ---> BN ---> + --->
    '------------------------ real-valued shortcut ---------------------------'
    """
    straight = blocks.shortcut(x, filters, strides, name=name)
    x = conv(x, filters, 3, strides, f"{name}_conv1")
    x = blocks.batch_norm(x, f"{name}_bn1")
    x = conv(x, filters, 3, 1, f"{name}_conv2")
    x = blocks.batch_norm(x, f"{name}_bn2")
    return keras.layers.Add(name=f"{name}_add")([x, straight])


# name: (block, how many of them per stage, by depth). All have as many 3x3 convolutions.
SHORTCUTS: dict[str, tuple[Callable[..., tf.Tensor], dict[int, tuple[int, ...]]]] = {
    "per_conv": (blocks.shortcut_block, BLOCKS),
    "resnet": (residual_block, PAIRS),
    "none": (plain_block, BLOCKS),
}


def body(
    shortcuts: str, depth: int, conv: blocks.ConvFactory, width: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """What lies between stem and head, with one of `SHORTCUTS`."""
    block, blocks_per_stage = SHORTCUTS[shortcuts]

    def build(x: tf.Tensor) -> tf.Tensor:
        return _model.stages(x, functools.partial(block, conv=conv), blocks_per_stage[depth], width)

    return build


def _binarynet(
    name: str,
    shortcuts: str,
    depth: int,
    *,
    width: int,
    pad_values: float,
    padding: str,
    **arguments: Any,
) -> keras.Model:
    conv = blocks.binary_conv(pad_values=pad_values, padding=padding)
    between = body(shortcuts, depth, conv, width)
    return _model.classifier(name, between, width=width, padding=padding, **arguments)


@_registry.register(family="BinaryPlainNet", depth=18)
@_model.with_arguments_of(BiRealNet18)
def BinaryPlainNet18(**arguments: Any) -> keras.Model:
    """`BiRealNet18` without any shortcut: 16 times sign, 1-bit convolution, BN.

    What the sign takes away is lost: only bits go from block to block. There is nothing to
    train in the shortcuts either, 11,523,496 parameters for 1,000 classes, as Keras counts.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _binarynet("BinaryPlainNet18", "none", 18, **arguments)


@_registry.register(family="BinaryPlainNet", depth=34)
@_model.with_arguments_of(BiRealNet18)
def BinaryPlainNet34(**arguments: Any) -> keras.Model:
    """`BiRealNet34` without any shortcut, as `BinaryPlainNet18`.

    21,639,080 parameters for 1,000 classes, as Keras counts them.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _binarynet("BinaryPlainNet34", "none", 34, **arguments)


@_registry.register(family="BinaryResNet", depth=18)
@_model.with_arguments_of(BiRealNet18)
def BinaryResNet18(**arguments: Any) -> keras.Model:
    """`BiRealNet18` with the shortcuts of a ResNet: each around two convolutions, not one.

    2, 2, 2 and 2 blocks of two convolutions. The same parameters as `BiRealNet18`: a shortcut
    that keeps the shape has none.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _binarynet("BinaryResNet18", "resnet", 18, **arguments)


@_registry.register(family="BinaryResNet", depth=34)
@_model.with_arguments_of(BiRealNet18)
def BinaryResNet34(**arguments: Any) -> keras.Model:
    """`BiRealNet34` with the shortcuts of a ResNet, as `BinaryResNet18`.

    3, 4, 6 and 3 blocks of two convolutions. The same parameters as `BiRealNet34`.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _binarynet("BinaryResNet34", "resnet", 34, **arguments)
