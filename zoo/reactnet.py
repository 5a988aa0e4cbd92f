"""ReActNet's activations (Liu et al., ECCV 2020, arXiv:2003.03488) on Bi-Real Net's skeleton."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _registry
from bireal_keras.zoo.birealnet import BLOCKS, BiRealNet18


def _reactnet(
    name: str, depth: int, *, width: int, pad_values: float, padding: str, **arguments: Any
) -> keras.Model:
    conv = blocks.binary_conv(pad_values=pad_values, padding=padding)
    block = functools.partial(blocks.react_block, conv=conv)

    def body(x: tf.Tensor) -> tf.Tensor:
        return _model.stages(x, block, BLOCKS[depth], width)

    return _model.classifier(name, body, width=width, padding=padding, **arguments)


@_registry.register(family="ReActBiRealNet", depth=18)
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
    return _reactnet("ReActBiRealNet18", 18, **arguments)


@_registry.register(family="ReActBiRealNet", depth=34)
@_model.with_arguments_of(BiRealNet18)
def ReActBiRealNet34(**arguments: Any) -> keras.Model:
    """`BiRealNet34` with ReActNet's activations, as `ReActBiRealNet18`.

    21,844,456 parameters for 1,000 classes, as Keras counts them.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _reactnet("ReActBiRealNet34", 34, **arguments)
