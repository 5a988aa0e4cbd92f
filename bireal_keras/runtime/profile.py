"""Where the time of a model goes, op by op."""

import csv
import os
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bireal_keras.runtime.interpreter import Interpreter
from bireal_keras.runtime.latency import random_input


@dataclass(frozen=True)
class Entry:
    """A stretch of a run that can be timed on its own.

    Attributes:
        ops: names of the ops, in the order in which they run: ("LceBconv2d", "ADD").
        nodes: where each is in the model file.
        delegated: True for ops that the delegate runs as one step, False for all that the
            interpreter runs between two of the delegate's partitions.
        milliseconds: median over the runs.
    """

    ops: tuple[str, ...]
    nodes: tuple[int, ...]
    delegated: bool
    milliseconds: float


def profile(
    model: str | os.PathLike[str] | bytes,
    *,
    num_threads: int = 1,
    kernel: str | None = None,
    float_ops: str = "fastest",
    num_runs: int = 50,
    warmup_runs: int = 5,
) -> list[Entry]:
    """Times a model's ops on random input, as `latency.measure` times the whole.

    Args:
        model: path of a .tflite file, or its bytes.
        num_threads, kernel, float_ops: see `Interpreter`.
        num_runs: runs that are counted.
        warmup_runs: runs before those.

    Returns:
        The entries in the order in which they run; their sum is about the time of a run.

    Raises:
        ValueError, OSError, ImportError: as `Interpreter`. ValueError: a model with several
            subgraphs, of an IF or a WHILE.
    """
    # Here, so that the rest of the runtime does without LiteRT's schema.
    from bireal_keras.tflite.model import Graph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.csv"
        interpreter = Interpreter(
            model, num_threads=num_threads, kernel=kernel, float_ops=float_ops, profile=path
        )
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        graph = Graph(content)
        if graph.subgraphs > 1:
            # The delegate names ops by their numbers, which each subgraph counts anew.
            raise ValueError(
                f"{interpreter.name}: has {graph.subgraphs} subgraphs, as a model with an IF or a "
                "WHILE. Models of one can be profiled; `latency.measure` times any."
            )
        x = random_input(interpreter)
        spans = []
        for _ in range(warmup_runs + num_runs):
            start = time.monotonic_ns()  # The delegate's clock.
            interpreter.predict(x)
            spans.append((start, time.monotonic_ns()))
        with path.open(newline="") as file:
            rows = [(int(row["done_ns"]), row["what"]) for row in csv.DictReader(file)]

    names = [operator.name for operator in graph.operators]
    count = len(rows) // len(spans)
    what = [text for _, text in rows[:count]]
    times: list[list[float]] = [[] for _ in range(count + 1)]
    for run, (start, end) in enumerate(spans):
        done = [start, *(ns for ns, _ in rows[run * count : (run + 1) * count]), end]
        if run >= warmup_runs:
            for index in range(count + 1):
                times[index].append((done[index + 1] - done[index]) / 1e6)

    nodes = [tuple(map(int, re.findall(r"\(node (\d+)\)", text))) for text in what]
    listed = {node for entry in nodes for node in entry}
    nodes.append(tuple(node for node in range(len(names)) if node not in listed))
    delegated = [not text.startswith("interpreter") for text in what] + [False]
    entries = [
        Entry(tuple(names[node] for node in entry), entry, mine, statistics.median(milliseconds))
        for entry, mine, milliseconds in zip(nodes, delegated, times)
    ]
    return [entry for entry in entries if entry.ops]
