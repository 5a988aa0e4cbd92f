"""Exports a small Bi-Real-18 and records what this machine computes with it.

Usage: PYTHONPATH=tests/helpers record_birealnet18.py FOLDER

Writes two models, each with its inputs and the outputs here: the network, and its binary part
alone, that is everything between its float operators. test_birealnet18.py repeats them on
another machine. And float.tflite, the network as TensorFlow's own converter writes it.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from submodel import submodel

from bireal_keras import export, runtime
from bireal_keras._keras import keras, tf
from bireal_keras.zoo import BiRealNet18

SIZE = 64
IMAGES = 4
BINARY_OPERATORS = {"LceQuantize", "LceBconv2d", "ADD"}


def make_network() -> keras.Model:
    """A Bi-Real-18 whose activations are spread as in a trained one."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = BiRealNet18(input_shape=(SIZE, SIZE, 3), num_classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.choice([-1, 1], layer.gamma.shape))
            # They are the statistics of the one batch below.
            layer.momentum = 0.0
    model(random.uniform(-1, 1, (32, SIZE, SIZE, 3)).astype(np.float32), training=True)
    return model


def record(folder: Path, name: str, content: bytes, runs: int) -> None:
    """Writes NAME.tflite, and NAME.npz with arrays `input<run>_<i>` and `output<run>_<i>`."""
    interpreter = Interpreter(
        model_content=content,
        experimental_delegates=[runtime.load_delegate(float_ops="delegate")],
    )
    interpreter.allocate_tensors()
    random = np.random.default_rng(1)
    arrays = {}
    for run in range(runs):
        for i, details in enumerate(interpreter.get_input_details()):
            value = random.normal(size=details["shape"]).astype(np.float32)
            interpreter.set_tensor(details["index"], value)
            arrays[f"input{run}_{i}"] = value
        interpreter.invoke()
        for i, details in enumerate(interpreter.get_output_details()):
            arrays[f"output{run}_{i}"] = interpreter.get_tensor(details["index"])
    (folder / f"{name}.tflite").write_bytes(content)
    np.savez(folder / f"{name}.npz", **arrays)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = make_network()
    float_file = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (folder / "float.tflite").write_bytes(float_file)
    network = folder / "network.tflite"
    export.convert(model, network)
    content = network.read_bytes()
    record(folder, "network", content, IMAGES)
    record(folder, "binary_part", submodel(content, BINARY_OPERATORS.__contains__), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
