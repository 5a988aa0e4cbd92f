"""From the folder of a SavedModel, whoever wrote it, to a float `.tflite` file."""

import contextlib
import io
import os

from bireal_keras import _native_log


def float_file(folder: str | os.PathLike[str], name: str) -> bytes:
    """What TensorFlow's own converter writes: float32, without a binary operator.

    A SavedModel is a program by design. Convert those of people you trust.

    Args:
        folder: of the SavedModel.
        name: of the model, for messages.

    Raises:
        ValueError: it cannot be converted.
        ImportError: TensorFlow is not installed.
    """
    with _native_log.captured() as native_errors, contextlib.redirect_stdout(io.StringIO()):
        try:
            import tensorflow as tf
        except ModuleNotFoundError as error:
            raise ImportError(
                "A SavedModel is converted by TensorFlow, which is not installed: "
                "pip install 'bireal-keras[tensorflow]'."
            ) from error
        try:
            return bytes(tf.lite.TFLiteConverter.from_saved_model(os.fspath(folder)).convert())
        except Exception as error:  # It raises nearly anything.
            raise ValueError(
                f"TensorFlow cannot convert {name}: {error} {native_errors()}".rstrip()
            ) from error
