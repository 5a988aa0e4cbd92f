"""The building blocks of Bi-Real Net, as functions on Keras tensors.

A *convolution factory* decides what a block's 3x3 convolution is made of; everything
around it, the real-valued shortcut first of all, stays the same. So the 1-bit network
and its real-valued twin share one skeleton, layer for layer:

    binary_conv()            sign(x) * magnitude-aware sign(w)       the 1-bit network
    real_conv("relu")        relu(x) * w                             its real-valued twin

Layer names are stable: weight files, summaries and TFLite tensor names depend on them.
"""

from collections.abc import Callable
from typing import Any

from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign

# (x, filters, kernel_size, strides, name) -> convolution of the activated x, no bias.
ConvFactory = Callable[[tf.Tensor, int, int, int, str], tf.Tensor]

# What replaces the sign in the real-valued twin, and in the stages that pre-train it:
# the paper's order is relu, leaky_clip, clip.
ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "relu": tf.nn.relu,
    "leaky_clip": lambda x: 0.1 * x + 0.9 * tf.clip_by_value(x, -1.0, 1.0),
    "clip": lambda x: tf.clip_by_value(x, -1.0, 1.0),
}


def binary_conv(*, pad_values: float = 0.0) -> ConvFactory:
    """1-bit convolutions: `ApproxSign` on the input, `MagnitudeAwareSign` on the kernel.

    Args:
        pad_values: what the border is padded with. 0 is the paper's choice; +1 lets a
            runtime fold more into the convolution.

    Raises:
        ValueError: another `pad_values`, which no 1-bit runtime could follow.
    """
    if pad_values not in (0, 1):
        raise ValueError(f"`pad_values` must be 0 or 1. Received: pad_values={pad_values!r}.")

    def conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
        return lq.layers.QuantConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            pad_values=pad_values,
            use_bias=False,
            input_quantizer=ApproxSign(name=f"{name}_input_sign"),
            kernel_quantizer=MagnitudeAwareSign(name=f"{name}_kernel_sign"),
            # Beyond +-1 the quantizer passes no gradient: a weight there would be stuck.
            kernel_constraint="weight_clip",
            kernel_initializer="glorot_normal",
            name=name,
        )(x)

    return conv


def real_conv(activation: str) -> ConvFactory:
    """Real-valued convolutions behind a `RealActivation` of that name."""

    def conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
        x = RealActivation(activation, name=f"{name}_{activation}")(x)
        return plain_conv(x, filters, kernel_size, strides, name)

    return conv


@keras.utils.register_keras_serializable(package="bireal_keras")
class RealActivation(keras.layers.Layer):
    """Applies `ACTIVATIONS[activation]` elementwise; any shape, any floating-point dtype.

    Raises:
        ValueError: there is no such activation.
    """

    def __init__(self, activation: str, **kwargs: Any):
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {sorted(ACTIVATIONS)}. "
                f"Received: activation={activation!r}."
            )
        super().__init__(**kwargs)
        self.activation = activation

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return ACTIVATIONS[self.activation](inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


@keras.utils.register_keras_serializable(package="bireal_keras")
class Rotate180(keras.layers.Layer):
    """Turns maps (batch, height, width, channels) by 180 degrees."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reverse(inputs, axis=(1, 2))


def plain_conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
    """A real-valued convolution without activation and without bias, "same" padding."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="glorot_normal",
        name=name,
    )(x)


def batch_norm(x: tf.Tensor, name: str) -> tf.Tensor:
    """BatchNormalization with the momentum (0.8) and epsilon (1e-3) of Larq Zoo's nets."""
    return keras.layers.BatchNormalization(momentum=0.8, epsilon=1e-3, name=name)(x)


def imagenet_stem(x: tf.Tensor, filters: int, *, name: str = "stem") -> tf.Tensor:
    """Real 7x7 convolution with stride 2, BN, 3x3 max-pooling with stride 2: (h/4, w/4)."""
    x = plain_conv(x, filters, 7, 2, f"{name}_conv")
    x = batch_norm(x, f"{name}_bn")
    return keras.layers.MaxPool2D(3, strides=2, padding="same", name=f"{name}_pool")(x)


def cifar_stem(x: tf.Tensor, filters: int, *, name: str = "stem") -> tf.Tensor:
    """Real 3x3 convolution and BN for small images; the map keeps its size."""
    x = plain_conv(x, filters, 3, 1, f"{name}_conv")
    return batch_norm(x, f"{name}_bn")


def shortcut_block(
    x: tf.Tensor, filters: int, *, strides: int = 1, conv: ConvFactory, name: str
) -> tf.Tensor:
    """Bi-Real Net's block: one 3x3 convolution with a shortcut of its own.

        x ---> sign ---> 1-bit conv ---> BN ---> + --->
           |                                     |
           '------ real-valued shortcut ---------'

    The shortcut starts before the sign, so the sum carries real values from block to
    block. Where the block changes the shape, the shortcut is a 2x2 average pooling, a
    *real* 1x1 convolution and BN. There is no activation but the sign.

    Source: Liu et al., ECCV 2018 (arXiv:1808.00278), Section 3.1 and Figure 1.

    Args:
        x: (batch, height, width, channels).
        filters: output channels.
        strides: 1, or 2 to halve the map.
        conv: what the 3x3 convolution is made of.
        name: prefix of the layers' names.

    Returns:
        (batch, ceil(height / strides), ceil(width / strides), filters).

    Raises:
        ValueError: other strides, which would leave out pixels of the shortcut.
    """
    if strides not in (1, 2):
        raise ValueError(f"`strides` must be 1 or 2. Received: strides={strides!r}.")
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        if strides != 1:
            # "same" only matters for odd sizes, which the convolution rounds up.
            shortcut = keras.layers.AveragePooling2D(
                2, strides=strides, padding="same", name=f"{name}_shortcut_pool"
            )(shortcut)
        shortcut = plain_conv(shortcut, filters, 1, 1, f"{name}_shortcut_conv")
        shortcut = batch_norm(shortcut, f"{name}_shortcut_bn")
    x = conv(x, filters, 3, strides, f"{name}_conv")
    x = batch_norm(x, f"{name}_bn")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
