"""Running a command as a user does."""

import subprocess
import sys


def command(name: str, *args) -> subprocess.CompletedProcess:
    """Runs `bireal-<name>` with these arguments in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"from bireal_keras.commands import {name}; {name}.run()"]
        + [str(arg) for arg in args],
        capture_output=True,
        text=True,
        check=False,
    )
