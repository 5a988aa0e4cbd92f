"""How fast: one model on the delegates of several commits, in one run.

    python benchmarks/libraries.py [flags] MODEL.tflite LIBRARY [LIBRARY ...]

A library is a commit's libbireal_delegate.so, from a work tree in which `make .venv/built` ran;
`LIBRARY=OTHER.tflite` runs it on the file that another commit exports. The libraries take turns in
each round. How far their results are from the first one's is printed,
relative to the largest; 0 are the same bytes.

For machines that other programs use as well: it takes the least of many short runs, of one thread
by the time that the CPU spent on it. Figures are the least, ratios are to the first library. The
steps are those that do LceBconv2d, each at its least; the rest of a run is not in them. Memory is
the peak of a process of its own beyond what it takes without the model.
"""

import csv
import itertools
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ai_edge_litert.interpreter as litert
import numpy as np
from absl import app, flags
from popcount import popcount_peaks
from report import machine, print_table

from bireal_keras import cost
from bireal_keras.commands import _cli

_ROUNDS = flags.DEFINE_integer("rounds", 150, "Turns of each library.", lower_bound=3)
_KERNEL = flags.DEFINE_string("kernel", None, "As bireal-bench's.")
_NUM_THREADS = flags.DEFINE_integer("num_threads", 1, "As bireal-bench's.", lower_bound=1)

_RUNS_IN_A_ROW = 3

_PEAK_MEMORY_SCRIPT = """
import sys
import ai_edge_litert.interpreter as litert
sys.path.insert(0, sys.argv[1])
from report import peak_kilobytes
delegate = litert.load_delegate(sys.argv[3])
before = peak_kilobytes()
interpreter = litert.Interpreter(sys.argv[2], num_threads=1, experimental_delegates=[delegate])
interpreter.allocate_tensors()
interpreter.invoke()
print(peak_kilobytes() - before)
"""


class _Library:
    """A delegate with a model, which writes down when its steps are done."""

    def __init__(self, model: str, library: str, profile: Path):
        options = {"num_threads": _NUM_THREADS.value, "profile": profile}
        if _KERNEL.value is not None:
            options["kernel"] = _KERNEL.value
        self._profile = profile
        self._interpreter = litert.Interpreter(
            model,
            num_threads=_NUM_THREADS.value,
            experimental_delegates=[litert.load_delegate(library, options)],
        )
        self._interpreter.allocate_tensors()
        (tensor,) = self._interpreter.get_input_details()
        x = np.random.default_rng(0).uniform(-1, 1, tensor["shape"]).astype(tensor["dtype"])
        self._interpreter.set_tensor(tensor["index"], x)
        self._clock = time.thread_time if _NUM_THREADS.value == 1 else time.perf_counter
        self.milliseconds: list[float] = []

    def run(self) -> None:
        for _ in range(_RUNS_IN_A_ROW):
            start = self._clock()
            self._interpreter.invoke()
            self.milliseconds.append((self._clock() - start) * 1e3)

    def output(self) -> np.ndarray:
        (tensor,) = self._interpreter.get_output_details()
        return self._interpreter.get_tensor(tensor["index"])

    def binary_milliseconds(self) -> float:
        """The steps that do LceBconv2d, each at its least."""
        with self._profile.open(newline="") as file:
            rows = [(int(row["done_ns"]), row["what"]) for row in csv.DictReader(file)]
        least: dict[str, float] = {}
        for (start, _), (end, what) in itertools.pairwise(rows):
            if re.match("LceBconv2d", what):
                least[what] = min(least.get(what, np.inf), (end - start) / 1e6)
        return sum(least.values())


def main(args: list[str]) -> None:
    if len(args) < 2:
        raise app.UsageError("a model and libraries are needed.")
    model, *paths = args
    pairs = [(path.partition("=")[0], path.partition("=")[2] or model) for path in paths]
    print(f"{machine()}\n")
    peak = popcount_peaks()
    with tempfile.TemporaryDirectory() as folder:
        libraries = [
            _Library(file, path, Path(folder) / f"{index}.csv")
            for index, (path, file) in enumerate(pairs)
        ]
        for _ in range(_ROUNDS.value):
            for library in libraries:
                library.run()
        memory = [_peak_mebibytes(file, path) for path, file in pairs]
        _print(model, paths, libraries, peak, memory)


def _peak_mebibytes(model: str, library: str) -> float:
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", _PEAK_MEMORY_SCRIPT, folder, model, library]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout) / 1024


def _print(
    model: str, paths: list[str], libraries: list[_Library], peak: float, memory: list[float]
) -> None:
    macs = cost.of_tflite(model).total.binary_macs
    expected = libraries[0].output()
    base, base_binary = min(libraries[0].milliseconds), libraries[0].binary_milliseconds()
    rows = []
    for path, library, mebibytes in zip(paths, libraries, memory):
        least, binary = min(library.milliseconds), library.binary_milliseconds()
        rate = macs / binary / 1e6
        error = np.abs(library.output() - expected).max() / np.abs(expected).max()
        rows.append(
            [path, f"{least:.3f}", f"{least / base:.3f}", f"{binary:.3f}"]
            + [f"{binary / base_binary:.3f}", f"{rate:.0f}", f"{rate / peak:.0%}", f"{error:.0e}"]
            + [f"{mebibytes:.1f}"]
        )
    threads = "1 thread" if _NUM_THREADS.value == 1 else f"{_NUM_THREADS.value} threads"
    header = [f"{Path(model).name}, {_KERNEL.value or 'best kernel'}, {threads}", "ms", "ratio"]
    header += ["binary steps, ms", "ratio", "1e9 MAC/s", "of the peak", "difference"]
    header += ["MiB"]
    print_table(header, rows)


if __name__ == "__main__":
    _cli.run("libraries", main, module="__main__", doc=__doc__)
