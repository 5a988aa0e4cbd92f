"""bireal-cost as a person runs it."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from export_helpers import birealnet, build
from lce_ops import Bconv2d

from bireal_keras import cost, runtime

COMMAND = Path(sysconfig.get_path("scripts")) / "bireal-cost"


def run(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bconv.tflite"
    path.write_bytes(Bconv2d(1, 5, 7, 64, 8).model())
    return path


def test_tflite_needs_no_tensorflow(tflite):
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tf_keras', 'larq'):\n"
        "    sys.modules[name] = None\n"
        "from bireal_keras.commands import cost\n"
        "cost.run()\n"
    )
    result = subprocess.run([sys.executable, "-c", code, tflite], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{cost.of_tflite(tflite)}\n"


def test_the_example_by_its_name():
    result = run("cifar10")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{cost.of_tflite(runtime.example_model())}\n"


def test_json(tflite):
    result = run(tflite, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == cost.of_tflite(tflite).as_dict()


@pytest.mark.slow
def test_folder_of_a_run(tmp_path):
    model = build(birealnet)
    model.save(tmp_path / "model.keras")
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{cost.of_model(model)}\n"


@pytest.mark.slow
def test_model_of_the_zoo():
    result = run("BiRealNet18", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["total"]["flops"] == pytest.approx(1.63e8, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "exactly one model is needed. Received: 0. See bireal-cost --help."),
        (["BiRealNet"], 1, "MODEL must be a file, .* Received: BiRealNet\\. Near: BiRealNet50, .*"),
        (["missing.tflite"], 1, ".*missing.tflite.*"),
        (["x.tflite", "--input_shape=2,2,3"], 2, "a .tflite file has its own .*"),
        (["BiRealNet18", "--input_shape=2,a,3"], 2, "--input_shape must be whole numbers.*"),
        (["BiRealNet18", "--input_shape=-1,5,3"], 2, "--input_shape must .* Received: '-1,5,3'.*"),
        (["BiRealNet18", "--input_shape="], 2, "--input_shape must be whole numbers.*"),
        (["cifar"], 1, "MODEL must be a file, a folder, cifar10 or .* Near: cifar10."),
    ],
)
def test_errors_are_one_line(arguments, status, message):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert re.fullmatch(f"bireal-cost: {message}\n", result.stderr), result.stderr
