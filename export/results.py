"""The results of two programs for the same model, side by side."""

from collections.abc import Sequence

import numpy as np


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
