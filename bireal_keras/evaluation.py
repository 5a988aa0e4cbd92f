"""What a classifier gets right and what it takes for what: figures, without TensorFlow."""

import dataclasses
import heapq
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

# More of them are not shown, and not kept in memory.
MAX_MISTAKES = 20
_TOP = 5


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """How a classifier does on one class.

    Attributes:
        name: of the class.
        images: how many images are of this class.
        precision: share of this class among the images that were taken for it; None where none
            was.
        recall: share of this class's images that were taken for it; None where there is none.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        image: what the image is called.
        label, predicted: what it is, and what it was taken for: indices of classes.
        probability: how sure the classifier was.
        picture: whatever shows it, as it was given to `Evaluation.add`.
    """

    image: str
    label: int
    predicted: int
    probability: float
    picture: Any


class Evaluation:
    """Counts what a classifier says of one image after the other.

    Args:
        class_names: in the order of the classifier's outputs.

    Attributes:
        class_names: these.
        confusion: int64 (classes, classes): how many images of the class of a row were taken for
            that of a column.
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self.confusion = np.zeros((len(self.class_names),) * 2, np.int64)
        self._in_top = 0
        self._order = itertools.count()
        self._mistakes: list[tuple[float, int, Mistake]] = []

    def add(
        self, image: str, label: int, ranked: Sequence[int], probability: float, picture: Any = None
    ) -> None:
        """Counts an image.

        Args:
            image: what it is called.
            label: its class.
            ranked: the most probable classes, the most probable one first; at least five where
                there are as many.
            probability: of the first of them.
            picture: kept in `mistakes`, if it is one of these.
        """
        self.confusion[label, ranked[0]] += 1
        self._in_top += label in ranked[:_TOP]
        if label == ranked[0]:
            return
        mistake = Mistake(image, label, ranked[0], probability, picture)
        # Of equal ones the first stays.
        heapq.heappush(self._mistakes, (probability, -next(self._order), mistake))
        if len(self._mistakes) > MAX_MISTAKES:
            heapq.heappop(self._mistakes)

    @property
    def images(self) -> int:
        """How many images were counted."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """The share of images whose class came first; NaN of none."""
        return float(np.trace(self.confusion)) / self.images if self.images else float("nan")

    @property
    def top5(self) -> float | None:
        """The share whose class was among the first five; None where there are no more."""
        if len(self.class_names) <= _TOP:
            return None
        return self._in_top / self.images if self.images else float("nan")

    @property
    def classes(self) -> list[ClassFigures]:
        """The figures of each class."""
        right = np.diagonal(self.confusion)
        return [
            ClassFigures(name, int(images), _share(hits, taken), _share(hits, images))
            for name, hits, images, taken in zip(
                self.class_names, right, self.confusion.sum(axis=1), self.confusion.sum(axis=0)
            )
        ]

    @property
    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes, at most `MAX_MISTAKES`, the most confident one first."""
        return [mistake for *_, mistake in sorted(self._mistakes, reverse=True)]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        mistakes = (
            {
                "image": mistake.image,
                "label": self.class_names[mistake.label],
                "predicted": self.class_names[mistake.predicted],
                "probability": round(mistake.probability, 6),
            }
            for mistake in self.mistakes
        )
        return {
            "images": self.images,
            "top1": self.top1 if self.images else None,
            "top5": self.top5 if self.images else None,
            "classes": [dataclasses.asdict(figures) for figures in self.classes],
            "confusion": self.confusion.tolist(),
            "mistakes": list(mistakes),
        }


def _share(part: np.int64, whole: np.int64) -> float | None:
    return int(part) / int(whole) if whole else None
