"""Registers this package's classes with Keras as soon as Keras is there."""

import contextlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

# Each imports the other at some point.
_PACKAGES = ("tensorflow", "tf_keras")


def when_keras_is_imported() -> None:
    """Makes `keras.models.load_model` know the layers of this package, and Larq's.

    What imports Keras first may be the user's program. Nothing is imported until then.
    """
    if "tf_keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Stands before Python's own finders until Keras has been imported."""

    def __init__(self) -> None:
        self._searching = False
        self._running = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _PACKAGES or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                self._running += 1
                try:
                    execute(module)
                finally:
                    self._running -= 1
                if not self._running and "tf_keras" in sys.modules and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    # A part of ours is importing Keras, and registers when it has it.
    if "bireal_keras._keras" in sys.modules:
        return
    # Keras works without us: the first use of a part of ours says what is missing.
    with contextlib.suppress(ImportError):
        import bireal_keras._keras  # noqa: F401
