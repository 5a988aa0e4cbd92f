"""The command bireal-train, in a process of its own; test_training.py lets it train."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bireal_keras import recipes
from bireal_keras.image_file import SUFFIXES

MODULE = [sys.executable, "-m", "bireal_keras.commands.train"]
SCRIPT = [str(Path(sys.executable).with_name("bireal-train"))]
COMPLETE = ["--config=mnist_5k", "--dataset=mnist_5k"]
STAGED = ["--config=imagenet_caffe_18", "--dataset=mnist_5k", "--output_dir=x"]


def run(command, *arguments):
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_help_is_complete(command):
    if command is SCRIPT and not Path(SCRIPT[0]).exists():
        pytest.skip("needs the package installed")
    result = run(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    for flag in (
        *("checkpoint_minutes", "checkpoint_steps", "config", "data_dir", "dataset"),
        *("[no]deterministic", "[no]download", "output_dir", "[no]pipeline_only"),
        *("[no]resume", "strategy"),
    ):
        assert f"\n  --{flag}: " in result.stdout
    for recipe in recipes.list_recipes():
        assert f"\n    {recipe}\n" in result.stdout
    assert "--config.epochs=20" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ".*Flag --config must have a value .*"),
        (COMPLETE, r"Flag --output_dir must have a value\."),
        ([*COMPLETE, "--outputdir=x"], "Unknown command line flag 'outputdir'. Did you mean.*"),
        ([*COMPLETE, "--output_dir=x", "y"], "Unexpected argument 'y'.*"),
        (
            ["--config=mnist5k", "--dataset=mnist_5k", "--output_dir=x"],
            r"flag --config=mnist5k: .* must be one of .* Near: mnist_5k.*",
        ),
        (
            [*COMPLETE, "--output_dir=x", "--config.epoch=2"],
            "flag --config=mnist_5k: A recipe has no field `epoch`. Near: epochs.*",
        ),
        (
            [*COMPLETE, "--output_dir=x", "--config.optimizer.learningrate=2"],
            ".* no field `optimizer.learningrate`. Near: optimizer.learning_rate.*",
        ),
        ([*COMPLETE, "--output_dir=x", "--config.epochs=two"], "flag --config.epochs=two: .*"),
        (
            [*STAGED, "--config.stages[3].epoch=2"],
            r".* no field `stages\[3\].epoch`. Near: stages\[3\].epochs.*",
        ),
        ([*STAGED, "--config.stages[4].epochs=2"], r".* no field `stages\[4\].epochs`. .*"),
        ([*COMPLETE, "--output_dir=x", "--strategy=two"], "flag --strategy=two: .*"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(arguments, message, tmp_path):
    result = subprocess.run(
        [*MODULE, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert result.returncode == 2
    assert re.fullmatch(rf"bireal-train: {message} See bireal-train --help\.\n", result.stderr)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failure_is_one_line_and_status_1(tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    photos = tmp_path / "photos"
    output_dir = tmp_path / "run"
    result = run(MODULE, "--config=mnist_5k", f"--dataset={photos}", f"--output_dir={output_dir}")
    assert result.returncode == 1
    # Nothing of what TensorFlow says of the hardware that it found is there.
    [line] = result.stderr.splitlines()
    assert line == f"bireal-train: No image ({', '.join(SUFFIXES)}) in {photos / 'cats'}."
    assert not output_dir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "tf_config", "message"),
    [
        ([*COMPLETE, "--strategy=multi_worker"], "{", "For strategy 'multi_worker' .* not JSON.*"),
        ([*STAGED, "--config.stages[3].epochs=0"], "", r".*`stages\[3\].epochs` must be a pos.*"),
        ([*STAGED, "--config.epochs=3"], "", ".*`epochs` must be an int of at least 4.*"),
    ],
)
def test_what_the_recipe_or_the_machines_lack_is_one_line(arguments, tf_config, message, tmp_path):
    result = subprocess.run(
        [*MODULE, *arguments, f"--output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TF_CONFIG": tf_config},
    )
    assert result.returncode == 1
    ours = [line for line in result.stderr.splitlines() if "bireal" in line]
    assert re.fullmatch(f"bireal-train: {message}", ours[-1])
    assert len(ours) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
def test_pipeline_only_trains_nothing():
    result = run(MODULE, "--config=mnist_5k", "--dataset=fake/28/10", "--pipeline_only")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[0].replace(",", "")) > 0
    assert "images/s" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["train", "ablate"])
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("ml_collections", "needs the Python package ml_collections: pip install .*"),
        ("tensorflow", "This part of bireal_keras needs TensorFlow, .*: pip install .*"),
    ],
)
def test_an_incomplete_installation_is_one_line(command, missing, message, tmp_path):
    """As that of a device, where only the runtime is installed."""
    code = f"import sys; sys.modules[{missing!r}] = None\n"
    code += f"from bireal_keras.commands import {command}; {command}.run()"
    arguments = [*COMPLETE, f"--output_dir={tmp_path / 'run'}"]
    result = run([sys.executable, "-c", code], *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(f"bireal-{command}: {message}\n", result.stderr)


FIELDS = """
import json, sys
from absl import app, flags
from bireal_keras.commands import train
from bireal_keras.training import recipe

