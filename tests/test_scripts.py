"""The scripts in benchmarks/ and tools/, which nobody runs for weeks: what they import is there."""

import ast
import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "tools")
    for path in (Path(__file__).parents[1] / folder).rglob("*.py")
)


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from bireal_keras... import name`."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bireal_keras")
        for alias in node.names
    ]


def test_there_are_scripts():
    assert sum(bool(imported(path)) for path in SCRIPTS) > 10


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_it_imports_exists(path):
    for module, name in imported(path):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")
