"""From a Keras model, a PyTorch module or a float `.tflite` file to one that a person can trust.

    report = bireal_keras.export.convert(model, "birealnet18.tflite")
    report = bireal_keras.export.convert_torch(module, "net.tflite", torch.zeros(1, 3, 224, 224))
    report = bireal_keras.export.convert_tflite("float.tflite", "binary.tflite")
    print(report)

Importing this package imports neither TensorFlow nor Larq Compute Engine nor PyTorch; the first
use of `convert` and `convert_torch` does.
"""

from typing import TYPE_CHECKING

from bireal_keras import _lazy

if TYPE_CHECKING:
    from bireal_keras.export.converter import convert
    from bireal_keras.export.from_tflite import convert_tflite
    from bireal_keras.export.from_torch import convert_torch
    from bireal_keras.export.npz import to_npz
    from bireal_keras.export.report import Report

__all__ = ["Report", "convert", "convert_tflite", "convert_torch", "to_npz"]

# So that `bireal-export` answers --help at once, and reports a missing TensorFlow as it reports
# every other error.
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "Report": "bireal_keras.export.report",
        "convert": "bireal_keras.export.converter",
        "convert_tflite": "bireal_keras.export.from_tflite",
        "convert_torch": "bireal_keras.export.from_torch",
        "to_npz": "bireal_keras.export.npz",
    },
)
