"""The one door to TensorFlow, legacy Keras and Larq.

Every module that needs them imports them from here, so that a Python environment they
cannot work in is reported once, in one place, with the remedy:

    from bireal_keras._keras import keras, lq, tf
"""

import importlib
import sys

_INSTALL = "pip install 'bireal-keras[tensorflow]'"

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    _remedy = _INSTALL
    if sys.version_info >= (3, 14):
        _version = ".".join(map(str, sys.version_info[:2]))
        _remedy = f"it has no wheel for Python {_version} yet; take Python 3.10 to 3.13"
    raise ImportError(
        f"This part of bireal_keras needs TensorFlow, which is not installed: {_remedy}. "
        "(bireal_keras.runtime works without it.)"
    ) from error

try:
    import tf_keras
except ImportError as error:
    raise ImportError(
        "bireal_keras needs legacy Keras, the package tf-keras of the same minor version "
        f"as TensorFlow {tf.__version__}, and it could not be imported: {_INSTALL}."
    ) from error

if tf.keras.Model is not tf_keras.Model:
    raise ImportError(
        f"TensorFlow {tf.__version__} was imported with Keras 3 before bireal_keras, but "
        "Larq works with legacy Keras only. Either import bireal_keras before tensorflow, "
        "or set the environment variable TF_USE_LEGACY_KERAS=1 before Python starts."
    )

try:
    import larq as lq
except ModuleNotFoundError as error:
    # Where our extra cannot bring Larq, setup.py says why, it brings all that Larq needs.
    _remedy = _INSTALL if sys.version_info < (3, 13) else "pip install --no-deps larq"
    raise ImportError(
        f"This part of bireal_keras needs Larq, which is not installed: {_remedy}."
    ) from error

keras = tf.keras

__all__ = ["keras", "lq", "tf"]

# Registers with Keras what files may name, whichever part of the package was imported first.
# When that was `quantizers`, on which blocks build, it does so when it is complete.
if "bireal_keras.quantizers" not in sys.modules:
    importlib.import_module("bireal_keras.blocks")
