"""Bi-Real Net 18, 34, 50 and 152, and their real-valued twins.

18 and 34 are from the paper (Liu et al., ECCV 2018, arXiv:1808.00278), 50 and 152, with
bottlenecks, from its sequel (Liu et al., IJCV 2020, arXiv:1811.01335).
"""

import functools
import os
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _published, _registry

# Per stage. A block of 18 and 34 has one convolution, of 50 and 152 three.
BLOCKS: dict[int, tuple[int, ...]] = {
    18: (4, 4, 4, 4),
    34: (6, 8, 12, 6),
    50: (3, 4, 6, 3),
    152: (3, 8, 36, 3),
}


def _birealnet(
    name: str, depth: int, conv: blocks.ConvFactory, *, width: int, **arguments: Any
) -> keras.Model:
    def body(x: tf.Tensor) -> tf.Tensor:
        if depth < 50:
            block = functools.partial(blocks.shortcut_block, conv=conv)
            return _model.stages(x, block, BLOCKS[depth], width)
        bottleneck = functools.partial(blocks.bottleneck_block, conv=conv)
        _, wide = _model.stages((None, x), bottleneck, BLOCKS[depth], width)
        return wide

    return _model.classifier(name, body, width=width, **arguments)


def _binary(
    name: str, depth: int, *, pad_values: float, padding: str, **arguments: Any
) -> keras.Model:
    conv = blocks.binary_conv(pad_values=pad_values, padding=padding)
    return _birealnet(name, depth, conv, padding=padding, **arguments)


def _real(name: str, depth: int, *, activation: str, padding: str, **arguments: Any) -> keras.Model:
    conv = blocks.real_conv(activation, padding=padding)
    return _birealnet(name, depth, conv, padding=padding, **arguments)


@_registry.register(family="BiRealNet", depth=18, weights=_published.BIREALNET18, top1=56.4)
def BiRealNet18(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    padding: str = "same",
    pad_values: float = 0.0,
) -> keras.Model:
    """Bi-Real Net 18: a ResNet whose 3x3 convolutions are 1-bit, each with a real shortcut.

    The first convolution, the 1x1 convolutions on the down-sampling shortcuts and the
    classifier are real. 11,699,112 parameters for 1,000 classes, as Keras counts them.

    Source: Liu et al., ECCV 2018 (https://arxiv.org/abs/1808.00278); the authors publish
    56.4 % top-1 and 79.5 % top-5 on ImageNet for it.

    Args:
        input_shape: (height, width, 3). Default: (224, 224, 3), or (32, 32, 3) with the
            CIFAR stem; without the classifier, any size.
        input_tensor: a Keras tensor to build the model on.
        weights: None; the path of a weights file that such a model saved; or, for this
            model alone, "imagenet" or "cifar10", which bring the arguments that they were
            trained with. "imagenet": what Larq Zoo trained and published (Apache-2.0;
            57.47 % top-1 and 79.84 % top-5, as Larq Zoo states), downloaded once. It has the
            defaults of all arguments, and takes images as
            `bireal_keras.zoo.imagenet.standardize` makes them. "cifar10": what we trained
            (docs/cifar10; 87.08 % top-1). It comes with the package, has width=32,
            stem="cifar" and num_classes=10, and takes images in [-1, 1]. Both are there without
            the classifier, too.
        include_top: whether to end in global average pooling, a real fully connected
            layer and softmax. Without, the output is the last block's feature map.
        num_classes: size of the output.
        width: channels of the first stage; the four stages have 1, 2, 4 and 8 times as
            many.
        stem: "imagenet" (7x7 convolution and max-pooling, leaving a quarter of the height
            and width), "cheap" (three 3x3 convolutions to the same size, see
            `blocks.cheap_stem`) or "cifar" (3x3 convolution, full size).
        padding: how windows that move by two pixels are padded: "same" as TensorFlow does
            it, or "torch" for weights that were trained in PyTorch. "torch" needs a known
            input size.
        pad_values: what the 1-bit convolutions pad with: 0 (the paper) or 1, which lets a
            runtime fold more into the convolution.

    Returns:
        A Keras model from float32 images (batch, height, width, 3) to float32 class
        probabilities (batch, num_classes). With include_top=False, to float32 features
        (batch, height / 32, width / 32, 8 * width), rounded up; / 8 with the CIFAR stem.

    Raises:
        ValueError: an argument is out of its range, or the weights do not fit.
        OSError: the published weights cannot be downloaded.

    Example:
        model = BiRealNet18(input_shape=(32, 32, 3), num_classes=10, stem="cifar")
    """
    return _binary(
        "BiRealNet18",
        18,
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        padding=padding,
        pad_values=pad_values,
    )


