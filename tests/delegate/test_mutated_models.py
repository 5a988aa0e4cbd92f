"""Whole model files with something wrong in them: an answer or an exception, never a crash.

Run as a program, this file opens mutated models in this process: `MODULE LIBRARY FIRST LAST` are
the interpreter's module, the delegate's library and the seeds. Mutations are confined to what the
delegate reads of LCE's ops. What the interpreter itself would trip over, such as a broken
flatbuffer, is not the delegate's to survive.
"""

import copy
import importlib
import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from lce_ops import RELU, Bconv2d, Op, Tensor, build_model, constant, pack

from bireal_keras import runtime

SEEDS = 600
NUMBERS = [0, 1, 2, 3, 5, 31, 32, 33, 64, 65, 127, 1000, 2**16, 2**29, 2**31 - 1, -1, -(2**31)]

# All that setup.py admits; tf.lite is TensorFlow's.
INTERPRETERS = ["ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite"]


def sound_model() -> tuple[list[Tensor], list[Op]]:
    """Every op, every output type of a convolution, and a residual block."""
    residual = Bconv2d(1, 5, 6, 40, 40, seed=1)
    packed = Bconv2d(1, 5, 6, 40, 70, pad_values=1, output="packed", seed=2)
    quantized = Bconv2d(1, 3, 3, 70, 8, strides=(2, 1), activation=RELU, output="int8", seed=3)
    tensors = [
        Tensor((1, 5, 6, 40)),
        Tensor((1, 5, 6, 2), np.int32),
        constant(pack(residual.kernel)),
        constant(residual.multiplier),
        constant(residual.bias),
        Tensor((1, 5, 6, 40)),
        Tensor((1, 5, 6, 40)),  # 6: the sum
        Tensor((1, 5, 6, 2), np.int32),
        constant(pack(packed.kernel)),
        constant(packed.thresholds),
        Tensor((1, 5, 6, 3), np.int32),
        Tensor((1, 3, 3, 3), np.int32),  # 11: pooled
        constant(pack(quantized.kernel)),
        constant(quantized.multiplier),
        constant(quantized.bias),
        Tensor((1, 2, 3, 8), np.int8, scale=0.5, zero_point=3),
        Tensor((1, 2, 3, 1), np.int32),
        Tensor((1, 2, 3, 8)),
    ]
    pool = {"filter_height": 2, "filter_width": 2, "padding": 0}
    pool |= {"stride_height": 2, "stride_width": 2}
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], residual.options),
        Op("ADD", [5, 0], [6], builtin=("AddOptions", schema.AddOptionsT())),
        Op("LceQuantize", [6], [7]),
        Op("LceBconv2d", [7, 8, -1, -1, 9], [10], packed.options),
        Op("LceBMaxPool2d", [10], [11], pool),
        Op("LceBconv2d", [11, 12, 13, 14, -1], [15], quantized.options),
        Op("LceQuantize", [15], [16]),
        Op("LceDequantize", [16], [17]),
    ]
    return tensors, ops


