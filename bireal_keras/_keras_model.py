"""What can be done with a Keras model: copying it with changes, carrying its weights."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from bireal_keras._keras import keras, lq, tf


def is_one_bit(quantizer: Any) -> bool:
    """Whether something is a quantizer that gives one of two values; None is not."""
    # NoOp states a precision and keeps real values.
    return getattr(quantizer, "precision", None) == 1 and not isinstance(
        quantizer, lq.quantizers.NoOp
    )


def has_one_bit_input(layer: keras.layers.Layer) -> bool:
    """Whether a layer quantizes its input to one bit."""
    return is_one_bit(getattr(layer, "input_quantizer", None))


def has_one_bit_kernel(layer: keras.layers.Layer) -> bool:
    """Whether a layer quantizes its kernel to one bit."""
    return is_one_bit(getattr(layer, "kernel_quantizer", None))


def quantized_kernel(layer: keras.layers.Layer, name: str = "kernel") -> np.ndarray:
    """A layer's kernel as the model computes with it: quantized, float32."""
    with lq.context.quantized_scope(True):
        return tf.convert_to_tensor(getattr(layer, name)).numpy()


def with_real_kernels(model: keras.Model) -> keras.Model:
    """A copy of a model whose 1-bit convolutions have real kernels, and signs as input still.

    The first of ReActNet's two stages trains it. Its layers have the same names, and the
    weights of `model`; kernels are neither quantized nor clipped.
    """

    def real_kernel(layer: keras.layers.Layer) -> dict[str, Any]:
        if getattr(layer, "kernel_quantizer", None) is None:
            return {}
        return {"kernel_quantizer": None, "kernel_constraint": None}

    return clone(model, real_kernel)


def with_precision(model: keras.Model, precision: str) -> keras.Model:
    """A copy of a model that computes in another precision, but for its outputs' layers.

    Its variables stay float32, as Keras's dtype policies say; "float32" is `model` itself.
    """
    if precision == "float32":
        return model

    def in_precision(layer: keras.layers.Layer) -> dict[str, Any]:
        if layer.name in model.output_names:
            return {}
        return with_dtype(layer.get_config(), precision)

    return clone(model, in_precision)


def with_dtype(config: Any, dtype: str) -> Any:
    """A layer's config with another dtype, in the configs of layers inside it as well.

    These are quantizers, and the layers of a model in a model.
    """
    if isinstance(config, (list, tuple)):
        values = [with_dtype(value, dtype) for value in config]
        return tuple(values) if isinstance(config, tuple) else values
    if not isinstance(config, dict):
        return config
    changed = {key: with_dtype(value, dtype) for key, value in config.items()}
    return {**changed, "dtype": dtype} if "dtype" in config else changed


def clone(
    model: keras.Model, changes: Callable[[keras.layers.Layer], dict[str, Any]]
) -> keras.Model:
    """A copy of a functional model, with its weights, whose layers have other arguments."""

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), **changes(layer)})

    copy = keras.models.clone_model(model, clone_function=clone_layer)
    carry_weights(model, copy)
    return copy


def with_frozen(model: keras.Model, names: Collection[str]) -> keras.Model:
    """A copy of a model in which the layers of these names do not train, nor take statistics.

    Without any names it is `model` itself.
    """
    if not names:
        return model
    return clone(model, lambda layer: {"trainable": False} if layer.name in names else {})


def head(model: keras.Model) -> keras.layers.Layer:
    """The last layer with weights: of a classifier, the one that knows its classes."""
    return next(layer for layer in reversed(model.layers) if layer.weights)


def new_head(source: keras.Model, target: keras.Model) -> frozenset[str]:
    """The name of `target`'s head if that cannot have the weights of `source`'s, or nothing."""
    layer = head(target)
    fits = any(one.name == layer.name and _shapes(one) == _shapes(layer) for one in source.layers)
    return frozenset() if fits else frozenset({layer.name})


def carry_weights(
    source: keras.Model, target: keras.Model, *, but: Collection[str] = frozenset()
) -> None:
    """Gives each layer of `target` the weights of the layer of that name in `source`.

    BatchNorm's statistics are weights like the others. Layers whose names are in `but` keep
    their own.

    Raises:
        ValueError: a layer has no counterpart or one with other shapes; nothing was carried.
    """
    check_fits(source, target, but=but)
    for layer in target.layers:
        if layer.weights and layer.name not in but:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def check_fits(
    source: keras.Model, target: keras.Model, *, but: Collection[str] = frozenset()
) -> None:
    """Raises `carry_weights`'s ValueErrors without carrying anything."""
    shapes = {layer.name: _shapes(layer) for layer in source.layers if layer.weights}
    for layer in target.layers:
        if layer.name in but:
            continue
        if layer.weights and shapes.get(layer.name) != _shapes(layer):
            raise ValueError(
                f"{target.name} cannot start from the weights of {source.name}: its layer "
                f"{layer.name!r} has weights of the shapes {_shapes(layer)}, and the other's "
                f"{shapes.get(layer.name, 'does not exist')}."
            )


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
