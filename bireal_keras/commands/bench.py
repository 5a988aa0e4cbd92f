"""Measures how long a model takes for one input.

Usage: bireal-bench [flags] MODEL

MODEL is any .tflite file, with 1-bit layers or without, a folder of bireal-train with the file that
bireal-export put into it, or cifar10, the model that comes with the package.

Runs the model on random input and prints the shortest and the median time of a run, in
milliseconds, and with --profile where that time goes. The flags have the names of TensorFlow
Lite's benchmark_model.
"""

import collections
import dataclasses
import json
import statistics
from typing import Any

from absl import app, flags

from bireal_keras import _native_log
from bireal_keras.commands import _cli, _model_argument
from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.latency import measure
from bireal_keras.runtime.profile import Entry, profile

_GRAPH = _cli.define_path("graph", None, "The model, instead of the argument.")
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 1, "Threads to compute with.", lower_bound=1, upper_bound=64
)
_NUM_RUNS = flags.DEFINE_integer("num_runs", 50, "Runs that are measured.", lower_bound=1)
_WARMUP_RUNS = flags.DEFINE_integer("warmup_runs", 5, "Runs before those.", lower_bound=0)
_KERNEL = flags.DEFINE_string(
    "kernel",
    None,
    "Forces the kernels for one instruction set: avx512, avx2 or portable on x86-64, neon_lookup, "
    "neon or portable on 64-bit Arm; default: this CPU's best.",
)
_FLOAT_OPS = flags.DEFINE_enum(
    "float_ops",
    "fastest",
    ["fastest", "delegate", "litert"],
    "Who runs the float operators that the delegate can run as well: the delegate where it is "
    "faster or takes less memory, always the delegate, or LiteRT.",
)
_COMPARE = _cli.define_path(
    "compare",
    None,
    "Another model, its float32 twin for example, that takes turns with the first.",
)
_PROFILE = flags.DEFINE_bool(
    "profile", False, "Also time the ops of the model, in runs of their own."
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON: all times, and the settings.")


def main(args: list[str]) -> None:
    names = [*args, _GRAPH.value] if _GRAPH.value is not None else args
    if len(names) != 1:
        raise app.UsageError(f"exactly one model is needed. Received: {len(names)}.")
    if _COMPARE.value is not None:
        names = [*names, _COMPARE.value]
    paths = [_model_argument.resolve(name) for name in names]
    with _native_log.quiet():  # LiteRT greets.
        interpreters = [
            Interpreter(
                path,
                num_threads=_NUM_THREADS.value,
                kernel=_KERNEL.value,
                float_ops=_FLOAT_OPS.value,
            )
            for path in paths
        ]
    times = measure(interpreters, num_runs=_NUM_RUNS.value, warmup_runs=_WARMUP_RUNS.value)
    results: list[dict[str, Any]] = [
        {
            "model": name,
            "min_ms": min(milliseconds),
            "median_ms": statistics.median(milliseconds),
            "runs_ms": milliseconds,
            "batch": interpreter.input_shape[0],
            "threads": _NUM_THREADS.value,
        }
        for name, interpreter, milliseconds in zip(names, interpreters, times)
    ]
    entries: list[Entry] = []
    if _PROFILE.value:
        entries = profile(
            paths[0],
            num_threads=_NUM_THREADS.value,
            kernel=_KERNEL.value,
            float_ops=_FLOAT_OPS.value,
            num_runs=_NUM_RUNS.value,
            warmup_runs=_WARMUP_RUNS.value,
        )
        results[0]["profile"] = [dataclasses.asdict(entry) for entry in entries]
    if _JSON.value:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(
            f"{result['model']}: min {result['min_ms']:.3f} ms, "
            f"median {result['median_ms']:.3f} ms "
            f"({len(result['runs_ms'])} runs, batch {result['batch']}, "
            f"threads: {result['threads']})"
        )
    if len(times) == 2:
        ratio = statistics.median(other / first for first, other in zip(*times))
        print(f"{names[1]} takes {ratio:.2f} times as long")
    _print_profile(entries)


def _print_profile(entries: list[Entry]) -> None:
    total = sum(entry.milliseconds for entry in entries)
    for entry in entries:
        if entry.delegated:
            by, ops = "delegate", " + ".join(entry.ops)
        else:
            counts = collections.Counter(entry.ops)
            by, ops = (
                "LiteRT",
                ", ".join(f"{count} {op}" if count > 1 else op for op, count in counts.items()),
            )
        first, last = entry.nodes[0], entry.nodes[-1]
        if len(entry.nodes) > 2 and entry.nodes == tuple(range(first, last + 1)):
            nodes = f"{first} to {last}"
        else:
            nodes = ", ".join(map(str, entry.nodes))
        share = entry.milliseconds / total
        print(f"{entry.milliseconds:9.3f} ms {share:6.1%}  {by:8}  {ops} (op {nodes})")
    if entries:
        delegated = sum(entry.milliseconds for entry in entries if entry.delegated)
        print(f"{total:9.3f} ms in all, {delegated:.3f} ms of it in the delegate")


def run() -> None:
    """Entry point of the console command."""
    _cli.run("bireal-bench", main, module=__name__, doc=__doc__)
