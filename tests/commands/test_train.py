"""The command bireal-train, in a process of its own; test_training.py lets it train."""

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


def test_a_failure_is_one_line_and_status_1(tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    photos = tmp_path / "photos"
    output_dir = tmp_path / "run"
    result = run(MODULE, "--config=mnist_5k", f"--dataset={photos}", f"--output_dir={output_dir}")
    assert result.returncode == 1
    # TensorFlow says on stderr which hardware it found before it can be told not to.
    ours = [line for line in result.stderr.splitlines() if "bireal" in line]
    kinds = ", ".join(SUFFIXES)
    assert ours == [f"bireal-train: No image ({kinds}) in {photos / 'cats'}."]
    assert result.stderr.splitlines()[-1] == ours[0]
    assert "Traceback" not in result.stderr
    assert not output_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "tf_config", "message"),
    [
        ([*COMPLETE, "--strategy=multi_worker"], "{", "For strategy 'multi_worker' .* no JSON.*"),
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


def test_pipeline_only_trains_nothing():
    result = run(MODULE, "--config=mnist_5k", "--dataset=fake/28/10", "--pipeline_only")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[0].replace(",", "")) > 0
    assert "images/s" in result.stdout
