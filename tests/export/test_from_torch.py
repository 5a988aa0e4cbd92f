"""Without PyTorch: what is said. tests/acceptance/torch has the way of a module to our runtime."""

import sys

import numpy as np
import pytest
from commands import command

from bireal_keras import export

INSTALL = r"there is no (torch|litert_torch): pip install 'bireal-keras\[torch\]'"


@pytest.fixture
def without_torch(monkeypatch):
    for name in ("litert_torch", "torch"):
        monkeypatch.setitem(sys.modules, name, None)


def test_missing_libraries_name_the_one_command(without_torch, tmp_path):
    for module in (np.zeros(3), "program.pt2"):
        with pytest.raises(ImportError, match=INSTALL):
            export.convert_torch(module, tmp_path / "net.tflite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real_layers": "int4"}, "`real_layers` must be one of float32"),
        ({"path": "none/net.tflite"}, "`path` must be a file in an existing folder"),
        ({"example_inputs": np.zeros((1, 3))}, "`example_inputs` must be None for a program"),
    ],
)
def test_arguments_are_checked_before(arguments, message, without_torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export.convert_torch("program.pt2", **({"path": "net.tflite"} | arguments))


def test_command(repository, tmp_path):
    program = repository / "tests/export/torch_files/program.pt2"
    done = command("export", f"--model={program}", "--npz=net.npz")
    assert done.returncode == 2
    assert "--npz needs a Keras model" in done.stderr
    done = command("export", "--model=net.keras", "--zero_sign=+1")
    assert done.returncode == 1
    assert "There is no net.keras" in done.stderr
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        done = command("export", f"--model={program}", f"--output={tmp_path / 'net.tflite'}")
        assert (done.returncode, done.stdout) == (1, "")
        assert "bireal-export: To convert a PyTorch model takes PyTorch and" in done.stderr
        assert "Traceback" not in done.stderr
