"""Training what is missing of a study, and before that choosing learning rates."""

import functools
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections

from bireal_keras import _files, training
from bireal_keras.training import recipe, run_folder
from bireal_keras.training.ablation.cells import Cell
from bireal_keras.training.ablation.lengths import Lengths
from bireal_keras.training.ablation.plan import Plan, Run
from bireal_keras.training.ablation.report import write_tables
from bireal_keras.training.ablation.results import DIVERGED, Result, read_results

if TYPE_CHECKING:
    from bireal_keras.training.data import ImageDataset

_MODEL = "BiRealNet18"
# Fields of a recipe that would make one run another experiment than the next, or that choose by
# the images which are to judge.
_UNWANTED = (
    "stages",
    "start",
    "freeze",
    "binary_weights",
    "distillation",
    "reestimate_epochs",
    "keep",
    "patience",
)
# With equal budgets, each of the four trainings of a cell that starts from clip has a quarter.
_PARTS = 4


def run(
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
    *,
    seeds: Sequence[int],
    dataset: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    pretrain_epochs: int | None = None,
    equal_budget: bool = False,
    learning_rates: Sequence[float] = (),
    search_epochs: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    report: Callable[[str], None] = print,
) -> list[Result]:
    """Trains what is missing of a study, and writes its tables anew after every run.

    Writes into `output_dir`:

        config.json               the recipe, the dataset and what else is the same for all runs
        search/<network>/rate...  runs that choose learning rates
        pretrained/<net>/seed0    runs of real-valued networks; see `training`
        cells/<cell>/seed0        runs of the cells
        ablation.md, .csv, .json, .png
                                  what came out; see `write_tables`

    Args:
        config: recipe of a `BiRealNet18`, without stages. What it says of the optimizer, the
            schedule, the images and so on goes for all runs, pre-training too; its seed is that
            of the search.
        cells: what to train; see `select_cells`.
        seeds: with which seeds. Each is done with all cells before the next.
        dataset: see `data.load`.
        output_dir: a folder that is new or empty, or that of the study.
        pretrain_epochs: for each of the real-valued networks relu, leaky_clip and clip, which
            start from one another in this order. Default: as many as the recipe's, or with an
            equal budget a quarter of them.
        equal_budget: whether the recipe's epochs are those of a cell in all, with what it takes
            to train the networks that it starts from. They are trained once for all cells, and
            counted for each.
        learning_rates: which to choose from for every network, real-valued ones too: the one
            with the highest accuracy on a tenth of the training images, held out, after training
            on the others once. The validation images choose nothing. Default: the recipe's.
        search_epochs: what the recipe's epochs are in the trainings that choose; pre-training is
            shortened in proportion. Default: as many.
        data_dir, download: see `data.load`.
        report: is told what happens, in one line each time: first how many trainings and epochs
            the study takes, and after the first epochs how long that will be.

    Returns:
        The results of all that is finished in the folder.

    Raises:
        ValueError: the recipe, the dataset, an argument or the folder cannot be used, or the
            folder holds another study.
        FloatingPointError: a run's loss became NaN or infinite; in the search, with every rate.
        training.Terminated: SIGTERM or Ctrl-C came. What was being trained has been saved.
    """
    _check_recipe(config)
    lengths = _lengths(config.epochs, pretrain_epochs, equal_budget, cells)
    rates = _rates(learning_rates) or (config.optimizer.learning_rate,)
    search_lengths = _search_lengths(lengths, search_epochs, rates, cells)
    folder = Path(os.path.abspath(Path(output_dir).expanduser()))
    common = config.to_dict()
    del common["seed"]
    description = {
        "recipe": common,
        "dataset": os.fspath(dataset),
        "pretrain_epochs": lengths.pretrain_epochs,
    }
    # Left out where they are not used, as in studies that older versions began.
    if equal_budget:
        description["equal_budget"] = True
    if len(rates) > 1:
        description["learning_rates"] = list(rates)
        description["search_epochs"] = search_lengths.epochs
    is_study = (folder / "config.json").is_file()
    run_folder.check_output_dir(folder, resume=is_study)
    if is_study:
        run_folder.check_same_run(folder, description, recipe.DEFAULTS)

    plan = Plan(folder, config, cells, seeds, rates, lengths, search_lengths)
    runs = plan.runs()
    for one in runs:
        recipe.check(plan.unchosen_recipe_of(one, rates[0]))
    # Here, so that the command offers the axes without waiting for TensorFlow.
    from bireal_keras.training import data

    # Once for all runs, which so decode the images once; a finished study needs none.
    images = functools.cache(lambda: data.load(dataset, data_dir=data_dir, download=download))
    folder.mkdir(parents=True, exist_ok=True)
    _files.write(folder / "config.json", run_folder.to_json(description))
    clock = _Clock(runs, report)
    report(clock.budget())
    for number, one in enumerate(runs, start=1):
        if one.is_finished:
            continue
        report(f"[{number}/{len(runs)}] {one}")
        _train(one, plan.recipe_of(one), images(), clock)
        report(f"[{number}/{len(runs)}] {one}: {one.outcome()}")
        report(clock.estimate())
        write_tables(folder)
    write_tables(folder)
    return read_results(folder)


