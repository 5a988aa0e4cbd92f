"""The ablation study: what does each of the paper's ideas bring?

A *cell* makes a choice on each of four axes, one for each idea (Liu et al., ECCV 2018,
arXiv:1808.00278): the shortcuts, the gradient of the activations' sign, the gradient of the
weights' sign, and the weights to start from. Every cell is trained with every seed, by
`training.train_and_evaluate` from one recipe. All cells of a seed that start from the same
real-valued network share it.

A study is a folder. What is finished in it is not trained again, and what was interrupted is
resumed; more cells and more seeds can follow.
"""

import csv
import dataclasses
import io
import itertools
import json
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from bireal_keras import _files, training
from bireal_keras.training import recipe, run_folder

# Every axis and its choices, the paper's first: the one list of them, which the command reads
# without TensorFlow. All but the last axis are arguments of `AblationNet18`, which knows the
# choices by the same names.
AXES: dict[str, tuple[str, ...]] = {
    "shortcuts": ("per_conv", "resnet", "none"),
    "activation": ("approx_sign", "ste_sign"),
    "weight_gradient": ("magnitude_aware", "plain"),
    "start": ("clip", "scratch", "relu"),
}

_MODEL = "BiRealNet18"
# Fields of a recipe that would make one run another experiment than the next.
_UNWANTED = ("stages", "start", "freeze", "binary_weights", "distillation", "reestimate_epochs")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A choice on each of `AXES`."""

    shortcuts: str
    activation: str
    weight_gradient: str
    start: str

    def __str__(self) -> str:
        return "-".join(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Result:
    """The validation accuracy of a cell, by seed."""

    cell: Cell
    accuracies: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies.values())

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None of one seed."""
        values = list(self.accuracies.values())
        return statistics.stdev(values) if len(values) > 1 else None


def select_cells(**choices: Sequence[str]) -> list[Cell]:
    """All combinations of the given choices; of an axis that is not given, all.

    Raises:
        ValueError: there is no such axis or choice, or an axis without any.
    """
    for axis, chosen in choices.items():
        if axis not in AXES:
            raise ValueError(f"An axis must be one of {list(AXES)}. Received: {axis!r}.")
        if not chosen or not set(chosen) <= set(AXES[axis]):
            raise ValueError(
                f"`{axis}` must be some of {', '.join(AXES[axis])}. "
                f"Received: {', '.join(chosen) or 'none'}."
            )
    return [Cell(*choice) for choice in itertools.product(*({**AXES, **choices}[a] for a in AXES))]


