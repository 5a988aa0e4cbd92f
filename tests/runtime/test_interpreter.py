"""runtime.Interpreter and what bireal-bench prints."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import command
from lce_ops import Bconv2d, Op, Tensor, build_model, pack

from bireal_keras import runtime


@pytest.fixture(scope="module")
def case() -> Bconv2d:
    return Bconv2d(1, 4, 5, 64, 8)


@pytest.fixture(scope="module")
def model(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bconv.tflite"
    path.write_bytes(case.model())
    return path


def test_describes_the_model(model):
    interpreter = runtime.Interpreter(model)
    assert interpreter.input_shape == (1, 4, 5, 2)
    assert interpreter.output_shape == (1, 4, 5, 8)
    assert interpreter.input_dtype == np.int32
    assert interpreter.output_dtype == np.float32


@pytest.mark.parametrize("file_batch", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_predict_takes_any_batch_size(case, file_batch, count):
    inputs = np.random.default_rng(count).choice([-1, 1], (count, 4, 5, 64))
    whole = Bconv2d(file_batch, 4, 5, 64, 8)
    whole.kernel, whole.multiplier, whole.bias = case.kernel, case.multiplier, case.bias
    output = runtime.Interpreter(whole.model(), num_threads=2).predict(pack(inputs))
    assert output.shape == (count, 4, 5, 8)
    for image, result in zip(inputs, output):
        case.inputs = image[None]
        assert result.tobytes() == case.expected().tobytes()


def test_predict_refuses_other_shapes_and_types(case, model):
    interpreter = runtime.Interpreter(model)
    with pytest.raises(ValueError, match=r"shape \(n, 4, 5, 2\)\. Received: \(4, 5, 2\)"):
        interpreter.predict(pack(case.inputs)[0])
    with pytest.raises(ValueError, match=r"must be int32\. Received: dtype float32"):
        interpreter.predict(np.zeros((1, 4, 5, 2), np.float32))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"no model", "not a valid"),
        (bytes(1000), "not a valid"),
        ("truncated", "not a valid"),
    ],
)
def test_a_file_that_is_no_model(case, tmp_path, content, match):
    path = tmp_path / "model.tflite"
    path.write_bytes(case.model()[:400] if content == "truncated" else content)
    with pytest.raises(ValueError, match=match) as info:
        runtime.Interpreter(path)
    assert str(info.value).startswith(f"{path}: ")
    assert "\n" not in str(info.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(OSError, match=r"missing\.tflite"):
        runtime.Interpreter(tmp_path / "missing.tflite")


def test_an_error_of_the_delegate_is_one_line_about_the_file(case, tmp_path):
    broken = Bconv2d(1, 4, 5, 64, 8)
    broken.multiplier = broken.multiplier[:3]
    with pytest.raises(ValueError, match=r"^the model: LceBconv2d \(node 0\): .*3 elements.*$"):
        runtime.Interpreter(broken.model())


def test_bad_settings(model):
    with pytest.raises(ValueError, match=r"`num_threads` must be .* Received: num_threads=0"):
        runtime.Interpreter(model, num_threads=0)
    with pytest.raises(ValueError, match="`kernel` must be one of"):
        runtime.Interpreter(model, kernel="quick")
    with pytest.raises(ValueError, match="`float_ops` must be one of: fastest, delegate, litert"):
        runtime.Interpreter(model, float_ops="quick")


def test_more_than_one_output():
    tensors = [Tensor((1, 64)), Tensor((1, 2), np.int32), Tensor((1, 2), np.int32)]
    ops = [Op("LceQuantize", [0], [1]), Op("LceQuantize", [0], [2])]
    with pytest.raises(ValueError, match=r"one input and one output\. Received: 1 and 2"):
        runtime.Interpreter(build_model(tensors, ops, [0], [1, 2]))


class TestIncompleteInstallations:
    """Whatever is missing, one line says it and what to do."""

    @pytest.fixture
    def library(self, tmp_path, monkeypatch):
        """A copy of the delegate that is loaded in its place."""
        path = tmp_path / "delegate.so"
        path.write_bytes(Path(runtime.delegate_path()).read_bytes())
        monkeypatch.setattr("bireal_keras.runtime.interpreter._LIBRARY", path)
        return path

    @staticmethod
    def message(error_type) -> str:
        with pytest.raises(error_type) as info:
            runtime.load_delegate()
        assert "\n" not in str(info.value)
        return str(info.value)

    def test_no_litert(self, monkeypatch):
        for package in ("ai_edge_litert", "tflite_runtime"):
            monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
        message = self.message(ImportError)
        assert "No LiteRT interpreter is installed: pip install ai-edge-litert" in message
        assert "tflite-runtime, on 32-bit Arm" in message

    def test_no_library(self, library):
        library.unlink()
        message = self.message(FileNotFoundError)
        assert f"library is missing: {library}. Install bireal-keras from a wheel" in message

    @pytest.mark.parametrize(
        ("offset", "content", "machine"),
        [
            (18, b"\x28\x00", "32-bit Arm"),
            (18, b"\xf3\x00", "RISC-V"),
            (18, b"\x02\x01", "another machine (258)"),
            (0, b"MZ", "another system than Linux"),
            (0, b"\xcf\xfa\xed\xfe", "another system than Linux"),
        ],
    )
    def test_a_library_for_another_machine(self, library, offset, content, machine):
        patched = bytearray(library.read_bytes())
        patched[offset : offset + len(content)] = content
        library.write_bytes(patched)
        message = self.message(OSError)
        assert f"library is for {machine}, and this Python is for " in message
        assert f"{library}. Install bireal-keras from a wheel for this platform" in message

    def test_a_damaged_library(self, library):
        library.write_bytes(library.read_bytes()[:40])
        assert f"library cannot be loaded: {library}: " in self.message(OSError)


def test_bench_prints_times_and_threads(model):
    result = command("bench", model, "--num_runs=7", "--num_threads=2")
    assert result.returncode == 0, result.stderr
    assert str(model) in result.stdout
    words = result.stdout.replace(",", "").split()
    assert float(words[words.index("median") + 1]) >= float(words[words.index("min") + 1]) > 0
    assert "7 runs, batch 1, threads: 2" in result.stdout


def test_bench_compares_two_models_and_prints_json(model):
    result = command("bench", f"--graph={model}", f"--compare={model}", "--num_runs=9")
    assert result.returncode == 0, result.stderr
    first, second, ratio = result.stdout.splitlines()
    assert first.startswith(f"{model}: min ")
    assert second.startswith(f"{model}: min ")
    assert 0.2 < float(ratio.split()[2]) < 5  # The same model.

    result = command("bench", model, "--num_runs=9", "--json")
    (figures,) = json.loads(result.stdout)
    assert len(figures["runs_ms"]) == 9
    assert min(figures["runs_ms"]) == figures["min_ms"] <= figures["median_ms"]
    assert np.median(figures["runs_ms"]) == figures["median_ms"]


def test_the_environment_forces_a_kernel(model, monkeypatch):
    monkeypatch.setenv("BIREAL_KERNEL", "quick")
    result = command("bench", model)
    assert result.returncode == 1
    assert "Received: kernel=quick" in result.stderr
    assert command("bench", model, "--num_runs=1", "--kernel=portable").returncode == 1
    monkeypatch.setenv("BIREAL_KERNEL", "portable")
    assert command("bench", model, "--num_runs=1").returncode == 0


@pytest.mark.parametrize(
    ("args", "status", "match"),
    [
        ([], 2, "exactly one model is needed"),
        (["nothing.tflite"], 1, "nothing.tflite"),
        (["nothing.tflite", "--num_threads=0"], 2, "num_threads"),
        (["--colour=red"], 2, "colour"),
    ],
)
def test_bench_errors_are_one_line(args, status, match):
    result = command("bench", *args)
    assert result.returncode == status
    assert match in result.stderr
    assert len(result.stderr.splitlines()) == 1
