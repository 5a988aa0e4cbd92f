"""Runs exported models on a stock LiteRT interpreter, on a laptop as on a Raspberry Pi.

    from bireal_keras import runtime
    probabilities = runtime.Interpreter("birealnet18.tflite", num_threads=4).predict(images)

The binary ops in such a file are Larq Compute Engine's, which no stock interpreter knows.
The delegate in this package runs them; everything else stays with LiteRT. Imports NumPy
and LiteRT, never TensorFlow.
"""

from bireal_keras.runtime.interpreter import Interpreter, delegate_path, load_delegate

__all__ = ["Interpreter", "delegate_path", "load_delegate"]
