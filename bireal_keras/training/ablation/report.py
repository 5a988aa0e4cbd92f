"""The tables and the picture of a study."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bireal_keras import _files
from bireal_keras.training.ablation.cells import AXES
from bireal_keras.training.ablation.effects import Effect, effects
from bireal_keras.training.ablation.lengths import Lengths
from bireal_keras.training.ablation.results import Result, read_results, read_search

_SearchResults = dict[str, dict[float, float | None]]


def write_tables(output_dir: str | os.PathLike[str]) -> None:
    """Writes what is finished in a study's folder: ablation.md, .csv, .json and .png.

    The Markdown file has the cells; what each idea brings, and whether the paper's claim holds,
    see `Effect`; and what each learning rate brought, where there were several. The JSON file has
    all of that for programs.
    """
    folder = Path(output_dir).expanduser()
    results, search = read_results(folder), read_search(folder)
    found = effects(results)
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _files.write(folder / "ablation.csv", _csv(results))
    _files.write(folder / "ablation.md", _markdown(results, found, search, description))
    _files.write(folder / "ablation.json", _json(results, found, search, description))
    if results:
        _plot(results, found, folder / "ablation.png")


def _csv(results: Sequence[Result]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*AXES, "seeds", "mean", "spread", "accuracies", "learning_rate"])
    for result in results:
        spread = "" if result.spread is None else f"{result.spread:.6f}"
        accuracies = " ".join(f"{accuracy:.6f}" for accuracy in result.accuracies.values())
        seeds = " ".join(map(str, result.accuracies))
        cell = dataclasses.astuple(result.cell)
        writer.writerow(
            [*cell, seeds, f"{result.mean:.6f}", spread, accuracies, f"{result.learning_rate:g}"]
        )
    return text.getvalue()


def _json(
    results: Sequence[Result],
    found: Sequence[Effect],
    search: _SearchResults,
    description: dict[str, Any],
) -> str:
    lengths = Lengths.of(description)
    content = {
        "study": description,
        "cells": [
            {
                **dataclasses.asdict(result.cell),
                "epochs": lengths.total(result.cell.start),
                "learning_rate": result.learning_rate,
                "accuracies": result.accuracies,
                "mean": result.mean,
                "spread": result.spread,
            }
            for result in results
        ],
        "ideas": [
            {
                **dataclasses.asdict(effect),
                "mean": effect.mean,
                "interval": effect.interval,
                "verdict": effect.verdict,
            }
            for effect in found
        ],
        "search": search,
    }
    return json.dumps(content, indent=2) + "\n"


def _markdown(
    results: Sequence[Result],
    found: Sequence[Effect],
    search: _SearchResults,
    description: dict[str, Any],
) -> str:
    lengths = Lengths.of(description)
    lines = [
        f"# Ablation on {description['dataset']}",
        "",
        f"{_how(lengths, description)} Accuracy on the validation split in %; spread: sample "
        "standard deviation over the seeds.",
        "",
        "| shortcuts | activation | weight gradient | start | epochs in all | learning rate "
        "| seeds | accuracy | spread |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        spread = "" if result.spread is None else f"{100 * result.spread:.2f}"
        lines.append(
            f"| {' | '.join(dataclasses.astuple(result.cell))} "
            f"| {lengths.total(result.cell.start)} | {result.learning_rate:g} "
            f"| {len(result.accuracies)} | {100 * result.mean:.2f} | {spread} |"
        )
    lines += [
        "",
        "What each idea brings, in points: the difference between two runs with the same seed that "
        "are equal but for it, its mean over the seeds, and the 95 % confidence interval of that "
        "mean by Student's t; in how many pairs it is positive; and what becomes here of the "
        "paper's claim, that the idea is better. It holds where the interval lies above zero, it "
        "does not where it lies below, and otherwise it is not decided.",
        "",
        "| idea | instead of | seeds | difference | interval | positive | claim |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for effect in found:
        interval = effect.interval
        told = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else ""
        lines.append(
            f"| {effect.axis.replace('_', ' ')}: {effect.idea} | {effect.other} "
            f"| {len(effect.points)} | {effect.mean:+.2f} | {told} "
            f"| {effect.positive} of {effect.pairs} | {effect.verdict} |"
        )
    if search:
        lines += ["", *_search_table(search)]
    return "\n".join(lines) + "\n"


def _how(lengths: Lengths, description: dict[str, Any]) -> str:
    """How the cells were trained, in sentences."""
    common = description["recipe"]
    text = (
        f"Width {common['model'].get('width', 64)}, optimizer {common['optimizer']['name']}, "
        f"{common['schedule']['name']} schedule, batch size {common['batch_size']}. "
    )
    if lengths.is_equal:
        text += (
            f"Every cell has {lengths.epochs} epochs in all, of which each real-valued network "
            f"before it takes {lengths.pretrain_epochs}."
        )
    else:
        text += (
            f"Epochs of 1-bit training: {lengths.epochs}; of each real-valued network before it: "
            f"{lengths.pretrain_epochs}."
        )
    return text


def _search_table(search: _SearchResults) -> list[str]:
    rates = sorted({rate for accuracies in search.values() for rate in accuracies})
    lines = [
        "The learning rate of each network is the one with the highest accuracy, in %, on a tenth "
        "of the training images, held out, after training on the others with one seed.",
        "",
        f"| network | {' | '.join(f'{rate:g}' for rate in rates)} |",
        f"|---|{'---:|' * len(rates)}",
    ]
    for network, accuracies in search.items():
        cells = [_told(accuracies[rate]) if rate in accuracies else "" for rate in rates]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return lines


def _told(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f}"


def _plot(results: Sequence[Result], found: Sequence[Effect], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [len(results), *([len(found)] if found else [])]
    figure = Figure(figsize=(8, 1.2 * len(rows) + 0.3 * sum(rows)), layout="constrained")
    panels = figure.subplots(len(rows), squeeze=False, height_ratios=[n + 2 for n in rows])[:, 0]
    _plot_cells(panels[0], results)
    if found:
        _plot_effects(panels[1], found)
    for axes in panels:
        axes.grid(axis="x", alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    FigureCanvasAgg(figure)
    with _files.replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def _plot_cells(axes: Any, results: Sequence[Result]) -> None:
    colours = {shortcuts: f"C{index}" for index, shortcuts in enumerate(AXES["shortcuts"])}
    for row, result in enumerate(results):
        colour = colours[result.cell.shortcuts]
        percent = [100 * accuracy for accuracy in result.accuracies.values()]
        axes.barh(row, 100 * result.mean, height=0.4, color=colour, alpha=0.25)
        axes.plot(percent, [row] * len(percent), "o", color=colour, markersize=4)
    _name_rows(axes, [", ".join(dataclasses.astuple(result.cell)) for result in results])
    axes.set_xlim(left=0)
    axes.set_xlabel("validation accuracy in %: every seed, and the mean")
    axes.set_title(", ".join(axis.replace("_", " ") for axis in AXES), fontsize=8, loc="left")


def _plot_effects(axes: Any, found: Sequence[Effect]) -> None:
    axes.axvline(0, color="0.3", linewidth=1)
    for row, effect in enumerate(found):
        points = list(effect.points.values())
        if effect.interval:
            axes.plot(effect.interval, [row, row], color="0.75", linewidth=5, solid_capstyle="butt")
        axes.plot(points, [row] * len(points), "o", color="black", markersize=4)
    _name_rows(axes, [f"{effect.idea}, not {effect.other}: {effect.verdict}" for effect in found])
    axes.set_xlabel("points that an idea brings: every seed, and 95 % confidence interval")


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