@_registry.register(family="BiRealNet", depth=34, top1=62.2)
@_model.with_arguments_of(BiRealNet18)
def BiRealNet34(**arguments: Any) -> keras.Model:
    """Bi-Real Net 34: as `BiRealNet18`, with 6, 8, 12 and 6 blocks.

    21,814,696 parameters for 1,000 classes, as Keras counts them. The authors publish
    62.2 % top-1 and 83.9 % top-5 on ImageNet for it.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _binary("BiRealNet34", 34, **arguments)


@_registry.register(family="BiRealNet", depth=50, top1=62.6)
@_model.with_arguments_of(BiRealNet18)
def BiRealNet50(**arguments: Any) -> keras.Model:
    """Bi-Real Net 50: bottlenecks of three convolutions, each with a shortcut of its own.

    3, 4, 6 and 3 of the blocks that `blocks.bottleneck_block` describes; 47 of their 48
    convolutions are 1-bit. 25,782,184 parameters for 1,000 classes, as Keras counts them.

    Source: Liu et al., IJCV 2020 (https://arxiv.org/abs/1811.01335), and the authors'
    PyTorch code, without the 1x1 convolution that it creates in the first block and never
    uses. The authors publish 62.6 % top-1 and 83.9 % top-5 on ImageNet for it.

    Arguments and errors are those of `BiRealNet18`; so is the result, but that features have
    32 * width channels. `width` is that of the first stage's 3x3 convolutions.
    """
    return _binary("BiRealNet50", 50, **arguments)


@_registry.register(family="BiRealNet", depth=152, top1=64.5)
@_model.with_arguments_of(BiRealNet18)
def BiRealNet152(**arguments: Any) -> keras.Model:
    """Bi-Real Net 152: as `BiRealNet50`, with 3, 8, 36 and 3 blocks, 149 1-bit convolutions.

    60,516,264 parameters for 1,000 classes, as Keras counts them. The authors publish
    64.5 % top-1 on ImageNet for it, but no code: the numbers of blocks are those of
    ResNet-152.

    Arguments, result and errors are those of `BiRealNet50`.
    """
    return _binary("BiRealNet152", 152, **arguments)


@_registry.register(family="BiRealNet", depth=18, is_real=True)
def BiRealNet18Float(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    padding: str = "same",
    activation: str = "relu",
) -> keras.Model:
    """The real-valued twin of `BiRealNet18`: the same skeleton in float32.

    A baseline to compare with, and the network that the paper pre-trains.

    Arguments, result and errors are those of `BiRealNet18`, with one in place of
    `pad_values`:

    Args:
        activation: what stands where the sign was: "relu", "leaky_clip" (slope 0.1
            outside [-1, 1]) or "clip" (to [-1, 1]).
    """
    return _real(
        "BiRealNet18Float",
        18,
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        padding=padding,
        activation=activation,
    )


@_registry.register(family="BiRealNet", depth=34, is_real=True)
@_model.with_arguments_of(BiRealNet18Float)
def BiRealNet34Float(**arguments: Any) -> keras.Model:
    """The real-valued twin of `BiRealNet34`, as `BiRealNet18Float` is of `BiRealNet18`."""
    return _real("BiRealNet34Float", 34, **arguments)


@_registry.register(family="BiRealNet", depth=50, is_real=True)
@_model.with_arguments_of(BiRealNet18Float)
def BiRealNet50Float(**arguments: Any) -> keras.Model:
    """The real-valued twin of `BiRealNet50`, as `BiRealNet18Float` is of `BiRealNet18`.

    Its first 1x1 convolution is the same as there, after a leaky clip.
    """
    return _real("BiRealNet50Float", 50, **arguments)


@_registry.register(family="BiRealNet", depth=152, is_real=True)
@_model.with_arguments_of(BiRealNet18Float)
def BiRealNet152Float(**arguments: Any) -> keras.Model:
    """The real-valued twin of `BiRealNet152`, as `BiRealNet50Float` is of `BiRealNet50`."""
    return _real("BiRealNet152Float", 152, **arguments)
