"""Measures how long a model takes for one input.

Usage: bireal-bench [flags] MODEL.tflite

Runs the model on random input and prints the shortest and the median time of a run, in
milliseconds. Any .tflite file will do, with 1-bit layers or without. The flags have the
names of TensorFlow Lite's benchmark_model.
"""

import json
import statistics
from typing import Any

from absl import app, flags

from bireal_keras import _cli
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.latency import measure

_GRAPH = flags.DEFINE_string("graph", None, "The model, instead of the argument.")
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)
_NUM_RUNS = flags.DEFINE_integer("num_runs", 50, "Runs that are measured.", lower_bound=1)
_WARMUP_RUNS = flags.DEFINE_integer("warmup_runs", 5, "Runs before those.", lower_bound=0)
_KERNEL = flags.DEFINE_string(
    "kernel", None, "Forces the kernels for one instruction set; default: this CPU's best."
)
_COMPARE = flags.DEFINE_string(
    "compare",
    None,
    "Another model, its float32 twin for example, that takes turns with the first.",
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON: all times, and the settings.")


def main(args: list[str]) -> None:
    paths = [*args, _GRAPH.value] if _GRAPH.value is not None else args
    if len(paths) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(paths)}.")
    if _COMPARE.value is not None:
        paths = [*paths, _COMPARE.value]
    interpreters = [
        Interpreter(path, num_threads=_NUM_THREADS.value, kernel=_KERNEL.value) for path in paths
    ]
    times = measure(interpreters, num_runs=_NUM_RUNS.value, warmup_runs=_WARMUP_RUNS.value)
    results: list[dict[str, Any]] = [
        {
            "model": path,
            "min_ms": min(milliseconds),
            "median_ms": statistics.median(milliseconds),
            "runs_ms": milliseconds,
            "batch": interpreter.input_shape[0],
            "threads": _NUM_THREADS.value,
        }
        for path, interpreter, milliseconds in zip(paths, interpreters, times)
    ]
    if _JSON.value:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(
            f"{result['model']}: min {result['min_ms']:.2f} ms, "
            f"median {result['median_ms']:.2f} ms "
            f"({len(result['runs_ms'])} runs, batch {result['batch']}, "
            f"threads: {result['threads']})"
        )
    if len(times) == 2:
        ratio = statistics.median(other / first for first, other in zip(*times))
        print(f"{paths[1]} takes {ratio:.2f} times as long")


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-bench", main, module=__name__, doc=__doc__)
