"""Packages whose public names are imported on first use."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`, which shows the public names and no others.

        __getattr__, __dir__ = _lazy.attach(__name__, {"load_image": "bireal_keras.runtime.image"})

    Args:
        package: its `__name__`. What is in its `__all__`, if it has one, is shown, too.
        modules: the names that are not imported yet, and the module that each is in, or is.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(modules[name])
        is_module = modules[name].endswith(f".{name}")
        return module if is_module else getattr(module, name)

    def dir_() -> list[str]:
        return sorted({*getattr(sys.modules[package], "__all__", ()), *modules})

    return getattr_, dir_