flags.FLAGS(sys.argv)
config = train._CONFIG.value
recipe.check(config)
print(json.dumps([stage.to_dict() for stage in recipe.stages(config)]))
print(json.dumps([train._DATASET.value, train._DATA_DIR.value, train._OUTPUT_DIR.value]))
"""


def parsed(*arguments, **variables):
    """The stages of the recipe, and the flags that are paths."""
    out = subprocess.check_output(
        [sys.executable, "-c", FIELDS, *arguments], text=True, env={**os.environ, **variables}
    )
    return map(json.loads, out.splitlines())


def test_every_field_can_be_set():
    (stage,), _ = parsed(
        *(*COMPLETE, "--config.dataset.center_crop=0.875", "--config.optimizer.l2=1e-4"),
        *("--noconfig.binary_weights", "--config.start=model.keras", "--config.keep=best"),
        *("--config.precision=mixed_bfloat16", "--config.distillation.teacher=teacher.keras"),
        *("--config.distillation.weight=0.5", "--config.reestimate_epochs=2"),
        *("--config.freeze=stem", "--config.balance", "--config.mixup=0.2", "--config.patience=3"),
    )
    assert (stage["dataset"]["center_crop"], stage["optimizer"]["l2"]) == (0.875, 1e-4)
    assert (stage["binary_weights"], stage["start"]) == (False, "model.keras")
    assert (stage["keep"], stage["reestimate_epochs"]) == ("best", 2)
    assert (stage["freeze"], stage["balance"]) == ("stem", True)
    assert (stage["mixup"], stage["patience"]) == (0.2, 3)
    assert stage["precision"] == "mixed_bfloat16"
    assert stage["distillation"] == {"teacher": "teacher.keras", "weight": 0.5}


def test_every_field_of_a_stage_can_be_set():
    stages, _ = parsed(
        *(*STAGED, "--config.stages[1].batch_size=64", "--config.stages[1].keep=best"),
        *("--config.stages[3].optimizer.l2=0.5", "--config.stages[3].distillation.teacher=relu"),
    )
    assert [stage["batch_size"] for stage in stages][:3] == [256, 64, 256]
    assert [stage["keep"] for stage in stages] == ["last", "best", "last", "last"]
    assert stages[3]["optimizer"]["l2"] == 0.5
    assert stages[3]["distillation"] == {"teacher": "relu", "weight": 1.0}


def test_the_home_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from bireal_keras import recipes\n"
        "def get_config(): return recipes.load('mnist_5k').unlock()\n"
    )
    (stage,), paths = parsed(
        *("--config=~/mine.py", "--dataset=~/photos", "--data_dir=~/data"),
        *("--output_dir", "~/run"),
        HOME=str(tmp_path),
    )
    assert stage["epochs"] == 6
    assert paths == [str(tmp_path / name) for name in ("photos", "data", "run")]
