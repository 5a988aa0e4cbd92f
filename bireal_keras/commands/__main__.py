"""All commands of bireal-keras under one name.

Usage: bireal COMMAND [flags] [ARGUMENTS]

`bireal train` is `bireal-train`, and so on.
"""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import NoReturn

import bireal_keras
from bireal_keras import commands
from bireal_keras._checks import near
from bireal_keras.commands import _cli


def main(argv: list[str]) -> NoReturn:
    """Runs a command in this process, which ends with it."""
    names = _names()
    name, *arguments = argv or ["--help"]
    if name in names:
        sys.argv = [f"bireal-{name}", *arguments]
        importlib.import_module(f"{commands.__name__}.{name}").run()
    if name in ("-h", "-help", "--help", "help"):
        print(_help(names), flush=True)
        sys.exit(0 if argv else _cli.USAGE_ERROR)
    if name in ("-version", "--version"):
        print(f"bireal {bireal_keras.__version__}", flush=True)
        sys.exit(0)
    print(
        f"bireal: there is no command {name}.{near(name, names)} See bireal --help.",
        file=sys.stderr,
    )
    sys.exit(_cli.USAGE_ERROR)


def _names() -> list[str]:
    """The modules of this folder that are commands; setup.py lists them by the same rule."""
    modules = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return sorted(name for name in modules if not name.startswith("_"))


def _help(names: list[str]) -> str:
    summary, usage, *_ = (__doc__ or "").strip().split("\n\n")
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {_summary(name)}" for name in names]
    end = "bireal COMMAND --help says more."
    return "\n\n".join([usage, summary, "\n".join(lines), end])


def _summary(name: str) -> str:
    """The first line of a command's docstring. To import it may take TensorFlow."""
    [folder] = commands.__path__
    doc = ast.get_docstring(ast.parse((Path(folder) / f"{name}.py").read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


def run() -> None:
    """Entry point of the console command."""
    with _cli.reported("bireal"):
        main(sys.argv[1:])


if __name__ == "__main__":
    run()
