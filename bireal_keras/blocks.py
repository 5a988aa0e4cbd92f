"""The building blocks of Bi-Real Net, as functions on Keras tensors.

A *convolution factory* decides what a block's convolutions are made of; everything
around them, the real-valued shortcut first of all, stays the same. So the 1-bit network
and its kin share one skeleton, layer for layer:

    binary_conv()            sign(x) * magnitude-aware sign(w)       the 1-bit network
    real_conv("relu")        relu(x) * w                             its real-valued twin
    rsign(binary_conv())     sign(x + shift) * ...                   ReActNet

A convolution's `padding` is "same", as TensorFlow does it, or "torch": see `_apply`.

Layer names are stable: weight files, summaries and TFLite tensor names depend on them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign

# (x, filters, kernel_size, strides, name) -> convolution of the activated x, no bias.
ConvFactory = Callable[[tf.Tensor, int, int, int, str], tf.Tensor]
# (x, name) -> normalized x: `batch_norm`, maybe with other arguments.
Norm = Callable[[tf.Tensor, str], tf.Tensor]

# What replaces the sign in the real-valued twin, and in the stages that pre-train it:
# the paper's order is relu, leaky_clip, clip.
ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "relu": tf.nn.relu,
    "leaky_clip": lambda x: 0.1 * x + 0.9 * tf.clip_by_value(x, -1.0, 1.0),
    "clip": lambda x: tf.clip_by_value(x, -1.0, 1.0),
}


def binary_conv(
    *,
    pad_values: float = 0.0,
    padding: str = "same",
    input_quantizer: Callable[..., lq.quantizers.Quantizer] = ApproxSign,
    kernel_quantizer: Callable[..., lq.quantizers.Quantizer] = MagnitudeAwareSign,
    clip_value: float = 1.0,
) -> ConvFactory:
    """1-bit convolutions: a sign on the input, and a scaled one on the kernel.

    Args:
        pad_values: what the border is padded with. 0 is the paper's choice; +1 lets a
            runtime fold more into the convolution.
        padding: how much is padded: "same" or "torch".
        input_quantizer: makes the input's sign, given its `name`. Signs differ in their
            gradients.
        kernel_quantizer: makes the kernel's, likewise.
        clip_value: latent weights are clipped to +-`clip_value`. It should be where the kernel
            quantizer's gradient ends: a weight beyond would be stuck.

    Raises:
        ValueError: another `pad_values`, which no 1-bit runtime could follow, or another
            `padding`.
    """
    if pad_values not in (0, 1):
        raise ValueError(f"`pad_values` must be 0 or 1. Received: pad_values={pad_values!r}.")
    _check_padding(padding)

    def conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
        layer = lq.layers.QuantConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            pad_values=pad_values,
            use_bias=False,
            input_quantizer=input_quantizer(name=f"{name}_input_sign"),
            kernel_quantizer=kernel_quantizer(name=f"{name}_kernel_sign"),
            kernel_constraint=lq.constraints.WeightClip(clip_value),
            kernel_initializer="glorot_normal",
            name=name,
        )
        return _apply(layer, x, padding)

    return conv


def real_conv(activation: str, *, padding: str = "same") -> ConvFactory:
    """Real-valued convolutions after a `RealActivation` of that name."""
    _check_padding(padding)

    def conv(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
        x = RealActivation(activation, name=f"{name}_{activation}")(x)
        return plain_conv(x, filters, kernel_size, strides, name, padding=padding)

    return conv


def rsign(conv: ConvFactory) -> ConvFactory:
    """ReActNet's RSign: a learnable shift of each channel before the convolution's own sign.

    Source: Liu et al., "ReActNet", ECCV 2020 (arXiv:2003.03488).
    """

    def shifted(x: tf.Tensor, filters: int, kernel_size: int, strides: int, name: str) -> tf.Tensor:
        x = ChannelShift(name=f"{name}_shift")(x)
        return conv(x, filters, kernel_size, strides, name)

    return shifted


def relu(x: tf.Tensor, *, name: str) -> tf.Tensor:
    """max(x, 0)."""
    return RealActivation("relu", name=name)(x)


def prelu(x: tf.Tensor, *, name: str, slope: float = 0.0) -> tf.Tensor:
    """A PReLU with a slope for each channel, which starts as `slope`."""
    return keras.layers.PReLU(
        shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(slope), name=name
    )(x)


def rprelu(x: tf.Tensor, *, name: str) -> tf.Tensor:
    """ReActNet's RPReLU: for each channel a learnable shift, a PReLU and another shift.

    Slopes start at 0.25 and shifts at 0. Source: as `rsign`.
    """
    x = ChannelShift(name=f"{name}_shift_in")(x)
    x = prelu(x, name=name, slope=0.25)
    return ChannelShift(name=f"{name}_shift_out")(x)


@keras.utils.register_keras_serializable(package="bireal_keras")
class ChannelShift(keras.layers.Layer):
    """Adds a learnable number to each channel, the last axis; any shape, same dtype."""

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shift = self.add_weight("shift", (input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + self.shift


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


def plain_conv(
    x: tf.Tensor,
    filters: int,
    kernel_size: int,
    strides: int,
    name: str,
    *,
    padding: str = "same",
) -> tf.Tensor:
    """A real-valued convolution without activation and without bias."""
    layer = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="glorot_normal",
        name=name,
    )
    return _apply(layer, x, padding)


def depthwise_conv(
    x: tf.Tensor,
    kernel_size: int,
    strides: int,
    name: str,
    *,
    padding: str = "same",
    **arguments: Any,
) -> tf.Tensor:
    """A real-valued convolution of each channel alone, without activation and without bias.

    `arguments` are further ones of Keras's DepthwiseConv2D.
    """
    layer = keras.layers.DepthwiseConv2D(
        kernel_size, strides=strides, padding="same", use_bias=False, name=name, **arguments
    )
    return _apply(layer, x, padding)


def blur(x: tf.Tensor, name: str, *, padding: str = "same") -> tf.Tensor:
    """A 3x3 binomial filter of each channel with stride 2, which is not trained.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019
    (arXiv:1904.11486).
    """
    return depthwise_conv(
        x, 3, 2, name, padding=padding, depthwise_initializer=Binomial(), trainable=False
    )


@keras.utils.register_keras_serializable(package="bireal_keras")
class Binomial(keras.initializers.Initializer):
    """Starts a depthwise kernel as the binomial filter of its size: [1, 2, 1] / 4 both ways."""

    def __call__(
        self, shape: tuple[int, ...], dtype: tf.DType | None = None, **kwargs: Any
    ) -> tf.Tensor:
        height, width, *_ = shape
        down, across = ([math.comb(n - 1, k) for k in range(n)] for n in (height, width))
        products = np.outer(down, across)
        kernel = (products / products.sum()).reshape(height, width, 1, 1)
        return tf.constant(np.broadcast_to(kernel, shape), dtype or tf.float32)


# In an .h5 file Keras looks for an initializer without the package's name.
keras.utils.get_custom_objects()["Binomial"] = Binomial


def grouped_conv(x: tf.Tensor, filters: int, kernel_size: int, groups: int, name: str) -> tf.Tensor:
    """A real-valued convolution of each of several groups of channels alone, without bias.

    Raises:
        ValueError: the channels or the filters cannot be divided among so many groups.
    """
    channels = x.shape[-1]
    if channels % groups or filters % groups:
        raise ValueError(
            "`groups` must divide the channels and the filters. "
            f"Received: {groups} groups of {channels} channels and {filters} filters."
        )
    parts = ChannelSplit([channels // groups] * groups, name=f"{name}_split")(x)
    convolved = [
        plain_conv(part, filters // groups, kernel_size, 1, f"{name}_group{number}")
        for number, part in enumerate(parts, start=1)
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")(convolved)


@keras.utils.register_keras_serializable(package="bireal_keras")
class ChannelSplit(keras.layers.Layer):
    """Splits the channels, the last axis, into consecutive parts.

    Args:
        sizes: channels of each part; together they are all.

    Call arguments and result: a tensor of any shape; a list of tensors that differ from it in
    the last axis only.
    """

    def __init__(self, sizes: list[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes = list(sizes)

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        return tf.split(inputs, self.sizes, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes}


def batch_norm(
    x: tf.Tensor,
    name: str,
    *,
    momentum: float = 0.8,
    epsilon: float = 1e-3,
    scale_and_shift: bool = True,
) -> tf.Tensor:
    """BatchNormalization, by default with the momentum and epsilon of Larq Zoo's Bi-Real Net.

    Without `scale_and_shift` it has no gamma and no beta: mean 0 and variance 1 is all.
    """
    return keras.layers.BatchNormalization(
        momentum=momentum,
        epsilon=epsilon,
        scale=scale_and_shift,
        center=scale_and_shift,
        name=name,
    )(x)


def max_pool(x: tf.Tensor, name: str, *, padding: str = "same") -> tf.Tensor:
    """3x3 max-pooling with stride 2; what lies outside does not count."""
    return _apply(keras.layers.MaxPool2D(3, strides=2, padding="same", name=name), x, padding)


def _check_padding(padding: str) -> None:
    if padding not in ("same", "torch"):
        raise ValueError(f"`padding` must be 'same' or 'torch'. Received: padding={padding!r}.")


def _apply(layer: keras.layers.Layer, x: tf.Tensor, padding: str) -> tf.Tensor:
    """Applies a convolution or pooling whose padding is "same", or pads as PyTorch does.

    PyTorch's nets pad k // 2 pixels on every side for a kernel of k. So does "same" with
    stride 1, and with stride 2 on a map of odd size. On an even one it pads one pixel less at
    the top and on the left, and every window sees pixels beside those that PyTorch's sees. So
    "torch" makes the map odd with one more row and column at its end, and takes the last ones
    of the result, which are one too many, off again.

    Zeros around a 1-bit convolution stay zeros, and LCE packs it: the border is the
    convolution's own. The new row would become +1 in the sign, but of 3x3 windows only those
    that are taken off see it. (Padding the whole border before the sign would make it +1, and
    with a padding between sign and convolution LCE keeps the convolution in float.)

    Raises:
        ValueError: another padding, or "torch" on maps of unknown size.
    """
    _check_padding(padding)
    if padding == "same" or layer.strides == (1, 1):
        return layer(x)
    if None in x.shape[1:3]:
        raise ValueError(
            "`padding` 'torch' needs maps of known height and width. "
            f"Received: {layer.name} on {tuple(x.shape)}."
        )
    extra = tuple((0, 1 - size % 2) for size in x.shape[1:3])
    if extra == ((0, 0), (0, 0)):
        return layer(x)
    x = keras.layers.ZeroPadding2D(extra, name=f"{layer.name}_extend")(x)
    return keras.layers.Cropping2D(extra, name=f"{layer.name}_crop")(layer(x))


def imagenet_stem(
    x: tf.Tensor,
    filters: int,
    *,
    padding: str = "same",
    name: str = "stem",
    norm: Norm = batch_norm,
    activation: Callable[..., tf.Tensor] | None = None,
) -> tf.Tensor:
    """Real 7x7 convolution with stride 2, BN, 3x3 max-pooling with stride 2: (h/4, w/4).

    Bi-Real Net has no activation before the pooling; others have one, (x, name=) -> x.
    """
    x = plain_conv(x, filters, 7, 2, f"{name}_conv", padding=padding)
    x = norm(x, f"{name}_bn")
    if activation is not None:
        x = activation(x, name=f"{name}_activation")
    return max_pool(x, f"{name}_pool", padding=padding)


def cheap_stem(
    x: tf.Tensor, filters: int, *, padding: str = "same", name: str = "stem"
) -> tf.Tensor:
    """Three real 3x3 convolutions, of strides 2, 2 and 1, each with BN: (h/4, w/4).

    A quarter, half and all of the filters, with a ReLU in between. The 7x7 stem is most of
    what Bi-Real Net 18 computes: 118 of 164 million FLOPs at 224x224, as the paper counts.
    This one takes 78 million. Halving the map in the first two steps is what makes it
    cheap: the three convolutions of ResNet-C, which halve it once before the pooling, take
    358 million.

    The design is ours. That a cheaper stem pays is known from dabnn (Zhang et al., 2019,
    arXiv:1908.05858), which publishes a Bi-Real Net 18 with one; stacks of 3x3 convolutions
    with stride 2 in place of a large one, from Xiao et al., 2021 (arXiv:2106.14881). No
    accuracy of this stem is known.
    """
    widths = (max(1, filters // 4), max(1, filters // 2), filters)
    for index, (width, strides) in enumerate(zip(widths, (2, 2, 1)), start=1):
        if index > 1:
            x = relu(x, name=f"{name}_relu{index - 1}")
        x = plain_conv(x, width, 3, strides, f"{name}_conv{index}", padding=padding)
        x = batch_norm(x, f"{name}_bn{index}")
    return x


def cifar_stem(
    x: tf.Tensor, filters: int, *, padding: str = "same", name: str = "stem"
) -> tf.Tensor:
    """Real 3x3 convolution and BN for small images; the map keeps its size."""
    x = plain_conv(x, filters, 3, 1, f"{name}_conv", padding=padding)
    return batch_norm(x, f"{name}_bn")


def average_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """2x2 average pooling with stride 2; what lies outside does not count."""
    # "same" only matters for odd sizes, which the convolution beside it rounds up. (PyTorch
    # rounds down here and cannot add the two.)
    return keras.layers.AveragePooling2D(2, strides=2, padding="same", name=name)(x)


def shortcut(
    x: tf.Tensor, filters: int, strides: int, *, name: str, norm: Norm = batch_norm
) -> tf.Tensor:
    """x, or where its shape has to change: 2x2 average pooling, *real* 1x1 convolution, BN."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides != 1:
        x = average_pool(x, f"{name}_shortcut_pool")
    x = plain_conv(x, filters, 1, 1, f"{name}_shortcut_conv")
    return norm(x, f"{name}_shortcut_bn")