class Mutation:
    """Changes a model in place, one to three times."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.tensors, self.ops = copy.deepcopy(sound_model())
        for _ in range(self.random.randint(1, 3)):
            self.random.choice(
                [
                    self.options_by_name,
                    self.options_by_byte,
                    self.shape,
                    self.type,
                    self.constant,
                    self.quantization,
                    self.indices,
                    self.order,
                ]
            )()

    def lce_op(self) -> Op:
        return self.random.choice([op for op in self.ops if op.name != "ADD"])

    def number(self) -> int:
        # From 2^30 to 2^31 a sum of two no longer fits 32 bits.
        large = self.random.randrange(2**30, 2**31)
        return self.random.choice([*NUMBERS, self.random.randint(0, 300), large])

    def options_by_name(self):
        op = self.random.choice([op for op in self.ops if isinstance(op.options, dict)])
        name = self.random.choice(list(op.options))
        value = self.random.choice([self.number(), self.number(), None, 2**40, 1.5, "3", [1]])
        op.options = {**op.options, name: value}
        if value is None:
            del op.options[name]

    def options_by_byte(self):
        op = self.lce_op()
        blob = op.options or b""
        blob = bytearray(flexbuffers.Dumps(blob) if isinstance(blob, dict) else blob)
        for _ in range(self.random.randint(1, 4)):
            if blob:
                blob[self.random.randrange(len(blob))] = self.random.randrange(256)
        if self.random.random() < 0.3:
            del blob[self.random.randrange(len(blob) + 1) :]
        if self.random.random() < 0.1:
            blob += self.random.randbytes(self.random.randint(1, 40))
        op.options = bytes(blob)

    def shape(self):
        tensor = self.random.choice(self.tensors)
        shape = list(tensor.shape)
        change = self.random.randrange(4)
        if change == 0 and shape:
            shape.pop()
        elif change == 1:
            shape.append(self.random.randint(1, 3))
        elif shape:
            # LiteRT allocates what it is told to.
            shape[self.random.randrange(len(shape))] = self.random.randint(0, 70)
        tensor.shape = shape
        if tensor.value is not None and self.random.random() < 0.8:
            # LiteRT wants as many bytes as the shape says.
            tensor.value = np.resize(tensor.value, shape)

    def type(self):
        self.random.choice(self.tensors).dtype = self.random.choice(
            [np.float32, np.int32, np.int8, np.bool_]
        )

    def constant(self):
        tensor = self.random.choice([tensor for tensor in self.tensors if tensor.value is not None])
        change = self.random.randrange(4)
        if change == 0:
            tensor.value = None
        elif change == 1:
            tensor.value = tensor.value.ravel()[: self.random.randint(0, tensor.value.size)]
        else:
            blob = self.random.randbytes(tensor.value.nbytes)
            tensor.value = np.frombuffer(blob, tensor.value.dtype)

    def quantization(self):
        tensor = self.random.choice(self.tensors)
        tensor.scale = self.random.choice([0.0, -1.0, 1e-45, 1e38, np.inf, np.nan, 0.25])
        tensor.zero_point = self.random.choice([0, -129, 128, 2**31 - 1, -(2**31)])

    def indices(self):
        op = self.lce_op()
        indices = self.random.choice([op.inputs, op.outputs])
        change = self.random.randrange(5)
        if change == 0:
            del indices[-1:]
        elif change == 1:
            indices.append(self.random.randrange(len(self.tensors)))
        elif indices:
            position = self.random.randrange(len(indices))
            indices[position] = self.random.randrange(-1, len(self.tensors) + 1)

    def order(self):
        """An op that reads what a later one writes."""
        op = self.ops.pop(self.random.randrange(len(self.ops)))
        self.ops.insert(self.random.randrange(len(self.ops) + 1), op)

    def model(self) -> bytes:
        return build_model(self.tensors, self.ops, [0], [17, 6])


def load(module: str):
    """A stock interpreter's module, and its function that loads a delegate."""
    if module == "tensorflow.lite":
        litert = importlib.import_module("tensorflow").lite
        return litert, litert.experimental.load_delegate
    litert = importlib.import_module(module)
    return litert, litert.load_delegate


def run(litert, load_delegate, library: str, model: bytes, threads: int) -> None:
    delegate = load_delegate(library, {"num_threads": threads})
    interpreter = litert.Interpreter(model_content=model, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    interpreter.invoke()


def main(module: str, library: str, first: int, last: int) -> None:
    litert, load_delegate = load(module)
    tensors, ops = sound_model()
    run(litert, load_delegate, library, build_model(tensors, ops, [0], [17, 6]), 1)
    ran = 0
    for seed in range(first, last):
        print(seed, flush=True)
        try:
            run(litert, load_delegate, library, Mutation(seed).model(), 1 + seed % 2)
            ran += 1
        except (RuntimeError, ValueError):
            pass
    print("ran", ran)


@pytest.mark.slow
@pytest.mark.parametrize("module", INTERPRETERS)
def test_mutated_models_are_refused_or_run(module):
    package = module.split(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it has no wheel for this Python or platform")
    result = subprocess.run(
        [sys.executable, __file__, module, runtime.delegate_path(), "0", str(SEEDS)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "helpers")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # A process that died names the seed last.
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-5000:])
    word, ran = result.stdout.splitlines()[-1].split()
    assert word == "ran"
    # Most mutations matter, and some do not.
    assert 0.02 * SEEDS < int(ran) < 0.7 * SEEDS


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
