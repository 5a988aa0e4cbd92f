"""What several parts check in the same way, and hints at what may have been meant."""

import difflib
from collections.abc import Iterable
from typing import Any


def is_share(value: Any) -> bool:
    """Whether this is a number in (0, 1]."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def check_share(**arguments: Any) -> None:
    """Raises a ValueError naming the first argument that is not a number in (0, 1]."""
    for name, value in arguments.items():
        if not is_share(value):
            raise ValueError(f"`{name}` must be a number in (0, 1]. Received: {name}={value!r}.")


def near(name: str, known: Iterable[str]) -> str:
    """The known names closest to a mistyped one, as " Near: cifar10."; "" if none is close."""
    close = difflib.get_close_matches(name, list(known))
    return f" Near: {', '.join(close)}." if close else ""
