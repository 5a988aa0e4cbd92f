"""How long a model takes."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bireal_keras.runtime.interpreter import Interpreter


def measure(
    interpreters: Sequence[Interpreter], *, num_runs: int, warmup_runs: int
) -> list[list[float]]:
    """Wall-clock milliseconds of `num_runs` runs of each model, for the file's batch size.

    The models take turns, so that a machine whose speed drifts slows all of them.
    """
    runs = [partial(interpreter.predict, random_input(interpreter)) for interpreter in interpreters]
    return take_turns(runs, num_runs=num_runs, warmup_runs=warmup_runs)


def take_turns(
    runs: Sequence[Callable[[], Any]], *, num_runs: int, warmup_runs: int
) -> list[list[float]]:
    """Wall-clock milliseconds of `num_runs` calls of each function, which take turns."""
    milliseconds: list[list[float]] = [[] for _ in runs]
    for run_index in range(warmup_runs + num_runs):
        for run, times in zip(runs, milliseconds):
            start = time.perf_counter()
            run()
            if run_index >= warmup_runs:
                times.append((time.perf_counter() - start) * 1e3)
    return milliseconds


def random_input(interpreter: Interpreter) -> np.ndarray:
    """A batch of the file's size: floats from [-1, 1), 0 or 1 for other types."""
    low, high = (-1, 1) if np.issubdtype(interpreter.input_dtype, np.floating) else (0, 2)
    values = np.random.default_rng(0).uniform(low, high, interpreter.input_shape)
    return values.astype(interpreter.input_dtype)
