"""runtime.Interpreter and what bireal-bench prints."""

import json
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from commands import command
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack

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


def float_model(*shapes, outputs=None, dtype=np.float32):
    """Gives each of its inputs back, times one."""
    tensors = [Tensor(shape, dtype) for shape in shapes]
    tensors += [Tensor(shape, dtype) for shape in outputs or shapes]
    shape_tensors = [constant(np.array(shape, np.int32)) for shape in outputs or shapes]
    count = len(shapes)
    ops = [Op("RESHAPE", [i, 2 * count + i], [count + i]) for i in range(count)]
    tensors += shape_tensors
    return build_model(tensors, ops, list(range(count)), list(range(count, 2 * count)))


class TestValuesThatDoNotFit:
    def refused(self, model, batch, match):
        with pytest.raises(ValueError, match=match):
            runtime.Interpreter(model).predict(batch)

    def test_pixels_into_a_float_model(self):
        """They would be taken for values 255 times as large as the model's."""
        pixels = np.full((1, 4), 200, np.uint8)
        self.refused(float_model((1, 4)), pixels, "uint8. Pixels are normalized by `runtime.class")
        for dtype in (np.int64, np.int8, bool, np.complex64):
            self.refused(float_model((1, 4)), pixels.astype(dtype), "`batch` must be float32")

    @pytest.mark.parametrize(
        ("dtype", "value"),
        [(np.int8, 200), (np.int8, -129), (np.int32, 2**40)],
    )
    def test_integers_that_are_too_large(self, dtype, value):
        model = float_model((1, 2), dtype=dtype)
        message = rf"must fit into {np.dtype(dtype)}\. Received: {value} of int64"
        self.refused(model, np.array([[0, value]]), message)
        limits = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]])
        np.testing.assert_array_equal(runtime.Interpreter(model).predict(limits), limits)

    def test_floats(self):
        interpreter = runtime.Interpreter(float_model((1, 2)))
        np.testing.assert_array_equal(
            interpreter.predict(np.array([[1 / 3, np.inf]])), np.float32([[1 / 3, np.inf]])
        )
        self.refused(float_model((1, 2)), np.array([[0, 1e39]]), r"must fit into float32.*1e\+39")
        self.refused(float_model((1, 2), dtype=np.int32), np.zeros((1, 2)), "must be int32")


class TestSeveralInputsAndOutputs:
    def test_run(self):
        interpreter = runtime.Interpreter(float_model((1, 4), (1, 2, 3)))
        assert [tensor.shape for tensor in interpreter.inputs] == [(1, 4), (1, 2, 3)]
        rng = np.random.default_rng(0)
        arrays = [rng.random((5, 4), np.float32), rng.random((5, 2, 3), np.float32)]
        for array, result in zip(arrays, interpreter.run(arrays), strict=True):
            np.testing.assert_array_equal(array, result)

    def test_predict_and_wrong_numbers_of_arrays(self):
        interpreter = runtime.Interpreter(float_model((1, 4), (1, 3)))
        one, other = np.zeros((2, 4), np.float32), np.zeros((1, 3), np.float32)
        with pytest.raises(ValueError, match=r"one input and one output; `run` .*2 and 2"):
            interpreter.predict(one)
        with pytest.raises(ValueError, match=r"`inputs` must be 2 arrays\. Received: 1"):
            interpreter.run([one])
        with pytest.raises(ValueError, match=r"the same length\. Received: 2, 1"):
            interpreter.run([one, other])

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (1,)])
    def test_a_batch_of_the_files_own_size(self, shape):
        values = np.arange(float(7 * np.prod(shape[1:])), dtype=np.float32)
        values = values.reshape(7, *shape[1:])
        interpreter = runtime.Interpreter(float_model(shape))
        np.testing.assert_array_equal(interpreter.predict(values), values)

    def test_an_output_of_another_batch_is_given_whole(self):
        """It belongs to no single input: nothing is known but the file's own shapes."""
        interpreter = runtime.Interpreter(float_model((2, 6), outputs=[(3, 4)]))
        values = np.arange(12, dtype=np.float32)
        result = interpreter.predict(values.reshape(2, 6))
        np.testing.assert_array_equal(result, values.reshape(3, 4))
        with pytest.raises(ValueError, match=r"the shape \(2, 6\)\. Received: \(4, 6\)"):
            interpreter.predict(np.zeros((4, 6), np.float32))


