"""Runs that take turns: how the benchmarks measure."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bireal_keras import runtime

Run = Callable[[], object]

_RUNS_IN_A_ROW = 5


def our_run(
    model: str | Path | bytes,
    num_threads: int,
    kernel: str | None = None,
    float_ops: str = "fastest",
) -> Run:
    """A run of a model on our runtime, on random input."""
    interpreter = runtime.Interpreter(
        model, num_threads=num_threads, kernel=kernel, float_ops=float_ops
    )
    x = _random_input(interpreter.input_shape).astype(interpreter.input_dtype)
    return lambda: interpreter.predict(x)


def lce_run(model: Path, num_threads: int, **settings: bool) -> Run:
    """A run of a model on LCE's own interpreter, on random input."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(model.read_bytes(), num_threads, **settings)
    x = _random_input(interpreter.input_shapes[0])
    return lambda: interpreter.predict(x)


def _random_input(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def measure(
    runs: dict[str, Run],
    rounds: int,
    summary: Callable[[list[float]], float] = statistics.median,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of each run in each round: the median, or another summary, of a few in a row.

    Of one thread, `time.thread_time` is a clock that stands still while other programs compute.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):  # The first goes uncounted.
        for name, run in runs.items():
            in_a_row = []
            for _ in range(_RUNS_IN_A_ROW):
                start = clock()
                run()
                in_a_row.append((clock() - start) * 1e3)
            if index > 0:
                times[name].append(summary(in_a_row))
    return times


def ratio(times: list[float], ours: list[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(times, ours))
