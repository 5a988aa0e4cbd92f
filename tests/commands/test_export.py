"""bireal-export as a person runs it."""

import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from export_helpers import CENTER_CROP, build, larq_conv, operators

from bireal_keras import zoo
from bireal_keras._keras import keras
from bireal_keras.export.real_layers import compact
from bireal_keras.runtime import read_metadata

COMMAND = Path(sysconfig.get_path("scripts")) / "bireal-export"


def export(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300)


def fails(status, message, *arguments):
    result = export(*arguments)
    *progress, error = result.stderr.splitlines()
    assert result.returncode == status
    assert re.fullmatch(f"bireal-export: {message}", error), result.stderr
    assert all(line.startswith(("loading ", "converting ", "checking ")) for line in progress)
    assert result.stdout == ""


@pytest.fixture
def model_dir(small, tmp_path):
    """A folder as bireal-train leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    small.model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(small.labels))
    recipe = {"dataset": {"image_size": 12, "center_crop": CENTER_CROP}}
    (folder / "config.json").write_text(json.dumps({"recipe": recipe}))
    return folder


@pytest.mark.slow
def test_model_dir(small, model_dir):
    result = export(f"--model_dir={model_dir}")
    assert result.returncode == 0
    path = model_dir / "model.tflite"
    # The names and weights are the same, so the bytes are those from the model in memory.
    assert path.read_bytes() == small.content
    *lines, latency = result.stdout.splitlines()
    assert lines == str(small.report).replace(str(small.path), str(path)).splitlines()[:-1]
    assert re.fullmatch(r"latency here, one thread: float32 \d+\.\d\d ms", latency)
    steps = result.stderr.splitlines()
    assert steps[:3] == [
        f"loading {model_dir / 'model.keras'}",
        "converting small",
        "checking it against Keras on 32 samples",
    ]
    missing = "without LCE's reference kernel: larq-compute-engine is not installed: pip "
    has_lce = importlib.util.find_spec("larq_compute_engine") is not None
    assert [step[: len(missing)] for step in steps[3:]] == ([] if has_lce else [missing])


@pytest.mark.slow
def test_real_layers(small, model_dir):
    result = export(f"--model_dir={model_dir}", "--real_layers=int8")
    assert result.returncode == 0, result.stderr
    content = (model_dir / "model.tflite").read_bytes()
    assert operators(content) == operators(compact(small.content, "int8"))
    assert result.stderr.splitlines()[-1] == "checking its real layers in int8"
    *_, compared, latency = result.stdout.splitlines()
    assert re.fullmatch(r"real layers in int8: top-1 agrees with float32 on \d+\.\d%", compared)
    assert re.search(r"thread: float32 \d+\.\d\d ms, int8 \d+\.\d\d ms", latency)


@pytest.mark.slow
def test_saved_model_output_and_labels(tmp_path):
    def layers(x):
        x = larq_conv(8)(keras.layers.Conv2D(4, 1)(x))
        return keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))

    folder = tmp_path / "saved"
    build(layers, (6, 6, 3)).save(folder, save_format="tf")
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\nd\né\n", encoding="utf-8")
    output = tmp_path / "out.tflite"
    npz = tmp_path / "out.npz"
    images = ("--normalization=imagenet", "--center_crop=0.5", f"--npz={npz}")
    result = export(f"--model={folder}/", f"--output={output}", f"--labels={labels}", *images)
    assert result.returncode == 0, result.stderr
    assert "quant_conv2d.filters" in np.load(npz)
    assert "1 bit-packed (1 with 1-bit quantizers in Keras), 1 in float32" in result.stdout
    metadata = read_metadata(output)
    assert (metadata.labels, metadata.center_crop) == (("a", "b", "c", "d", "é"), 0.5)
    mean = zoo.imagenet.NORMALIZATION.mean
    assert metadata.normalization.mean == pytest.approx(mean)
    assert not (tmp_path / "saved.tflite").exists()


@pytest.mark.proof
def test_json_and_allow_float(tmp_path):
    path, json_path = tmp_path / "model.keras", tmp_path / "report.json"
    build(lambda x: larq_conv(8, name="padded", pad_values=-1.0)(x), (6, 6, 4)).save(path)
    message = "1 of 1 1-bit layers .*padded .pad_values.: It pads with -1{} .*"
    fails(1, message.format(";"), f"--model={path}", "--converter=lce")
    fails(1, message.format(" times the magnitude of its input;"), f"--model={path}")
    assert not (tmp_path / "model.tflite").exists()

    nowhere = tmp_path / "nowhere/report.json"
    fails(1, "--json must be a file in an .*report.json.", f"--model={path}", f"--json={nowhere}")

    result = export(f"--model={path}", "--allow_float", f"--json={json_path}")
    assert result.returncode == 0, result.stderr
    assert "padded  QuantConv2D  float  pad_values" in result.stdout
    report = json.loads(json_path.read_text())
    assert report["layers"][0]["reason"] == "pad_values"
    assert report["size_bytes"] == (tmp_path / "model.tflite").stat().st_size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_python_code_in_a_model_does_not_run(tmp_path):
    def layers(x):
        return keras.layers.Lambda(lambda v: print("Python code ran") or v)(x)

    path = tmp_path / "model.h5"
    build(layers).save(path)
    fails(1, f"{path} cannot be loaded: .*Lambda layer.*disallowed.*", f"--model={path}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either --model_dir or --model. See bireal-export --help."),
        (["--model=a", "--model_dir=b"], "Give either --model_dir or --model. See .*"),
        (["--model=a", "b.tflite"], "Unexpected argument 'b.tflite'. See .*"),
        (
            ["--model=a", "--real_layers=int4"],
            r"flag --real_layers=int4: .*float32\|float16\|int8.*",
        ),
        (["--modle=a"], "Unknown command line flag 'modle'. Did you mean: model.*"),
    ],
)
def test_usage_errors(arguments, message):
    fails(2, message, *arguments)


def test_missing_model(tmp_path):
    fails(1, f"There is no {tmp_path}/model.keras.", f"--model_dir={tmp_path}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        ("--output={folder}/model.keras", "--output"),
        ("--output={folder}/labels.txt", "--output"),
        ("--json={folder}/config.json", "--json"),
        ("--json={folder}/model.tflite", "--json"),
        ("--npz={folder}/model.keras", "--npz"),
        ("--output={folder}/a --npz={folder}/a", "--npz"),
        ("--npz={folder}/a --json={folder}/a", "--json"),
    ],
)
def test_what_it_reads_or_writes_besides_is_not_replaced(tmp_path, flags, wrong):
    contents = {
        "model.keras": b"PK\x03\x04",
        "labels.txt": b"red\n",
        "config.json": b'{"recipe": {"dataset": {}}}',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    given = flags.format(folder=tmp_path).split()
    fails(1, f"{wrong} must be another file than those .*", f"--model_dir={tmp_path}", *given)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_recipe_that_is_damaged(tmp_path):
    (tmp_path / "model.keras").touch()
    for text in ("{", "[]", '{"recipe": 3}', "{}"):
        (tmp_path / "config.json").write_text(text)
        fails(1, r".*config\.json is damaged: .*", f"--model_dir={tmp_path}")


def test_labels_that_are_no_text(tmp_path):
    (tmp_path / "model.keras").touch()
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    fails(1, r".*labels\.txt is not text in UTF-8: .*", f"--model_dir={tmp_path}")


def test_help_needs_no_tensorflow(tmp_path):
    for name in ("tensorflow", "larq", "larq_compute_engine"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    result = subprocess.run(
        [sys.executable, COMMAND, "--help"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 0
    flags = ("--model_dir", "--model", "--output", "--labels", "--normalization", "--center_crop")
    flags += ("--converter", "--zero_sign", "--zero_weights")
    for flag in (*flags, "--real_layers", "--[no]allow_float", "--json", "--npz"):
        assert f"  {flag}: " in result.stdout


def test_python_without_tensorflow(tmp_path):
    """It is so on a device, where only the runtime is installed."""
    (tmp_path / "tensorflow.py").write_text("raise ModuleNotFoundError('no tensorflow')")
    (tmp_path / "model.keras").touch()
    result = subprocess.run(
        [sys.executable, COMMAND, f"--model={tmp_path}/model.keras"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("bireal-export: ")
    assert "needs TensorFlow, which is not installed: pip install" in result.stderr
    assert "Traceback" not in result.stderr
