"""Artificial samples to compare two programs on."""

from collections.abc import Sequence

import numpy as np


def artificial(shapes: Sequence[tuple[int, ...]], size: int, count: int = 32) -> list[np.ndarray]:
    """Samples for each input of a model, at least `count`, in full batches.

    Args:
        shapes: of one sample for each input.
        size: how many the model takes at a time.
        count: see above.
    """
    count = -(-count // size) * size
    return [random_samples(shape, count, seed=seed) for seed, shape in enumerate(shapes)]


def random_samples(shape: tuple[int, ...], count: int = 32, *, seed: int = 0) -> np.ndarray:
    """Images of one colour, patches of others and noise; always the same for the same arguments.

    Noise alone would make all images alike to a network that ends in average pooling.

    Args:
        shape: (height, width, channels); of another rank it is noise alone.
        count: number of images.
        seed: of the random numbers.

    Returns:
        float32 (count, *shape) in [-1, 1].
    """
    rng = np.random.default_rng(seed)
    if len(shape) != 3:
        return rng.uniform(-1, 1, (count, *shape)).astype(np.float32)
    height, width, channels = shape
    colour = rng.uniform(-1, 1, (count, 1, 1, channels))
    patches = rng.uniform(-1, 1, (count, -(-height // 8), -(-width // 8), channels))
    patches = patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    noise = rng.uniform(-1, 1, (count, *shape))
    return (0.5 * colour + 0.3 * patches + 0.2 * noise).astype(np.float32)
