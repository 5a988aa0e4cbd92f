"""Bi-Real Net 18 and 34 (Liu et al., ECCV 2018, arXiv:1808.00278), and real-valued twins."""

import os

from bireal_keras import blocks
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import _model, _published

_BLOCKS_18 = (4, 4, 4, 4)
_BLOCKS_34 = (6, 8, 12, 6)

# stem: (function, default input size in pixels, size of an input that ends as 1x1)
_STEMS = {
    "imagenet": (blocks.imagenet_stem, 224, 32),
    "cifar": (blocks.cifar_stem, 32, 8),
}


def _birealnet(
    name: str,
    blocks_per_stage: tuple[int, ...],
    *,
    conv: blocks.ConvFactory,
    input_shape: tuple[int | None, ...] | None,
    input_tensor: tf.Tensor | None,
    weights: str | os.PathLike[str] | None,
    include_top: bool,
    num_classes: int,
    width: int,
    stem: str,
    padding: str = "same",
) -> keras.Model:
    if stem not in _STEMS:
        raise ValueError(f"`stem` must be one of {sorted(_STEMS)}. Received: stem={stem!r}.")
    if padding not in ("same", "torch"):
        raise ValueError(f"`padding` must be 'same' or 'torch'. Received: padding={padding!r}.")
    _model.check_positive_int(num_classes=num_classes, width=width)
    build_stem, default_size, min_size = _STEMS[stem]
    inputs = _model.input_layer(
        input_shape,
        input_tensor,
        default_size=default_size,
        min_size=min_size,
        include_top=include_top,
    )

    # Where the stride is 2, TensorFlow's "same" padding of even sizes has the odd row and column
    # at the bottom and the right, and PyTorch's explicit padding at the top and the left: each
    # is the other's on the image turned by 180 degrees. All the rest is symmetric.
    x = blocks.Rotate180(name="rotate")(inputs) if padding == "torch" else inputs
    x = build_stem(x, width)
    for stage, count in enumerate(blocks_per_stage):
        for block in range(count):
            x = blocks.shortcut_block(
                x,
                width * 2**stage,
                strides=2 if stage > 0 and block == 0 else 1,
                conv=conv,
                name=f"stage{stage + 1}_block{block + 1}",
            )
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = keras.layers.Dense(num_classes, kernel_initializer="glorot_normal", name="head_fc")(x)
        # Probabilities stay float32 under a mixed precision policy.
        x = keras.layers.Activation("softmax", dtype="float32", name="head_softmax")(x)
    elif padding == "torch":
        x = blocks.Rotate180(name="rotate_back")(x)

    if input_tensor is not None:
        inputs = keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        _model.load_weights(model, weights)
    return model


def BiRealNet18(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    pad_values: float = 0.0,
    padding: str = "same",
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
        weights: None; the path of a weights file that such a model saved; or "imagenet" for
            those that Larq Zoo trained and published (Apache-2.0; 57.47 % top-1 and 79.84 %
            top-5, as Larq Zoo states), which are downloaded once. They fit the defaults of
            all arguments but include_top and input_shape, and take images as
            `bireal_keras.zoo.imagenet.standardize` makes them.
        include_top: whether to end in global average pooling, a real fully connected
            layer and softmax. Without, the output is the last block's feature map.
        num_classes: size of the output.
        width: channels of the first stage; the four stages have 1, 2, 4 and 8 times as
            many.
        stem: "imagenet" (7x7 convolution and max-pooling, leaving a quarter of the height
            and width) or "cifar" (3x3 convolution, full size).
        pad_values: what the 1-bit convolutions pad with: 0 (the paper) or 1, which lets a
            runtime fold more into the convolution.
        padding: "same", TensorFlow's, or "torch", for weights that `from_torch` imports.
            They differ where the stride is 2: on even sizes "same" pads at the bottom and
            the right alone, and PyTorch at the top and the left. A model with "torch" turns
            the image by 180 degrees, and `from_torch` the kernels.

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
    weights = _published.resolve(
        weights,
        "BiRealNet18",
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        pad_values=pad_values,
        padding=padding,
    )
    return _birealnet(
        "BiRealNet18",
        _BLOCKS_18,
        conv=blocks.binary_conv(pad_values=pad_values),
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        padding=padding,
    )


def BiRealNet34(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    pad_values: float = 0.0,
    padding: str = "same",
) -> keras.Model:
    """Bi-Real Net 34: as `BiRealNet18`, with 6, 8, 12 and 6 blocks.

    21,814,696 parameters for 1,000 classes, as Keras counts them. The authors publish
    62.2 % top-1 and 83.9 % top-5 on ImageNet for it.

    Arguments, result and errors are those of `BiRealNet18`.
    """
    return _birealnet(
        "BiRealNet34",
        _BLOCKS_34,
        conv=blocks.binary_conv(pad_values=pad_values),
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        padding=padding,
    )


def BiRealNet18Float(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
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
    return _birealnet(
        "BiRealNet18Float",
        _BLOCKS_18,
        conv=blocks.real_conv(activation),
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
    )


def BiRealNet34Float(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    activation: str = "relu",
) -> keras.Model:
    """The real-valued twin of `BiRealNet34`: the same skeleton in float32.

    A baseline to compare with, and the network that the paper pre-trains.

    Arguments, result and errors are those of `BiRealNet34`, with one in place of
    `pad_values`:

    Args:
        activation: what stands where the sign was: "relu", "leaky_clip" (slope 0.1
            outside [-1, 1]) or "clip" (to [-1, 1]).
    """
    return _birealnet(
        "BiRealNet34Float",
        _BLOCKS_34,
        conv=blocks.real_conv(activation),
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
    )
