"""bireal-evaluate as a person runs it, on a PC and as on a device."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import command
from lce_ops import Op, Tensor, build_model, constant
from PIL import Image

from bireal_keras import runtime
from bireal_keras.commands import evaluate
from bireal_keras.runtime import Metadata, Normalization
from bireal_keras.tflite.metadata_writer import embed
from bireal_keras.training import image_folder

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """How red, green and blue an image is, from 0 to 1: a classifier of `photos`."""
    tensors = [Tensor((1, 8, 8, 3)), constant(np.array([1, 2], np.int32)), Tensor((1, 3))]
    content = build_model(tensors, [Op("MEAN", [0, 1], [2])], [0], [2])
    metadata = Metadata(CLASSES, (8, 8), Normalization(mean=0, std=255))
    path = tmp_path_factory.mktemp("models") / "colour.tflite"
    path.write_bytes(embed(content, metadata, name="colour"))
    return path


@pytest.fixture(scope="module")
def misplaced(photos, tmp_path_factory):
    """`photos` with five red images among the blue ones, one of them very red."""
    folder = tmp_path_factory.mktemp("misplaced") / "photos"
    shutil.copytree(photos, folder)
    for index in range(5):
        shutil.copy(photos / "red" / f"{index}.png", folder / "blue" / f"red {index}.png")
    Image.new("RGB", (20, 10), (255, 0, 0)).save(folder / "blue" / "red 3.png")
    return folder


def test_figures_are_those_of_the_formulas(model, misplaced, tmp_path):
    output = tmp_path / "result.json"
    result = command(
        "evaluate", model, f"--dataset={misplaced}", f"--json={output}", f"--pictures={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(output.read_text())

    # Pillow and NumPy, in place of the interpreter.
    confusion = np.zeros((3, 3), int)
    for path in misplaced.glob("*/*.png"):
        guess = np.asarray(Image.open(path)).mean(axis=(0, 1)).argmax()
        confusion[CLASSES.index(path.parent.name), guess] += 1
    assert confusion.sum() == 125
    assert confusion[2, 0] >= 5
    assert report["confusion"] == confusion.tolist()
    assert (report["images"], report["unread"]) == (125, [])
    assert report["top1"] == np.trace(confusion) / 125
    assert report["top5"] is None
    for index, figures in enumerate(report["classes"]):
        assert figures["name"] == CLASSES[index]
        assert figures["images"] == confusion[index].sum()
        assert figures["precision"] == confusion[index, index] / confusion[:, index].sum()
        assert figures["recall"] == confusion[index, index] / confusion[index].sum()
    surest = report["mistakes"][0]
    assert surest["image"] == str(misplaced / "blue" / "red 3.png")
    assert (surest["label"], surest["predicted"], surest["probability"]) == ("blue", "red", 1.0)
    probabilities = [mistake["probability"] for mistake in report["mistakes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < report["latency_ms"]["min"] <= report["latency_ms"]["median"]

    lines = result.stdout.splitlines()
    assert lines[0] == f"{model} on {misplaced}, all of it: 125 images"
    assert lines[1] == f"top-1 {report['top1']:.1%}"
    blue = next(line.split() for line in lines if line.startswith("  blue"))
    assert blue == ["blue", "45", "100.0%", f"{confusion[2, 2] / 45:.1%}"]
    assert f"blue taken for red: {confusion[2, 0]}" in lines
    assert f"100% red, is blue: {misplaced / 'blue' / 'red 3.png'}" in lines
    assert re.search(r"the network takes [\d.]+ ms for an image .*; threads: 1\)", lines[-2])
    assert lines[-1] == f"pictures: {tmp_path / 'confusion.png'}, {tmp_path / 'mistakes.png'}"

    # The first picture of the gallery is the very red image.
    gallery = np.asarray(Image.open(tmp_path / "mistakes.png"))
    assert (gallery == (255, 0, 0)).all(axis=2).sum() == 160 * 160


def on_a_device(*arguments):
    """Runs the command as where there is no TensorFlow."""
    hidden = dict.fromkeys(["tensorflow", "tf_keras", "keras", "larq", "matplotlib"])
    code = f"import sys; sys.modules.update({hidden!r}); sys.argv[0] = 'bireal-evaluate'\n"
    code += "from bireal_keras.commands import evaluate; evaluate.run()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_device_evaluates_without_tensorflow(model, misplaced):
    result = on_a_device(model, f"--dataset={misplaced}")
    assert (result.returncode, result.stderr) == (0, "")
    assert ": 125 images\n" in result.stdout


def test_a_device_says_that_there_is_no_such_folder(model):
    result = on_a_device(model, "--dataset=phtoos")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"bireal-evaluate: There is no folder phtoos, and .* takes more\. .* TensorFlow, .*\n",
        result.stderr,
    )


def test_a_folder_is_not_a_file(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.zip").touch()
    for name in ("photos.zip", tmp_path / "photos.zip"):
        result = command("evaluate", model, f"--dataset={name}")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "bireal-evaluate: `dataset` must be a folder of images, <folder>/<class>/*.jpg, and "
            f"not a file. Received: '{name}'.\n"
        )


def test_an_image_that_cannot_be_read_is_left_out(model, photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "red" / "0.png").write_bytes(b"no image")
    result = command("evaluate", model, f"--dataset={folder}", f"--json={tmp_path / 'r.json'}")
    assert result.returncode == 1
    assert re.fullmatch(
        rf"bireal-evaluate: {folder}/red/0.png: it is not an image of a kind .*\n", result.stderr
    )
    assert ": 119 images, 1 more cannot be read\n" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["unread"] == [str(folder / "red" / "0.png")]


def trained(folder, model, photos):
    """What bireal-train and bireal-export leave of a run, but for what is in the Keras model."""
    folder.mkdir()
    shutil.copy(model, folder / "model.tflite")
    (folder / "model.keras").touch()
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    config = {"recipe": {"dataset": {"image_size": 8}}, "dataset": {"name": str(photos)}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("argument", ["", "model.tflite"])
def test_of_a_run_the_images_that_training_did_not_see(model, photos, tmp_path, argument):
    run = trained(tmp_path / "run", model, photos)
    output = tmp_path / "result.json"
    result = command("evaluate", run / argument, f"--json={output}")
    assert result.returncode == 0, result.stderr
    assert ", what training held out: 12 images\n" in result.stdout
    everything = command("evaluate", run / argument, "--noheld_out", f"--dataset={photos}")
    assert ", all of it: 120 images\n" in everything.stdout


def test_a_folder_that_has_changed_since_training(model, photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    run = trained(tmp_path / "run", model, folder)
    names = image_folder.held_out_names(folder, image_folder.read(folder))
    (run / "held_out.json").write_text(json.dumps(names))
    for kind in CLASSES:
        shutil.copy(folder / kind / "0.png", folder / kind / "00.png")
    now = image_folder.held_out_names(folder, image_folder.read(folder))
    assert {*now} - {*names, *(f"{kind}/00.png" for kind in CLASSES)}  # Trained on.
    (folder / names[0]).unlink()
    result = command("evaluate", run)
    assert result.returncode == 0, result.stderr
    said = ", what training held out but for 1 of 12, which are gone: 11 images\n"
    assert said in result.stdout

    # An older version wrote down only how many there were.
    (run / "held_out.json").unlink()
    config = json.loads((run / "config.json").read_text())
    config["dataset"] |= {"train_images": 108, "validation_images": 12}
    (run / "config.json").write_text(json.dumps(config))
    result = command("evaluate", run)
    assert result.returncode != 0
    assert re.fullmatch(
        rf"bireal-evaluate: {folder} has changed since training: .* 108 .* 110\. .*\n",
        result.stderr,
    )


def test_held_out_are_those_that_training_holds_out(model, photos):
    folder = image_folder.read(photos)
    seen = evaluate._read(folder, runtime.read_metadata(model))
    expected = {str(folder.paths[index]) for index in folder.validation}
    assert {example.name for example in seen} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "exactly one model is needed. Received: 0. See .*"),
        (["{model}"], 2, ".* says of no dataset; --dataset is needed. See .*"),
        (["nothing.tflite"], 1, "There is no file or folder nothing.tflite. .*"),
        (["{model}", "--dataset={folder}/none/"], 1, "`dataset` names a folder .* not exist: .*"),
        (["{model}", "--dataset=cifar11"], 1, "`dataset` must be .* Near: .*cifar10.*"),
        (["{model}", "--dataset={folder}/strange"], 1, ".*does not know these .*: purple. It.*"),
        (["{model}", "--dataset={folder}/empty"], 1, r"No image \(.*\) in .*/empty/red\."),
        (["{model}", "--dataset={folder}", "--pictures={folder}/x"], 1, "--pictures must be .*"),
        (["{model}", "--dataset={folder}", "--json={folder}"], 1, "--json must be a file .*"),
        (["{folder}/broken.tflite", "--dataset={folder}/strange"], 1, ".*broken.tflite: .*"),
        (["{model}", "--dataset={folder}", "--json={model}"], 1, "--json must be another file .*"),
        (
            ["{model}", "--dataset={folder}", "--json={folder}/strange/purple/1.png"],
            1,
            "--json must be a new file, or JSON to replace. Received: .*",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(model, tmp_path, arguments, status, message):
    for name in ("strange/purple/1.png", "empty/red/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    (tmp_path / "broken.tflite").write_bytes(b"TFL3")
    given = [text.format(model=model, folder=tmp_path) for text in arguments]
    result = command("evaluate", *given)
    assert (result.returncode, result.stdout) == (status, "")
    [line] = result.stderr.splitlines()
    assert re.fullmatch(f"bireal-evaluate: {message}", line)


@pytest.mark.slow
def test_keras_and_the_file_agree(small, tmp_path):
    """On a dataset that is made in memory, which the run's config.json names."""
    small.model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(small.labels))
    crop = runtime.read_metadata(small.path).center_crop
    config = {
        "recipe": {"dataset": {"center_crop": crop}},
        "dataset": {"name": f"fake/{small.model.input_shape[1]}/{len(small.labels)}"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    reports = []
    for path in (tmp_path, small.path):
        arguments = [f"--dataset={config['dataset']['name']}", f"--json={tmp_path / 'r.json'}"]
        result = command("evaluate", path, *arguments[path == tmp_path :])
        assert (result.returncode, result.stderr) == (0, "")
        reports.append(json.loads((tmp_path / "r.json").read_text()))
    by_keras, by_file = reports
    assert by_keras["model"] == str(tmp_path / "model.keras")
    assert (by_keras["batch_size"], by_file["batch_size"]) == (32, 1)
    assert by_keras["images"] == by_file["images"] == 128
    assert by_keras["confusion"] == by_file["confusion"]
