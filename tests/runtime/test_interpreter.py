"""runtime.Interpreter and what the commands print."""

import json

import numpy as np
import pytest
from commands import command
from lce_ops import Bconv2d, Op, Tensor, build_model, constant, pack
from PIL import Image

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


def test_more_than_one_output():
    tensors = [Tensor((1, 64)), Tensor((1, 2), np.int32), Tensor((1, 2), np.int32)]
    ops = [Op("LceQuantize", [0], [1]), Op("LceQuantize", [0], [2])]
    with pytest.raises(ValueError, match=r"one input and one output\. Received: 1 and 2"):
        runtime.Interpreter(build_model(tensors, ops, [0], [1, 2]))


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


@pytest.fixture(scope="module")
def brightness_model(tmp_path_factory):
    """A classifier with two classes: "dark" and "bright", by the sign of the mean pixel.

    Quantize -> 1-bit convolution over all 4x4 pixels with weights -1 and +1 -> float.
    """
    case = Bconv2d(1, 4, 4, 3, 2, filter_size=(4, 4), padding=1)
    case.kernel[0], case.kernel[1] = -1, 1
    case.multiplier[:], case.bias[:] = 1 / 96, 0.5
    tensors = [Tensor((1, 4, 4, 3)), Tensor((1, 4, 4, 1), np.int32)]
    tensors += [constant(pack(case.kernel)), constant(case.multiplier), constant(case.bias)]
    tensors += [Tensor((1, 1, 1, 2)), constant(np.array([1, 2], np.int32)), Tensor((1, 2))]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("RESHAPE", [5, 6], [7]),
    ]
    from bireal_keras.runtime.labels import append_labels

    path = tmp_path_factory.mktemp("models") / "brightness.tflite"
    path.write_bytes(append_labels(build_model(tensors, ops, [0], [7]), ["dark", "bright"]))
    return path


def picture(path, color, mode="RGB", size=(40, 30)):
    Image.new(mode, size, color).save(path)
    return path


def test_classify_names_the_classes(brightness_model, tmp_path):
    images = [
        picture(tmp_path / "night.png", (3, 2, 9)),
        picture(tmp_path / "snow.jpg", (250, 250, 255)),
        picture(tmp_path / "grey.png", 240, mode="L", size=(5, 90)),
        picture(tmp_path / "glass.png", (255, 255, 255, 0), mode="RGBA"),
    ]
    result = command("classify", brightness_model, *images)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[-1] for line in lines[1::3]] == ["dark", "bright", "bright", "bright"]
    assert [line[0] for line in lines[1::3]] == ["100.0%"] * 4
    assert [line[0] for line in lines[::3]] == [str(image) for image in images]


def test_classify_goes_on_after_a_broken_image(brightness_model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no jpeg")
    good = picture(tmp_path / "good.png", (255, 255, 255))
    truncated = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    result = command(
        "classify", brightness_model, broken, tmp_path / "no.png", truncated, good, "--top_k=1"
    )
    assert result.returncode == 1
    assert result.stdout.split() == [str(good), "100.0%", "bright"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("bireal-classify")]
    assert len(errors) == 3
    assert [name in error for name, error in zip(("broken", "no.png", "cut"), errors)] == [True] * 3


def test_classify_follows_the_orientation_in_exif(tmp_path):
    from bireal_keras.runtime.image import load_image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # Bright above.
    exif = Image.Exif()
    exif[0x0112] = 3  # Rotated by 180 degrees.
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "straight.png")
    straight = load_image(tmp_path / "straight.png", 4, 4)
    assert straight.shape == (4, 4, 3)
    assert straight.dtype == np.float32
    assert straight[0].mean() == 1.0
    assert straight[-1].mean() == -1.0
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png", 4, 4), straight[::-1])


def test_classify_refuses_a_model_of_other_shape(model, tmp_path):
    result = command("classify", model, picture(tmp_path / "x.png", (0, 0, 0)))
    assert result.returncode == 1
    assert "must take float32 images" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_classify_needs_an_image(model):
    result = command("classify", model)
    assert result.returncode == 2
    assert "at least one image" in result.stderr
