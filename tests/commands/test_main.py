"""`bireal`, all commands under one name."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import bireal_keras

BIREAL = Path(sys.executable).with_name("bireal")
SCRIPTS = {
    script.name.removeprefix("bireal-")
    for script in metadata.distribution("bireal-keras").entry_points
    if script.group == "console_scripts" and script.name != "bireal"
}


def bireal(*arguments, program=(BIREAL,)):
    return subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", [(BIREAL,), (sys.executable, "-m", "bireal_keras.commands")])
def test_help_has_a_line_for_each_command(program):
    result = bireal("--help", program=program)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    names, summaries = zip(*(line.split(maxsplit=1) for line in lines), strict=True)
    assert set(names) == SCRIPTS
    assert list(names) == sorted(names)
    assert all(summary.endswith(".") for summary in summaries)
    assert max(map(len, lines)) < 100


def test_help_imports_no_command():
    code = (
        "import sys\n"
        "from bireal_keras.commands import __main__\n"
        "try:\n"
        "    __main__.main(['--help'])\n"
        "except SystemExit:\n"
        "    print(*sys.modules)\n"
    )
    result = bireal(code, program=(sys.executable, "-c"))
    modules = result.stdout.split()
    commands = {f"bireal_keras.commands.{name}" for name in SCRIPTS}
    assert not {*commands, "tensorflow", "ml_collections", "ai_edge_litert"} & set(modules)


def test_is_the_command_of_that_name():
    separate = BIREAL.with_name("bireal-bench")
    for arguments in (["--help"], ["--nonsense"], ["a.tflite", "b.tflite"]):
        one, other = bireal("bench", *arguments), bireal(*arguments, program=(separate,))
        assert (one.returncode, one.stdout, one.stderr) == (
            *(other.returncode, other.stdout, other.stderr),
        )


@pytest.mark.parametrize(
    ("name", "hint"), [("trian", " Near: train."), ("_cli", ""), ("__main__", ""), ("xyz", "")]
)
def test_no_such_command(name, hint):
    result = bireal(name)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"bireal: there is no command {name}.{hint} See bireal --help.\n"


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen([BIREAL, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_alone_and_its_version():
    result = bireal()
    assert (result.returncode, result.stdout) == (2, bireal("--help").stdout)
    assert bireal("--version").stdout == f"bireal {bireal_keras.__version__}\n"
