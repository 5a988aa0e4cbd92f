"""Runs a recorded model with whatever interpreter is installed, and compares byte for byte.

Usage: repeat.py MODEL RECORDED.npz, with arrays `input0_<i>` and `output0_<i>`. The model may
have any number of inputs and outputs. Exits with 1 when an output differs.
"""

import platform
import struct
import sys

import numpy as np

from bireal_keras import runtime

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter


def main(model: str, recorded: str) -> int:
    # It names the kernels that it found if it is verbose.
    delegate = runtime.load_delegate(num_threads=2, verbose=True)
    interpreter = Interpreter(model, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    arrays = np.load(recorded)
    for i, details in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(details["index"], arrays[f"input0_{i}"])
    interpreter.invoke()
    outputs = [
        interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()
    ]
    equal = sum(
        output.tobytes() == arrays[f"output0_{i}"].tobytes() for i, output in enumerate(outputs)
    )
    print(
        f"{equal} of {len(outputs)} outputs are the recorded bytes; "
        f"{platform.machine()}, {8 * struct.calcsize('P')} bits, {Interpreter.__module__}"
    )
    return equal != len(outputs)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
