"""What weights bring where photos are few: the recipe `finetune` against training from scratch.

    python benchmarks/finetune.py --data_dir=DIR [--output_dir=runs/finetune] [--seeds=3]

Takes photos of ImageNet: of each of its classes the one in the TFDS dataset `imagenet_samples`, a
sample of its validation images. The classes are put together to three kinds, of which 100 photos
train; each seed draws others, and other initial weights. Validated is on photos of other classes
than those trained on: another breed of dog is a dog, too.

From scratch is the same network on the same images, all of it trained at once, for more epochs and
at a rate that suits random weights. Both keep the best epoch, so both are a little too good.
"""

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import flags, logging
from ml_collections import ConfigDict
from report import machine, print_table

from bireal_keras import recipes, training
from bireal_keras._keras import keras
from bireal_keras.commands import _cli

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TensorFlow datasets.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "runs/finetune", "Folder for photos and runs; runs in it are not done again."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "How often.", lower_bound=1)

# Indices of ImageNet's 1,000 classes.
_DOGS = range(151, 269)
_BIRDS = (*range(7, 25), *range(80, 101), *range(127, 147))
# fmt: off
_VEHICLES = (
    403, 404, 405, 407, 436, 444, 466, 468, 472, 484, 510, 511, 547, 554, 555, 569, 573, 575, 576,
    595, 603, 609, 612, 625, 627, 628, 654, 656, 661, 665, 670, 671, 675, 690, 705, 717, 724, 734,
    751, 757, 779, 780, 802, 803, 814, 817, 820, 829, 833, 847, 856, 864, 866, 867, 870, 871, 874,
    880, 895, 914,
)
# fmt: on
_COLD_BLOODED = (*range(0, 7), *range(25, 30), *range(33, 69), *range(389, 398))
_SPINELESS = (*range(69, 80), *range(107, 127), *range(300, 327))
_PLANTS = (*range(923, 970), *range(984, 999))
_TASKS = {
    "kinds that CIFAR-10 has": {"dog": _DOGS, "bird": _BIRDS, "vehicle": _VEHICLES},
    "kinds that it does not have": {
        "food or plant": _PLANTS,
        "reptile or fish": _COLD_BLOODED,
        "without a backbone": _SPINELESS,
    },
}
# Of each kind, the first has one more.
_TRAIN, _VALIDATION = 33, 23


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    logging.set_verbosity(logging.WARNING)
    photos = _photos()
    rows = []
    for task, kinds in _TASKS.items():
        accuracies: dict[str, list[float]] = {"scratch": [], "finetune": []}
        for seed in range(_SEEDS.value):
            folder = Path(_OUTPUT_DIR.value) / task.replace(" ", "_") / f"seed{seed}"
            _write(photos, kinds, seed, folder / "photos")
            for name, figures in accuracies.items():
                figures.append(_train(name, seed, folder))
        rows.append([f"{task}: {', '.join(kinds)}", *map(_told, accuracies.values())])
    images = 3 * _TRAIN + 1
    print(f"\n{_SEEDS.value} seeds. {machine()}\n")
    print_table([f"{images} photos of", "from scratch", "recipe finetune"], rows)


def _photos() -> list[bytes]:
    """The JPEG of each class of ImageNet."""
    dataset = tfds.load(
        "imagenet_samples",
        split="validation",
        data_dir=_DATA_DIR.value,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    photos = {int(one["label"]): one["image"] for one in dataset.as_numpy_iterator()}
    return [photos[label] for label in range(1000)]


def _write(photos: list[bytes], kinds: dict[str, range], seed: int, folder: Path) -> None:
    """Draws the photos of each kind: folder/train/<kind> and folder/validation/<kind>."""
    rng = np.random.default_rng(seed)
    for index, (kind, labels) in enumerate(kinds.items()):
        drawn = rng.permutation(labels)
        count = _TRAIN + (index == 0)
        parts = {"train": drawn[:count], "validation": drawn[count : count + _VALIDATION]}
        for part, chosen in parts.items():
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            for label in chosen:
                (folder / part / kind / f"{label}.jpg").write_bytes(photos[label])


def _train(name: str, seed: int, folder: Path) -> float:
    """Trains once, and returns the validation accuracy."""
    config = _from_scratch() if name == "scratch" else recipes.load("finetune")
    config.seed = seed
    run_dir = folder / name
    if not (run_dir / "metrics.json").is_file():
        shutil.rmtree(run_dir, ignore_errors=True)
        keras.backend.clear_session()
        training.train_and_evaluate(config, dataset=folder / "photos", output_dir=run_dir)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    return metrics["validation"]["accuracy"]


def _from_scratch() -> ConfigDict:
    config = recipes.load("finetune").unlock()
    del config.stages
    config.start, config.epochs, config.optimizer.learning_rate = "scratch", 40, 3e-3
    return config.lock()


def _told(accuracies: list[float]) -> str:
    each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return f"{statistics.fmean(accuracies):.2f} ({each})"


if __name__ == "__main__":
    _cli.run("finetune", main, module="__main__", doc=__doc__)
