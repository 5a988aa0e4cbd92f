"""What can be done about a trained model's BatchNorm: absorb the weights' scale, re-estimate.

Bi-Real Net trains with kernels s * sign(w), with a scale s for each filter, and runs with
sign(w): BatchNorm, which follows each convolution, takes the scale over. The authors let it
learn that in an epoch of training with the kernels fixed at +-1 (README of
https://github.com/liuzechun/Bi-Real-net); `reestimate` after `fix_signs` is that. `absorb_scale`
does it exactly, without data.
"""

from collections.abc import Iterable

import numpy as np

from bireal_keras import _keras_model
from bireal_keras._keras import keras, lq, tf

# Of a convolution's output times s > 0, these make their output times s.
_SCALE_WITH_THEIR_INPUT = (
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.MaxPool2D,
)
# So do these functions.
_SCALING_ACTIVATIONS = (keras.activations.linear, keras.activations.relu)
# The last axis of their kernels is that of the filters, and of their outputs where the data format
# is "channels_last". Transposed convolutions have it elsewhere.
_ABSORBABLE = (
    lq.layers.QuantConv1D,
    lq.layers.QuantConv2D,
    lq.layers.QuantConv3D,
    lq.layers.QuantDense,
)
_BATCH_NORM = keras.layers.BatchNormalization


def fix_signs(model: keras.Model) -> list[str]:
    """Replaces each 1-bit kernel by its signs, so that no quantizer scales it any more.

    The outputs change until BatchNorm is re-estimated.

    Returns:
        The names of the layers whose kernels are +-1 now.

    Raises:
        ValueError: a kernel quantizer makes other values than one scale per filter times
            signs; nothing has been changed.
    """
    signs = {layer: _sign_and_scale(layer)[0] for layer in _binary_layers(model)}
    for layer, sign in signs.items():
        layer.kernel.assign(sign)
    return [layer.name for layer in signs]


def absorb_scale(model: keras.Model) -> list[str]:
    """Moves the scale of each 1-bit kernel into the BatchNorm after it, exactly.

    With s the scale of a filter, its convolution's output is s times that of the signs:

        gamma * (s * z - mean) / sqrt(variance + epsilon) + beta
            = (s * gamma) * (z - mean / s) / sqrt(variance + epsilon) + beta

    So kernels become +-1, moving_mean / s and gamma * s; variance and beta stay. The outputs
    of the model stay, up to rounding. The moving variance is then no longer that of BatchNorm's
    input: a model that is to be trained further should be re-estimated first.

    Returns:
        The names of the layers whose kernels are +-1 now.

    Raises:
        ValueError: a filter is all zeros and has no scale to absorb, no BatchNorm that scales
            follows or something else sees the layer's output, or see `fix_signs`; nothing has
            been changed.
    """
    layers, values = _binary_layers(model), []
    for layer in layers:
        sign, scale = _sign_and_scale(layer)
        if not (scale > 0).all():
            raise ValueError(
                f"The layer {layer.name!r} has a filter of zeros, whose scale of 0 BatchNorm "
                f"cannot absorb: filter {int(np.argmin(scale))}."
            )
        norm = _following_batch_norm(layer, model)
        values += [
            (layer.kernel, sign),
            (norm.moving_mean, norm.moving_mean / scale),
            (norm.gamma, norm.gamma * scale),
        ]
        if layer.use_bias:
            values.append((layer.bias, layer.bias / scale))
    for variable, value in values:
        variable.assign(value)
    return [layer.name for layer in layers]


def reestimate(model: keras.Model, images: Iterable[tf.Tensor]) -> int:
    """Replaces BatchNorm's moving statistics by their means over batches of images.

    Each batch goes through the network as in training, normalized by statistics of its own;
    every batch counts the same. Weights, gamma and beta stay as they are.

    Args:
        model: any Keras model.
        images: batches as the model takes them, at least one.

    Returns:
        The number of batches.

    Raises:
        ValueError: there is no batch; nothing has been changed.
    """
    norms = [layer for layer in model.layers if isinstance(layer, _BATCH_NORM)]
    momenta = [norm.momentum for norm in norms]
    batches = 0
    try:
        for batch in images:
            for norm in norms:
                # The mean of b + 1 numbers from that of b: b / (b + 1) of it, 1 / (b + 1) new.
                norm.momentum = batches / (batches + 1)
            model(batch, training=True)
            batches += 1
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
    if not batches:
        raise ValueError("`images` must hold at least one batch.")
    return batches


def _binary_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if _keras_model.has_one_bit_kernel(layer)]


def _sign_and_scale(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """A 1-bit kernel's signs, and the scale of each filter, shape (filters,)."""
    kernel = layer.kernel.numpy()
    quantized = layer.kernel_quantizer(tf.constant(kernel)).numpy()
    scale = np.abs(quantized).reshape(-1, quantized.shape[-1]).max(axis=0)
    sign = np.where(kernel >= 0, np.float32(1), np.float32(-1))
    signs_stay = np.array_equal(layer.kernel_quantizer(tf.constant(sign)).numpy(), sign)
    if not (signs_stay and np.allclose(quantized, scale * sign, rtol=1e-6, atol=0)):
        raise ValueError(
            f"The layer {layer.name!r} has a kernel quantizer, {layer.kernel_quantizer.name!r}, "
            "that does not make one scale per filter times the signs of its kernel."
        )
    return sign, scale


def _following_batch_norm(layer: keras.layers.Layer, model: keras.Model) -> keras.layers.Layer:
    """The BatchNorm that is the only one to see a layer's output, and sees nothing else."""
    # A layer may have other calls, and be an output, which its outgoing nodes do not show.
    outputs = [tensor.node.layer for tensor in model.outputs or ()]
    follower = layer
    scales = isinstance(layer, _ABSORBABLE) and layer.activation in _SCALING_ACTIVATIONS
    while scales and _feeds_one(follower) and follower not in outputs:
        follower = follower.outbound_nodes[0].layer
        if isinstance(follower, _BATCH_NORM):
            if _is_called_once(follower) and _scales_filters(follower, layer):
                return follower
            break
        scales = isinstance(follower, _SCALE_WITH_THEIR_INPUT)
    raise ValueError(
        f"The layer {layer.name!r} is not followed by a BatchNorm of its own, which could absorb "
        "its scale."
    )


def _is_called_once(layer: keras.layers.Layer) -> bool:
    return len(layer.inbound_nodes) == 1


def _feeds_one(layer: keras.layers.Layer) -> bool:
    return _is_called_once(layer) and len(layer.outbound_nodes) == 1


def _scales_filters(norm: keras.layers.Layer, layer: keras.layers.Layer) -> bool:
    """Whether a BatchNorm has a factor for each of a layer's filters."""
    channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return channels_last and norm.scale and list(norm.axis) == [len(layer.output_shape) - 1]
