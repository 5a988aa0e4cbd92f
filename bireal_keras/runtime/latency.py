"""How long a model takes."""

import time

import numpy as np

from bireal_keras.runtime.interpreter import Interpreter


def measure(interpreter: Interpreter, *, num_runs: int, warmup_runs: int) -> list[float]:
    """Wall-clock milliseconds of `num_runs` single runs on random input of the file's batch size.

    Floating-point input is drawn from [-1, 1), other input is 0 or 1.
    """
    random = np.random.default_rng(0)
    shape, dtype = interpreter.input_shape, interpreter.input_dtype
    low, high = (-1, 1) if np.issubdtype(dtype, np.floating) else (0, 2)
    inputs = random.uniform(low, high, shape).astype(dtype)

    milliseconds = []
    for run_index in range(warmup_runs + num_runs):
        start = time.perf_counter()
        interpreter.predict(inputs)
        if run_index >= warmup_runs:
            milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds
