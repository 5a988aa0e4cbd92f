"""What the console commands share: flags, help and errors a person can read.

A command is a module with absl flags, a docstring and a `main`:

    def run() -> None:
        _cli.run("bireal-classify", main, module=__name__, doc=__doc__)
"""

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import app, flags
from absl import logging as absl_logging

import bireal_keras

USAGE_ERROR = 2
FAILURE = 1

# What is defined here is the calling module's flag, and so the command's --help lists it.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser):
    """The shell expands ~ at the beginning of a word only, and not in --flag=~/file."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


def define_path(name: str, default: str | None, text: str, **options: Any) -> flags.FlagHolder:
    """Defines a flag that is a path, in which ~ stands for the home folder."""
    return flags.DEFINE(_PathParser(), name, default, text, **options)


@contextlib.contextmanager
def imports(command: str) -> Iterator[None]:
    """Around imports that only a complete installation has: what lacks becomes one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        install = "pip install 'bireal-keras[tensorflow]'"
        _fail(command, f"needs the Python package {error.name}: {install}.", FAILURE)
    except ImportError as error:
        _fail(command, str(error), FAILURE)


def run(
    command: str, main: Callable[[list[str]], int | None], *, module: str, doc: str | None
) -> NoReturn:
    """Parses the flags of `module`, calls `main` and exits.

    Exit status: what `main` returns (None is 0), 1 after an exception, 2 when the command
    line does not parse. See `reported` for what becomes of an exception.

    Args:
        command: name shown in messages.
        main: takes the positional arguments.
        module: `__name__` of the module that defines the flags.
        doc: printed by `--help` above the flags, the paragraph that starts with "Usage:"
            first.
    """

    def parse(argv: list[str]) -> list[str]:
        # absl's own --help lists the flags of __main__, which for an installed command is
        # a generated script without any, and exits with 1.
        options = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
        if {"-h", "-help", "--help", "-?"} & set(options):
            print(f"{_help(command, doc)}\n\nflags:\n{_flag_help(module)}", flush=True)
            sys.exit(0)
        if {"-version", "--version"} & set(options):
            print(f"{command} {bireal_keras.__version__}", flush=True)
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        # A --flagfile that is not text, or a value that absl's own flags take apart late.
        except (flags.Error, ValueError) as error:
            raise app.UsageError(str(error)) from error

    def guarded(argv: list[str]) -> int:
        # absl would print its own text of a UsageError.
        with reported(command):
            status = main(argv[1:]) or 0
            sys.stdout.flush()
            return status

    with reported(command):
        sys.exit(app.run(guarded, flags_parser=parse))


@contextlib.contextmanager
def reported(command: str) -> Iterator[None]:
    """Around all that a command does: an exception ends it as a person expects.

    It becomes one line on stderr, and one more for each of its notes (PEP 678); `--verbosity=1`
    adds the traceback.
    """
    try:
        yield
    except BrokenPipeError:
        # Whoever reads the output, `head` say, has seen enough.
        _forget_output()
        sys.exit(FAILURE)
    except KeyboardInterrupt:
        _fail(command, "interrupted.", 130)
    except app.UsageError as error:
        _fail(command, f"{str(error).rstrip('.')}. See {command} --help.", USAGE_ERROR)
    except Exception as error:
        if absl_logging.get_verbosity() >= absl_logging.DEBUG:
            traceback.print_exc()
        _fail(
            command,
            str(error) or type(error).__name__,
            FAILURE,
            notes=getattr(error, "__notes__", ()),
        )


def _forget_output() -> None:
    """Python would complain once more when it flushes on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_log(name: str) -> logging.Logger:
    """Shows on stderr what a package tells of its progress, and returns its logger."""
    log = logging.getLogger(name)
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    return log


class Kind(NamedTuple):
    """What a command writes: how a message calls it, and how such a file begins."""

    name: str
    beginning: re.Pattern[bytes]


JSON = Kind("JSON", re.compile(rb"\s*[\[{]"))
TFLITE = Kind("a .tflite file", re.compile(rb"....TFL3", re.DOTALL))
NPZ = Kind("an .npz file", re.compile(rb"PK\x03\x04"))


def output_path(
    flag: str, value: str | os.PathLike[str] | None, kind: Kind, *, others: Iterable[Path | None]
) -> Path | None:
    """The file that a flag asks for, checked before any work is done for it.

    Args:
        flag: its name, for messages.
        value: the flag's.
        kind: what will be written. It replaces nothing of another kind, such as a photo.
        others: what the command reads or writes besides, each of which may be None.

    Raises:
        ValueError: it cannot be a file, or would replace something else.
    """
    if not value:
        return None
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{flag} must be a file in an existing folder. Received: {path}.")
    if any(other is not None and _is_same_file(path, other) for other in others):
        raise ValueError(
            f"{flag} must be another file than those that are read or written besides. "
            f"Received: {path}."
        )
    if path.is_file():
        with path.open("rb") as file:
            beginning = file.read(64)
        if beginning and not kind.beginning.match(beginning):
            raise ValueError(
                f"{flag} must be a new file, or {kind.name} to replace. Received: {path}, which is "
                "of another kind."
            )
    return path


def _is_same_file(a: Path, b: Path) -> bool:
    if a.exists() and b.exists():
        return a.samefile(b)
    return os.path.realpath(a) == os.path.realpath(b)


def _help(command: str, doc: str | None) -> str:
    paragraphs = (doc or "").strip().split("\n\n")
    usage = [text for text in paragraphs if text.startswith("Usage:")]
    others = [text for text in paragraphs if text not in usage]
    return "\n\n".join([*(usage or [f"Usage: {command} [flags]"]), *others])


def _flag_help(module: str) -> str:
    if module == "__main__":  # python -m: absl knows the module by the command's name.
        module = sys.argv[0]
    known = flags.FLAGS.flags_by_module_dict()
    own = [flag for flag in known.get(module, []) if flag.help is not None]
    lines = [flags.FLAGS.module_help(module).strip()] if own else []
    lines.append(
        "  --verbosity: 1 shows where in the program an error came from.\n    (default: 0)\n"
        "  --version: Print the version, and do nothing else."
    )
    return "\n".join(lines)


def _fail(command: str, message: str, status: int, *, notes: Sequence[str] = ()) -> NoReturn:
    for line, prefix in [(message, f"{command}: "), *((note, "  ") for note in notes)]:
        print(prefix + " ".join(line.split()), file=sys.stderr)
    sys.exit(status)
