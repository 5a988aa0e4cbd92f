"""bireal-verify as a person runs it."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from export_helpers import CLASSES, SIZE, edit

from bireal_keras.export.pixel_input import take_pixels
from bireal_keras.tflite.metadata import Normalization
from bireal_keras.tflite.metadata_writer import without_metadata

COMMAND = Path(sysconfig.get_path("scripts")) / "bireal-verify"


def verify(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300)


def fails(status, message, *arguments):
    result = verify(*arguments)
    *progress, error = result.stderr.splitlines()
    assert re.fullmatch(f"bireal-verify: {message}", error), result.stderr
    assert all(line.startswith("loading ") for line in progress)
    assert (result.returncode, result.stdout) == (status, "")


@pytest.fixture(scope="module")
def run_folder(small, tmp_path_factory):
    """A run's folder as bireal-train leaves it, after training on noise."""
    folder = tmp_path_factory.mktemp("run")
    small.model.save(folder / "model.keras")
    config = {
        "recipe": {"dataset": {"image_size": SIZE}},
        "dataset": {"name": f"fake/{SIZE}/{CLASSES}", "classes": CLASSES},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("lce")
def test_right_file(run_folder, small, tmp_path):
    output = tmp_path / "result.json"
    result = verify(run_folder, small.path, "--num_images=40", f"--json={output}")
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"loading {run_folder / 'model.keras'}\n"

    first, top1, same_class, *_, verdict = result.stdout.splitlines()
    assert first.endswith(f"on 40 images of fake/{SIZE}/{CLASSES}'s validation split")
    # On noise, what they agree on is only chance.
    [share] = set(re.findall(r"[\d.]+%", top1))
    assert top1 == f"top-1: Keras {share}, LCE {share}, ours {share}"
    assert same_class.count("100.0%") == 3
    assert verdict == "verdict: the file computes what Keras computes, up to rounding"
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("block")]
    assert [row[:2] for row in rows] == [
        ["block1_conv", "92,160"],
        ["block2_conv", "92,160"],
        ["block3_conv", "57,600"],
    ]

    content = json.loads(output.read_text())
    assert content["computes_what_keras_computes"] is True
    assert content["reason"] is None
    assert content["top1_agreement"] == {
        "Keras and LCE": 1.0,
        "Keras and ours": 1.0,
        "LCE and ours": 1.0,
    }
    for who in ("lce", "ours"):
        assert content[who]["signs"] == 92_160 + 92_160 + 57_600
        names = [layer["name"] for layer in content[who]["layers"]]
        assert names == ["block1_conv", "block2_conv", "block3_conv", "output"]
        assert all(layer["is_right"] for layer in content[who]["layers"])
        assert all(0 < layer["difference"] < 1e-4 for layer in content[who]["layers"])


WITHOUT_LCE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "larq_compute_engine":
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""
VERIFY = """
from bireal_keras.commands.verify import run
run()
"""
CHECK_COMPACT = """
import pathlib
from bireal_keras.export import real_layers_check
from bireal_keras.export.real_layers import compact
from bireal_keras.export.samples import random_samples
content = pathlib.Path(sys.argv[1]).read_bytes()
size = int(sys.argv[2])
samples = [random_samples((size, size, 3))]
for precision in ("float16", "int8"):
    print(real_layers_check.check(content, compact(content, precision), samples) >= 0.75)
"""


