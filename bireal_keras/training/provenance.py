"""Where the figures of a run come from: versions of software, and the state of our source tree."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import bireal_keras
from bireal_keras._keras import lq, tf


def versions() -> dict[str, str]:
    """The versions of everything that the figures of a run depend on."""
    return {
        "bireal_keras": bireal_keras.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": importlib.metadata.version("tf_keras"),
        "larq": lq.__version__,
        "numpy": np.__version__,
    }


def git_state() -> dict[str, Any] | None:
    """Revision of this package's source tree, or None where that is not in a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # Installed into a virtual environment inside someone's project, it is not theirs.
        git("ls-files", "--error-unmatch", "__init__.py")
        status = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(status)}
    except (OSError, subprocess.CalledProcessError):
        return None
