"""What a classifier found, for people and for programs."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Protocol, TextIO

import numpy as np


@dataclass(frozen=True)
class Guess:
    """A class and how probable it is; `label` is None for a model without class names."""

    index: int
    label: str | None
    probability: float

    @property
    def name(self) -> str:
        return f"class {self.index}" if self.label is None else self.label


# Probabilities in float32 may leave [0, 1] by this much.
_ROUNDING = 1e-3


def top_k(scores: np.ndarray, labels: Sequence[str] | None, k: int) -> list[Guess]:
    """The k most probable classes, most probable first.

    Args:
        scores: (classes,): probabilities, or else logits, which go through softmax.
        labels: names of the classes.
        k: how many to return; all where there are fewer.

    Raises:
        ValueError: a score is NaN or infinite, or `k` is not a whole number from 1.
    """
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"`top_k` must be a whole number from 1. Received: top_k={k!r}.")
    if not np.isfinite(scores).all():
        raise ValueError("the model gives NaN or infinity")
    if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
        scores = np.exp(scores.astype(np.float64) - scores.max())
        scores /= scores.sum()
    order = np.argsort(-scores, kind="stable")[:k]
    return [
        Guess(int(index), labels[index] if labels else None, float(scores[index]))
        for index in order
    ]


class Writer(Protocol):
    """Writes results as they come."""

    def write(self, image: str, guesses: Sequence[Guess]) -> None:
        """Writes what is in an image, which is called by its path."""


class TextWriter:
    """For people. On a terminal, `in_place` writes each result over the last one."""

    def __init__(self, file: TextIO, *, in_place: bool = False):
        self._file = file
        self._in_place = in_place and file.isatty()
        self._lines = 0

    def write(self, image: str, guesses: Sequence[Guess]) -> None:
        lines = [
            printable(image),
            *(f"  {guess.probability:6.1%}  {printable(guess.name)}" for guess in guesses),
        ]
        if self._in_place and self._lines:
            # The cursor goes up, and from there the screen is cleared.
            self._file.write(f"\x1b[{self._lines}A\x1b[J")
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()
        self._lines = len(lines)


class CsvWriter:
    """A row for each class: image, rank from 1, index, label, probability."""

    def __init__(self, file: TextIO):
        self._file = file
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(["image", "rank", "index", "label", "probability"])

    def write(self, image: str, guesses: Sequence[Guess]) -> None:
        for rank, guess in enumerate(guesses, start=1):
            row = [image, rank, guess.index, guess.label, f"{guess.probability:.6f}"]
            self._rows.writerow(row)
        self._file.flush()


class JsonWriter:
    """An object for each image, on a line of its own, so that a reader need not wait."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, image: str, guesses: Sequence[Guess]) -> None:
        classes = [
            asdict(guess) | {"probability": round(guess.probability, 6)} for guess in guesses
        ]
        print(json.dumps({"image": image, "classes": classes}), file=self._file, flush=True)


def printable(text: str) -> str:
    r"""Text that a terminal shows as it is: what would control it becomes \x1b, say."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
