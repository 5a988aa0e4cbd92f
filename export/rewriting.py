"""What would cost a model its bits in LCE, and need not: put in terms that LCE understands."""

import contextlib
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from bireal_keras import _keras_model, _layer_calls
from bireal_keras._keras import keras, lq, tf
from bireal_keras.export import diagnosis, reasons
from bireal_keras.export.binarize.fuse import CANCELLING_DEPTH
from bireal_keras.export.signature import Signature

_REDUCED = ("float16", "bfloat16", "float64")
DENSE = "computed as a 1x1 convolution"
APART = "its activation is kept apart"


def with_other_precision(model: keras.Model) -> list[str]:
    """Names of the layers that do not compute in float32."""
    return [
        layer.name for layer in _layer_calls.layers_of(model) if layer.compute_dtype in _REDUCED
    ]


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself, or a copy that computes in float32 where a layer does not.

    Raises:
        ValueError: it cannot be copied, or a layer of the copy still does not.
    """
    reduced = with_other_precision(model)
    if not reduced:
        return model
    advice = (
        "`model` must compute in float32: build it under the policy 'float32' and copy the "
        f"weights with set_weights. Received layers of another precision: {reduced}."
    )
    try:
        with _policy("float32"):
            copy = _keras_model.clone(
                model, lambda layer: _keras_model.with_dtype(layer.get_config(), "float32")
            )
    # Keras raises the second for a layer that has no config.
    except (ValueError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{advice} It cannot be copied as float32: {error}") from error
    if with_other_precision(copy):
        raise ValueError(advice)
    return copy


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    """Keras's policy for what is made in the block: models and quantizers, which state none."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@contextlib.contextmanager
def rewritten(model: keras.Model, signature: Signature) -> Iterator[dict[str, str]]:
    """While the block runs, the model computes the same in terms that LCE packs.

    1-bit dense layers are 1x1 convolutions. Filters of zeros, or nearly, have weights of +-1,
    and what they give is multiplied by what their magnitude was: LCE takes one such filter for
    a reason to keep all of the layer in float, and a factor it folds into the convolution's.
    Where a clipping activation is to stay an operator of its own, one filter and its results change
    their signs: LCE fuses an activation with no convolution that has a factor.
    The model's weights stay as they are.

    Yields:
        What was rewritten, in words, by layer's name.
    """
    clipped = _clipped(model, signature)
    rewritings = [
        one
        for layer in _layer_calls.layers_of(model)
        if (one := _rewriting(layer, is_clipped=layer.name in clipped))
    ]
    with _layer_calls.replaced([one for one, _ in rewritings]):
        yield {one.layer.name: note for one, note in rewritings}


def _clipped(model: keras.Model, signature: Signature) -> set[str]:
    """Names of the layers with a fused activation that would cost digits."""
    deep = [
        layer
        for layer in _layer_calls.layers_of(model)
        if isinstance(layer, lq.layers.QuantConv2D)
        and _keras_model.has_one_bit_kernel(layer)
        and _depth(layer) > CANCELLING_DEPTH
    ]
    if not deep:
        return set()
    return {
        one.layer.name
        for one in diagnosis.diagnose(model, signature)
        if any(one.layer is layer for layer in deep) and costs_digits(one)
    }


def costs_digits(one: diagnosis.Diagnosis) -> bool:
    """Whether the activation after a 1-bit layer, fused with it, would cost digits."""
    return (
        one.clip is not None
        and one.left_reason != reasons.RELU_ON_ZEROS
        and hasattr(one.layer, "kernel")
        and _depth(one.layer) > CANCELLING_DEPTH * one.clip
    )


def _depth(layer: keras.layers.Layer) -> int:
    return prod(layer.kernel.shape[:-1])


def _rewriting(
    layer: keras.layers.Layer, *, is_clipped: bool
) -> tuple[_layer_calls.Replacement, str] | None:
    """What a layer needs, and why in words, or None."""
    is_dense = diagnosis.is_binary_dense(layer)
    is_conv = isinstance(layer, lq.layers.QuantConv2D) and _keras_model.has_one_bit_kernel(layer)
    if not (is_dense or is_conv):
        return None
    kernel, factor = _revived(_keras_model.quantized_kernel(layer))
    dead = np.count_nonzero(factor != 1)
    note = f"dead filters ({dead} of {len(factor)}) packed, with their magnitude as factor"
    if is_dense:
        function = _dense_call(layer, kernel, factor)
        replacement = _layer_calls.Replacement(layer, "call", function)
        return replacement, f"{DENSE}, {note}" if dead else DENSE
    if not dead:
        # Another magnitude than 1 is a factor, with which LCE fuses no activation.
        if not is_clipped or (np.abs(kernel) != 1).any():
            return None
        sign = np.where(np.arange(len(factor)) == 0, -1, 1).astype(np.float32)
        kernel, factor, note = kernel * sign, sign, APART
    function = _convolution_op(layer, kernel, factor)
    return _layer_calls.Replacement(layer, "convolution_op", function), note


def _revived(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel (..., out) as one without dead filters times a factor (out,)."""
    magnitudes = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    dead = magnitudes <= diagnosis.SMALLEST_MAGNITUDE
    signs = np.where(kernel < 0, -1, 1)
    factor = np.where(dead, magnitudes, 1)
    return np.where(dead, signs, kernel).astype(np.float32), factor.astype(np.float32)


def _convolution_op(
    layer: keras.layers.Layer, kernel: np.ndarray, factor: np.ndarray
) -> Callable[..., tf.Tensor]:
    convolution_op = layer.convolution_op

    @tf.autograph.experimental.do_not_convert
    def with_factor(inputs: tf.Tensor, _: Any = None) -> tf.Tensor:
        return convolution_op(inputs, tf.constant(kernel)) * tf.constant(factor)

    return with_factor


def _dense_call(
    layer: keras.layers.Layer, kernel: np.ndarray, factor: np.ndarray
) -> Callable[..., tf.Tensor]:
    @tf.autograph.experimental.do_not_convert
    def call(inputs: tf.Tensor) -> tf.Tensor:
        shape = inputs.shape[1:].as_list()
        # The sign comes right before the convolution: LCE sees it through no reshape.
        x = layer.input_quantizer(tf.reshape(inputs, (-1, prod(shape[:-1]), 1, shape[-1])))
        x = tf.nn.conv2d(x, tf.constant(kernel[None, None]), 1, "VALID")
        if (factor != 1).any():
            x = x * tf.constant(factor)
        if layer.use_bias:
            x = tf.nn.bias_add(x, layer.bias)
        return layer.activation(tf.reshape(x, (-1, *shape[:-1], layer.units)))

    return call
