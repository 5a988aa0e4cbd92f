"""The files of a training run but its checkpoints: what was run, and what came out."""

import csv
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import bireal_keras
from bireal_keras._keras import lq, tf


def check_output_dir(run_dir: Path, resume: bool) -> None:
    """Raises a ValueError unless a run can start, or be resumed, in this folder."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"`output_dir` is not a folder: {run_dir}.")
    is_run = (run_dir / "config.json").is_file()
    if resume and not is_run:
        raise ValueError(f"`output_dir` holds no run to resume: {run_dir}.")
    if not resume and is_run:
        raise ValueError(
            f"`output_dir` holds a run already: {run_dir}. Resume it, or choose another folder."
        )
    if not resume and run_dir.is_dir() and any(run_dir.iterdir()):
        raise ValueError(f"`output_dir` is not empty: {run_dir}.")


def check_same_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Raises a ValueError unless config.json describes this very run."""
    path = run_dir / "config.json"
    try:
        before = _flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    now = _flatten(json.loads(to_json(description)))
    for field in sorted({*before, *now}):
        if before.get(field) != now.get(field):
            raise ValueError(
                f"The run in {run_dir} was started with {field}={before.get(field)!r}, it "
                f"cannot be resumed with {field}={now.get(field)!r}."
            )


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": [{"c": 1}]}} as {"a.b[0].c": 1}."""
    flat = {}
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{name}."))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                flat.update(_flatten(item, f"{name}[{index}]."))
        else:
            flat[name] = value
    return flat


def keep_epochs(log: Path, epochs: int) -> None:
    """Drops from log.csv what came after the checkpoint: it will be trained again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        write(log, "".join(lines[: epochs + 1] if epochs else []))


def read_log(log: Path) -> list[dict[str, str]]:
    """The rows of log.csv; none where it is gone."""
    if not log.exists():
        return []
    with log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def versions() -> dict[str, str]:
    """Of everything that the numbers of a run depend on."""
    return {
        "bireal_keras": bireal_keras.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": importlib.metadata.version("tf_keras"),
        "larq": lq.__version__,
        "numpy": np.__version__,
    }


def git_state() -> dict[str, Any] | None:
    """Revision of this package's source tree, or None where it is in no repository."""

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
