"""The trainings that a study is made of, and the recipe of each."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections

from bireal_keras.training import run_folder
from bireal_keras.training.ablation.cells import Cell
from bireal_keras.training.ablation.lengths import Lengths
from bireal_keras.training.ablation.results import DIVERGED, accuracy_of

# Share of the training images that learning rates are chosen on.
HELD_OUT = 0.1


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained with every seed, and before that with every learning rate.

    Attributes:
        path: in the folder of the study.
        model: arguments of `AblationNet18`.
        activations: of the stages of a real-valued network; a cell has none.
        before: what it starts from.
        start: of a cell.
    """

    path: str
    model: dict[str, str]
    activations: tuple[str, ...] = ()
    before: "Network | None" = None
    start: str = "scratch"

    @classmethod
    def of(cls, cell: Cell) -> "Network":
        """A cell, with what it starts from."""
        shortcuts = {"shortcuts": cell.shortcuts}
        relu = cls(f"pretrained/{cell.shortcuts}-relu", shortcuts, ("relu",))
        clip = cls(f"pretrained/{cell.shortcuts}-clip", shortcuts, ("leaky_clip", "clip"), relu)
        choices = dataclasses.asdict(cell)
        del choices["start"]
        before = {"scratch": None, "relu": relu, "clip": clip}[cell.start]
        return cls(f"cells/{cell}", choices, before=before, start=cell.start)

    def with_those_before(self) -> Iterator["Network"]:
        """What it starts from, the first one first, and itself."""
        if self.before is not None:
            yield from self.before.with_those_before()
        yield self

    def epochs(self, lengths: Lengths) -> int:
        """Its own, without what is before it."""
        if self.activations:
            return len(self.activations) * lengths.pretrain_epochs
        return lengths.one_bit(self.start)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: of a network with a seed, or in the search with a learning rate.

    Attributes:
        folder: of the run.
        network: what is trained.
        epochs: for how long.
        seed: with which.
        searched_rate: the learning rate that is tried; None of a run outside the search.
    """

    folder: Path
    network: Network
    epochs: int
    seed: int
    searched_rate: float | None = None

    def __str__(self) -> str:
        kind = "search " if self.searched_rate is not None else ""
        return f"{kind}{Path(self.network.path).name} {self.folder.name}"

    @property
    def is_finished(self) -> bool:
        return (self.folder / "metrics.json").is_file() or self.has_diverged

    @property
    def has_diverged(self) -> bool:
        return (self.folder / DIVERGED).is_file()

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.folder / "model.keras"

    def epochs_left(self) -> int:
        if self.is_finished:
            return 0
        return self.epochs - len(run_folder.read_log(self.folder / "log.csv"))

    def outcome(self) -> str:
        """What came of it, in words."""
        if self.has_diverged:
            return "the loss diverged"
        images = "validation" if self.searched_rate is None else "held-out"
        return f"{images} accuracy {accuracy_of(self.folder):.2%}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """All trainings of a study.

    Attributes:
        folder: of the study.
        config: the recipe that is common to all; its seed is that of the search.
        cells: what to train.
        seeds: with which seeds.
        rates: which learning rates to choose from, ascending; a single one needs no search.
        lengths: how long.
        search_lengths: how long in the search.
    """

    folder: Path
    config: ml_collections.ConfigDict
    cells: Sequence[Cell]
    seeds: Sequence[int]
    rates: tuple[float, ...]
    lengths: Lengths
    search_lengths: Lengths

    def runs(self) -> list[Run]:
        """Each after those that it starts from and those that choose its learning rate."""
        networks = {
            network.path: network
            for cell in self.cells
            for network in Network.of(cell).with_those_before()
        }.values()
        searches = [run for network in networks for run in self._searches(network)]
        return searches + [
            self._trained(network, seed)
            for seed, network in itertools.product(self.seeds, networks)
        ]

    def _searches(self, network: Network) -> list[Run]:
        if len(self.rates) == 1:
            return []
        folder, epochs = self.folder / "search" / network.path, network.epochs(self.search_lengths)
        return [
            Run(folder / f"rate{rate}", network, epochs, self.config.seed, rate)
            for rate in self.rates
        ]

    def _trained(self, network: Network, seed: int) -> Run:
        folder = self.folder / network.path / f"seed{seed}"
        return Run(folder, network, network.epochs(self.lengths), seed)

    def recipe_of(self, run: Run) -> ml_collections.ConfigDict:
        """The recipe of a run; what it starts from and what chooses its rate are finished.

        Raises:
            FloatingPointError: the loss became NaN or infinite with every learning rate.
        """
        return self.unchosen_recipe_of(run, self._rate_of(run), self._start_of(run))

    def unchosen_recipe_of(
        self, run: Run, rate: float, start: str = "scratch"
    ) -> ml_collections.ConfigDict:
        """The recipe of a run with any learning rate and start."""
        config = ml_collections.ConfigDict(self.config.to_dict(), type_safe=False)
        config.model.update(name="AblationNet18", **run.network.model)
        config.update(seed=run.seed, start=start, epochs=run.epochs)
        config.optimizer.learning_rate = rate
        if run.searched_rate is not None:
            config.dataset.held_out = HELD_OUT
        stages = run.network.activations
        if len(stages) == 1:
            config.model.activation = stages[0]
        elif stages:
            epochs = run.epochs // len(stages)
            config.stages = tuple(
                ml_collections.ConfigDict(
                    {"name": name, "epochs": epochs, "model": {"activation": name}}
                )
                for name in stages
            )
            del config.epochs
        return config

    def _start_of(self, run: Run) -> str:
        before = run.network.before
        if before is None:
            return "scratch"
        is_search = run.searched_rate is not None
        source = self._best(before) if is_search else self._trained(before, run.seed)
        return str(source.model)

    def _rate_of(self, run: Run) -> float:
        if run.searched_rate is not None:
            return run.searched_rate
        if len(self.rates) == 1:
            return self.rates[0]
        return self.rates[self._searches(run.network).index(self._best(run.network))]

    def _best(self, network: Network) -> Run:
        """The run of the search with the highest accuracy; of equals, that with the lowest rate."""
        runs = [run for run in self._searches(network) if not run.has_diverged]
        if not runs:
            raise FloatingPointError(
                f"{Path(network.path).name}: the loss became NaN or infinite with each of the "
                f"learning rates {', '.join(map(str, self.rates))}."
            )
        return max(runs, key=lambda run: accuracy_of(run.folder))
