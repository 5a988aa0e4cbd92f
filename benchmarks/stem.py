"""How fast and how exact: stems of networks on the delegate and on LiteRT with XNNPACK.

    python benchmarks/stem.py [--rounds=100]

A CONV_2D of 3 channels, in the ImageNet stem the MAX_POOL_2D after it, and the LceQuantize, with
one thread. The two take turns; the least of many runs by the time that the CPU spent on it, as
other programs may use the machine. The error is the root mean square of the difference from double
precision, relative to that of the values, on white noise and on its sums along rows and columns,
which neighbour as the pixels of photos do.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import ai_edge_litert.interpreter as litert
import numpy as np
from absl import flags
from report import machine, print_table

from bireal_keras import runtime
from bireal_keras.commands import _cli

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/delegate"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))
from test_float_ops import Pool, Stem, rms, run

_ROUNDS = flags.DEFINE_integer("rounds", 100, "Runs of each setting.", lower_bound=3)

_STEMS = {
    "7x7/2, 64 filters, 224x224, max pool": lambda: Stem((224, 224), pool=Pool()),
    "3x3/1, 64 filters, 32x32": lambda: Stem((32, 32), filter_size=3, stride=1),
    "3x3/1, 16 filters, 32x32": lambda: Stem((32, 32), filter_size=3, stride=1, channels_out=16),
    "3x3/2, 32 filters, 224x224": lambda: Stem((224, 224), filter_size=3, channels_out=32),
    "3x3/2, 8 filters, 224x224": lambda: Stem((224, 224), filter_size=3, channels_out=8),
}


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    print(f"{machine()}\n")
    rows = []
    for kernel in ("avx512", "avx2"):
        try:
            runtime.load_delegate(kernel=kernel)
        except ValueError:
            continue
        for name, make in _STEMS.items():
            rows.append([f"{kernel}: {name}", *_measure(make(), kernel)])
    header = ["1 thread", "delegate, ms", "XNNPACK, ms", "error on noise", "XNNPACK's"]
    print_table([*header, "error on smooth images", "XNNPACK's"], rows)


def _measure(stem: Stem, kernel: str) -> list[str]:
    settings = [{"kernel": kernel, "float_ops": name} for name in ("delegate", "litert")]
    runs = [_timed(stem, options) for options in settings]
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS.value):
        for run_once, milliseconds in zip(runs, times):
            milliseconds.append(run_once())
    cells = [f"{min(milliseconds):.3f}" for milliseconds in times]
    for x in (stem.x, stem.x.cumsum(axis=1).cumsum(axis=2)):
        stem.x = ((x - x.mean()) / x.std()).astype(np.float32)
        expected = stem.expected()
        for options in settings:
            values, _ = run(stem.model(), stem.x, **options)
            cells.append(f"{rms(values - expected) / rms(expected):.1e}")
    return cells


def _timed(stem: Stem, options: dict[str, str]) -> Callable[[], float]:
    interpreter = litert.Interpreter(
        model_content=stem.model(),
        experimental_delegates=[runtime.load_delegate(**options)],
        num_threads=1,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, stem.x)

    def run_once() -> float:
        start = time.thread_time()
        interpreter.invoke()
        return (time.thread_time() - start) * 1e3

    return run_once


if __name__ == "__main__":
    _cli.run("stem", main, module="__main__", doc=__doc__)
