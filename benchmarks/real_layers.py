"""What real-valued layers in float16 and int8 save, and what they cost in accuracy.

    python benchmarks/real_layers.py [--model_dir=runs/cifar10 --dataset=cifar10 --images=10000]

Two tables. The trained model of a run folder, if one is given: size, top-1 on validation images,
latency. Then Bi-Real-18 at 224x224 and 1,000 classes with fresh weights: size and latency, and
where it goes; the int8 file that takes pixels; and MobileNetV2 in int8. All on our runtime, one
thread. The files take
turns; the shortest time of each is shown, which a busy machine disturbs least.
"""

import tempfile
from pathlib import Path

import mobile_networks
import numpy as np
from absl import app, flags
from report import machine, print_table

from bireal_keras import export, runtime, zoo
from bireal_keras._keras import keras
from bireal_keras._safe_load import load_model
from bireal_keras.commands import _cli
from bireal_keras.export.pixel_input import take_pixels
from bireal_keras.export.real_layers import PRECISIONS, compact
from bireal_keras.runtime.latency import measure
from bireal_keras.runtime.profile import profile
from bireal_keras.tflite.metadata import Normalization
from bireal_keras.tflite.metadata_writer import without_metadata
from bireal_keras.training import data

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder that bireal-train wrote.")
_DATASET = flags.DEFINE_string("dataset", None, "What it was trained on, as for bireal-train.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where TensorFlow Datasets keeps its data, if not in the usual place."
)
_IMAGES = flags.DEFINE_integer(
    "images", 10_000, "Validation images to classify, or as many as there are.", lower_bound=1
)
# What a network of this size has to be faster than.
_MOBILE = "MobileNetV2 int8"

_NUM_RUNS = flags.DEFINE_integer("num_runs", 200, "Runs of each file.", lower_bound=10)


def main(args: list[str]) -> None:
    if args or bool(_MODEL_DIR.value) != bool(_DATASET.value):
        raise app.UsageError(
            "--model_dir and --dataset belong together, and nothing else is taken."
        )
    print(f"{machine()}\n")
    if _MODEL_DIR.value:
        folder = Path(_MODEL_DIR.value)
        _compare_accuracy(_files(load_model(folder / "model.keras")), folder.name)
    keras.utils.set_random_seed(0)
    files = _files(zoo.BiRealNet18())
    files["int8, of pixels"] = take_pixels(files["int8"], Normalization())
    _compare_stages(files, {_MOBILE: mobile_networks.makers()[_MOBILE]()})


def _files(model: keras.Model) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export.convert(model, path)
        content = without_metadata(path.read_bytes())
        return {precision: compact(content, precision) for precision in PRECISIONS}


def _compare_accuracy(files: dict[str, bytes], name: str) -> None:
    interpreters = {precision: runtime.Interpreter(content) for precision, content in files.items()}
    images, labels = _validation_images(interpreters["float32"])
    classes = {name: one.predict(images).argmax(axis=1) for name, one in interpreters.items()}
    top1 = {precision: 100 * np.mean(found == labels) for precision, found in classes.items()}
    print_table(
        [name, "bytes", f"top-1 on {len(images):,} images, %", "points", "as float32, %"]
        + ["latency, ms", "times float32"],
        [
            [
                precision,
                f"{len(files[precision]):,}",
                f"{top1[precision]:.2f}",
                f"{top1[precision] - top1['float32']:+.2f}",
                f"{100 * np.mean(classes[precision] == classes['float32']):.2f}",
                *latency,
            ]
            for precision, latency in _latencies(interpreters).items()
        ],
    )


def _validation_images(interpreter: runtime.Interpreter) -> tuple[np.ndarray, np.ndarray]:
    split = data.load(_DATASET.value, data_dir=_DATA_DIR.value).validation
    batches = data.evaluation_batches(
        split,
        image_size=interpreter.input_shape[1],
        num_classes=interpreter.output_shape[1],
        batch_size=100,
    )
    images, one_hot = zip(*batches.take(-(-_IMAGES.value // 100)).as_numpy_iterator())
    labels = np.concatenate(one_hot).argmax(axis=1)
    return np.concatenate(images)[: _IMAGES.value], labels[: _IMAGES.value]


def _compare_stages(files: dict[str, bytes], others: dict[str, bytes]) -> None:
    stages = {name: _real_stages(content) for name, content in files.items()}
    files = files | others
    interpreters = {name: runtime.Interpreter(content) for name, content in files.items()}
    print_table(
        ["Bi-Real-18, 224x224", "bytes", "latency, ms", "times float32"]
        + ["stem, ms", "shortcuts, ms", "classifier, ms"],
        [
            [name, f"{len(files[name]):,}", *latency, *stages.get(name, [""] * 3)]
            for name, latency in _latencies(interpreters).items()
        ],
    )


def _latencies(interpreters: dict[str, runtime.Interpreter]) -> dict[str, list[str]]:
    """Milliseconds of each, and as multiples of float32's."""
    times = measure(list(interpreters.values()), num_runs=_NUM_RUNS.value, warmup_runs=10)
    shortest = {name: min(milliseconds) for name, milliseconds in zip(interpreters, times)}
    return {
        name: [f"{milliseconds:.3f}", f"{milliseconds / shortest['float32']:.3f}"]
        for name, milliseconds in shortest.items()
    }


def _real_stages(content: bytes) -> list[str]:
    """Milliseconds of what runs before, between and after the 1-bit layers."""
    entries = profile(content, num_runs=_NUM_RUNS.value)
    binary = [index for index, entry in enumerate(entries) if "LceBconv2d" in entry.ops]
    stages = {"stem": 0.0, "shortcuts": 0.0, "head": 0.0}
    for index, entry in enumerate(entries):
        if index not in binary:
            stage = "stem" if index < binary[0] else "head" if index > binary[-1] else "shortcuts"
            stages[stage] += entry.milliseconds
    return [f"{milliseconds:.3f}" for milliseconds in stages.values()]


if __name__ == "__main__":
    _cli.run("real_layers", main, module="__main__", doc=__doc__)
