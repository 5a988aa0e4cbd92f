"""What every console command does with help, bad flags and errors, in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import command

import bireal_keras
from bireal_keras.commands import _cli

SCRIPT = '''
"""Counts sheep.

Usage: sheep [flags] [NAME ...]
"""

from absl import app, flags

from bireal_keras.commands import _cli

_COUNT = flags.DEFINE_integer("count", 3, "How many sheep.", lower_bound=1)
_LOUD = flags.DEFINE_bool("loud", False, "Whether to shout.")
_FIELD = _cli.define_path("field", None, "Where they graze.")


def main(args):
    if not args:
        raise app.UsageError("a name is needed.")
    if args[0] == "fails":
        raise ValueError("no wolf\\n  allowed")
    if args[0] == "noted":
        error = ValueError("two wolves:")
        error.__notes__ = ["the black\\n one", "the grey one"]
        raise error
    if args[0] == "silent":
        raise RuntimeError
    if args[0] == "interrupted":
        raise KeyboardInterrupt
    if args[0] == "status":
        return 7
    if args[0] == "where":
        print(_FIELD.value)
        return 0
    print(_COUNT.value, _LOUD.value, *args)


if __name__ == "__main__":
    _cli.run("sheep", main, module=__name__, doc=__doc__)
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("bin") / "sheep.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def sheep(script):
    """Runs the command: arguments -> (exit status, standard output, standard error)."""

    def run(*args):
        result = subprocess.run(
            [sys.executable, script, *args], capture_output=True, text=True, timeout=60
        )
        return result.returncode, result.stdout, result.stderr

    return run


def test_runs(sheep):
    assert sheep("dolly") == (0, "3 False dolly\n", "")
    assert sheep("--count=5", "dolly", "--loud", "polly") == (0, "5 True dolly polly\n", "")


def test_exit_status_of_main(sheep):
    assert sheep("status") == (7, "", "")


@pytest.mark.parametrize("flag", ["--help", "-help", "-h", "-?"])
def test_help_lists_the_flags(sheep, flag):
    status, out, err = sheep(flag)
    assert (status, err) == (0, "")
    assert out.startswith("Usage: sheep [flags] [NAME ...]\n\nCounts sheep.\n\nflags:\n")
    assert "--count: How many sheep." in out
    assert "(default: '3')" in out
    assert "--[no]loud: Whether to shout." in out
    assert "--verbosity" in out
    assert "--version" in out
    assert "--field: Where they graze." in out
    # The dozens of flags that absl itself defines are not there.
    assert "--alsologtostderr" not in out


@pytest.mark.slow
def test_every_command_has_a_version_and_a_usage_line():
    for path in sorted(Path(_cli.__file__).parent.glob("[a-z]*.py")):
        result = command(path.stem, "--version")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"bireal-{path.stem} {bireal_keras.__version__}\n"
        result = command(path.stem, "--help")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"Usage: bireal-{path.stem} ")


def test_help_lists_the_kernels(repository):
    """Those that the delegate's own message names, on every kind of machine."""
    source = (repository / "delegate/kernels/dispatch.cc").read_text()
    lists = re.findall(r'return "([\w, ]+)";', source)
    assert len(lists) == 3
    text = " ".join(command("bench", "--help").stdout.split())
    kernels = re.search("kernels for one instruction set: (.*?); default", text)[1]
    named = set(re.findall(r"\w+", kernels))
    assert {name for names in lists for name in names.split(", ")} <= named


@pytest.mark.parametrize("arguments", [["--field=~/grass"], ["--field", "~/grass"]])
def test_a_path_in_the_home_folder(sheep, monkeypatch, arguments):
    monkeypatch.setenv("HOME", "/home/shepherd")
    assert sheep(*arguments, "where") == (0, "/home/shepherd/grass\n", "")
    assert sheep("where") == (0, "None\n", "")


