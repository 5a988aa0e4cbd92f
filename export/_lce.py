"""The one door to Larq Compute Engine, as `bireal_keras._keras` is to TensorFlow.

LCE is optional: this is imported where LCE is asked for, never on top of a module.
"""

# This comes first, for its checks of the Keras that LCE is about to import.
import bireal_keras._keras  # noqa: F401

try:
    import larq_compute_engine as lce
except ModuleNotFoundError as error:
    raise ImportError(
        "Conversion needs larq-compute-engine, which is not installed: "
        "pip install 'bireal-keras[tensorflow]'. It has no wheel for Linux on Arm: convert on "
        "an x86-64 machine or a Mac. The .tflite file it writes runs everywhere."
    ) from error

__all__ = ["lce"]