def run(
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
    *,
    seeds: Sequence[int],
    dataset: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    pretrain_epochs: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    report: Callable[[str], None] = print,
) -> list[Result]:
    """Trains what is missing of a study, and writes its table anew after every run.

    Writes into `output_dir`:

        config.json             the recipe and the dataset of all runs
        pretrained/<net>/seed0  runs of real-valued networks; see `training`
        cells/<cell>/seed0      runs of the cells
        ablation.md, .csv, .png what came out; see `write_tables`

    Args:
        config: recipe of a `BiRealNet18`, without stages. What it says of the optimizer, the
            schedule, the images and so on goes for all runs, pre-training too; its seed does
            not matter.
        cells: what to train; see `select_cells`.
        seeds: with which seeds. Each is done with all cells before the next.
        dataset: see `data.load`.
        output_dir: a folder that is new or empty, or that of the study.
        pretrain_epochs: for each of the real-valued networks relu, leaky_clip and clip, which
            start from one another in this order; by default as many as the recipe's.
        data_dir, download: see `data.load`.
        report: is told what happens, in one line each time.

    Returns:
        The results of all that is finished in the folder.

    Raises:
        ValueError: the recipe, the dataset or the folder cannot be used, or the folder holds
            a study of another recipe.
        FloatingPointError: a run's loss became NaN or infinite.
        training.Terminated: SIGTERM or Ctrl-C came. What was being trained has been saved.
    """
    # Here, so that the command offers the axes without waiting for TensorFlow.
    from bireal_keras._keras import keras

    recipe.check(config)
    for field in _UNWANTED:
        if recipe.is_set(config, field):
            raise ValueError(f"The recipe of an ablation must be without the field `{field}`.")
    if config.model.name != _MODEL:
        raise ValueError(
            f"The recipe of an ablation must be that of a {_MODEL}. "
            f"Received: model.name={config.model.name!r}."
        )
    if pretrain_epochs is None:
        pretrain_epochs = config.epochs
    if type(pretrain_epochs) is not int or pretrain_epochs < 1:
        raise ValueError(
            f"`pretrain_epochs` must be a positive int. Received: {pretrain_epochs!r}."
        )
    folder = Path(os.path.abspath(Path(output_dir).expanduser()))
    common = config.to_dict()
    del common["seed"]
    description = {
        "recipe": common,
        "dataset": os.fspath(dataset),
        "pretrain_epochs": pretrain_epochs,
    }
    is_study = (folder / "config.json").is_file()
    run_folder.check_output_dir(folder, resume=is_study)
    if is_study:
        run_folder.check_same_run(folder, description, recipe.DEFAULTS)

    runs = _plan(config, cells, seeds, pretrain_epochs, folder)
    for run_config in runs.values():
        recipe.check(run_config)
    folder.mkdir(parents=True, exist_ok=True)
    _files.write(folder / "config.json", run_folder.to_json(description))
    for number, (run_dir, run_config) in enumerate(runs.items(), start=1):
        name = f"{run_dir.parent.name} {run_dir.name}"
        if (run_dir / "metrics.json").is_file():
            continue
        report(f"[{number}/{len(runs)}] {name}")
        # The models of earlier runs would stay in memory.
        keras.backend.clear_session()
        try:
            training.train_and_evaluate(
                run_config,
                dataset=dataset,
                output_dir=run_dir,
                data_dir=data_dir,
                resume=(run_dir / "config.json").is_file(),
                download=download,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"{name}: {error}") from error
        accuracy = _metrics(run_dir)["validation"]["accuracy"]
        report(f"[{number}/{len(runs)}] {name}: validation accuracy {accuracy:.2%}")
        write_tables(folder)
    write_tables(folder)
    return read_results(folder)


def _plan(
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    pretrain_epochs: int,
    folder: Path,
) -> dict[Path, ml_collections.ConfigDict]:
    """Recipes of all runs by their folders, each after those that it starts from."""
    runs: dict[Path, ml_collections.ConfigDict] = {}

    def of(path: Path, seed: int, model: dict[str, str], **fields: Any) -> None:
        run_config = ml_collections.ConfigDict(config.to_dict())
        run_config.model.update(name="AblationNet18", **model)
        run_config.update(seed=seed, **fields)
        if "stages" in fields:
            del run_config.epochs, run_config.start
        runs[path] = run_config

    for seed, cell in itertools.product(seeds, cells):
        shortcuts = {"shortcuts": cell.shortcuts}
        relu, clip = (
            folder / "pretrained" / f"{cell.shortcuts}-{activation}" / f"seed{seed}"
            for activation in ("relu", "clip")
        )
        if cell.start != "scratch":
            of(relu, seed, {**shortcuts, "activation": "relu"}, epochs=pretrain_epochs)
        if cell.start == "clip":
            stages = [
                {"name": name, "epochs": pretrain_epochs, "model": {"activation": name}}
                for name in ("leaky_clip", "clip")
            ]
            stages[0]["start"] = str(relu / "model.keras")
            of(clip, seed, shortcuts, stages=tuple(map(ml_collections.ConfigDict, stages)))
        start = {"scratch": "scratch", "relu": relu, "clip": clip}[cell.start]
        if isinstance(start, Path):
            start = str(start / "model.keras")
        choices = dataclasses.asdict(cell)
        del choices["start"]
        of(folder / "cells" / str(cell) / f"seed{seed}", seed, choices, start=start)
    return runs


def read_results(output_dir: str | os.PathLike[str]) -> list[Result]:
    """Reads what is finished in a study's folder, in the order of `select_cells`."""
    folder = Path(output_dir).expanduser() / "cells"
    results = []
    for cell in select_cells():
        accuracies = {}
        for path in (folder / str(cell)).glob("seed*/metrics.json"):
            metrics = _metrics(path.parent)
            accuracies[metrics["seed"]] = metrics["validation"]["accuracy"]
        if accuracies:
            results.append(Result(cell, dict(sorted(accuracies.items()))))
    return results


def _metrics(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))


