"""Class names inside a `.tflite` file, where TensorFlow Lite's tools put them.

A TFLite model may be followed by a zip archive: interpreters read the flatbuffer from the
beginning and never see it, unzip finds it from the end. The names are in its `labels.txt`,
one a line, in UTF-8. `unzip -p model.tflite labels.txt` prints them.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Sequence

# The name in our own files.
LABELS_NAME = "labels.txt"
# ImageNet's 21,841 names take 0.7 MB. One character a line, these take 60 MB as texts.
_MAX_BYTES = 2_000_000
_END_OF_ARCHIVE = b"PK\x05\x06"
_END_BYTES = 22


def append_labels(flatbuffer: bytes, labels: Sequence[str]) -> bytes:
    """Puts class names into a model.

    Args:
        flatbuffer: a TFLite model without an archive.
        labels: names in the order of the model's outputs.

    Returns:
        The model with the names; the same arguments give the same bytes.

    Raises:
        ValueError: there is a bad name, or the model already has an archive.
    """
    check_labels(labels)
    if _has_archive(io.BytesIO(flatbuffer)):
        raise ValueError("`flatbuffer` must be a model without an archive. Received: one with.")
    content = "".join(f"{label}\n" for label in labels).encode()
    if len(content) > _MAX_BYTES:
        raise ValueError(f"`labels` must take at most {_MAX_BYTES:,} bytes: {len(content):,}.")
    file = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(file, "a") as archive:
        # A ZipInfo of our own has a fixed date, which writestr("labels.txt") has not.
        archive.writestr(zipfile.ZipInfo(LABELS_NAME), content)
    return file.getvalue()


def read_labels(model: bytes | str | os.PathLike[str], name: str = LABELS_NAME) -> list[str] | None:
    """Reads the class names of a model.

    Args:
        model: a TFLite model, or the path of one.
        name: of the file in its archive.

    Returns:
        The names in the order of the model's outputs; None if the model carries none.

    Raises:
        ValueError: the archive is damaged or holds more than 2 MB of names.
        OSError: the file cannot be read.
    """
    with io.BytesIO(model) if isinstance(model, bytes) else open(model, "rb") as file:
        if not _has_archive(file):
            return None
        source = "the model" if isinstance(model, bytes) else os.fspath(model)
        try:
            content = _read_archive(file, name)
        # What zipfile raises on bytes that are not a proper archive.
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:
            raise ValueError(f"The class names in {source} cannot be read: {error}") from error
    return content if content is None else content.splitlines()


def check_labels(labels: Sequence[str]) -> None:
    """Raises a ValueError unless `labels` is a sequence of names of one line each."""
    if isinstance(labels, (str, bytes)) or not labels:
        raise ValueError(f"`labels` must be a list of names. Received: {labels!r}.")
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str) or not label.strip() or label.splitlines() != [label]:
            raise ValueError(
                f"`labels` must be names of one line each, none empty. Received: {label!r} as "
                f"number {number} of {len(labels)}."
            )


def _has_archive(file: io.BufferedIOBase) -> bool:
    # An archive without a comment ends with this record. zipfile.is_zipfile also looks for its
    # four bytes in the 64 KB before, where weights can happen to contain them.
    size = file.seek(0, os.SEEK_END)
    if size < _END_BYTES:
        return False
    file.seek(-_END_BYTES, os.SEEK_END)
    return file.read(_END_BYTES).startswith(_END_OF_ARCHIVE)


def _read_archive(file: io.BufferedIOBase, name: str) -> str | None:
    with zipfile.ZipFile(file) as archive:
        if name not in archive.namelist():
            return None
        entry = archive.getinfo(name)
        if entry.file_size > _MAX_BYTES:
            raise ValueError(f"{name} of {entry.file_size:,} bytes, limit {_MAX_BYTES:,}.")
        # The other methods unpack as much as they like at a time.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed by an unusual method.")
        # By that size and no further: what is packed may be much more than the entry says, and
        # `archive.read` would unpack all of it before it notices.
        with archive.open(entry) as content:
            # Editors on Windows begin a file with a byte order mark, which is no part of a name.
            return content.read(entry.file_size + 1).decode("utf-8-sig")