def _train(
    run: Run, config: ml_collections.ConfigDict, images: "ImageDataset", clock: "_Clock"
) -> None:
    """Trains one run, from where it was interrupted."""
    from bireal_keras._keras import keras

    # The models of earlier runs would stay in memory.
    keras.backend.clear_session()
    try:
        training.train_and_evaluate(
            config,
            dataset=images,
            output_dir=run.folder,
            resume=(run.folder / "config.json").is_file(),
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: clock.tick(logs["seconds"])
                )
            ],
        )
    except FloatingPointError as error:
        if run.searched_rate is None:
            raise FloatingPointError(f"{run}: {error}") from error
        _files.write(run.folder / DIVERGED, f"{error}\n")


def _check_recipe(config: ml_collections.ConfigDict) -> None:
    recipe.check(config)
    for field in _UNWANTED:
        if recipe.is_set(config, field):
            raise ValueError(f"The recipe of an ablation must be without the field `{field}`.")
    if config.dataset.get("held_out"):
        raise ValueError("The recipe of an ablation must be without the field `dataset.held_out`.")
    if config.model.name != _MODEL:
        raise ValueError(
            f"The recipe of an ablation must be that of a {_MODEL}. "
            f"Received: model.name={config.model.name!r}."
        )


def _lengths(
    epochs: int, pretrain_epochs: int | None, is_equal: bool, cells: Sequence[Cell]
) -> Lengths:
    if pretrain_epochs is None:
        pretrain_epochs = max(1, epochs // _PARTS) if is_equal else epochs
    if type(pretrain_epochs) is not int or pretrain_epochs < 1:
        raise ValueError(
            f"`pretrain_epochs` must be a positive int. Received: {pretrain_epochs!r}."
        )
    lengths = Lengths(epochs, pretrain_epochs, is_equal)
    _check_lengths(lengths, cells, "epochs")
    return lengths


def _check_lengths(lengths: Lengths, cells: Sequence[Cell], name: str) -> None:
    for cell in cells:
        before = lengths.pretraining(cell.start)
        if lengths.one_bit(cell.start) < 1:
            raise ValueError(
                f"`{name}` must be more than the {before} epochs of pre-training that a cell from "
                f"{cell.start} takes out of them. Received: {name}={lengths.epochs}."
            )


def _rates(learning_rates: Sequence[float]) -> tuple[float, ...]:
    for rate in learning_rates:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            raise ValueError(f"`learning_rates` must be positive numbers. Received: {rate!r}.")
    rates = tuple(sorted({float(rate) for rate in learning_rates}))
    if len(rates) == 1:
        raise ValueError(
            "`learning_rates` must be several to choose from; a single one is the recipe's "
            f"optimizer.learning_rate. Received: {rates[0]}."
        )
    return rates


def _search_lengths(
    lengths: Lengths, epochs: int | None, rates: Sequence[float], cells: Sequence[Cell]
) -> Lengths:
    if epochs is None:
        return lengths
    if len(rates) == 1:
        raise ValueError(
            f"`search_epochs` needs `learning_rates` to choose from. Received: {epochs!r}."
        )
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"`search_epochs` must be a positive int. Received: {epochs!r}.")
    scaled = lengths.scaled(epochs)
    _check_lengths(scaled, cells, "search_epochs")
    return scaled


class _Clock:
    """How much of a study is left, in epochs and in time.

    Args:
        runs: of the study.
        report: is told once, after the first epochs, how long the study will take.
    """

    def __init__(self, runs: Sequence[Run], report: Callable[[str], None]):
        self._runs, self._report = runs, report
        self._seconds: list[float] = []

    def budget(self) -> str:
        """What the study takes."""
        searches = sum(run.searched_rate is not None for run in self._runs)
        chosen = f" ({searches} of them to choose learning rates)" if searches else ""
        epochs = sum(run.epochs for run in self._runs)
        return (
            f"{len(self._runs)} trainings{chosen}, {epochs:,} epochs in all; "
            f"{self._epochs_left():,} are left"
        )

    def tick(self, seconds: float) -> None:
        """Notes how long an epoch took. The first one includes building the graph."""
        self._seconds.append(seconds)
        if len(self._seconds) == 2:
            self._report(self.estimate())

    def estimate(self) -> str:
        """How long what is left will take."""
        left = self._epochs_left()
        if not self._seconds:
            return f"{left:,} epochs are left"
        minutes = round(left * statistics.median_low(self._seconds) / 60)
        return f"{left:,} epochs are left: about {minutes // 60} h {minutes % 60:02} min"

    def _epochs_left(self) -> int:
        return sum(run.epochs_left() for run in self._runs)
