"""What is finished in a study's folder."""

import dataclasses
import json
import os
import statistics
from pathlib import Path
from typing import Any

from bireal_keras.training.ablation.cells import Cell, select_cells

# Written into the folder of a run of the search whose loss became NaN or infinite.
DIVERGED = "diverged.txt"


@dataclasses.dataclass(frozen=True)
class Result:
    """The validation accuracy of a cell, by seed."""

    cell: Cell
    accuracies: dict[int, float]
    learning_rate: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies.values())

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None of one seed."""
        values = list(self.accuracies.values())
        return statistics.stdev(values) if len(values) > 1 else None


def read_results(output_dir: str | os.PathLike[str]) -> list[Result]:
    """Reads what is finished in a study's folder, in the order of `select_cells`."""
    folder = Path(output_dir).expanduser() / "cells"
    results = []
    for cell in select_cells():
        accuracies, learning_rate = {}, 0.0
        for path in (folder / str(cell)).glob("seed*/metrics.json"):
            metrics = _read(path)
            accuracies[metrics["seed"]] = metrics["validation"]["accuracy"]
            learning_rate = _learning_rate(path.parent)
        if accuracies:
            results.append(Result(cell, dict(sorted(accuracies.items())), learning_rate))
    return results


def read_search(output_dir: str | os.PathLike[str]) -> dict[str, dict[float, float | None]]:
    """What each learning rate brought each network on the images held out, as far as it is known.

    Returns:
        By the path of a network in the folder, as "cells/<cell>", and by learning rate: the
        accuracy, or None where the loss became NaN or infinite.
    """
    folder = Path(output_dir).expanduser() / "search"
    networks: dict[str, dict[float, float | None]] = {}
    for path in sorted(folder.glob("*/*")):
        found: dict[float, float | None] = {}
        for run in path.glob("rate*"):
            if (run / "metrics.json").is_file():
                found[_learning_rate(run)] = accuracy_of(run)
            elif (run / DIVERGED).is_file():
                found[_learning_rate(run)] = None
        if found:
            networks[path.relative_to(folder).as_posix()] = dict(sorted(found.items()))
    return networks


def accuracy_of(run_dir: Path) -> float:
    """The validation accuracy of a finished run."""
    return _read(run_dir / "metrics.json")["validation"]["accuracy"]


def _learning_rate(run_dir: Path) -> float:
    return _read(run_dir / "config.json")["recipe"]["optimizer"]["learning_rate"]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