def write_tables(output_dir: str | os.PathLike[str]) -> None:
    """Writes what is finished in a study's folder as ablation.md, ablation.csv, ablation.png.

    The Markdown file has two tables: the cells, and what each idea brings: the difference that
    it makes between two cells with the same seed that are equal but for it.
    """
    folder = Path(output_dir).expanduser()
    results = read_results(folder)
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _files.write(folder / "ablation.csv", _csv(results))
    _files.write(folder / "ablation.md", _markdown(results, description))
    if results:
        _plot(results, folder / "ablation.png")


def _csv(results: Iterable[Result]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*AXES, "seeds", "mean", "spread", "accuracies"])
    for result in results:
        spread = "" if result.spread is None else f"{result.spread:.6f}"
        accuracies = " ".join(f"{accuracy:.6f}" for accuracy in result.accuracies.values())
        seeds = " ".join(map(str, result.accuracies))
        cell = dataclasses.astuple(result.cell)
        writer.writerow([*cell, seeds, f"{result.mean:.6f}", spread, accuracies])
    return text.getvalue()


def _markdown(results: list[Result], description: dict[str, Any]) -> str:
    common, pretrain_epochs = description["recipe"], description["pretrain_epochs"]
    extra = {start: {"clip": 3, "relu": 1}.get(start, 0) for start in AXES["start"]}
    lines = [
        f"# Ablation on {description['dataset']}",
        "",
        f"Width {common['model'].get('width', 64)}, optimizer {common['optimizer']['name']}. "
        f"Epochs of 1-bit training: {common['epochs']}; of each real-valued network before it: "
        f"{pretrain_epochs}. Accuracy on the validation split in %; spread: sample standard "
        "deviation over the seeds.",
        "",
        "| shortcuts | activation | weight gradient | start | epochs in all | seeds | accuracy "
        "| spread |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for result in results:
        epochs = common["epochs"] + extra[result.cell.start] * pretrain_epochs
        spread = "" if result.spread is None else f"{100 * result.spread:.2f}"
        lines.append(
            f"| {' | '.join(dataclasses.astuple(result.cell))} | {epochs} "
            f"| {len(result.accuracies)} | {100 * result.mean:.2f} | {spread} |"
        )
    lines += [
        "",
        "What each idea brings, in points: the mean difference between two runs with the same "
        "seed that are equal but for it, its spread, and in how many of them it is positive.",
        "",
        "| idea | instead of | pairs | difference | spread | positive |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for axis, (idea, *others) in AXES.items():
        for other in others:
            points = _differences(results, axis, idea, other)
            if points:
                spread = f"{statistics.stdev(points):.2f}" if len(points) > 1 else ""
                positive = sum(point > 0 for point in points)
                lines.append(
                    f"| {axis.replace('_', ' ')}: {idea} | {other} | {len(points)} "
                    f"| {statistics.fmean(points):+.2f} | {spread} | {positive} |"
                )
    return "\n".join(lines) + "\n"


def _differences(results: list[Result], axis: str, idea: str, other: str) -> list[float]:
    """Points of accuracy by which runs with `idea` are better than those with `other`."""
    by_cell = {result.cell: result.accuracies for result in results}
    return [
        100 * (accuracy - by_cell[counterpart][seed])
        for cell, accuracies in by_cell.items()
        if getattr(cell, axis) == idea
        for counterpart in [dataclasses.replace(cell, **{axis: other})]
        for seed, accuracy in accuracies.items()
        if seed in by_cell.get(counterpart, {})
    ]


def _plot(results: list[Result], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.3 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    colours = {shortcuts: f"C{index}" for index, shortcuts in enumerate(AXES["shortcuts"])}
    for row, result in enumerate(results):
        colour = colours[result.cell.shortcuts]
        percent = [100 * accuracy for accuracy in result.accuracies.values()]
        axes.barh(row, 100 * result.mean, height=0.4, color=colour, alpha=0.25)
        axes.plot(percent, [row] * len(percent), "o", color=colour, markersize=4)
    axes.set_yticks(
        range(len(results)),
        [", ".join(dataclasses.astuple(result.cell)) for result in results],
        fontsize=8,
    )
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("validation accuracy in %: every seed, and the mean")
    axes.set_title(", ".join(axis.replace("_", " ") for axis in AXES), fontsize=8, loc="left")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    FigureCanvasAgg(figure)
    with _files.replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
