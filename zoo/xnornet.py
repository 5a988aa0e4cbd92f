"""XNOR-Net's way of binarizing (Rastegari et al., ECCV 2016, arXiv:1603.05279), on a ResNet."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.zoo import _model, _registry
from bireal_keras.zoo.binarynet import PAIRS
from bireal_keras.zoo.birealnet import BiRealNet18


def _xnor_block(
    x: tf.Tensor, filters: int, *, strides: int, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """x ---> BN ---> sign ---> 1-bit conv ---> BN ---> sign ---> 1-bit conv ---> + --->
    '------------------------ real-valued shortcut ---------------------------'
    """
    straight = blocks.shortcut(x, filters, strides, name=name)
    x = blocks.batch_norm(x, f"{name}_bn1")
    x = conv(x, filters, 3, strides, f"{name}_conv1")
    x = blocks.batch_norm(x, f"{name}_bn2")
    x = conv(x, filters, 3, 1, f"{name}_conv2")
    return keras.layers.Add(name=f"{name}_add")([x, straight])


def _xnornet(
    name: str, depth: int, *, width: int, pad_values: float, padding: str, **arguments: Any
) -> keras.Model:
    conv = blocks.binary_conv(
        pad_values=pad_values, padding=padding, input_quantizer=lq.quantizers.SteSign
    )
    block = functools.partial(_xnor_block, conv=conv)

    def body(x: tf.Tensor) -> tf.Tensor:
        x = _model.stages(x, block, PAIRS[depth], width)
        # No BN follows the last convolution as one follows all others.
        return blocks.batch_norm(x, "head_bn")

    return _model.classifier(name, body, width=width, padding=padding, **arguments)


@_registry.register(family="XNORResNet", depth=18)
@_model.with_arguments_of(BiRealNet18)
def XNORResNet18(**arguments: Any) -> keras.Model:
    """A ResNet-18 binarized in the manner of XNOR-Net, on the skeleton of `BinaryResNet18`.

    What is XNOR-Net's: the order BN, sign, convolution; 1-bit filters scaled by their mean
    |w|; the sign's gradient, 1 where |x| <= 1. What is not: its scaling factors K of the
    activations are left out, since no convolution of bits alone could apply them; the
    shortcuts that change the shape, a pooling, a real 1x1 convolution and BN, are Bi-Real
    Net's, and so is the filters' gradient.

    11,699,368 parameters for 1,000 classes, as Keras counts them. For their ResNet-18 with K
    the authors publish 51.2 % top-1 and 73.2 % top-5 on ImageNet.

    Source: Rastegari et al., ECCV 2016 (https://arxiv.org/abs/1603.05279).

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _xnornet("XNORResNet18", 18, **arguments)


@_registry.register(family="XNORResNet", depth=34)
@_model.with_arguments_of(BiRealNet18)
def XNORResNet34(**arguments: Any) -> keras.Model:
    """A ResNet-34 binarized in the manner of XNOR-Net, as `XNORResNet18`.

    21,814,952 parameters for 1,000 classes, as Keras counts them.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _xnornet("XNORResNet34", 34, **arguments)
