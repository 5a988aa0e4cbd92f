"""Exports a small Bi-Real-18 and records what this machine computes with it.

Usage: record_birealnet18.py FOLDER

Writes two models, each with its inputs and the outputs here: the network, and its binary part
alone, that is everything between its float operators. test_birealnet18.py repeats them on
another machine.
"""

import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from bireal_keras import export, runtime
from bireal_keras._keras import keras
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
            # The statistics of the one batch below.
            layer.momentum = 0.0
    model(random.uniform(-1, 1, (32, SIZE, SIZE, 3)).astype(np.float32), training=True)
    return model


def binary_part(content: bytes) -> bytes:
    """The model without its float operators, whose outputs become inputs."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]

    def is_binary(operator: schema.OperatorT) -> bool:
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = (code.customCode or b"").decode()
        return name in BINARY_OPERATORS or builtin == schema.BuiltinOperator.ADD

    inside = [operator for operator in graph.operators if is_binary(operator)]
    outside = [operator for operator in graph.operators if not is_binary(operator)]
    written = {index for operator in inside for index in operator.outputs}
    read = {index for operator in inside for index in operator.inputs if index >= 0}
    constants = {
        index
        for index, tensor in enumerate(graph.tensors)
        if model.buffers[tensor.buffer].data is not None
    }
    wanted = {index for operator in outside for index in operator.inputs}
    graph.operators = inside
    graph.inputs = sorted(read - written - constants)
    graph.outputs = sorted(written & wanted)
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def record(folder: Path, name: str, content: bytes, runs: int) -> None:
    """Writes NAME.tflite, and NAME.npz with arrays `input<run>_<i>` and `output<run>_<i>`."""
    interpreter = Interpreter(
        model_content=content, experimental_delegates=[runtime.load_delegate()]
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
    network = folder / "network.tflite"
    export.convert(make_network(), network)
    content = network.read_bytes()
    record(folder, "network", content, IMAGES)
    record(folder, "binary_part", binary_part(content), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
