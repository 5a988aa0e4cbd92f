"""ImageNet's class names. They come with the package: no download."""

import functools
from pathlib import Path

import numpy as np

_CLASSES = 1000


@functools.cache
def classes() -> tuple[tuple[str, str], ...]:
    """The 1,000 classes in the order of a classifier's outputs.

    Returns:
        (WordNet identifier, name) pairs: ("n01440764", "tench") is the first. Every name
        occurs once.
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple((identifier, name) for identifier, name in rows)


def decode_predictions(
    probabilities: np.ndarray, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Names the most probable ImageNet classes.

    Args:
        probabilities: (batch, 1000) of a model trained on ImageNet, as NumPy array or
            tensor.
        top: how many classes to name.

    Returns:
        For each image (WordNet identifier, name, probability) of its `top` classes, most
        probable first.

    Raises:
        ValueError: an argument has another shape or is out of its range.

    Example:
        decode_predictions(model.predict(images), top=1)
        # [[("n02099601", "golden retriever", 0.93)], ...]
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != _CLASSES:
        raise ValueError(
            f"`probabilities` must be (batch, {_CLASSES}). "
            f"Received: an array of shape {probabilities.shape}."
        )
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or not 1 <= top <= _CLASSES:
        raise ValueError(f"`top` must be an int from 1 to {_CLASSES}. Received: top={top!r}.")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(*classes()[index], float(row[index])) for index in indices]
        for row, indices in zip(probabilities, order)
    ]
