"""Counts the multiplications and the weights of a model, layer by layer.

Usage: bireal-cost [flags] MODEL

    bireal-cost model.tflite                  a file of bireal-export, or any other
    bireal-cost runs/digits                   a folder that bireal-train wrote
    bireal-cost model.keras                   a .keras or .h5 file or a SavedModel folder
    bireal-cost BiRealNet18                   a model of the zoo
    bireal-cost cifar10                       the model that comes with the package

A multiplication is binary if both of its factors are 1-bit. FLOPs are the real ones and a
64th of the binary ones; memory is 32 bits for a real weight and 1 bit for a binary one: the
convention of the Bi-Real Net paper. A .tflite file needs no TensorFlow.
"""

import json
import re
from pathlib import Path

from absl import app, flags

from bireal_keras._checks import near
from bireal_keras.commands import _cli
from bireal_keras.cost.report import Cost
from bireal_keras.cost.tflite_model import of_tflite
from bireal_keras.runtime import example
from bireal_keras.training import run_folder

_INPUT_SHAPE = flags.DEFINE_list(
    "input_shape",
    None,
    "height,width,channels of the input, for a Keras model that takes any size. Default: the "
    "model's.",
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON: every layer, the totals, the ratios.")


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(args)}.")
    cost = _cost(args[0])
    print(json.dumps(cost.as_dict(), indent=2) if _JSON.value else cost)


def _cost(model: str) -> Cost:
    path = Path(example.example_model() if model == example.NAME else model)
    if path.suffix == ".tflite":
        if _INPUT_SHAPE.value is not None:
            raise app.UsageError("a .tflite file has its own --input_shape.")
        return of_tflite(path)
    input_shape = _input_shape()

    from bireal_keras import _native_log

    # TensorFlow's greeting and Keras's warnings would bury the table.
    with _native_log.captured():
        from bireal_keras import _safe_load, zoo
        from bireal_keras.cost.keras_model import of_model

        if path.exists():
            is_run = run_folder.is_run(path)
            keras_model = _safe_load.load_model(run_folder.open_run(path).model if is_run else path)
        elif model in zoo.list_models():
            keras_model = zoo.create_model(model)
        else:
            raise ValueError(
                f"MODEL must be a file, a folder, {example.NAME} or one of the zoo's names, "
                f"{', '.join(zoo.list_models())}. Received: {model}."
                f"{near(model, [example.NAME, *zoo.list_models()])}"
            )
        return of_model(keras_model, input_shape=input_shape)


def _input_shape() -> tuple[int, ...] | None:
    if _INPUT_SHAPE.value is None:
        return None
    sizes = _INPUT_SHAPE.value
    if not sizes or not all(re.fullmatch("0*[1-9][0-9]*", size) for size in sizes):
        raise app.UsageError(
            "--input_shape must be whole numbers from 1, as in 224,224,3. Received: "
            f"{','.join(sizes)!r}."
        )
    return tuple(map(int, sizes))


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-cost", main, module=__name__, doc=__doc__)
