"""Reads flatbuffers that nobody has checked.

A `.tflite` file may come from anywhere. Every offset and every length in it is checked before it
is followed: what leads out of the buffer is a ValueError. Many references may lead to one table or
text, so that to copy it for each of them takes far more work than the file's size says: what may be
long is copied only up to a length that the caller names.

LiteRT's package has classes for the schema, made by flatbuffers' compiler. They read whatever an
offset points at, and tflite-runtime, for 32-bit Arm, comes without them: so the device reads labels
and metadata with these few lines. `tflite.model` builds on the generated classes.

Format: https://flatbuffers.dev/internals/
"""

import struct
from collections.abc import Iterator
from typing import Any

_REFERENCE = "<I"
_REFERENCE_BYTES = 4


class Table:
    """A table; its fields are known by their number, the first in the schema being 0.

    Args:
        buffer: the whole flatbuffer.
        position: of the table in it.

    Raises:
        ValueError: something of the table lies outside of the buffer. All methods raise it.
    """

    def __init__(self, buffer: bytes, position: int):
        self._buffer = buffer
        self._position = position
        self._vtable = position - self._read("<i", position)
        self._vtable_bytes = self._read("<H", self._vtable)

    def scalar(self, field: int, format: str, default: Any) -> Any:
        """A number, in the format of `struct`; `default` where the table has none."""
        position = self._find(field)
        return default if position is None else self._read(format, position)

    def table(self, field: int) -> "Table | None":
        """A table within the table."""
        position = self._find(field)
        return None if position is None else self._follow(position)

    def count(self, field: int) -> int:
        """Length of a vector of tables, 0 where there is none."""
        return self._vector(field, _REFERENCE_BYTES)[1]

    def element(self, field: int, index: int) -> "Table":
        """One of a vector of tables."""
        start, count = self._vector(field, _REFERENCE_BYTES)
        if index >= count:
            raise ValueError(f"there is no element {index} among {count}")
        return self._follow(start + index * _REFERENCE_BYTES)

    def elements(self, field: int) -> "Iterator[Table]":
        """All of a vector of tables."""
        return (self.element(field, index) for index in range(self.count(field)))

    def floats(self, field: int, *, most: int) -> tuple[float, ...]:
        """A vector of at most that many float32 values, empty where there is none."""
        start, count = self._short_vector(field, 4, most)
        return struct.unpack_from(f"<{count}f", self._buffer, start)

    def data(self, field: int, *, most: int | None = None) -> bytes | None:
        """A vector of bytes; without `most`, of any length, which is a copy of them."""
        if self._find(field) is None:
            return None
        start, count = self._short_vector(field, 1, len(self._buffer) if most is None else most)
        return self._buffer[start : start + count]

    def string(self, field: int, *, most: int) -> str | None:
        """A text of at most that many bytes."""
        data = self.data(field, most=most)
        return None if data is None else data.decode()

    def is_text(self, field: int, text: str) -> bool:
        """Whether the table has this text in the field, however long its own may be."""
        start, count = self._vector(field, 1)
        content = text.encode()
        return count == len(content) and self._buffer[start : start + count] == content

    def _read(self, format: str, position: int) -> Any:
        if not 0 <= position <= len(self._buffer) - struct.calcsize(format):
            raise ValueError(f"offset {position} is outside of the {len(self._buffer)} bytes")
        return struct.unpack_from(format, self._buffer, position)[0]

    def _find(self, field: int) -> int | None:
        # After the sizes of vtable and table there are two bytes for each field.
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_bytes:
            return None  # Written by a program that did not know the field yet.
        offset = self._read("<H", self._vtable + entry)
        return self._position + offset if offset else None

    def _follow(self, position: int) -> "Table":
        return Table(self._buffer, position + self._read(_REFERENCE, position))

    def _short_vector(self, field: int, item_bytes: int, most: int) -> tuple[int, int]:
        start, count = self._vector(field, item_bytes)
        if count > most:
            raise ValueError(f"a vector of {count} items, where at most {most} make sense")
        return start, count

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(position of the first item, count), (0, 0) where there is none."""
        position = self._find(field)
        if position is None:
            return 0, 0
        position += self._read(_REFERENCE, position)
        count = self._read(_REFERENCE, position)
        start = position + _REFERENCE_BYTES
        if count * item_bytes > len(self._buffer) - start:
            raise ValueError(f"a vector of {count} items at {position} does not fit")
        return start, count


def root(buffer: bytes, identifier: bytes) -> Table:
    """The table that a flatbuffer starts from.

    Raises:
        ValueError: it does not have the four bytes that identify its schema, or is damaged.
    """
    if buffer[4:8] != identifier:
        raise ValueError(f"bytes 4 to 8 must be {identifier!r}. Received: {buffer[4:8]!r}.")
    return Table(buffer, struct.unpack_from(_REFERENCE, buffer)[0])
