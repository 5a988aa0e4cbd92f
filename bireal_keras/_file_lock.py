"""Locks between processes, which end with the process that holds them, however it ends."""

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(file: BinaryIO | int, *, wait: bool) -> bool:
    """Whether the file is ours now, until it is closed.

    Where files cannot be locked, it is taken to be.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # Some network file systems know no locks.
        return True
    return True


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """Yields whether the folder is ours until the context ends.

    The lock is on the folder itself, and so no file of it is left there.
    """
    if fcntl is None:  # Windows does not open folders either.
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield lock(handle, wait=False)
    finally:
        os.close(handle)
