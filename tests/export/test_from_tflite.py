"""From a float `.tflite` file to a checked file of bits, and every reason not to write one."""

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from export_helpers import edit, operators
from float_file import VALID, FloatFile, binary_kernel, convolve, run, same_sides
from lce_layers import randomize, saved_and_converted, stock

from bireal_keras import export, runtime
from bireal_keras.export import from_tflite
from bireal_keras.export.real_layers import compact
from bireal_keras.runtime import Metadata, Normalization, read_metadata
from bireal_keras.tflite.labels import read_labels
from bireal_keras.tflite.metadata_writer import embed

SIZE = 32
LABELS = tuple(f"class {index}" for index in range(10))
SIDES = (same_sides(6, 3), same_sides(6, 3))


@pytest.fixture(scope="module")
def birealnet18():
    """A small BiRealNet18 and what TensorFlow's converter makes of it."""
    from bireal_keras import zoo

    model = zoo.BiRealNet18(input_shape=(SIZE, SIZE, 3), num_classes=10, width=8, weights=None)
    randomize(model)
    return model, saved_and_converted(model, [stock])[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "binary.tflite"


def images(count=16, shape=(SIZE, SIZE, 3)):
    return np.random.default_rng(3).normal(size=(count, *shape)).astype(np.float32)


def two_layers(*, sign="larq_sign", kernel=None, batch=1):
    """A file of a 1x1 stem, a sign and a 1-bit convolution."""
    rng = np.random.default_rng(0)
    kernel = binary_kernel(rng, (8, 3, 3, 32)) if kernel is None else kernel
    file = FloatFile()
    x = file.conv(file.input((batch, 6, 6, 4)), rng.normal(size=(32, 1, 1, 4)))
    signs = file.larq_sign(x) if sign == "larq_sign" else file.op(sign, x)
    return file.build(file.conv(signs, kernel))


@pytest.mark.slow
def test_birealnet18_is_what_keras_computes(birealnet18, path):
    model, content = birealnet18
    report = export.convert_tflite(content, path, labels=LABELS)
    assert (report.binary_convolutions, report.float_convolutions) == (16, 4)
    x = images()
    # Logarithms: softmax would hide differences.
    expected = np.log(model(x, training=False).numpy())
    assert expected.std(axis=0).mean() > 0.1
    actual = np.log(runtime.Interpreter(path).predict(x))
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.slow
def test_birealnet18_is_what_lce_makes_of_it(birealnet18, path):
    lce = pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")
    model, content = birealnet18
    export.convert_tflite(content, path)
    [theirs] = saved_and_converted(model, [lce.convert_saved_model])
    assert Counter(operators(path.read_bytes())) == Counter(operators(theirs))
    x = images()
    on_lce = np.log(lce.testing.Interpreter(theirs, use_reference_bconv=True).predict(x))
    actual = np.log(runtime.Interpreter(path).predict(x))
    np.testing.assert_allclose(actual, on_lce, atol=1e-3)


def test_report(birealnet18, path):
    _, content = birealnet18
    report = export.convert_tflite(content, path)
    assert report.path == str(path)
    assert report.size_bytes == path.stat().st_size < len(content) / 8
    assert report.float_size_bytes == len(content)
    assert report.samples == 32
    assert report.close_samples >= 24
    assert report.top1_agreement >= 0.75
    # 3x3 filters of 4 layers for each width, the first of the last three on half the channels.
    assert report.binary_total.weights == 9 * sum(
        [4 * 8 * 8, 8 * 16 + 3 * 16 * 16, 16 * 32 + 3 * 32 * 32, 32 * 64 + 3 * 64 * 64]
    )
    assert report.binary_total.layers == 16
    # The stem, three shortcuts and the classifier.
    assert [layer.kind for layer in report.layers if not layer.binary].count("CONV_2D") == 4
    assert report.layers[-1].kind == "FULLY_CONNECTED"
    assert {layer.reason for layer in report.layers} == {"", "real"}
    assert list(report.latency_ms) == ["float32"]
    assert json.loads(json.dumps(report.as_dict()))["source"] == "the float file"
    text = str(report)
    assert f"times smaller than the float file ({len(content):,} bytes)" in text
    assert "16 bit-packed (16 with 1-bit quantizers in the float file), 4 in float32" in text
    assert "against the float file, given the same signs before: " in text
    assert "images: symmetric, assumed" in text


def test_same_file_gives_the_same_bytes(birealnet18, path, tmp_path):
    _, content = birealnet18
    path.write_bytes(b"an older file, to be replaced")
    export.convert_tflite(content, path)
    float_file = tmp_path / "model.tflite"
    float_file.write_bytes(content)
    again = tmp_path / "again.tflite"
    export.convert_tflite(float_file, again)
    assert again.read_bytes() == path.read_bytes()
    assert float_file.read_bytes() == content


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_compact_real_layers(precision, birealnet18, path, tmp_path):
    _, content = birealnet18
    samples = images(32)
    report = export.convert_tflite(content, path, real_layers=precision, samples=samples)
    export.convert_tflite(content, tmp_path / "float32.tflite")
    float32 = (tmp_path / "float32.tflite").read_bytes()
    assert operators(path.read_bytes()) == operators(compact(float32, precision))
    assert report.size_bytes < len(float32)
    files = float32, path.read_bytes()
    expected, actual = (runtime.Interpreter(one).predict(samples).argmax(axis=1) for one in files)
    assert report.float32_agreement == np.mean(expected == actual)
    assert list(report.latency_ms) == ["float32", precision]


def test_what_the_images_are_travels_inside_the_file(birealnet18, path):
    _, content = birealnet18
    raw = Normalization((0,), (1,))
    export.convert_tflite(content, path, labels=LABELS, normalization=raw, center_crop=0.5)
    assert read_metadata(path) == Metadata(LABELS, (SIZE, SIZE), raw, 0.5)
    assert read_labels(path) == list(LABELS)


def test_what_the_float_file_says_is_kept(birealnet18, path):
    _, content = birealnet18
    unit = Normalization((0,), (255,))
    said = Metadata(LABELS, (SIZE, SIZE), unit, 0.875)
    content = embed(content, said, name="float")
    report = export.convert_tflite(content, path)
    assert read_metadata(path) == said
    assert report.images == "unit, by the float file"
    others = LABELS[::-1]
    export.convert_tflite(content, path, labels=others, center_crop=1)
    assert read_metadata(path) == Metadata(others, (SIZE, SIZE), unit, 1.0)


def test_several_inputs_and_outputs(path):
    """Against the convolutions, in NumPy."""
    rng = np.random.default_rng(0)
    kernels = [binary_kernel(rng, (8, 3, 3, 32)), binary_kernel(rng, (4, 3, 3, 32))]
    file = FloatFile()
    first, second = file.input((1, 6, 6, 32)), file.input((1, 6, 6, 32))
    total = file.op("ADD", first, second)
    outputs = [file.conv(file.larq_sign(x), k) for x, k in zip((total, second), kernels)]
    content = file.build(*outputs)
    report = export.convert_tflite(content, path)
    assert report.binary_convolutions == report.intended_binary_convolutions == 2
    assert report.top1_agreement is None
    x, y = (rng.normal(size=(1, 6, 6, 32)).astype(np.float32) for _ in range(2))
    results = run(path.read_bytes(), x, y, delegate=True)
    for result, values, kernel in zip(results, (x + y, y), kernels):
        expected = convolve(np.where(values >= 0, 1, -1), kernel, sides=SIDES)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("real_layers", ["float32", "int8"])
def test_output_without_any_axis(real_layers, path):
    """The mean of all values: one number for each run, whatever the batch."""
    rng = np.random.default_rng(0)
    file = FloatFile()
    x = file.conv(file.input((1, 6, 6, 4)), rng.normal(size=(32, 1, 1, 4)))
    x = file.conv(file.larq_sign(x), binary_kernel(rng, (8, 3, 3, 32)))
    axes = file.constant([0, 1, 2, 3], np.int32)
    content = file.build(file.op("MEAN", x, axes, shape=()))
    report = export.convert_tflite(content, path, real_layers=real_layers)
    assert (report.binary_convolutions, report.samples) == (1, 32)
    x = images(1, (6, 6, 4))
    [expected], [actual] = run(content, x), run(path.read_bytes(), x, delegate=True)
    assert actual.shape == ()
    # Rounding of the stem to int8 may turn a few signs.
    np.testing.assert_allclose(actual, expected, atol=1e-4 if real_layers == "float32" else 1)


def test_fixed_batch(path):
    content = two_layers(batch=3)
    assert export.convert_tflite(content, path).samples == 33
    x = images(3, (6, 6, 4))
    [expected], [actual] = run(content, x), run(path.read_bytes(), x, delegate=True)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    with pytest.raises(ValueError, match=r"`samples` must be .* a multiple of 3, of \(6, 6, 4\)"):
        export.convert_tflite(content, path, samples=images(8, (6, 6, 4)))


def test_samples_of_the_caller(path):
    assert export.convert_tflite(two_layers(), path, samples=images(9, (6, 6, 4))).samples == 9
    with pytest.raises(ValueError, match=r"`samples` must be at least 8 images of \(6, 6, 4\)"):
        export.convert_tflite(two_layers(), path, samples=images(7, (6, 6, 4)))


def test_layers_that_stay_float_are_named_with_their_reasons(path):
    path.write_bytes(b"older file")
    content = two_layers(sign="SIGN")
    message = (
        r"1 of 1 layers that read a sign or have a 1-bit kernel stay float, and no file was "
        r"written\. `allow_float` allows it\. .* \(tf_sign\): .*gives 0 for 0.*zero_sign='\+1'"
    )
    with pytest.raises(ValueError, match=message):
        export.convert_tflite(content, path)
    assert path.read_bytes() == b"older file"
    report = export.convert_tflite(content, path, allow_float=True)
    assert (report.binary_convolutions, report.intended_binary_convolutions) == (0, 1)
    [reason] = [layer.reason for layer in report.layers if layer.intended_binary]
    assert reason == "tf_sign"
    assert "tf_sign: Its input's sign gives 0 for 0" in str(report)


def test_zero_sign(path):
    """A 0 before the sign is an error, should the samples show one."""
    content = two_layers(sign="SIGN")
    samples = images(8, (6, 6, 4))
    report = export.convert_tflite(content, path, samples=samples, zero_sign="+1")
    assert report.binary_convolutions == 1
    path.unlink()
    samples[5, 2, 3] = 0
    with pytest.raises(ValueError, match=r"32 of the 9,216 values before the sign .* exactly 0"):
        export.convert_tflite(content, path, samples=samples, zero_sign="+1")
    assert not path.exists()


def test_zero_weights(path):
    kernel = binary_kernel(np.random.default_rng(0), (8, 3, 3, 32))
    kernel[2, 1, 1, 7] = 0
    content = two_layers(kernel=kernel)
    with pytest.raises(ValueError, match=r"zero_weights\): 1 of the weights of filter 2"):
        export.convert_tflite(content, path)
    report = export.convert_tflite(content, path, zero_weights="+1")
    [layer] = [layer for layer in report.layers if layer.binary]
    assert layer.rewritten == "weights of exactly 0, which count as +1 (1)"
    # It is what the weight of +s gives.
    x = images(1, (6, 6, 4))
    kernel[2, 1, 1, 7] = np.abs(kernel[2]).max()
    [expected] = run(two_layers(kernel=kernel), x)
    np.testing.assert_allclose(run(path.read_bytes(), x, delegate=True)[0], expected, atol=1e-3)


def test_signs_that_the_float_file_cannot_be_told(path, monkeypatch):
    """Sums of 288 times +-0.1, less 0.2, are 0 in one file and nearly 0 in the other."""
    rng = np.random.default_rng(0)
    kernel = binary_kernel(rng, (4, 3, 3, 32), np.full(4, 0.1))
    file = FloatFile()
    sums = file.conv(file.larq_sign(file.input((1, 3, 3, 32))), kernel, padding=VALID)
    signs = file.op("SIGN", file.op("SUB", sums, 0.2))
    content = file.build(file.conv(signs, rng.normal(size=(5, 1, 1, 4))))
    report = export.convert_tflite(content, path, allow_float=True)
    assert report.binary_convolutions == 1
    # It is neither that all agree nor that nothing is compared.
    assert 4 <= report.close_samples < 32
    monkeypatch.setattr(from_tflite, "_MIN_SHARE", 1)
    with pytest.raises(ValueError, match="given the same signs before"):
        export.convert_tflite(content, path, allow_float=True)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_wrong_file_is_not_written(index, path, monkeypatch):
    """Filters, factors and biases."""

    def change(data):
        data[:4] ^= 0x41

    def wrong(content, **options):
        result = binarize(content, **options)
        changed = edit(result.content, "LceBconv2d", index, change)
        return dataclasses.replace(result, content=changed)

    binarize = from_tflite.binarize
    monkeypatch.setattr(from_tflite, "binarize", wrong)
    path.write_bytes(b"older file")
    with pytest.raises(ValueError, match="does not compute what the float file does: given the"):
        export.convert_tflite(two_layers(), path)
    assert path.read_bytes() == b"older file"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real_layers": "int4"}, r"`real_layers` must be one of float32.*'int4'"),
        ({"labels": ["cat"]}, r"`labels` need a model that ends in .*\(1, 6, 6, 8\)"),
        ({"normalization": Normalization()}, r"`normalization` needs .*\(1, 6, 6, 4\)"),
        ({"center_crop": 2}, "`center_crop` must be .*center_crop=2"),
        ({"zero_sign": "0"}, "`zero_sign` must be 'refuse' or"),
        ({"zero_weights": "0"}, "`zero_weights` must be 'refuse' or"),
    ],
)
def test_unfit_arguments(arguments, message, path):
    with pytest.raises(ValueError, match=message):
        export.convert_tflite(two_layers(), path, **arguments)
    assert not path.exists()


