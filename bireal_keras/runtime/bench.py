"""Measures how long a model takes for one input.

Usage: bireal-bench [flags] MODEL.tflite

Runs the model on random input and prints the shortest and the median time of a run, in
milliseconds. Any .tflite file will do, with 1-bit layers or without.
"""

import statistics

from absl import app, flags

from bireal_keras import _cli
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.latency import measure

_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)
_NUM_RUNS = flags.DEFINE_integer("num_runs", 50, "Runs that are measured.", lower_bound=1)
_WARMUP_RUNS = flags.DEFINE_integer("warmup_runs", 5, "Runs before those.", lower_bound=0)
_KERNEL = flags.DEFINE_string(
    "kernel", None, "Forces an implementation of the binary convolution; default: the best one."
)


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(args)}.")
    (path,) = args
    interpreter = Interpreter(path, num_threads=_NUM_THREADS.value, kernel=_KERNEL.value)
    times = measure(interpreter, num_runs=_NUM_RUNS.value, warmup_runs=_WARMUP_RUNS.value)
    print(
        f"{path}: min {min(times):.2f} ms, median {statistics.median(times):.2f} ms "
        f"({len(times)} runs, batch {interpreter.input_shape[0]}, "
        f"threads: {_NUM_THREADS.value})"
    )


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-bench", main, module=__name__, doc=__doc__)
