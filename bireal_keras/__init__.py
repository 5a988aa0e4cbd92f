"""Bi-Real Net and its kin: 1-bit CNNs from Keras training to bit-packed inference.

Importing this package imports neither TensorFlow nor Keras, so that
`bireal_keras.runtime` starts quickly on a device that has only LiteRT. The parts that
need Keras (`quantizers`, `blocks`, `zoo`, `export`, ...) are imported on first use.

Larq and Larq Compute Engine work with legacy Keras (tf-keras) only, and TensorFlow
decides which Keras it loads when it is imported. This package therefore asks for legacy
Keras as early as it can: here. See `bireal_keras._keras` for what happens when it is
too late.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from bireal_keras import _register

if TYPE_CHECKING:
    from bireal_keras._safe_load import load_model as load_model
    from bireal_keras.training import ablation, data, preprocessing  # noqa: F401

__version__ = "0.1.0"

if "tensorflow" not in sys.modules:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
_register.when_keras_is_imported()

# Where each part lies. Those of training were at the top once, and keep their names there.
_PARTS = {
    "ablation": "training.ablation",
    "batch_norm": "batch_norm",
    "blocks": "blocks",
    "capability": "capability",
    "cost": "cost",
    "data": "training.data",
    "export": "export",
    "preprocessing": "training.preprocessing",
    "quantizers": "quantizers",
    "recipes": "recipes",
    "runtime": "runtime",
    "training": "training",
    "zoo": "zoo",
}


def __getattr__(name: str) -> Any:
    if name == "load_model":
        return importlib.import_module(f"{__name__}._safe_load").load_model
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{_PARTS[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_PARTS, "__version__", "load_model"])
