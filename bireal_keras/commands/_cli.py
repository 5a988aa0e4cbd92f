"""What the console commands share: flags, help and errors a person can read.

A command is a module with absl flags, a docstring and a `main`:

    def run() -> None:
        _cli.run("bireal-classify", main, module=__name__, doc=__doc__)
"""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
    line does not parse. An exception becomes one line on stderr, and one more for each of its
    notes (PEP 678); `--verbosity=1` adds the traceback.

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
        except flags.Error as error:
            _fail(command, f"{str(error).rstrip('.')}. See {command} --help.", USAGE_ERROR)

    def guarded(argv: list[str]) -> int:
        try:
            status = main(argv[1:]) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            raise
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

    try:
        sys.exit(app.run(guarded, flags_parser=parse))
    except BrokenPipeError:
        # Whoever reads the output, `head` say, has seen enough. Python would complain once
        # more when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILURE)


def show_log(name: str) -> logging.Logger:
    """Shows on stderr what a package tells of its progress, and returns its logger."""
    log = logging.getLogger(name)
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    return log


def output_path(flag: str, value: str | None) -> Path | None:
    """The file that a flag asks for, checked before any work is done for it.

    Raises:
        ValueError: it cannot be a file.
    """
    path = Path(value) if value else None
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"{flag} must be a file in an existing folder. Received: {path}.")
    return path


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
