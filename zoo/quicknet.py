"""QuickNet (Bannink et al., MLSys 2021, arXiv:2011.09398): Larq's network for fast inference."""

import functools
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.zoo import _model, _published, _registry
from bireal_keras.zoo.birealnet import BiRealNet18

# Where the gradient of the signs ends: that of both activations and weights.
_CLIP_VALUE = 1.25
_SIGN = functools.partial(lq.quantizers.SteSign, clip_value=_CLIP_VALUE)
# In the stem; those of the blocks are `_norm`.
_stem_norm = functools.partial(blocks.batch_norm, momentum=0.99, epsilon=1e-3)
_norm = functools.partial(blocks.batch_norm, momentum=0.9, epsilon=1e-5)


def _stem(x: tf.Tensor, filters: int, *, padding: str) -> tf.Tensor:
    """Real 3x3, depthwise 3x3 and 1x1 convolutions, with BN, the first two of stride 2: (h/4, w/4).

    A quarter of the filters up to the 1x1 convolution, with a ReLU after the first one.
    """
    x = blocks.plain_conv(x, max(1, filters // 4), 3, 2, "stem_conv1", padding=padding)
    x = _stem_norm(x, "stem_bn1")
    x = blocks.relu(x, name="stem_relu1")
    x = blocks.depthwise_conv(x, 3, 2, "stem_conv2", padding=padding)
    x = _stem_norm(x, "stem_bn2", scale_and_shift=False)
    x = blocks.plain_conv(x, filters, 1, 1, "stem_conv3")
    return _stem_norm(x, "stem_bn3")


_STEMS = {**_model.STEMS, "imagenet": _model.Stem(_stem, 224, 32)}


def _block(x: tf.Tensor, *, conv: blocks.ConvFactory, name: str) -> tf.Tensor:
    """x ---> sign ---> 1-bit conv ---> ReLU ---> BN ---> + --->
    '-------------- real-valued shortcut -------------'
    """
    straight = x
    x = conv(x, x.shape[-1], 3, 1, f"{name}_conv")
    x = blocks.relu(x, name=f"{name}_relu")
    x = _norm(x, f"{name}_bn")
    return keras.layers.Add(name=f"{name}_add")([x, straight])


def _transition(x: tf.Tensor, filters: int, *, padding: str, name: str) -> tf.Tensor:
    """ReLU, anti-aliased max pooling to half the size, real 1x1 convolution, BN."""
    x = blocks.relu(x, name=f"{name}_relu")
    x = keras.layers.MaxPool2D(2, strides=1, name=f"{name}_pool")(x)
    x = blocks.blur(x, f"{name}_blur", padding=padding)
    x = blocks.plain_conv(x, filters, 1, 1, f"{name}_conv")
    return _norm(x, f"{name}_bn")


def _head(x: tf.Tensor, num_classes: int) -> tf.Tensor:
    return _model.pooled_head(blocks.relu(x, name="head_relu"), num_classes)


def _quicknet(
    name: str,
    blocks_per_stage: tuple[int, ...],
    *,
    width: int,
    padding: str,
    pad_values: float,
    multiples: tuple[int, ...] = (1, 2, 4, 8),
    **arguments: Any,
) -> keras.Model:
    conv = blocks.binary_conv(
        pad_values=pad_values,
        padding=padding,
        input_quantizer=_SIGN,
        kernel_quantizer=_SIGN,
        clip_value=_CLIP_VALUE,
    )

    def body(x: tf.Tensor) -> tf.Tensor:
        for stage, (count, multiple) in enumerate(zip(blocks_per_stage, multiples), start=1):
            if stage > 1:
                name = f"stage{stage}_transition"
                x = _transition(x, width * multiple, padding=padding, name=name)
            for index in range(1, count + 1):
                x = _block(x, conv=conv, name=f"stage{stage}_block{index}")
        return x

    return _model.classifier(
        name, body, width=width, padding=padding, stems=_STEMS, head=_head, **arguments
    )


@_registry.register(
    family="QuickNet",
    weights=_published.larq_zoo(
        top=(
            "quicknet-v1.0/quicknet_weights.h5",
            "8aba9e4e5f8d342faef04a0b2ae8e562da57dbb7d15162e8b3e091c951ba756c",
        ),
        notop=(
            "quicknet-v1.0/quicknet_weights_notop.h5",
            "204414e438373f14f6056a1c098249f505a87dd238e18d3a47a9bd8b66227881",
        ),
        top1=63.3,
        top5=84.6,
        pad_values=1,
    ),
)
@_model.with_arguments_of(BiRealNet18, pad_values=1.0)
def QuickNet(**arguments: Any) -> keras.Model:
    """QuickNet: 1-bit 3x3 convolutions with a shortcut each, and a stem and transitions for speed.

    4, 4, 4 and 4 blocks: sign, 1-bit convolution, ReLU, BN, and the shortcut around them all.
    Between the stages a max pooling with a blur after it halves the map, and a real 1x1
    convolution doubles the channels. The stem of three small convolutions has 9 million
    multiplications, where Bi-Real Net's has 118 million. 13,243,720 parameters for 1,000
    classes, as Keras counts them.

    Source: Bannink et al., MLSys 2021 (https://arxiv.org/abs/2011.09398), and Larq Zoo, which
    publishes weights with 63.3 % top-1 and 84.6 % top-5 on ImageNet.

    Arguments, result and errors are those of `BiRealNet18`, but that `pad_values` is 1, and what
    the stem "imagenet" is. `weights="imagenet"` are Larq Zoo's.
    """
    return _quicknet("QuickNet", (4, 4, 4, 4), **arguments)


@_registry.register(
    family="QuickNet",
    weights=_published.larq_zoo(
        top=(
            "quicknet-v1.0/quicknet_small_weights.h5",
            "1ac3b07df7f5a911dd0b49febb2486428ddf1ca130297c403815dfae5a1c71a2",
        ),
        notop=(
            "quicknet-v1.0/quicknet_small_weights_notop.h5",
            "be8ba657155846be355c5580d1ea56eaf8282616de065ffc39257202f9f164ea",
        ),
        top1=59.4,
        top5=81.8,
        width=32,
        pad_values=1,
    ),
)
@_model.with_arguments_of(QuickNet, width=32)
def QuickNetSmall(**arguments: Any) -> keras.Model:
    """`QuickNet` with half the channels in the stem and the first two stages.

    The four stages have 1, 2, 8 and 16 times `width`=32 channels. 12,664,344 parameters for
    1,000 classes, as Keras counts them. Larq Zoo publishes weights with 59.4 % top-1 and
    81.8 % top-5 on ImageNet.

    Arguments, result and errors are those of `QuickNet`; features have 16 * width channels.
    """
    return _quicknet("QuickNetSmall", (4, 4, 4, 4), multiples=(1, 2, 8, 16), **arguments)


@_registry.register(
    family="QuickNet",
    weights=_published.larq_zoo(
        top=(
            "quicknet-v1.0/quicknet_large_weights.h5",
            "c5158e8a59147b31370becd937825f4db8a5cdf308314874f678f596629be45c",
        ),
        notop=(
            "quicknet-v1.0/quicknet_large_weights_notop.h5",
            "adcf154a2a8007e81bd6af77c035ffbf54cd6413b89a0ba294e23e76a82a1b78",
        ),
        top1=66.9,
        top5=87.0,
        pad_values=1,
    ),
)
@_model.with_arguments_of(QuickNet)
def QuickNetLarge(**arguments: Any) -> keras.Model:
    """`QuickNet` with 6, 8, 12 and 6 blocks.

    23,359,304 parameters for 1,000 classes, as Keras counts them. Larq Zoo publishes weights
    with 66.9 % top-1 and 87.0 % top-5 on ImageNet.

    Arguments, result and errors are those of `QuickNet`.
    """
    return _quicknet("QuickNetLarge", (6, 8, 12, 6), **arguments)