def _check_strides(strides: int) -> None:
    if strides not in (1, 2):
        raise ValueError(f"`strides` must be 1 or 2. Received: strides={strides!r}.")


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
    _check_strides(strides)
    straight = shortcut(x, filters, strides, name=name)
    x = conv(x, filters, 3, strides, f"{name}_conv")
    x = batch_norm(x, f"{name}_bn")
    return keras.layers.Add(name=f"{name}_add")([x, straight])


def react_block(
    x: tf.Tensor, filters: int, *, strides: int = 1, conv: ConvFactory, name: str
) -> tf.Tensor:
    """ReActNet's block on Bi-Real Net's: `shortcut_block` with RSign, and RPReLU after the sum.

        x ---> shift ---> sign ---> 1-bit conv ---> BN ---> + ---> shift ---> PReLU ---> shift --->
           |                                                |
           '----------- real-valued shortcut ---------------'

    Arguments, result and errors are those of `shortcut_block`. Source: as `rsign`.
    """
    x = shortcut_block(x, filters, strides=strides, conv=rsign(conv), name=name)
    return rprelu(x, name=f"{name}_prelu")


def bottleneck_block(
    streams: tuple[tf.Tensor | None, tf.Tensor],
    filters: int,
    *,
    strides: int = 1,
    conv: ConvFactory,
    name: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The block of Bi-Real Net 50 and 152: three convolutions, each with its shortcut.

    Two streams of real values run through the network, a narrow and a wide one, since the
    convolutions of a bottleneck have two widths to add to:

        narrow                                                     wide
          |                  .--- sign, 1-bit 1x1, BN <--------------|
          + <----------------'                                       |
          |---> sign, 1-bit 3x3, BN ---.                             |
          + <--------------------------'                             |
          |---> sign, 1-bit 1x1, BN -------------------------------> +
          v                                                          v

    Where the shapes change: the narrow stream is widened by a *real* 1x1 convolution without
    BN before the first sum, and halved by average pooling before the second; the wide stream
    as in `shortcut_block`. The network's first block has no narrow stream yet: nothing is
    added to its first convolution, which is real, after a leaky clip in place of the sign.

    Source: Liu et al., IJCV 2020 (arXiv:1811.01335), and the authors' PyTorch code.

    Args:
        streams: (batch, height, width, narrow channels), or None in the network's first
            block, and (batch, height, width, wide channels).
        filters: output channels of the narrow stream; the wide one has four times as many.
        strides: 1, or 2 to halve the maps.
        conv: what the convolutions are made of.
        name: prefix of the layers' names.

    Returns:
        Both streams, (batch, ceil(height / strides), ceil(width / strides), ...).

    Raises:
        ValueError: other strides, which would leave out pixels of the shortcuts.
    """
    _check_strides(strides)
    narrow, wide = streams
    first_conv = real_conv("leaky_clip") if narrow is None else conv
    x = first_conv(wide, filters, 1, 1, f"{name}_conv1")
    x = batch_norm(x, f"{name}_bn1")
    if narrow is not None:
        if narrow.shape[-1] != filters:
            narrow = plain_conv(narrow, filters, 1, 1, f"{name}_narrow_conv")
        x = keras.layers.Add(name=f"{name}_add1")([x, narrow])

    narrow = x if strides == 1 else average_pool(x, f"{name}_narrow_pool")
    x = conv(x, filters, 3, strides, f"{name}_conv2")
    x = batch_norm(x, f"{name}_bn2")
    narrow = keras.layers.Add(name=f"{name}_add2")([x, narrow])

    wide = shortcut(wide, 4 * filters, strides, name=name)
    x = conv(narrow, 4 * filters, 1, 1, f"{name}_conv3")
    x = batch_norm(x, f"{name}_bn3")
    return narrow, keras.layers.Add(name=f"{name}_add3")([x, wide])
