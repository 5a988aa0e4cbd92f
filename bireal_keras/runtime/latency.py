"""How long a model takes."""

import time
from collections.abc import Sequence

import numpy as np

from bireal_keras.runtime.interpreter import Interpreter


def measure(
    interpreters: Sequence[Interpreter], *, num_runs: int, warmup_runs: int
) -> list[list[float]]:
    """Wall-clock milliseconds of `num_runs` runs of each model, for the file's batch size.

    The models take turns, so that a machine whose speed drifts slows all of them.
    """
    inputs = [random_input(interpreter) for interpreter in interpreters]
    milliseconds: list[list[float]] = [[] for _ in interpreters]
    for run_index in range(warmup_runs + num_runs):
        for interpreter, x, times in zip(interpreters, inputs, milliseconds):
            start = time.perf_counter()
            interpreter.predict(x)
            if run_index >= warmup_runs:
                times.append((time.perf_counter() - start) * 1e3)
    return milliseconds


def random_input(interpreter: Interpreter) -> np.ndarray:
    """A batch of the file's size: floats from [-1, 1), 0 or 1 for other types."""
    low, high = (-1, 1) if np.issubdtype(interpreter.input_dtype, np.floating) else (0, 2)
    values = np.random.default_rng(0).uniform(low, high, interpreter.input_shape)
    return values.astype(interpreter.input_dtype)