def without_lce(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_LCE + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_without_lce(run_folder, small, tmp_path):
    """Our runtime is compared with Keras, and a line says why LCE's is missing."""
    output = tmp_path / "result.json"
    result = without_lce(VERIFY, run_folder, small.path, "--num_images=8", f"--json={output}")
    assert result.returncode == 0, result.stderr
    *lines, verdict = result.stdout.splitlines()
    assert verdict == "verdict: the file computes what Keras computes, up to rounding"
    [missing] = [line for line in lines if line.startswith("LCE: ")]
    assert missing.startswith("LCE: not compared: larq-compute-engine is not installed: pip ")
    assert "LCE: differs by" not in result.stdout
    assert re.search(r"^ours: 0 of [\d,]+ signs flip given", result.stdout, re.MULTILINE)
    content = json.loads(output.read_text())
    assert content["lce"] is None
    assert content["lce_missing"].startswith("larq-compute-engine is not installed")
    assert content["ours"]["all_signs_told"] is True
    assert list(content["top1_agreement"]) == ["Keras and ours"]


@pytest.mark.slow
def test_wrong_file_without_lce(run_folder, small, tmp_path):
    def change(data):
        data.view(np.float32)[0] += 0.01

    path = tmp_path / "wrong.tflite"
    path.write_bytes(edit(small.content, "LceBconv2d", 3, change, which=1))
    result = without_lce(VERIFY, run_folder, path, "--num_images=8")
    assert result.returncode == 1
    assert re.fullmatch(
        r"verdict: The converted file does not compute .*, the input of block3_conv differs .*",
        result.stdout.splitlines()[-1],
    )


@pytest.mark.slow
def test_compact_layers_are_checked_without_lce(small):
    result = without_lce(CHECK_COMPACT, small.path, SIZE)
    assert result.stdout.splitlines() == ["True", "True"], result.stderr


@pytest.mark.slow
def test_wrong_file_on_artificial_images(small, tmp_path):
    def change(data):
        data.view(np.float32)[0] += 0.01

    model, path = tmp_path / "model.h5", tmp_path / "wrong.tflite"
    small.model.save(model)
    path.write_bytes(edit(small.content, "LceBconv2d", 3, change, which=1))
    result = verify(model, path, "--num_images=8")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0].endswith("on 8 artificial images")
    assert "top-1: " not in result.stdout
    marked = [line.split()[0] for line in lines if line.endswith("<- more than rounding")]
    assert marked[0] == "block3_conv"
    assert re.fullmatch(
        r"verdict: The converted file does not compute .*, the input of block3_conv differs by up "
        r"to 0\.01, .* It is computed by .*block2_conv, .*block2_add\.",
        lines[-1],
    )


@pytest.mark.slow
def test_file_that_takes_pixels(small, tmp_path):
    model, path = tmp_path / "model.h5", tmp_path / "pixels.tflite"
    small.model.save(model)
    path.write_bytes(take_pixels(without_metadata(small.content), Normalization()))
    fails(1, f"{path} must take float32, .* takes pixels. .*--input_type=uint8.*", model, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a model and a .tflite file are needed. Received: 0. See bireal-verify --help."),
        (["a", "b", "c"], "a model and .*Received: 3. See .*"),
        (["a", "b", "--random", "--dataset=c"], "Give either --random or --dataset. See .*"),
        (["a", "b", "--num_images=3"], ".*num_images.*"),
    ],
)
def test_usage_errors(arguments, message):
    fails(2, message, *arguments)


def test_files_that_are_not_there(small, tmp_path):
    fails(1, f"There is no {tmp_path}/model.h5.", tmp_path / "model.h5", small.path)
    fails(1, f"There is no file {tmp_path}/a.tflite.", tmp_path, tmp_path / "a.tflite")
    json_file = tmp_path / "none" / "result.json"
    fails(1, "--json must be .*: .*result.json.", tmp_path, small.path, f"--json={json_file}")


def test_the_model_is_not_replaced(small, tmp_path):
    model, file = tmp_path / "model.keras", tmp_path / "model.tflite"
    model.write_bytes(b"PK\x03\x04")
    file.write_bytes(small.content)
    for path in (model, file):
        fails(1, f"--json must be another file .*: {path}.", tmp_path, file, f"--json={path}")
    assert model.read_bytes() == b"PK\x03\x04"
    assert file.read_bytes() == small.content


def test_file_that_is_no_model(small, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_text("no model")
    fails(1, f"{path}: .*", small.path, path)


def test_damaged_config(small, tmp_path):
    (tmp_path / "model.keras").touch()
    (tmp_path / "config.json").write_text("{}")
    fails(1, r".*config\.json is damaged: KeyError.*", tmp_path, small.path)


@pytest.mark.slow
def test_dataset_of_other_classes(run_folder, small):
    message = f"The dataset fake/8/3 has 3 classes and the model {CLASSES}."
    fails(1, message, run_folder, small.path, "--dataset=fake/8/3")
