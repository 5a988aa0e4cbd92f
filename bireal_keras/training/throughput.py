"""How many images per second the input pipeline delivers when no model waits for them."""

import os
import time

import ml_collections

from bireal_keras._keras import tf
from bireal_keras.training import data, preprocessing, recipe

# What starting costs, and an empty buffer, is over by then.
_WARMUP_BATCHES = 3


def images_per_second(batches: tf.data.Dataset, *, seconds: float) -> float:
    """Takes batches for `seconds`, after a few that do not count.

    Args:
        batches: of (images, labels). If they end sooner, what came until then counts.
        seconds: how long to measure.

    Raises:
        ValueError: `seconds` is not positive, or there are not enough batches to measure.
    """
    if not seconds > 0:
        raise ValueError(f"`seconds` must be positive. Received: seconds={seconds!r}.")
    iterator = iter(batches)
    for _ in range(_WARMUP_BATCHES):
        next(iterator, None)
    images, elapsed = 0, 0.0
    start = time.perf_counter()
    for batch, _ in iterator:
        images += int(batch.shape[0])
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            break
    if images == 0:
        raise ValueError(
            f"`batches` must be more than {_WARMUP_BATCHES}, which are not measured yet."
        )
    return images / elapsed


def measure_pipeline(
    config: ml_collections.ConfigDict,
    *,
    dataset: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    seconds: float = 10.0,
) -> float:
    """Images per second of the batches that a recipe's last stage trains with.

    A dataset that is kept in memory is read once before, so that this is the speed of every
    epoch but the first.

    Args:
        config: a recipe's config; see `bireal_keras.recipes`.
        dataset, data_dir, download: see `data.load`.
        seconds: how long to measure.

    Raises:
        ValueError: the recipe or the dataset cannot be used.
    """
    recipe.check(config)
    images = data.load(dataset, data_dir=data_dir, download=download)
    stage = recipe.stages(config)[-1]
    batches = data.train_batches(
        images.train,
        augment=preprocessing.create_augmentation(
            **stage.dataset.augmentation, image_size=stage.dataset.image_size
        ),
        num_classes=len(images.class_names),
        batch_size=stage.batch_size,
        seed=stage.seed,
        epochs=2**31,
    )
    return images_per_second(batches, seconds=seconds)
