"""Says what is in a picture.

Usage: bireal-classify [flags] MODEL.tflite IMAGE [IMAGE ...]

Prints the most probable classes of each image (JPEG, PNG and whatever else Pillow reads).
The image is turned upright, cropped to its central square and resized to the model's
input. An image that cannot be read is reported and the next one goes on; the exit status
is then 1.
"""

import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from bireal_keras import _cli
from bireal_keras.runtime.image import load_image
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.labels import read_labels

_TOP_K = flags.DEFINE_integer("top_k", 5, "How many classes to print.", lower_bound=1)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)


def top_k(
    probabilities: np.ndarray, labels: Sequence[str] | None, k: int
) -> list[tuple[str, float]]:
    """The k most probable classes of (classes,) probabilities, most probable first.

    Returns:
        (name, probability) pairs; without labels a class is called by its index.
    """
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [
        (labels[index] if labels else f"class {index}", float(probabilities[index]))
        for index in order
    ]


def main(args: list[str]) -> int:
    if len(args) < 2:
        raise app.UsageError("a model and at least one image are needed.")
    model_path, *image_paths = args
    interpreter = Interpreter(model_path, num_threads=_NUM_THREADS.value)
    labels = read_labels(model_path)
    shape = interpreter.input_shape
    if len(shape) != 4 or shape[-1] != 3 or interpreter.input_dtype != np.float32:
        raise ValueError(
            f"{model_path}: must take float32 images (batch, height, width, 3). "
            f"Received: {interpreter.input_dtype} {shape}."
        )
    if len(interpreter.output_shape) != 2:
        raise ValueError(
            f"{model_path}: must give (batch, classes). Received: {interpreter.output_shape}."
        )
    if labels and len(labels) != interpreter.output_shape[1]:
        raise ValueError(
            f"{model_path}: holds {len(labels)} class names for "
            f"{interpreter.output_shape[1]} classes."
        )

    status = 0
    for path in image_paths:
        try:
            image = load_image(path, *shape[1:3])
        except (OSError, ValueError) as error:
            print(f"bireal-classify: {path}: {error}", file=sys.stderr)
            status = _cli.FAILURE
            continue
        print(path)
        for name, probability in top_k(interpreter.predict(image[None])[0], labels, _TOP_K.value):
            print(f"  {probability:6.1%}  {name}")
    return status


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-classify", main, module=__name__, doc=__doc__)
