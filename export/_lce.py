"""The one door to Larq Compute Engine, as `bireal_keras._keras` is to TensorFlow.

LCE is optional: this is imported where LCE is asked for, never on top of a module.
"""

# This comes first, for its checks of the Keras that LCE is about to import.
import bireal_keras._keras  # noqa: F401

try:
    import larq_compute_engine as lce
except ModuleNotFoundError as error:
    raise ImportError(
        "larq-compute-engine is not installed: pip install 'bireal-keras[tensorflow]'. It has no "
        "wheel for Linux on Arm nor for Python 3.13 and newer."
    ) from error

__all__ = ["lce"]
