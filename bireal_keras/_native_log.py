"""What C++ code writes to stderr: kept off the screen, and at hand when something fails."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

_STDERR = 2


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Catches what the process writes to file descriptor 2 while the block runs.

    TensorFlow and Larq Compute Engine log from C++, where `sys.stderr` does not reach,
    and give the reason of a failure only there.

    Yields:
        A function that returns the lines about errors written so far, as one line.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        screen = os.dup(_STDERR)
        os.dup2(log.fileno(), _STDERR)

        def errors() -> str:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            return " ".join(line.strip() for line in lines if "error" in line.lower())

        try:
            yield errors
        finally:
            sys.stderr.flush()
            os.dup2(screen, _STDERR)
            os.close(screen)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """As `captured`; if the block fails, the lines about errors are printed."""
    lines = ""
    try:
        with captured() as errors:
            try:
                yield
            except Exception:
                lines = errors()
                raise
    except Exception:
        if lines:
            print(lines, file=sys.stderr)
        raise
