"""Writing a file whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields another name in the folder of `path`; the file written there becomes `path`.

    It is on the disk before it is renamed. So whoever reads `path`, also after a crash or on a
    full disk, finds the old file or the new one. An exception leaves the old one.

    The name keeps the suffix, by which Keras chooses a format. A link stays, and the file that
    it points to is replaced. A pipe or a device, such as /dev/stdout, cannot be replaced and is
    written to as it is.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    # The number of the process, since another one may be writing the same file.
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file, text in UTF-8, as `replacing` does.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
