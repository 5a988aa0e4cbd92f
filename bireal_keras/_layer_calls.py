"""Hooks on a Keras model's layers, whatever it is made of: seeing and changing their calls."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from bireal_keras._keras import keras


class Replacement(NamedTuple):
    """A function that stands in for a method of one layer."""

    layer: keras.layers.Layer
    method: str
    function: Callable[..., Any]


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and all layers inside it, at any depth, each once."""
    return [
        module for module in (model, *model.submodules) if isinstance(module, keras.layers.Layer)
    ]


@contextlib.contextmanager
def replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    """While the block runs, these methods are these functions.

    That holds for what a functional model's graph does not show, too: layers of a subclassed
    model, inside a wrapper, or called twice. The model has to run eagerly in the block or be traced
    in it, as `model(x)` does; `model.predict` does neither.
    """
    before = [(vars(layer), method, vars(layer).get(method)) for layer, method, _ in replacements]
    try:
        for layer, method, function in replacements:
            # Not setattr, with which Keras would track the function as a part of the layer.
            vars(layer)[method] = function
        yield
    finally:
        for attributes, method, function in before:
            if function is None:
                attributes.pop(method, None)
            else:
                attributes[method] = function


def watched(
    layers: Iterable[keras.layers.Layer], on_call: Callable[[keras.layers.Layer, Any, Any], None]
) -> contextlib.AbstractContextManager[None]:
    """While the block runs, calls `on_call(layer, inputs, outputs)` after a layer's every call."""

    def watch(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = call(inputs, *args, **kwargs)
            on_call(layer, inputs, outputs)
            return outputs

        return watched_call

    return _wrapped(layers, watch)


def given(
    layers: Iterable[keras.layers.Layer], inputs_of: Callable[[keras.layers.Layer, Any], Any]
) -> contextlib.AbstractContextManager[None]:
    """While the block runs, each call of a layer takes `inputs_of(layer, inputs)` as its inputs."""

    def give(layer: keras.layers.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def given_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return call(inputs_of(layer, inputs), *args, **kwargs)

        return given_call

    return _wrapped(layers, give)


def _wrapped(
    layers: Iterable[keras.layers.Layer],
    wrap: Callable[[keras.layers.Layer, Callable[..., Any]], Callable[..., Any]],
) -> contextlib.AbstractContextManager[None]:
    return replaced(
        # Keras looks at the signature of a layer's `call`.
        [
            Replacement(layer, "call", functools.wraps(layer.call)(wrap(layer, layer.call)))
            for layer in layers
        ]
    )
