"""Bi-Real Net 18 with each of the paper's ideas as an argument: what an ablation study trains."""

import functools
import os
from collections.abc import Callable

from bireal_keras import blocks
from bireal_keras._keras import keras, lq, tf
from bireal_keras.quantizers import ApproxSign, MagnitudeAwareSign
from bireal_keras.zoo import _model, _registry, binarynet

SIGNS: dict[str, Callable[..., lq.quantizers.Quantizer]] = {
    "approx_sign": ApproxSign,
    "ste_sign": lq.quantizers.SteSign,
}
WEIGHT_GRADIENTS: dict[str, Callable[..., lq.quantizers.Quantizer]] = {
    "magnitude_aware": MagnitudeAwareSign,
    "plain": functools.partial(MagnitudeAwareSign, scale_gradient=False),
}


@_registry.register(family="AblationNet", depth=18, is_listed=False)
def AblationNet18(
    *,
    input_shape: tuple[int | None, ...] | None = None,
    input_tensor: tf.Tensor | None = None,
    weights: str | os.PathLike[str] | None = None,
    include_top: bool = True,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    padding: str = "same",
    shortcuts: str = "per_conv",
    activation: str = "approx_sign",
    weight_gradient: str = "magnitude_aware",
) -> keras.Model:
    """`BiRealNet18`, unless it is told to leave out one of the ideas that make it.

    Whatever is left out, layers that remain have the same names. So a 1-bit network can start
    from the weights of its real-valued twin, the network with another `activation`.

    Arguments, result and errors are those of `BiRealNet18`, with these in place of
    `pad_values`:

    Args:
        shortcuts: "per_conv" is Bi-Real Net's, one around each 3x3 convolution; "resnet" is
            around two, as in `BinaryResNet18`; "none" as in `BinaryPlainNet18`.
        activation: what a 3x3 convolution sees: "approx_sign" is Bi-Real Net's, with the
            gradient 2 - 2|x|; "ste_sign" has the gradient 1 (both where |x| <= 1);
            "relu", "leaky_clip" and "clip" make a real-valued network of it, weights too.
        weight_gradient: "magnitude_aware" is Bi-Real Net's, with the mean |w| of the filter
            as a factor; "plain" leaves the factor out. Nothing to a real-valued network.
    """
    for argument, value, known in (
        ("shortcuts", shortcuts, [*binarynet.SHORTCUTS]),
        ("activation", activation, [*SIGNS, *blocks.ACTIVATIONS]),
        ("weight_gradient", weight_gradient, [*WEIGHT_GRADIENTS]),
    ):
        if value not in known:
            raise ValueError(
                f"`{argument}` must be one of {known}. Received: {argument}={value!r}."
            )
    if activation in SIGNS:
        conv = blocks.binary_conv(
            padding=padding,
            input_quantizer=SIGNS[activation],
            kernel_quantizer=WEIGHT_GRADIENTS[weight_gradient],
        )
    else:
        conv = blocks.real_conv(activation, padding=padding)
    return _model.classifier(
        "AblationNet18",
        binarynet.body(shortcuts, 18, conv, width),
        input_shape=input_shape,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        num_classes=num_classes,
        width=width,
        stem=stem,
        padding=padding,
    )
