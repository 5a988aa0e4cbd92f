"""What each idea of the paper brings, and whether its claim holds, by a rule."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from bireal_keras.training.ablation.cells import AXES
from bireal_keras.training.ablation.results import Result

# Quantiles of Student's t for a two-sided interval of 95 %, for 1, 2, ... degrees of freedom. More
# take the last, which makes the interval a little too wide.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True)
class Effect:
    """What the paper's choice on an axis brings in place of another one.

    Runs are paired: equal but for this choice, of the same seed. What the seed draws, the initial
    weights of equal layers and the images' order, is then the same in both. The pairs of one seed
    are not independent of each other, so each seed gives one figure, their mean.

    Attributes:
        axis: one of `AXES`.
        idea: the paper's choice.
        other: what it is compared with.
        contexts: number of the choices on the other axes with which both were trained.
        points: by seed, the mean over the contexts of the difference in points of accuracy. Seeds
            that lack a context are left out.
        positive: how many of the pairs of these seeds are in favour of the idea.
    """

    axis: str
    idea: str
    other: str
    contexts: int
    points: dict[int, float]
    positive: int

    @property
    def pairs(self) -> int:
        return self.contexts * len(self.points)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.points.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        """The mean's 95 % confidence interval by Student's t over the seeds; None of one seed."""
        count = len(self.points)
        if count < 2:
            return None
        quantile = _STUDENT[min(count - 1, len(_STUDENT)) - 1]
        half = quantile * statistics.stdev(self.points.values()) / math.sqrt(count)
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """Of the paper's claim that the idea is better.

        It "holds" where the interval lies above zero, "does not hold" where it lies below, and
        otherwise it is "not decided".
        """
        low, high = self.interval or (-math.inf, math.inf)
        if low > 0:
            return "holds"
        return "does not hold" if high < 0 else "not decided"


def effects(results: Sequence[Result]) -> list[Effect]:
    """All that can be told from the results, in the order of `AXES`."""
    found = []
    for axis, (idea, *others) in AXES.items():
        for other in others:
            effect = _effect(results, axis, idea, other)
            if effect is not None:
                found.append(effect)
    return found


def _effect(results: Sequence[Result], axis: str, idea: str, other: str) -> Effect | None:
    by_cell = {result.cell: result.accuracies for result in results}
    contexts = [
        {
            seed: 100 * (accuracy - by_cell[counterpart][seed])
            for seed, accuracy in accuracies.items()
            if seed in by_cell[counterpart]
        }
        for cell, accuracies in by_cell.items()
        if getattr(cell, axis) == idea
        and (counterpart := dataclasses.replace(cell, **{axis: other})) in by_cell
    ]
    contexts = [differences for differences in contexts if differences]
    seeds = set.intersection(*map(set, contexts)) if contexts else set()
    if not seeds:
        return None
    by_seed = {seed: [context[seed] for context in contexts] for seed in sorted(seeds)}
    return Effect(
        axis,
        idea,
        other,
        contexts=len(contexts),
        points={seed: statistics.fmean(points) for seed, points in by_seed.items()},
        positive=sum(point > 0 for points in by_seed.values() for point in points),
    )