def test_unfit_inputs(path):
    file = FloatFile()
    x = file.tensor((1, 4), np.int32)
    file._inputs.append(x)
    content = file.build(file.op("CAST", x))
    with pytest.raises(ValueError, match=r"must take float32 tensors .*int32 \(1, 4\)"):
        export.convert_tflite(content, path)


def test_unfit_path(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "model.tflite"):
        with pytest.raises(ValueError, match="`path` must be a file in an existing folder"):
            export.convert_tflite(b"", path)


def test_damaged_files(tmp_path, path):
    """Cut off anywhere, or with a byte changed: an error of one line, or a file that is right."""
    content = two_layers()
    rng = np.random.default_rng(0)
    damaged = [b"", b"no model", *(content[:size] for size in range(0, len(content), 997))]
    for position in rng.integers(0, 3000, 60):
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    errors = []
    float_file = tmp_path / "float.tflite"
    for one in damaged:
        float_file.write_bytes(one)
        try:
            export.convert_tflite(float_file, path, allow_float=True)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) >= len(content) // 997
    assert not any("\n" in error for error in errors)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "torch", "larq",
                                  "larq_compute_engine", "jax"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["bireal-export", *sys.argv[1:]]
from bireal_keras.commands.export import run
run()
"""


def command(*arguments):
    """bireal-export where no training framework can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False
    )


