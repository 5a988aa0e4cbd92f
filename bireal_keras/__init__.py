"""Bi-Real Net and its kin: 1-bit CNNs from Keras training to bit-packed inference.

Importing this package imports neither TensorFlow nor Keras, so that
`bireal_keras.runtime` starts quickly on a device that has only LiteRT. The parts that
need Keras (`quantizers`, `blocks`, `zoo`, `export`, ...) are imported on first use.

Larq and Larq Compute Engine work with legacy Keras (tf-keras) only, and TensorFlow
decides which Keras it loads when it is imported. This package therefore asks for legacy
Keras as early as it can: here. See `bireal_keras._keras` for what happens when it is
too late.
"""

import os
import sys
from typing import TYPE_CHECKING

from bireal_keras import _lazy, _register

if TYPE_CHECKING:
    from bireal_keras._safe_load import load_model as load_model
    from bireal_keras.training import ablation, data, preprocessing  # noqa: F401

__version__ = "0.1.0"

if "tensorflow" not in sys.modules:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
_register.when_keras_is_imported()

__all__ = ["__version__"]

# Those of training were at the top once, and keep their names there.
_TRAINING = ("ablation", "data", "preprocessing")
_PARTS = (
    *("batch_norm", "blocks", "capability", "cost", "export", "keras3", "quantizers", "recipes"),
    *("runtime", "training", "zoo"),
)
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {name: f"{__name__}.{name}" for name in _PARTS}
    | {name: f"{__name__}.training.{name}" for name in _TRAINING}
    | {"load_model": f"{__name__}._safe_load"},
)
