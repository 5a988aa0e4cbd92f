"""The results of two programs for the same model, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bireal_keras.export.binarize.told import ROUNDING, TOLERANCE


@dataclass(frozen=True)
class Results:
    """How far two programs agree on some samples, each on its own.

    Attributes:
        samples: on which they were compared.
        close_samples: how many of them gave the same result up to rounding.
        max_abs_difference: the largest difference on any of them, of the logits (the
            logarithms of the probabilities, where the model ends in softmax).
        top1_agreement: share of the samples on which both find the same class, 0 to 1;
            None for a model whose output is not (batch, classes).
    """

    samples: int
    close_samples: int
    max_abs_difference: float
    top1_agreement: float | None

    @classmethod
    def of(cls, expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> "Results":
        """Compares.

        Args:
            expected, actual: an array (samples, ...) for each result of the model.
        """
        count = len(expected[0])
        close, largest = np.ones(count, bool), 0.0
        for wanted, given in zip(expected, actual, strict=True):
            wanted, given = logits(wanted), logits(given)
            differences = np.abs(given - wanted).max(axis=1, initial=0)
            spread = float(wanted.std(axis=0).mean())
            close &= differences <= max(
                TOLERANCE * spread, ROUNDING * np.abs(wanted).max(initial=0)
            )
            largest = max(largest, float(differences.max()))
        return cls(count, int(close.sum()), largest, top1_agreement(expected, actual))


def top1_agreement(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float | None:
    """Share of rows, 0 to 1, whose largest values agree.

    Args:
        a, b: the results of a model; unless it is one (n, classes), there is nothing to say: None.
    """
    if len(a) != 1 or a[0].ndim != 2:
        return None
    return float((a[0].argmax(-1) == b[0].argmax(-1)).mean())


def logits(outputs: np.ndarray) -> np.ndarray:
    """Rows of outputs, (samples, values), with softmax undone.

    Softmax hides differences: 1,000 probabilities of an untrained net all are 0.001, and
    those of a confident one all are 0 or 1.
    """
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        rows = np.log(np.maximum(rows, 1e-30))
        rows -= rows.mean(axis=1, keepdims=True)
    return rows
