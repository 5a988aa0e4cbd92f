"""The whole way in one go: train on real digits, export, run bit-packed, compare.

    python benchmarks/demo.py [--output_dir=runs/demo]

Runs the commands a user would run, then prints one table: accuracy on the 500 held-out
digits in Keras, on Larq Compute Engine's reference kernel and on our runtime; file size and
latency beside the real-valued twin, a float32 network of the same shape on stock
LiteRT with XNNPACK. Also writes curve.png and predictions.png.
"""

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import flags, logging
from report import machine, print_table

from bireal_keras import _native_log
from bireal_keras.commands import _cli
from bireal_keras.runtime.latency import measure
from bireal_keras.tflite.labels import read_labels

with _native_log.quiet():  # TensorFlow greets.
    from bireal_keras import runtime, zoo
    from bireal_keras._keras import keras, tf
    from bireal_keras.training import data
    from bireal_keras.training.curve import draw_curve

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "runs/demo", "Folder for everything the demo makes; what is there is replaced."
)
_RECIPE = "mnist_5k"
_NUM_RUNS = 200


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    logging.set_verbosity(logging.WARNING)
    folder = Path(_OUTPUT_DIR.value)
    shutil.rmtree(folder, ignore_errors=True)
    binary_path, float_path = folder / "model.tflite", folder / "float_twin.tflite"

    _command(
        "bireal-train", f"--config={_RECIPE}", f"--dataset={_RECIPE}", f"--output_dir={folder}"
    )
    _command("bireal-export", f"--model_dir={folder}", f"--output={binary_path}")

    # So do the interpreters, and the converter tells its whole story.
    with _native_log.quiet():
        _compare(folder, binary_path, float_path)


def _compare(folder: Path, binary_path: Path, float_path: Path) -> None:
    """Prints the table and draws the pictures."""
    model = keras.models.load_model(folder / "model.keras")
    float_path.write_bytes(_float_twin(model))
    images, labels = _held_out_images(model.input_shape[1])
    interpreter = runtime.Interpreter(binary_path)
    predictors: dict[str, Callable[[np.ndarray], np.ndarray] | str] = {
        "Keras": lambda x: model.predict(x, verbose=0),
        "Larq Compute Engine, reference kernel": _lce_predictor(binary_path.read_bytes()),
        "ours, on stock LiteRT": interpreter.predict,
    }
    accuracy = {
        name: predict
        if isinstance(predict, str)
        else f"{np.mean(predict(images).argmax(axis=1) == labels):.1%}"
        for name, predict in predictors.items()
    }
    draw_curve(folder / "log.csv", folder / "curve.png", "Bi-Real-18 on 4,500 MNIST digits")
    names = read_labels(binary_path) or [str(label) for label in range(10)]
    _draw_predictions(interpreter, images, labels, names, folder / "predictions.png")

    print(f"\nBi-Real-18 of width {model.get_layer('stem_conv').filters}. {machine()}\n")
    size = {path: f"{path.stat().st_size:,} bytes" for path in (binary_path, float_path)}
    keras_name, lce_name, our_name = accuracy
    twin_name = "float32 twin, on LiteRT + XNNPACK"
    print_table(
        ["", f"top-1 on {len(images)} held-out images", "file size", "latency, 1 thread"],
        [
            [keras_name, accuracy[keras_name], "", ""],
            [lce_name, accuracy[lce_name], size[binary_path], ""],
            [our_name, accuracy[our_name], size[binary_path], _latency(binary_path)],
            [twin_name, "not trained", size[float_path], _latency(float_path)],
        ],
    )
    print(f"pictures: {folder / 'curve.png'}, {folder / 'predictions.png'}")


def _command(name: str, *arguments: str) -> None:
    print(f"$ {name} {' '.join(arguments)}", flush=True)
    installed = Path(sys.executable).with_name(name)
    status = subprocess.run([installed, *arguments], check=False).returncode
    if status:
        raise ValueError(f"{name} ended with status {status}.")


def _float_twin(model: keras.Model) -> bytes:
    """A float32 network of the model's shape; its speed does not depend on the weights."""
    twin = zoo.BiRealNet18Float(
        input_shape=model.input_shape[1:],
        num_classes=model.output_shape[-1],
        width=model.get_layer("stem_conv").filters,
        stem="cifar",
    )
    return tf.lite.TFLiteConverter.from_keras_model(twin).convert()


def _held_out_images(size: int) -> tuple[np.ndarray, np.ndarray]:
    split = data.load(_RECIPE).validation
    batches = data.evaluation_batches(split, image_size=size, num_classes=10, batch_size=split.size)
    images, one_hot = next(iter(batches))
    return images.numpy(), one_hot.numpy().argmax(axis=1)


def _lce_predictor(content: bytes) -> Callable[[np.ndarray], np.ndarray] | str:
    """What runs a file on LCE, or why nothing does."""
    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError:
        return "not installed: no wheel for Linux on Arm nor Python 3.13"

    # Its default kernel is wrong where maps are smaller than filters, as they are here.
    return Interpreter(content, use_reference_bconv=True).predict


def _latency(path: Path) -> str:
    (times,) = measure([runtime.Interpreter(path)], num_runs=_NUM_RUNS, warmup_runs=20)
    return f"{statistics.median(times):.2f} ms"


def _draw_predictions(
    interpreter: runtime.Interpreter,
    images: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    picture: Path,
) -> None:
    """The first held-out digits of each class, then every one that came out wrong."""
    predicted = interpreter.predict(images).argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    right = [np.flatnonzero((predicted == labels) & (labels == label))[:3] for label in range(10)]
    chosen = [*np.concatenate(right), *wrong][:50]
    figure, grid = plt.subplots(5, 10, figsize=(10, 6), layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for axes, index in zip(grid.flat, chosen):
        axes.imshow((images[index] + 1) / 2)
        if predicted[index] == labels[index]:
            axes.set_title(names[predicted[index]], color="green")
        else:
            axes.set_title(f"{names[predicted[index]]}, not {names[labels[index]]}", color="red")
    figure.suptitle(
        f"What the .tflite file says: {len(labels) - len(wrong)} of {len(labels)} right"
    )
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    _cli.run("demo", main, module="__main__", doc=__doc__)
