"""A C++ program loads the delegate as benchmark_model does, and computes what Python computes."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from lce_ops import Bconv2d, pack

from bireal_keras import runtime

PROGRAM = Path(__file__).parents[3] / "_build/c_api/run_model"
CASE = Bconv2d(1, 7, 9, 96, 40)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "bconv.tflite"
    path.write_bytes(CASE.model())
    return path


def run_model(*args, inputs: bytes = pack(CASE.inputs).tobytes()) -> subprocess.CompletedProcess:
    return subprocess.run(
        [PROGRAM, *map(str, args)], input=inputs, capture_output=True, check=False
    )


@pytest.mark.parametrize("options", [[], ["num_threads:2"], ["num_threads:4;kernel:portable"]])
def test_output(model, options):
    result = run_model(model, runtime.delegate_path(), *options)
    assert result.returncode == 0, result.stderr
    output = np.frombuffer(result.stdout, np.float32).reshape(1, 7, 9, 40)
    assert output.tobytes() == CASE.expected().tobytes()


def test_the_options_reach_the_delegate(model, tmp_path):
    profile = tmp_path / "profile.csv"
    options = f"verbose:1;kernel:portable;profile:{profile}"
    result = run_model(model, runtime.delegate_path(), options)
    assert b"1 of 1 nodes, kernel portable, 1 threads" in result.stderr
    assert "LceBconv2d (node 0)" in profile.read_text()

    result = run_model(model, runtime.delegate_path(), "num_threads:many")
    assert result.returncode == 1
    assert b"`num_threads` must be an integer from 1 to 64" in result.stderr


def test_bad_input_is_one_line(model, tmp_path):
    for args, inputs, message in [
        ([model], b"", b"usage: run_model"),
        ([tmp_path / "none.tflite", runtime.delegate_path()], b"", b"the model cannot be read"),
        ([model, tmp_path / "none.so"], b"", b"the delegate cannot be loaded, or not run"),
        ([model, runtime.delegate_path()], b"short", b"the input is too short"),
    ]:
        result = run_model(*args, inputs=inputs)
        assert result.returncode == 1
        assert message in result.stderr.splitlines()[-1]
