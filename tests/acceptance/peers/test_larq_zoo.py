"""Our runtime computes with larq-zoo's models what Larq Compute Engine computes.

`make test-peers` makes the models with export.py and runs this.

All operators but those in ROUNDING do one operation per value, or copy values, or work on
integers: one right result each, whoever computes it. So everything between the operators in
ROUNDING, on random inputs, gives the same bytes on LCE and here.

The operators in ROUNDING are those of two versions of XNNPACK, which may differ in the last bits.
A sign turns where a value is that close to zero, and then the outputs differ in the third digit.
That is rare: most images agree. Against TFLite's own kernels, which sum in another order, three of
eight do in larq-zoo's Real-to-Binary net.
"""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from submodel import submodel

from bireal_keras import runtime

FOLDER = Path(__file__).parents[3] / "_build/peers/models"
MODELS = [
    "BiRealNet",
    "BinaryAlexNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "BinaryResNetE18",
    "MeliusNet22",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "RealToBinaryNet",
    "XNORNet",
]
# They sum in an order of their own, or approximate functions.
ROUNDING = {
    "AVERAGE_POOL_2D",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "MEAN",
    "SOFTMAX",
}


def run_ours(model: bytes, inputs: list[np.ndarray], num_threads: int) -> list[np.ndarray]:
    """An LCE op that the delegate left to the interpreter would fail here, as unresolved."""
    interpreter = Interpreter(
        model_content=model,
        experimental_delegates=[runtime.load_delegate(num_threads=num_threads)],
        num_threads=num_threads,
    )
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


@pytest.mark.parametrize("name", MODELS)
def test_all_but_the_rounding_operators_are_the_same_bytes(name):
    from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

    content = (FOLDER / f"{name}.tflite").read_bytes()
    part = submodel(content, lambda operator: operator not in ROUNDING)
    lce = LceInterpreter(part, use_reference_bconv=True)
    random = np.random.default_rng(0)
    inputs = [random.normal(size=shape).astype(np.float32) for shape in lce.input_shapes]
    # The public predict() would split the batch.
    expected = lce.interpreter.predict(inputs)
    for threads in (1, 2):
        outputs = run_ours(part, inputs, threads)
        for output, wanted in zip(outputs, expected, strict=True):
            assert wanted.std() > 0
            assert output.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_the_network_agrees(name):
    path = FOLDER / f"{name}.tflite"
    recording = np.load(FOLDER / f"{name}.npz")
    inputs, expected = recording["inputs"], recording["outputs"]
    outputs = runtime.Interpreter(path).predict(inputs)
    assert runtime.Interpreter(path, num_threads=2).predict(inputs).tobytes() == outputs.tobytes()
    # Unlike images are of unlike classes: it is as much as probabilities of 0.001 differ by.
    assert expected.std(axis=0).mean() > 1e-5
    assert expected.std(axis=1).mean() > 1e-4
    differences = np.abs(outputs - expected).max(axis=1)
    assert np.median(differences) <= 1e-5 * expected.max()