def test_command_without_tensorflow_larq_torch_and_lce(tmp_path):
    float_file, output = tmp_path / "net.tflite", tmp_path / "report.json"
    float_file.write_bytes(two_layers())
    done = command(f"--model={float_file}", "--real_layers=int8", f"--json={output}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"packing {float_file}",
        "checking it against the float file on 32 samples",
        "checking its real layers in int8",
    ]
    assert "1 bit-packed (1 with 1-bit quantizers in the float file), 1 in int8" in done.stdout
    binary = tmp_path / "net_binary.tflite"
    assert ("LceBconv2d", "FLOAT32") in operators(binary.read_bytes())
    assert json.loads(output.read_text())["size_bytes"] == binary.stat().st_size


def test_command_says_what_is_wrong_in_one_line(tmp_path):
    float_file = tmp_path / "net.tflite"
    float_file.write_bytes(two_layers(sign="SIGN"))
    for arguments, status, message in [
        ([], 1, "layers that read a sign or have a 1-bit kernel stay float"),
        (["--zero_sign=+1", f"--output={float_file}"], 1, "--output must be another file"),
        (["--npz=a.npz"], 2, "--npz needs a Keras model"),
    ]:
        done = command(f"--model={float_file}", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert message in done.stderr.splitlines()[-1]
    assert command(f"--model={float_file}", "--zero_sign=+1").returncode == 0
    float_file.write_bytes(two_layers()[:5000])
    done = command(f"--model={float_file}")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"bireal-export: {float_file} cannot be converted: ")