@pytest.mark.parametrize("shape", [(4, 2), (8, 1), (1, 4)])
def test_an_output_whose_shape_the_model_computes_is_never_cut(shape):
    """Converters write 1 where they do not know: a part would pass for the whole."""
    x = np.arange(np.prod(shape), dtype=np.float32)[np.newaxis]
    tensors = [Tensor(x.shape), constant(np.int32(shape) - 1), constant(np.int32([1, 1]))]
    tensors += [Tensor((2,), np.int32), Tensor((1, shape[1]))]
    ops = [
        Op("ADD", [1, 2], [3], builtin=("AddOptions", schema.AddOptionsT())),
        Op("RESHAPE", [0, 3], [4]),
    ]
    interpreter = runtime.Interpreter(build_model(tensors, ops, [0], [4]))
    if shape[0] == 1:
        np.testing.assert_array_equal(interpreter.predict(x), x)
        return
    message = (
        rf"'tensor4' must have the file's shape, \(1, {shape[1]}\)\. Received .*: \({shape[0]}, "
    )
    with pytest.raises(ValueError, match=message):
        interpreter.predict(x)


def test_threads_share_an_interpreter(case, model):
    """LiteRT's own refuses to be entered twice, or mixes what it is given."""
    interpreter = runtime.Interpreter(model, num_threads=2)
    rng = np.random.default_rng(0)
    inputs = [pack(rng.choice([-1, 1], (3, 4, 5, 64))) for _ in range(8)]
    expected = [interpreter.predict(batch).tobytes() for batch in inputs]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda i: (i, interpreter.predict(inputs[i % 8]).tobytes()), range(400))
        assert all(output == expected[i % 8] for i, output in found)


def test_says_what_it_is(model):
    text = f"Interpreter('{model}': int32 (1, 4, 5, 2) -> float32 (1, 4, 5, 8))"
    assert repr(runtime.Interpreter(model)) == text


def test_is_a_context_manager(case, model):
    with runtime.Interpreter(model) as interpreter:
        assert interpreter.predict(pack(case.inputs)).shape == (1, 4, 5, 8)
    with pytest.raises(ValueError, match=r"bconv\.tflite: the interpreter is closed"):
        interpreter.predict(pack(case.inputs))


def windows_head(machine: int) -> bytes:
    """How a program for Windows begins: MS-DOS, and at 64 the head of COFF."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    return dos + b"PE\0\0" + struct.pack("<H", machine)


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
        package = "ai-edge-litert" if sys.maxsize > 2**32 else "tflite-runtime"
        assert message == f"No LiteRT interpreter is installed: pip install {package}."

    @pytest.mark.parametrize(
        ("version", "remedy"),
        [
            ((3, 11, 2), "pip install tflite-runtime."),
            ((3, 13, 5), "there is none for a 32-bit Python 3.13. Take the 64-bit system,"),
        ],
    )
    def test_no_litert_on_32_bits(self, monkeypatch, version, remedy):
        for package in ("ai_edge_litert", "tflite_runtime"):
            monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
        monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
        monkeypatch.setattr(sys, "version_info", version)
        assert f"No LiteRT interpreter is installed: {remedy}" in self.message(ImportError)

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
            (0, windows_head(0x8664), "x86_64 Windows"),
            (0, windows_head(0xAA64), "64-bit Arm Windows"),
            (0, b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01", "64-bit Arm macOS"),
            (0, b"\xcf\xfa\xed\xfe\x07\x00\x00\x01", "x86_64 macOS"),
            (0, b"MZ" + bytes(58) + b"\xff" * 4, "an unknown system"),
            (0, b"text", "an unknown system"),
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


def test_bench_takes_the_example_by_its_name(model):
    result = command("bench", "cifar10", f"--compare={model}", "--num_runs=3")
    assert (result.returncode, result.stderr) == (0, "")
    first, second, ratio = result.stdout.splitlines()
    assert first.startswith("cifar10: min ")
    assert second.startswith(f"{model}: min ")
    assert ratio.startswith(f"{model} takes ")


def test_bench_compares_two_models_and_prints_json(model):
    result = command("bench", f"--graph={model}", f"--compare={model}", "--num_runs=9")
    assert result.returncode == 0, result.stderr
    first, second, ratio = result.stdout.splitlines()
    assert first.startswith(f"{model}: min ")
    assert second.startswith(f"{model}: min ")
    assert 0.2 < float(ratio.split()[2]) < 5  # It is the same model.

    result = command("bench", model, "--num_runs=9", "--json")
    (figures,) = json.loads(result.stdout)
    assert len(figures["runs_ms"]) == 9
    assert min(figures["runs_ms"]) == figures["min_ms"] <= figures["median_ms"]
    assert np.median(figures["runs_ms"]) == figures["median_ms"]


def test_the_environment_forces_a_kernel(model, monkeypatch):
    monkeypatch.setenv("BIREAL_KERNEL", "quick")
    result = command("bench", model)
    assert result.returncode == 1
    assert "BIREAL_KERNEL must be one of: " in result.stderr
    assert "Received: BIREAL_KERNEL=quick" in result.stderr
    assert command("bench", model, "--num_runs=1", "--kernel=portable").returncode == 0
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
