"""Loading Keras models from files that nobody has checked."""

import contextlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

# Registers the layers that a file may name.
import bireal_keras.blocks  # noqa: F401
from bireal_keras import _hdf5, _model_config
from bireal_keras._keras import keras, tf

_ZIP = b"PK\x03\x04"
_CONFIG = "config.json"
_METADATA = "metadata.json"
_WEIGHTS = "model.weights.h5"


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None
) -> keras.Model:
    """Loads a .keras or .h5 file or a SavedModel folder, uncompiled.

    What such a file asks for is checked first: it can neither run code, nor read or write other
    files, nor take memory that has no relation to its size. Layers are those of Keras, Larq and
    this package, and what the program has registered with Keras. The folder of a SavedModel is a
    program by design, and is not checked: load those of people you trust.

    Args:
        path: of the file or folder.
        custom_objects: {name: class or function} that the file may name in addition.

    Raises:
        ValueError: there is none, it is damaged, or it asks for something else. The message
            names the layer.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"there is no model {path}")
    try:
        return _load(path, dict(custom_objects or {}))
    except Exception as error:  # A damaged file can raise nearly anything.
        raise ValueError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error


def _load(path: Path, custom_objects: dict[str, Any]) -> keras.Model:
    if path.is_dir():
        return keras.models.load_model(path, custom_objects, compile=False)
    if not path.is_file():
        raise ValueError("it is neither a file nor a folder")
    size = path.stat().st_size
    with contextlib.ExitStack() as stack:
        if _starts_with(path, _ZIP):
            archive = stack.enter_context(zipfile.ZipFile(path))
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.keras"
            stored = _copy_checked(archive, copy, custom_objects, size)
            stack.enter_context(_variables_within(stored))
            return keras.models.load_model(copy, custom_objects, compile=False)
        if not h5py.is_hdf5(path):
            raise ValueError("it is neither a .keras nor an .h5 file")
        file = stack.enter_context(h5py.File(path, "r"))
        stored = _hdf5.checked_bytes(file, size)
        if "model_config" not in file.attrs:
            raise ValueError("it holds weights, and not a model")
        _model_config.check(json.loads(file.attrs["model_config"]), custom_objects)
        stack.enter_context(_variables_within(stored))
        return keras.models.load_model(file, custom_objects, compile=False)


@contextlib.contextmanager
def checked_weights(path: str | os.PathLike[str]) -> Iterator[tuple[Path, int]]:
    """Checks a file of weights, and gives the path to load them from and their bytes in memory.

    Raises:
        ValueError: it is not a .keras or an HDF5 file, or one that no weights need: see
            `_hdf5.checked_bytes`.
    """
    path = Path(path)
    size = path.stat().st_size
    if not _starts_with(path, _ZIP):
        with h5py.File(path, "r") as file:
            stored = _hdf5.checked_bytes(file, size)
        yield path, stored
        return
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / _WEIGHTS
        yield copy, _copy_weights(archive, copy, size)


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _copy_checked(
    archive: zipfile.ZipFile, copy: Path, custom_objects: dict[str, Any], size: int
) -> int:
    """Writes a .keras file of what was checked and nothing else; returns its weights' bytes.

    Keras reads this copy. So it is not tricked by two entries of one name, entries that lead out
    of a folder, or compression that makes it unpack more than the file says.
    """
    config = json.loads(_read(archive, _CONFIG, size))
    config = _without_compilation(config)
    _model_config.check(config, custom_objects)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / _WEIGHTS
        stored = _copy_weights(archive, weights, size)
        with zipfile.ZipFile(copy, "w") as checked:
            checked.writestr(_CONFIG, json.dumps(config))
            checked.writestr(_METADATA, "{}")
            checked.write(weights, _WEIGHTS)
    return stored


def _without_compilation(config: Any) -> Any:
    """The config without losses, metrics and optimizers; a model in a model has its own."""
    if isinstance(config, list):
        return [_without_compilation(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_compilation(value) for key, value in config.items() if key != "compile_config"
    }


def _copy_weights(archive: zipfile.ZipFile, path: Path, size: int) -> int:
    if _WEIGHTS not in archive.namelist():
        raise ValueError(f"it has no {_WEIGHTS}")
    content = _read(archive, _WEIGHTS, size)
    path.write_bytes(content)
    with h5py.File(path, "r") as file:
        return _hdf5.checked_bytes(file, size)


def _read(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Unpacks an entry of an archive of `size` bytes, and no more than it may contain."""
    most = _hdf5.limit(size)
    with archive.open(name) as file:
        # What the archive says about the entry's size may be wrong; all of it must not be read.
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"its {name} takes more than {most:,} bytes in a file of {size:,}")
    return content


@contextlib.contextmanager
def _variables_within(stored: int) -> Iterator[None]:
    """Refuses to build a model whose weights the file cannot contain, before they take memory."""
    taken = 0

    def create(next_creator: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        nonlocal taken
        shape = tf.TensorShape(kwargs.get("shape"))
        if shape.is_fully_defined():
            taken += math.prod(shape.as_list()) * tf.as_dtype(kwargs.get("dtype") or "float32").size
        # An .h5 file lacks some: Larq's flip ratios have a variable as large as the kernel.
        if taken > 2 * stored + _hdf5.limit(0):
            raise ValueError(
                f"its layers have weights of more than {taken:,} bytes, and it contains "
                f"{stored:,} bytes"
            )
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield
