"""The ablation study: its cells, its tables, and a study that is killed and goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bireal_keras import recipes
from bireal_keras.training import ablation

COMMAND = [sys.executable, "-m", "bireal_keras.commands.ablate"]


class TestCells:
    def test_all_of_them_the_papers_first(self):
        cells = ablation.select_cells()
        assert len(cells) == len(set(cells)) == 3 * 2 * 2 * 3
        assert str(cells[0]) == "per_conv-approx_sign-magnitude_aware-clip"

    def test_some_of_them(self):
        cells = ablation.select_cells(
            shortcuts=["none", "per_conv"], weight_gradient=["plain"], start=["scratch"]
        )
        assert [str(cell) for cell in cells] == [
            "none-approx_sign-plain-scratch",
            "none-ste_sign-plain-scratch",
            "per_conv-approx_sign-plain-scratch",
            "per_conv-ste_sign-plain-scratch",
        ]

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"shortcuts": ["both"]}, "`shortcuts` must be some of per_conv, .* Received: both"),
            ({"start": []}, "`start` must be some of clip, .* Received: none"),
            ({"width": ["8"]}, "An axis must be one of .*'shortcuts'.*: 'width'"),
        ],
    )
    def test_what_does_not_exist(self, choices, message):
        with pytest.raises(ValueError, match=message):
            ablation.select_cells(**choices)


def write_study(folder, accuracies):
    """A finished study: {cell: {seed: accuracy}}."""
    config = recipes.load("cifar10").to_dict()
    description = {"recipe": config, "dataset": "cifar10", "pretrain_epochs": 5}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(description))
    for cell, by_seed in accuracies.items():
        for seed, accuracy in by_seed.items():
            run = folder / "cells" / cell / f"seed{seed}"
            run.mkdir(parents=True)
            metrics = {"seed": seed, "validation": {"accuracy": accuracy}}
            (run / "metrics.json").write_text(json.dumps(metrics))


ACCURACIES = {
    "per_conv-approx_sign-plain-scratch": {0: 0.5, 1: 0.53, 10: 0.54},
    "none-approx_sign-plain-scratch": {0: 0.3, 1: 0.36},
    "none-ste_sign-plain-scratch": {1: 0.38},
    "none-ste_sign-plain-clip": {1: 0.25},
}


class TestTables:
    @pytest.fixture
    def study(self, tmp_path):
        write_study(tmp_path, ACCURACIES)
        # This cell is not finished.
        (tmp_path / "cells" / "resnet-ste_sign-plain-clip" / "seed0").mkdir(parents=True)
        ablation.write_tables(tmp_path)
        return tmp_path

    def test_csv(self, study):
        rows = list(csv.DictReader((study / "ablation.csv").read_text().splitlines()))
        cells = ["-".join(row[axis] for axis in ablation.AXES) for row in rows]
        assert cells == [
            "per_conv-approx_sign-plain-scratch",
            "none-approx_sign-plain-scratch",
            "none-ste_sign-plain-clip",
            "none-ste_sign-plain-scratch",
        ]
        for cell, row in zip(cells, rows):
            values = list(ACCURACIES[cell].values())
            assert row["seeds"] == " ".join(map(str, ACCURACIES[cell]))
            assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-6)
            if len(values) > 1:
                assert float(row["spread"]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)
            else:
                assert row["spread"] == ""
            assert [float(value) for value in row["accuracies"].split()] == values

    def test_markdown(self, study):
        text = (study / "ablation.md").read_text()
        assert "Epochs of 1-bit training: 20; of each real-valued network before it: 5." in text
        lines = text.splitlines()
        assert "| per_conv | approx_sign | plain | scratch | 20 | 3 | 52.33 | 2.08 |" in lines
        # Pre-training has three stages.
        assert "| none | ste_sign | plain | clip | 35 | 1 | 25.00 |  |" in lines
        # 50 - 30 and 53 - 36: the third seed has no counterpart.
        assert "| shortcuts: per_conv | none | 2 | +18.50 | 2.12 | 2 |" in lines
        assert "| activation: approx_sign | ste_sign | 1 | -2.00 |  | 0 |" in lines
        assert "| start: clip | scratch | 1 | -13.00 |  | 0 |" in lines
        assert "weight gradient: magnitude_aware" not in text
        # Every table is one: all its rows have as many cells as its head.
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert len(tables) == 2
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1

    def test_plot(self, study):
        image = np.asarray(Image.open(study / "ablation.png").convert("RGB"))
        assert min(image.shape[:2]) > 200
        # Each kind of shortcut that there is has a colour: matplotlib's blue and green.
        pixels = {tuple(pixel) for pixel in image.reshape(-1, 3)}
        assert {(31, 119, 180), (44, 160, 44)} <= pixels
        assert (255, 127, 14) not in pixels

    def test_nothing_finished(self, tmp_path):
        write_study(tmp_path, {})
        ablation.write_tables(tmp_path)
        assert (tmp_path / "ablation.csv").read_text().count("\n") == 1
        assert not (tmp_path / "ablation.png").exists()


RECIPE = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({
        "model": {"name": "BiRealNet18", "num_classes": 2, "width": 1, "stem": "cifar"},
        "dataset": {"image_size": 8, "augmentation": {"name": "none"}},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 0},
        "epochs": 2,
        "batch_size": 64,
        "label_smoothing": 0.0,
        "seed": 7,
    })
"""


