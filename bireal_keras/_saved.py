"""Loading what people saved, for the commands."""

from pathlib import Path

# Registers the layers that a file may name.
import bireal_keras.blocks  # noqa: F401
from bireal_keras._keras import keras


def load_model(path: Path) -> keras.Model:
    """Loads a .keras or .h5 file or a SavedModel folder, uncompiled.

    Raises:
        ValueError: it cannot be loaded, or brings Python code of its own.
    """
    # Keras's own safe mode, which load_model applies to .keras files only: without it an .h5
    # file may bring Python code that runs. There is no public name for it.
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    try:
        with SafeModeScope(safe_mode=True):
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # A damaged file can raise nearly anything.
        raise ValueError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
