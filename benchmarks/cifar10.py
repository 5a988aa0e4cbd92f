"""The reference run on CIFAR-10: what `BiRealNet18(weights="cifar10")` gives, and where.

    python benchmarks/cifar10.py [--data_dir=DIR] [--download]

Exports the model with the weights that come with the package, and prints its accuracy on the
10,000 test images in Keras, on our runtime and on Larq Compute Engine's reference kernel. Writes
docs/cifar10/curve.png, the curve of the training run, from the log.csv beside it.
"""

import statistics
from pathlib import Path

import numpy as np
from absl import flags, logging
from report import machine, print_table

from bireal_keras import export, runtime, zoo
from bireal_keras.commands import _cli
from bireal_keras.runtime.latency import measure
from bireal_keras.training import data
from bireal_keras.training.curve import draw_curve

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TensorFlow datasets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Download CIFAR-10 if it is not there.")

_ROOT = Path(__file__).parents[1]
_RUN = _ROOT / "docs/cifar10"
_FILE = _ROOT / "_build/cifar10.tflite"
_BATCH_SIZE = 500


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow's converter tells its whole story.
    dataset = data.load("cifar10", data_dir=_DATA_DIR.value, download=_DOWNLOAD.value)
    model = zoo.BiRealNet18(
        input_shape=(32, 32, 3), num_classes=10, width=32, stem="cifar", weights="cifar10"
    )
    _FILE.parent.mkdir(exist_ok=True)
    print(export.convert(model, _FILE, labels=dataset.class_names))

    from larq_compute_engine.tflite.python.interpreter import Interpreter

    content = _FILE.read_bytes()
    ours = runtime.Interpreter(_FILE)
    predictors = {
        "Keras": lambda images: model.predict(images, verbose=0),
        "ours, on stock LiteRT": ours.predict,
        "LCE 0.16, reference kernel": Interpreter(content, use_reference_bconv=True).predict,
    }
    batches = data.evaluation_batches(
        dataset.validation, image_size=32, num_classes=10, batch_size=_BATCH_SIZE
    )
    predicted = {name: [] for name in predictors}
    labels = []
    for images, one_hot in batches:
        labels += one_hot.numpy().argmax(axis=1).tolist()
        for name, predict in predictors.items():
            predicted[name] += predict(images.numpy()).argmax(axis=1).tolist()

    keras_classes = np.array(predicted["Keras"])
    (times,) = measure([ours], num_runs=200, warmup_runs=20)
    latency = f"{statistics.median(times):.2f} ms with 1 thread"
    print(f"\nBi-Real-18 of width 32, {len(content):,} bytes, {latency}. {machine()}\n")
    print_table(
        ["", f"top-1 on {len(labels):,} test images", "same class as Keras"],
        [
            [
                name,
                f"{np.mean(np.array(classes) == labels):.2%}",
                f"{np.mean(classes == keras_classes):.2%}",
            ]
            for name, classes in predicted.items()
        ],
    )
    draw_curve(
        _RUN / "log.csv",
        _RUN / "curve.png",
        "Bi-Real-18 of width 32 on CIFAR-10",
        validation="2,000 of the training images, as they are",
    )


if __name__ == "__main__":
    _cli.run("cifar10", main, module="__main__", doc=__doc__)