def test_help_as_an_argument_is_an_argument(sheep):
    assert sheep("--", "--help") == (0, "3 False --help\n", "")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--sheep=3"], "Unknown command line flag 'sheep'"),
        (["--cuont=3"], "Did you mean: count ?"),
        (["--count=many"], "flag --count=many"),
        (["--count=0"], "flag --count=0"),
        (["--count"], "Missing value for flag --count"),
        ([f"--flagfile={sys.executable}"], "codec can't decode byte"),
        (["--stderrthreshold=loud", "dolly"], "--stderrthreshold must be one of"),
        ([], "a name is needed"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(sheep, args, reason):
    status, out, err = sheep(*args)
    assert (status, out) == (2, "")
    assert err.startswith("sheep: ")
    assert reason in err
    assert err.endswith(". See sheep --help.\n")
    assert err.count("\n") == 1


def test_an_error_is_one_line_and_status_1(sheep):
    assert sheep("fails") == (1, "", "sheep: no wolf allowed\n")
    assert sheep("silent") == (1, "", "sheep: RuntimeError\n")


def test_notes_of_an_error_are_a_line_each(sheep):
    assert sheep("noted") == (1, "", "sheep: two wolves:\n  the black one\n  the grey one\n")


def test_interrupt(sheep):
    assert sheep("interrupted") == (130, "", "sheep: interrupted.\n")


def test_verbosity_adds_the_traceback(sheep):
    status, out, err = sheep("--verbosity=1", "fails")
    assert (status, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("sheep: no wolf allowed\n")


@pytest.mark.parametrize("argument", ["--help", "dolly"])
def test_a_reader_that_leaves_early_is_no_error(script, argument):
    """As in `sheep --help | head -1`."""
    process = subprocess.Popen(
        [sys.executable, script, argument], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("argument", ["--help", "--version", "dolly"])
def test_output_that_cannot_be_written_is_one_line(script, argument):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, script, argument], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 1
    assert result.stderr == "sheep: [Errno 28] No space left on device\n"


class TestOutputPath:
    """What a flag names is written, and nothing else is lost by it."""

    @pytest.mark.parametrize(
        ("kind", "content", "may"),
        [
            (_cli.JSON, b'{"a": 1}', True),
            (_cli.JSON, b" \n [", True),
            (_cli.JSON, b"", True),
            (_cli.JSON, b"\x1c\0\0\0TFL3", False),
            (_cli.JSON, b"PK\x03\x04", False),
            (_cli.JSON, b"\xff\xd8\xff\xe0", False),
            (_cli.JSON, b"red\ngreen\n", False),
            (_cli.TFLITE, b"\n\0\0\0TFL3", True),
            (_cli.TFLITE, b"", True),
            (_cli.TFLITE, b"TFL3", False),
            (_cli.TFLITE, b"PK\x03\x04", False),
            (_cli.TFLITE, b"\x89HDF\r\n\x1a\n", False),
            (_cli.NPZ, b"PK\x03\x04", True),
            (_cli.NPZ, b"\x1c\0\0\0TFL3", False),
            (_cli.NPZ, b"\x89HDF\r\n\x1a\n", False),
        ],
    )
    def test_replaces_its_own_kind_only(self, kind, content, may, tmp_path):
        path = tmp_path / "result"
        assert _cli.output_path("--out", str(path), kind, others=()) == path
        path.write_bytes(content)
        if may:
            assert _cli.output_path("--out", str(path), kind, others=()) == path
            return
        with pytest.raises(ValueError, match=rf"a new file, or {kind.name} to replace\. Received"):
            _cli.output_path("--out", str(path), kind, others=())

    def test_no_other_file_of_the_command(self, tmp_path):
        """Under whatever name, and whether it is there or not."""
        model = tmp_path / "model"
        (tmp_path / "link").symlink_to(model)
        others = [None, tmp_path / "something", model]
        for _ in range(2):
            for name in (model, tmp_path / "link", tmp_path / ".." / tmp_path.name / "model"):
                with pytest.raises(ValueError, match="--out must be another file than those"):
                    _cli.output_path("--out", name, _cli.JSON, others=others)
            model.write_text("{}")

    def test_in_a_folder_that_exists(self, tmp_path):
        for path in (tmp_path, tmp_path / "none" / "result"):
            with pytest.raises(ValueError, match=f"--out must be a file in .*Received: {path}"):
                _cli.output_path("--out", str(path), _cli.JSON, others=())
        assert _cli.output_path("--out", None, _cli.JSON, others=()) is None
