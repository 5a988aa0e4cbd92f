"""Checks HDF5 files that nobody has checked, before arrays are read from them.

HDF5 lets an array lie in another file, which is opened without a word, and lets a small file
hold arrays of any size, and many names for one array. None of that is needed for weights.
"""

import itertools
import math
from collections.abc import Iterator

import h5py

# What a file's arrays may take in memory: bits that stand for float32 values, and some small
# arrays that are all zeros or ones and so were compressed to nothing.
_MAX_RATIO = 32
_FREE_BYTES = 1 << 20
# Booleans, integers and floats. Others, such as references, need memory of their own.
_DTYPES = "biuf"


def limit(size: int) -> int:
    """Bytes that may be unpacked from a file of `size` bytes."""
    return _FREE_BYTES + _MAX_RATIO * size


def checked_bytes(file: h5py.File, size: int) -> int:
    """Checks an HDF5 file of weights without reading an array.

    Args:
        file: open for reading.
        size: of the file in bytes.

    Returns:
        How many bytes its arrays take in memory when Keras reads them.

    Raises:
        ValueError: the file names other files, holds one thing under two names, arrays that
            are not numbers, or far more than its size.
    """
    stored = sum(_bytes(dataset) for dataset in _datasets(file))
    named = _named_bytes(file.get("model_weights", file))
    total = max(stored, named)
    if total > limit(size):
        raise ValueError(
            f"It holds arrays of {total:,} bytes; a file of {size:,} bytes may hold at most "
            f"{limit(size):,}."
        )
    return total


def count_weights(file: h5py.File) -> int | None:
    """How many arrays of weights a checked file has, an optimizer's and metrics' left out.

    None of a file in Keras's older format, in which layers are listed by name.
    """
    if "layer_names" in file.attrs or "model_weights" in file:
        return None
    others = ("/optimizer/", "/metrics/")
    return sum(not dataset.name.startswith(others) for dataset in _datasets(file))


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    groups = [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"Its entry {name!r} refers to another file, {link.filename!r}.")
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"Its entry {name!r} is a link. Keras writes arrays and groups.")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise ValueError(f"Its entry {name!r} has a second name in the file.")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                yield _checked(item)


def _checked(dataset: h5py.Dataset) -> h5py.Dataset:
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"Its array {dataset.name!r} lies in another file.")
    if dataset.dtype.kind not in _DTYPES:
        raise ValueError(f"Its array {dataset.name!r} has the type {dataset.dtype}, not numbers.")
    return dataset


def _bytes(dataset: h5py.Dataset) -> int:
    """Memory to read an array: its own, or that of one chunk, which may be larger."""
    if dataset.shape is None:
        return 0
    return max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize


def _named_bytes(group: h5py.Group) -> int:
    """Memory for all that the lists of layers and weights name, which may be one array often."""
    groups = [group[layer] for layer in _names(group, "layer_names")]
    if "top_level_model_weights" in group:
        groups.append(group["top_level_model_weights"])
    return sum(_bytes(layer[name]) for layer in groups for name in _names(layer, "weight_names"))


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, which Keras splits into numbered attributes when it is long."""
    parts = [attribute]
    if attribute not in group.attrs:
        numbered = (f"{attribute}{number}" for number in itertools.count())
        parts = list(itertools.takewhile(group.attrs.__contains__, numbered))
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else name for name in names]
