"""A Bi-Real-18 computes here what it computed on the machine that recorded it.

`make test-aarch64` records it on x86_64 and runs this under an emulated Raspberry Pi. What the
delegate computes is the same bytes everywhere, and by default that is all of it. LiteRT's float
operators are XNNPACK's, which rounds differently on every CPU.
"""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from bireal_keras import runtime

FOLDER = Path(__file__).parents[3] / "_build/aarch64/birealnet18"


def repeat(name: str, **options) -> list[tuple[np.ndarray, np.ndarray]]:
    """Repeats all recorded runs of a model. Returns (recorded, computed) outputs."""
    interpreter = Interpreter(
        model_path=str(FOLDER / f"{name}.tflite"),
        experimental_delegates=[runtime.load_delegate(**options)],
    )
    interpreter.allocate_tensors()
    arrays = np.load(FOLDER / f"{name}.npz")
    pairs = []
    for run in range(sum(key.endswith("_0") and key.startswith("input") for key in arrays)):
        for i, details in enumerate(interpreter.get_input_details()):
            interpreter.set_tensor(details["index"], arrays[f"input{run}_{i}"])
        interpreter.invoke()
        for i, details in enumerate(interpreter.get_output_details()):
            output = interpreter.get_tensor(details["index"])
            pairs.append((arrays[f"output{run}_{i}"], output))
    return pairs


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kernel", [None, "neon", "portable"])
def test_the_binary_part_is_the_same_bytes(kernel, threads):
    pairs = repeat("binary_part", kernel=kernel, num_threads=threads)
    assert len(pairs) == 4  # Three down-sampling shortcuts and the head read from it.
    for recorded, computed in pairs:
        assert np.abs(recorded).max() > 1
        assert recorded.tobytes() == computed.tobytes()


@pytest.mark.parametrize(
    "options", [{}, {"kernel": "neon"}, {"kernel": "portable", "float_ops": "delegate"}], ids=str
)
def test_the_network_is_the_same_bytes(options):
    pairs = repeat("network", **options)
    assert len(pairs) == 4  # Images.
    for recorded, computed in pairs:
        assert len(np.unique(recorded)) == 10
        assert recorded.tobytes() == computed.tobytes()


def test_the_network_agrees_where_litert_runs_its_float_operators():
    pairs = repeat("network", float_ops="litert")
    assert all(recorded.argmax() == computed.argmax() for recorded, computed in pairs)
    # A last bit may turn a sign somewhere, which moves probabilities by 1e-3: few images have one.
    assert np.median([np.abs(recorded - computed).max() for recorded, computed in pairs]) < 1e-5
