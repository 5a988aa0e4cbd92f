"""The models of the zoo by name, each with its traits."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec

from bireal_keras import _keras_model
from bireal_keras._keras import keras
from bireal_keras.zoo import _published
from bireal_keras.zoo._published import Published

_Arguments = ParamSpec("_Arguments")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
        build: the public function of that name.
        family: what it shares with networks of other sizes, as the first part of its name.
        depth: layers with weights from the input to the output, where its name says so, or None.
        is_real: whether it is a real-valued twin, without 1-bit convolutions.
        is_listed: whether it is a network of its own, and no variant of one for a study.
        weights: published weights by name and include_top.
        top1: accuracy on ImageNet in percent that literature states for this very network, in
            the source that its docstring names, or None.
    """

    build: Callable[..., keras.Model]
    family: str
    depth: int | None
    is_real: bool
    is_listed: bool
    weights: Mapping[tuple[str, bool], Published]
    top1: float | None

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that the function takes, in order."""
        return tuple(inspect.signature(self.build).parameters)


# Filled by `register`, as the modules of the families are imported.
MODELS: dict[str, Entry] = {}


def register(
    *,
    family: str,
    depth: int | None = None,
    is_real: bool = False,
    is_listed: bool = True,
    weights: Mapping[tuple[str, bool], Published] | None = None,
    top1: float | None = None,
) -> Callable[[Callable[_Arguments, keras.Model]], Callable[_Arguments, keras.Model]]:
    """Enters a model function under its name; see `Entry`.

    The decorated function takes the names of `weights` in its argument `weights`: they bring
    the arguments that they were trained with, unless these are given. Without `top1`, it is that
    of the weights "imagenet".
    """
    published = {} if weights is None else weights
    if top1 is None and ("imagenet", True) in published:
        top1 = published["imagenet", True].top1

    def decorate(function: Callable[_Arguments, keras.Model]) -> Callable[_Arguments, keras.Model]:
        @functools.wraps(function)
        def model(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> keras.Model:
            arguments = _published.resolve(published, kwargs)
            whole = _published.whole(published, kwargs)
            if whole is None:
                return function(*args, **arguments)
            features = function(*args, **{**arguments, "weights": None})
            trained = function(*args, **{**whole.arguments, "weights": arguments["weights"]})
            _keras_model.carry_weights(trained, features)
            return features

        MODELS[function.__name__] = Entry(model, family, depth, is_real, is_listed, published, top1)
        return model

    return decorate


def weight_names(name: str) -> list[str]:
    """The names of the weights that are published for a model."""
    weights = MODELS[name].weights if name in MODELS else {}
    return sorted({published for published, _ in weights})
