"""Runs exported models on a stock LiteRT interpreter, on a laptop as on a Raspberry Pi.

    from bireal_keras import runtime

    interpreter = runtime.Interpreter("birealnet18.tflite", num_threads=4)
    image = runtime.load_image("photo.jpg", interpreter.metadata)
    probabilities = interpreter.predict(image[None])[0]
    interpreter.metadata.labels[probabilities.argmax()]

The binary ops in such a file are Larq Compute Engine's, which no stock interpreter knows.
The delegate in this package runs them, and a network's stem where it is faster; everything else
stays with LiteRT. Imports NumPy, Pillow and LiteRT, never TensorFlow.
"""

from typing import TYPE_CHECKING, Any

from bireal_keras.runtime.interpreter import Interpreter, delegate_path, load_delegate
from bireal_keras.runtime.metadata import Metadata, Normalization, read_metadata

if TYPE_CHECKING:
    from bireal_keras.runtime.image import load_image

__all__ = [
    "Interpreter",
    "Metadata",
    "Normalization",
    "delegate_path",
    "load_delegate",
    "load_image",
    "read_metadata",
]


def __getattr__(name: str) -> Any:
    # Lazily: models run without Pillow.
    if name == "load_image":
        from bireal_keras.runtime.image import load_image

        return load_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
