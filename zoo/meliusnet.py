"""MeliusNet (Bethge et al., "MeliusNet", WACV 2021, arXiv:2001.05936)."""

import math
from typing import Any

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _published, _registry
from bireal_keras.zoo.binarydensenet import binary_conv, dense_block, norm, transition
from bireal_keras.zoo.birealnet import BiRealNet18


def _stem(x: tf.Tensor, filters: int, *, padding: str) -> tf.Tensor:
    """Real 3x3 convolutions of 1, 4 and 8 groups, each with BN and ReLU, and pooling: (h/4, w/4).

    Half of the filters up to the last convolution; the first one has stride 2. Of a narrow
    network's channels there may be fewer groups.
    """
    half = max(1, filters // 2)
    x = blocks.plain_conv(x, half, 3, 2, "stem_conv1", padding=padding)
    x = blocks.relu(norm(x, "stem_bn1"), name="stem_relu1")
    for number, width, groups in ((2, half, 4), (3, filters, 8)):
        groups = math.gcd(groups, half, width)
        x = blocks.grouped_conv(x, width, 3, groups, f"stem_conv{number}")
        x = blocks.relu(norm(x, f"stem_bn{number}"), name=f"stem_relu{number}")
    return keras.layers.MaxPool2D(2, strides=2, padding="same", name="stem_pool")(x)


_STEMS = {**_model.STEMS, "imagenet": _model.Stem(_stem, 224, 32)}


def _improvement_block(
    x: tf.Tensor, filters: int, *, conv: blocks.ConvFactory, name: str
) -> tf.Tensor:
    """Adds a 1-bit convolution of all channels to the newest ones, those of the dense block.

    x ---> BN ---> sign ---> 1-bit conv ---> + ---> concatenate --->
    |---------- newest channels -------------'          |
    '------------- all others --------------------------'
    """
    correction = conv(norm(x, f"{name}_bn"), filters, 3, 1, f"{name}_conv")
    split = blocks.ChannelSplit([x.shape[-1] - filters, filters], name=f"{name}_split")
    others, newest = split(x)
    newest = keras.layers.Add(name=f"{name}_add")([correction, newest])
    return keras.layers.Concatenate(name=f"{name}_concat")([others, newest])


# Per stage; and what a transition leaves, in halves of `width`.
_BLOCKS = (4, 5, 4, 4)
_TRANSITIONS = (5, 7, 8)


@_registry.register(
    family="MeliusNet",
    depth=22,
    weights=_published.larq_zoo(
        top=(
            "meliusnet22-v0.1.0/meliusnet22_weights.h5",
            "c1ba85e8389ae326009665ec13331e49fc3df4d0f925fa8553e224f7362c18ed",
        ),
        notop=(
            "meliusnet22-v0.1.1/meliusnet22_weights_notop.h5",
            "abfc5c50049d72a14e44df0c1cb73896ece2a1ab4bf9bb48fede6cc2f5e0b58f",
        ),
        top1=62.4,
        top5=83.9,
    ),
)
@_model.with_arguments_of(BiRealNet18)
def MeliusNet22(*, width: int, padding: str, pad_values: float, **arguments: Any) -> keras.Model:
    """MeliusNet 22: 1-bit convolutions that add channels, by turns with such that improve them.

    4, 5, 4 and 4 pairs of a dense block, whose 1-bit 3x3 convolution adds 64 channels, and an
    improvement block, whose convolution of all channels is added to these 64. The stem of
    grouped convolutions and the transitions are real. 6,969,672 parameters for 1,000 classes, as
    Keras counts them.

    Source: Bethge et al., WACV 2021 (https://arxiv.org/abs/2001.05936), and Larq Zoo, which
    publishes weights with 62.4 % top-1 and 83.9 % top-5 on ImageNet.

    Arguments and errors are those of `BiRealNet18`; so is the result. `width` is that of the
    stem and of each 1-bit convolution. `weights="imagenet"` are Larq Zoo's.
    """
    conv = binary_conv(pad_values, padding)

    def body(x: tf.Tensor) -> tf.Tensor:
        for stage, count in enumerate(_BLOCKS, start=1):
            if stage > 1:
                channels = max(1, _TRANSITIONS[stage - 2] * width // 2)
                name = f"stage{stage}_transition"
                x = transition(x, channels, name=name, pooling="same")
            for index in range(1, count + 1):
                name = f"stage{stage}_block{index}"
                x = dense_block(x, width, conv=conv, name=f"{name}_dense")
                x = _improvement_block(x, width, conv=conv, name=f"{name}_improve")
        return blocks.relu(norm(x, "head_bn"), name="head_relu")

    return _model.classifier(
        "MeliusNet22", body, width=width, padding=padding, stems=_STEMS, **arguments
    )
