"""Fixtures of the whole suite. Imports no TensorFlow: tests of the runtime do without."""

import os
import random
import sys
from pathlib import Path

# Before anything imports TensorFlow: its C++ side reads it once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _seeds():
    """Every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:
        from bireal_keras._keras import keras

        keras.backend.clear_session()
        keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_tfds() -> Path:
    """Folder of real data sets in TFDS format, which lies beside a developer's checkout."""
    path = ROOT.parent / "shared" / "data" / "tfds"
    if not path.is_dir():
        pytest.skip(f"needs data sets in TFDS format at {path}")
    return path


@pytest.fixture(scope="session")
def imagenet_jpegs(shared_tfds: Path) -> list[bytes]:
    """A few real images of ImageNet, encoded as they come."""
    import tensorflow_datasets as tfds

    examples = tfds.load(
        "imagenet_samples",
        split="validation[:16]",
        data_dir=str(shared_tfds),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    return [example["image"].numpy() for example in examples]
