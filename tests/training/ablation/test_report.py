"""The tables and the picture of a study."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from bireal_keras import recipes
from bireal_keras.training import ablation


def write_run(folder, metrics, learning_rate):
    folder.mkdir(parents=True)
    config = {"recipe": {"optimizer": {"learning_rate": learning_rate}}}
    (folder / "config.json").write_text(json.dumps(config))
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))


def write_study(folder, accuracies, **description):
    """A finished study: {cell: {seed: accuracy}}."""
    config = recipes.load("cifar10").to_dict()
    content = {"recipe": config, "dataset": "cifar10", "pretrain_epochs": 5, **description}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    for cell, by_seed in accuracies.items():
        for seed, accuracy in by_seed.items():
            metrics = {"seed": seed, "validation": {"accuracy": accuracy}}
            write_run(folder / "cells" / cell / f"seed{seed}", metrics, 0.005)


ACCURACIES = {
    "per_conv-approx_sign-plain-scratch": {0: 0.5, 1: 0.53, 10: 0.54},
    "none-approx_sign-plain-scratch": {0: 0.3, 1: 0.36},
    "none-ste_sign-plain-scratch": {1: 0.38},
    "none-ste_sign-plain-clip": {1: 0.25},
}


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path, ACCURACIES)
    # This cell is not finished.
    write_run(tmp_path / "cells" / "resnet-ste_sign-plain-clip" / "seed0", None, 0.005)
    ablation.write_tables(tmp_path)
    return tmp_path


def tables_of(path):
    """Each as its lines; all its rows have as many cells as its head."""
    tables = [
        table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.MULTILINE)
    ]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    return tables


def test_csv(study):
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
        assert row["learning_rate"] == "0.005"


def test_markdown(study):
    cells, ideas = tables_of(study / "ablation.md")
    assert "| per_conv | approx_sign | plain | scratch | 20 | 0.005 | 3 | 52.33 | 2.08 |" in cells
    # Pre-training has three stages.
    assert "| none | ste_sign | plain | clip | 35 | 0.005 | 1 | 25.00 |  |" in cells
    # 50 - 30 and 53 - 36, the third seed has no counterpart: 18.5 +- 12.706 * 2.1213 / sqrt(2).
    assert (
        "| shortcuts: per_conv | none | 2 | +18.50 | -0.56 to +37.56 | 2 of 2 | not decided |"
        in (ideas)
    )
    assert "| activation: approx_sign | ste_sign | 1 | -2.00 |  | 0 of 1 | not decided |" in ideas
    assert "| start: clip | scratch | 1 | -13.00 |  | 0 of 1 | not decided |" in ideas
    text = (study / "ablation.md").read_text()
    assert "weight gradient: magnitude_aware" not in text
    assert "Epochs of 1-bit training: 20; of each real-valued network before it: 5." in text


def test_markdown_of_an_equal_budget_with_chosen_learning_rates(tmp_path):
    accuracies = {
        "none-approx_sign-plain-clip": {0: 0.50, 1: 0.52, 2: 0.51},
        "none-approx_sign-plain-relu": {0: 0.40, 1: 0.41, 2: 0.42},
    }
    write_study(tmp_path, accuracies, equal_budget=True)
    search = tmp_path / "search"
    for rate, accuracy in ((0.01, 0.4), (0.002, 0.45)):
        metrics = {"seed": 0, "validation": {"accuracy": accuracy}}
        write_run(search / "pretrained/none-relu" / f"rate{rate}", metrics, rate)
    write_run(search / "cells/none-approx_sign-plain-relu/rate0.01", None, 0.01)
    (search / "cells/none-approx_sign-plain-relu/rate0.01/diverged.txt").touch()
    ablation.write_tables(tmp_path)

    assert (
        "Every cell has 20 epochs in all, of which each real-valued network before it takes 5."
        in (tmp_path / "ablation.md").read_text()
    )
    cells, ideas, rates = tables_of(tmp_path / "ablation.md")
    assert "| none | approx_sign | plain | clip | 20 | 0.005 | 3 | 51.00 | 1.00 |" in cells
    # 10, 11 and 9: 10 +- 4.303 / sqrt(3).
    assert ideas[2:] == ["| start: clip | relu | 3 | +10.00 | +7.52 to +12.48 | 3 of 3 | holds |"]
    assert rates == [
        "| network | 0.002 | 0.01 |",
        "|---|---:|---:|",
        "| cells/none-approx_sign-plain-relu |  | diverged |",
        "| pretrained/none-relu | 45.00 | 40.00 |",
    ]

    content = json.loads((tmp_path / "ablation.json").read_text())
    assert content["study"]["equal_budget"] is True
    assert content["cells"][0]["accuracies"] == {"0": 0.50, "1": 0.52, "2": 0.51}
    assert [cell["epochs"] for cell in content["cells"]] == [20, 20]
    [idea] = content["ideas"]
    assert (idea["axis"], idea["idea"], idea["other"]) == ("start", "clip", "relu")
    assert idea["points"] == pytest.approx({"0": 10, "1": 11, "2": 9})
    assert idea["interval"] == pytest.approx([7.516, 12.484], abs=1e-3)
    assert idea["verdict"] == "holds"
    assert content["search"]["cells/none-approx_sign-plain-relu"] == {"0.01": None}


def test_plot(study):
    image = np.asarray(Image.open(study / "ablation.png").convert("RGB"))
    assert min(image.shape[:2]) > 200
    # Each kind of shortcut that there is has a colour: matplotlib's blue and green.
    pixels = {tuple(pixel) for pixel in image.reshape(-1, 3)}
    assert {(31, 119, 180), (44, 160, 44)} <= pixels
    assert (255, 127, 14) not in pixels


def test_nothing_finished(tmp_path):
    write_study(tmp_path, {})
    ablation.write_tables(tmp_path)
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 1
    assert not (tmp_path / "ablation.png").exists()