# The command dies once the first epoch of a real-valued network has its checkpoint.
KILLED_WHILE_PRETRAINING = """
import os, signal
from bireal_keras.commands import ablate
from bireal_keras.training import checkpoints

save = checkpoints.Checkpoints.save

def save_and_die(self, *arguments):
    save(self, *arguments)
    if "pretrained" in str(self.paths()[-1]):
        os.kill(os.getpid(), signal.SIGKILL)

checkpoints.Checkpoints.save = save_and_die
ablate.run()
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(RECIPE)
    return path


def study(config, folder, **choices):
    return ablation.run(
        config,
        ablation.select_cells(**choices),
        seeds=[0],
        dataset="fake/8/2",
        output_dir=folder,
        pretrain_epochs=3,
    )


@pytest.mark.proof
def test_is_killed_and_goes_on(recipe, tmp_path):
    folder = tmp_path / "study"
    arguments = [
        f"--config={recipe}",
        "--dataset=fake/8/2",
        f"--output_dir={folder}",
        "--shortcuts=none",
        "--activations=ste_sign",
        "--weight_gradients=plain",
        "--starts=scratch,relu",
        "--pretrain_epochs=3",
    ]
    cell = folder / "cells" / "none-ste_sign-plain-scratch" / "seed0"
    pretrained = folder / "pretrained" / "none-relu" / "seed0"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_PRETRAINING, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    finished = (cell / "metrics.json").stat()
    assert not (pretrained / "metrics.json").exists()
    assert "[2/3] none-relu seed0" in killed.stdout
    assert (folder / "ablation.csv").read_text().count("\n") == 2

    result = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )
    assert result.returncode == 0, result.stderr
    # What was finished is not trained again; of the rest, no epoch twice.
    assert (cell / "metrics.json").stat() == finished
    assert "[1/3]" not in result.stdout
    assert re.search(r"none-relu seed0\nfake/8/2: .* parameters\nepoch 2/3", result.stdout)
    assert (pretrained / "log.csv").read_text().count("\n") == 1 + 3
    accuracies = re.findall(r"^\[3/3\] (\S+) seed0: .* ([\d.]+)%$", result.stdout, re.MULTILINE)
    [(name, percent)] = accuracies
    assert name == "none-ste_sign-plain-relu"

    rows = list(csv.DictReader((folder / "ablation.csv").read_text().splitlines()))
    assert [row["start"] for row in rows] == ["scratch", "relu"]
    assert float(rows[1]["mean"]) == pytest.approx(float(percent) / 100, abs=1e-4)
    assert (folder / "ablation.png").stat().st_size > 1000
    config = json.loads((folder / "cells" / name / "seed0" / "config.json").read_text())
    assert config["recipe"]["start"] == str(pretrained / "model.keras")

    config = recipes.load(recipe)
    config.batch_size = 32
    with pytest.raises(ValueError, match=r"started with .*recipe.batch_size=64.*=32"):
        study(config, folder, start=["scratch"])


def test_the_plan_pretrains_in_the_papers_order_and_shares(recipe):
    cells = ablation.select_cells(shortcuts=["per_conv", "none"])
    runs = ablation._plan(recipes.load(recipe), cells, [3, 4], 5, Path("/study"))
    assert len(runs) == 2 * (24 + 2 * 2)
    for run in runs.values():
        recipes.check(run)

    def steps(path):
        """[(activation, shortcuts, epochs, seed)] of all that a run builds on, and its own."""
        stages = recipes.stages(runs[Path(path)])
        own = [
            (stage.model.activation, stage.model.shortcuts, stage.epochs, stage.seed)
            for stage in stages
        ]
        start = stages[0].start
        if start == "scratch":
            return own
        assert list(runs).index(Path(start).parent) < list(runs).index(Path(path))
        return steps(Path(start).parent) + own

    assert steps("/study/cells/none-ste_sign-plain-clip/seed4") == [
        ("relu", "none", 5, 4),
        ("leaky_clip", "none", 5, 4),
        ("clip", "none", 5, 4),
        ("ste_sign", "none", 2, 4),
    ]
    assert steps("/study/cells/per_conv-approx_sign-plain-relu/seed3") == [
        ("relu", "per_conv", 5, 3),
        ("approx_sign", "per_conv", 2, 3),
    ]
    assert steps("/study/cells/none-approx_sign-plain-scratch/seed3") == [
        ("approx_sign", "none", 2, 3)
    ]


class TestErrors:
    def test_a_recipe_of_something_else(self, recipe, tmp_path):
        config = recipes.load(recipe)
        config.model.name = "BiRealNet34"
        with pytest.raises(ValueError, match=r"must be that of a BiRealNet18.*'BiRealNet34'"):
            study(config, tmp_path / "study")
        config = recipes.load(recipe).unlock()
        config.start = "elsewhere.keras"
        with pytest.raises(ValueError, match="must be without the field `start`"):
            study(config, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    def test_a_folder_with_other_things(self, recipe, tmp_path):
        with pytest.raises(ValueError, match="`output_dir` is not empty"):
            study(recipes.load(recipe), tmp_path)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--shortcuts=both", "flag --shortcuts=.*: must be some of per_conv,resnet,none"),
            ("--starts=", "flag --starts=.*: must be some of clip,scratch,relu"),
            ("--seeds=0,one", "flag --seeds=.*: must be ints from 0"),
            ("--pretrain_epochs=0", "flag --pretrain_epochs=0: .*"),
            ("--config.epoch=2", r".*A recipe has no field `epoch`. Near: epochs"),
            ("extra", "Unexpected argument 'extra': every argument is a --flag"),
        ],
    )
    def test_a_wrong_command_line_is_one_line_and_status_2(self, recipe, argument, message):
        arguments = [f"--config={recipe}", "--dataset=fake/8/2", "--output_dir=study", argument]
        result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(
            rf"bireal-ablate: {message}\.? See bireal-ablate --help\.\n", result.stderr
        )

    def test_the_flags_offer_what_there_is(self):
        result = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
        for choices in ablation.AXES.values():
            assert f"(default: '{','.join(choices)}')" in result.stdout
