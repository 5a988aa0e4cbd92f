"""Fixtures of the whole suite. Imports no TensorFlow: tests of the runtime do without."""

import os
import random
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

# Before anything imports TensorFlow: its C++ side reads these once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # The workers, and the processes that their tests start, share the cores.
    share = max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(share))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """A small Bi-Real Net: .model, .labels, the .report of its conversion and its .content."""
    pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")
    from export_helpers import CENTER_CROP, CLASSES, birealnet, build

    from bireal_keras.export import convert

    path = tmp_path_factory.mktemp("export") / "small.tflite"
    model = build(birealnet)
    labels = [f"class {index}" for index in range(CLASSES)]
    report = convert(model, path, labels=labels, center_crop=CENTER_CROP)
    return SimpleNamespace(
        model=model, labels=labels, path=path, report=report, content=path.read_bytes()
    )


_TINY_RECIPE = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({
        "model": {"name": "BiRealNet18", "num_classes": 3, "width": 4, "stem": "cifar"},
        "dataset": {"image_size": 8, "augmentation": {"name": "pad_crop_flip", "pad": 1}},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "linear", "interval": "step"},
        "epochs": 3,
        "batch_size": 8,
        "label_smoothing": 0.1,
        "seed": 0,
    })
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory) -> Path:
    """Three epochs of 13 steps, for `photos`; seconds, most of them to build the graph."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.py"
    path.write_text(_TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Forty 8x8 images of each of three classes, which differ in their bright channel."""
    from PIL import Image  # Emulated devices have none, and their tests need no photos.

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for index in range(40):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            pixels[..., channel] += 56
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder
