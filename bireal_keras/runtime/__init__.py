"""Runs exported models on a stock LiteRT interpreter, on a laptop as on a Raspberry Pi.

    from bireal_keras import runtime

    runtime.classify("photo.jpg", "birealnet18.tflite")
    runtime.classify("photo.jpg", runtime.example_model())

or, step by step,

    interpreter = runtime.Interpreter("birealnet18.tflite", num_threads=4)
    image = runtime.load_image("photo.jpg", interpreter.metadata)
    probabilities = interpreter.predict(image[None])[0]
    interpreter.metadata.labels[probabilities.argmax()]

The binary ops in such a file are Larq Compute Engine's, which no stock interpreter knows.
The delegate in this package runs them, and a network's stem, shortcuts and head where it is faster;
everything else stays with LiteRT. Imports NumPy, Pillow and LiteRT, never TensorFlow.
"""

from typing import TYPE_CHECKING

from bireal_keras import _lazy
from bireal_keras.runtime.example import example_model
from bireal_keras.runtime.interpreter import Interpreter, Tensor, delegate_path, load_delegate
from bireal_keras.tflite.metadata import Metadata, Normalization, read_metadata

if TYPE_CHECKING:
    from bireal_keras.runtime.camera import open_camera
    from bireal_keras.runtime.classifier import classify
    from bireal_keras.runtime.image import load_image

__all__ = [
    "Interpreter",
    "Metadata",
    "Normalization",
    "Tensor",
    "classify",
    "delegate_path",
    "example_model",
    "load_delegate",
    "load_image",
    "open_camera",
    "read_metadata",
]

# Models run without Pillow.
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "classify": "bireal_keras.runtime.classifier",
        "load_image": "bireal_keras.runtime.image",
        "open_camera": "bireal_keras.runtime.camera",
    },
)
