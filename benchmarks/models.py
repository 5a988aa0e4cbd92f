"""Every model of the zoo, and real-valued networks beside them: files, latency, and the picture.

    python benchmarks/models.py [--rounds=12] [NAME ...]
    python benchmarks/models.py --threads NAME|MODEL.tflite ...

Exports each model with its default arguments (224x224, 1,000 classes) and fresh weights, and the
networks of mobile_networks.py in float32 and int8; times them in turns with one thread, ours on
our runtime, the others on LiteRT with XNNPACK. Writes docs/models/measured.json, from which
`make cards` writes the tables, and draws docs/models/models.png, with the predictions for Arm that
predict.py makes of the same files. Files are kept in _build/models and taken from there the next
time.

A figure is the least of all runs, by the time that the CPU spent on it: other programs add little
to that. With names, only these are
exported and timed, and the figures are printed and nothing is written.

With --threads it prints how many times as fast each kind of step of these models is with two
threads, beside a loop of population counts that runs in two processes. One thread and two take
turns; a figure is the least of the medians of ten runs.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import mobile_networks
from absl import app, flags
from models_picture import draw
from popcount import popcount_scaling
from report import machine, print_table
from turns import measure, our_run

from bireal_keras import _files, zoo
from bireal_keras._keras import keras
from bireal_keras.commands import _cli
from bireal_keras.export import from_keras, signature
from bireal_keras.export.binarize import binarize
from bireal_keras.runtime.profile import Entry, profile
from bireal_keras.tflite.model import Graph

_ROUNDS = flags.DEFINE_integer("rounds", 12, "Measurements of each model.", lower_bound=3)

_THREADS = flags.DEFINE_bool("threads", False, "How each kind of step scales to two threads.")

_ROOT = Path(__file__).parents[1]
_FILES = _ROOT / "_build/models"
_OUTPUT = _ROOT / "docs/models/measured.json"


def main(names: list[str]) -> None:
    makers = {name: lambda name=name: _zoo_file(name) for name in zoo.list_models()}
    makers |= mobile_networks.makers()
    files = [Path(name) for name in names if _THREADS.value and name.endswith(".tflite")]
    names = [name for name in names if Path(name) not in files]
    if unknown := [name for name in names if name not in makers]:
        raise ValueError(f"models are {', '.join(makers)}. Received: {', '.join(unknown)}.")
    if _THREADS.value:
        return _print_scaling([*files, *_exported({name: makers[name] for name in names}).values()])
    paths = _exported({name: makers[name] for name in names or makers})
    runs = {name: our_run(path, 1) for name, path in paths.items()}
    times = measure(runs, _ROUNDS.value, min, time.thread_time)
    results = {
        name: {"bytes": paths[name].stat().st_size, "milliseconds": round(min(times[name]), 2)}
        for name in paths
    }
    if names:
        print(f"{machine()}\n")
        rows = [[name, *map(str, figures.values())] for name, figures in results.items()]
        print_table(["224x224, 1 thread", "bytes", "least ms"], rows)
        return
    content = {
        "machine": machine(),
        "threads": 1,
        "models": {name: results[name] for name in zoo.list_models()},
        "others": {
            name: {**results[name], **mobile_networks.literature(name)}
            for name in mobile_networks.makers()
        },
    }
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(_OUTPUT)
    print(draw(_OUTPUT.parent))


def _print_scaling(paths: list[Path]) -> None:
    if not paths:
        raise app.UsageError("--threads needs names of models, or files.")
    print(f"{machine()}\n")
    print(f"Two processes count bits {popcount_scaling():.2f} times as fast as one.\n")
    steps: dict[str, list[tuple[float, float]]] = defaultdict(list)
    rows = []
    for path in paths:
        graph = Graph(path.read_bytes())
        entries = _least_entries(path)
        kinds = [_kind(graph, entry) for entry, _ in entries]
        for kind, (_, milliseconds) in zip(kinds, entries):
            steps[kind].append(milliseconds)
        rows.append([path.stem, *_scaling([milliseconds for _, milliseconds in entries])])
    header = ["1 thread, ms", "2 threads, ms", "times as fast"]
    print_table(["all steps of", *header], rows)
    totals = sorted(steps.items(), key=lambda item: -sum(one for one, _ in item[1]))
    print_table(
        ["kind of step", "steps", *header],
        [[kind, str(len(times)), *_scaling(times)] for kind, times in totals],
    )


def _least_entries(path: Path) -> list[tuple[Entry, tuple[float, float]]]:
    """The steps of a model, and their milliseconds with one thread and with two."""
    rounds = [
        [profile(path, num_threads=threads, num_runs=10, warmup_runs=2) for threads in (1, 2)]
        for _ in range(_ROUNDS.value)
    ]
    one, two = (
        [min(entry.milliseconds for entry in entries) for entries in zip(*turns)]
        for turns in zip(*rounds)
    )
    return list(zip(rounds[0][0], zip(one, two)))


def _kind(graph: Graph, entry: Entry) -> str:
    """Its operators, with the filter's size where there are several kinds of one."""
    names = list(entry.ops)
    if names[0] == "CONV_2D":
        filters = graph.operators[entry.nodes[0]].inputs[1]
        names[0] += " of {1}x{2}".format(*graph.tensors[filters].shape)
    # Signs are packed on the way.
    if len(names) > 1 and names[-1] == "LceQuantize":
        names.pop()
    return ("" if entry.delegated else "LiteRT: ") + " + ".join(names)


def _scaling(times: list[tuple[float, float]]) -> list[str]:
    one, two = map(sum, zip(*times))
    return [f"{one:.3f}", f"{two:.3f}", f"{one / two:.2f}"]


def _zoo_file(name: str) -> bytes:
    """What export writes, but for the metadata; its check is left to the tests."""
    model = zoo.create_model(name)
    return binarize(from_keras.float_file(model, signature.of(model))).content


def _exported(makers: dict[str, Callable[[], bytes]]) -> dict[str, Path]:
    """Makes what is not there yet."""
    _FILES.mkdir(parents=True, exist_ok=True)
    paths = {name: _FILES / f"{name.replace(' ', '_')}.tflite" for name in makers}
    for name, path in paths.items():
        if path.exists():
            continue
        print(f"exporting {name} ...", flush=True)
        keras.utils.set_random_seed(0)
        _files.write(path, makers[name]())
        keras.backend.clear_session()
    return paths


if __name__ == "__main__":
    _cli.run("models", main, module="__main__", doc=__doc__)
