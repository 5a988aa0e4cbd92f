"""Watching a Keras model at work, layer by layer, whatever it is made of."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bireal_keras._keras import keras


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and all layers inside it, at any depth, each once."""
    return [
        module for module in (model, *model.submodules) if isinstance(module, keras.layers.Layer)
    ]


@contextlib.contextmanager
def watched(
    layers: Iterable[keras.layers.Layer], on_call: Callable[[keras.layers.Layer, Any, Any], None]
) -> Iterator[None]:
    """While the block runs, calls `on_call(layer, inputs, outputs)` after a layer's every call.

    It sees what a functional model's graph does not show: layers of a subclassed model, inside
    a wrapper, or called twice. The model has to run eagerly in the block, as `model(x)` does;
    `model.predict` does not.
    """
    before = [(vars(layer), vars(layer).get("call")) for layer in layers]
    try:
        for layer in layers:
            # Not setattr, with which Keras would track the function as a part of the layer.
            vars(layer)["call"] = _reporting(layer, on_call)
        yield
    finally:
        for attributes, call in before:
            if call is None:
                attributes.pop("call", None)
            else:
                attributes["call"] = call


def _reporting(
    layer: keras.layers.Layer, on_call: Callable[[keras.layers.Layer, Any, Any], None]
) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def reporting_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        on_call(layer, inputs, outputs)
        return outputs

    return reporting_call
