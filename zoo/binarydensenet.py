"""BinaryDenseNet (Bethge et al., "Back to Simplicity", 2019, arXiv:1906.08637)."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.zoo import _model, _published, _registry
from bireal_keras.zoo.birealnet import BiRealNet18

norm = functools.partial(blocks.batch_norm, momentum=0.9, epsilon=1e-5)
_STEMS = {
    **_model.STEMS,
    "imagenet": _model.Stem(
        functools.partial(blocks.imagenet_stem, norm=norm, activation=blocks.relu), 224, 32
    ),
}


def binary_conv(pad_values: float, padding: str) -> blocks.ConvFactory:
    """The 1-bit convolutions of BinaryDenseNet and MeliusNet: signs that are clipped at 1.3."""
    clip_value = 1.3
    sign = functools.partial(lq.quantizers.SteSign, clip_value=clip_value)
    return blocks.binary_conv(
        pad_values=pad_values,
        padding=padding,
        input_quantizer=sign,
        kernel_quantizer=sign,
        clip_value=clip_value,
    )


def dense_block(x: tf.Tensor, filters: int, *, conv: blocks.ConvFactory, name: str) -> tf.Tensor:
    """x ---> BN ---> sign ---> 1-bit conv ---> concatenate --->
    '----------------------------------------'
    """
    new = conv(norm(x, f"{name}_bn"), filters, 3, 1, f"{name}_conv")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def transition(x: tf.Tensor, filters: int, *, name: str, pooling: str = "valid") -> tf.Tensor:
    """BN, max pooling to half the size, ReLU, real 1x1 convolution.

    `pooling` is the pooling's padding: half of an odd size is rounded down, or up with "same".
    """
    x = norm(x, f"{name}_bn")
    x = keras.layers.MaxPool2D(2, strides=2, padding=pooling, name=f"{name}_pool")(x)
    x = blocks.relu(x, name=f"{name}_relu")
    return blocks.plain_conv(x, filters, 1, 1, f"{name}_conv")


def _densenet(
    name: str,
    blocks_per_stage: tuple[int, ...],
    reductions: tuple[float, ...],
    *,
    width: int,
    padding: str,
    pad_values: float,
    **arguments: Any,
) -> keras.Model:
    conv = binary_conv(pad_values, padding)
    # Transitions leave a multiple of so many channels.
    unit = max(1, width // 2)

    def body(x: tf.Tensor) -> tf.Tensor:
        for stage, count in enumerate(blocks_per_stage, start=1):
            if stage > 1:
                channels = round(x.shape[-1] // reductions[stage - 2] / unit) * unit
                x = transition(x, max(unit, channels), name=f"stage{stage}_transition")
            for index in range(1, count + 1):
                x = dense_block(x, width, conv=conv, name=f"stage{stage}_block{index}")
        return blocks.relu(norm(x, "head_bn"), name="head_relu")

    return _model.classifier(name, body, width=width, padding=padding, stems=_STEMS, **arguments)


@_registry.register(
    family="BinaryDenseNet",
    depth=28,
    weights=_published.larq_zoo(
        top=(
            "binary_densenet-v0.1.0/binary_densenet_28_weights.h5",
            "21fe3ca03eed244df9c41a2219876fcf03e73800932ec96a3e2a76af4747ac53",
        ),
        notop=(
            "binary_densenet-v0.1.0/binary_densenet_28_weights_notop.h5",
            "a376df1e41772c4427edd1856072b934a89bf293bf911438bf6f751a9b2a28f5",
        ),
        top1=60.91,
        top5=82.83,
    ),
)
@_model.with_arguments_of(BiRealNet18)
def BinaryDenseNet28(**arguments: Any) -> keras.Model:
    """BinaryDenseNet 28: every 1-bit convolution adds 64 channels to those that are there.

    6, 6, 6 and 5 blocks: BN, sign, 1-bit 3x3 convolution; what comes out is put beside what went
    in, so that nothing real is lost. Between the stages BN, max pooling, ReLU and a real 1x1
    convolution that reduces the channels to a 2.7th, a 2.7th and a 2.2th. 5,150,504 parameters
    for 1,000 classes, as Keras counts them.

    Source: Bethge et al., 2019 (https://arxiv.org/abs/1906.08637), and Larq Zoo, which publishes
    weights with 60.91 % top-1 and 82.83 % top-5 on ImageNet.

    Arguments and errors are those of `BiRealNet18`; so is the result, but that features have as
    many channels as the last stage ends with, 576. `width` is that of the stem and of each
    1-bit convolution; the stem "imagenet" has a ReLU before its pooling. `weights="imagenet"`
    are Larq Zoo's.
    """
    return _densenet("BinaryDenseNet28", (6, 6, 6, 5), (2.7, 2.7, 2.2), **arguments)


@_registry.register(
    family="BinaryDenseNet",
    depth=37,
    weights=_published.larq_zoo(
        top=(
            "binary_densenet-v0.1.0/binary_densenet_37_weights.h5",
            "8056a5d52c3ed86a934893987d09a06f59a5166aa9bddcaedb050f111d0a7d76",
        ),
        notop=(
            "binary_densenet-v0.1.0/binary_densenet_37_weights_notop.h5",
            "4e12bca9fd27580a5b833241c4eb35d6cc332878c406048e6ca8dbbc78d59175",
        ),
        top1=62.89,
        top5=84.19,
    ),
)
@_model.with_arguments_of(BinaryDenseNet28)
def BinaryDenseNet37(**arguments: Any) -> keras.Model:
    """BinaryDenseNet 37: as `BinaryDenseNet28`, with 6, 8, 12 and 6 blocks.

    The transitions reduce the channels to a 3.3th, a 3.3th and a quarter. 8,734,120 parameters
    for 1,000 classes, as Keras counts them. Larq Zoo publishes weights with 62.89 % top-1 and
    84.19 % top-5 on ImageNet.

    Arguments, result and errors are those of `BinaryDenseNet28`; features have 640 channels.
    """
    return _densenet("BinaryDenseNet37", (6, 8, 12, 6), (3.3, 3.3, 4), **arguments)


@_registry.register(
    family="BinaryDenseNet",
    depth=45,
    weights=_published.larq_zoo(
        top=(
            "binary_densenet-v0.1.0/binary_densenet_45_weights.h5",
            "d00a0d26fbd2dba1bfba8c0306c770f3aeea5c370e99f963bb239bd916f72c37",
        ),
        notop=(
            "binary_densenet-v0.1.0/binary_densenet_45_weights_notop.h5",
            "e72d5cc6b0afe4612f8be7b1f9bb48a53ba2c8468b57bf1266d2900c99fd2adf",
        ),
        top1=64.59,
        top5=85.21,
    ),
)
@_model.with_arguments_of(BinaryDenseNet28)
def BinaryDenseNet45(**arguments: Any) -> keras.Model:
    """BinaryDenseNet 45: as `BinaryDenseNet28`, with 6, 12, 14 and 8 blocks.

    The transitions reduce the channels to a 2.7th, a 3.3th and a quarter. 13,939,240 parameters
    for 1,000 classes, as Keras counts them. Larq Zoo publishes weights with 64.59 % top-1 and
    85.21 % top-5 on ImageNet.

    Arguments, result and errors are those of `BinaryDenseNet28`; features have 800 channels.
    """
    return _densenet("BinaryDenseNet45", (6, 12, 14, 8), (2.7, 3.3, 4), **arguments)
