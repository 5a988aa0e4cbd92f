"""Every model of the zoo, and real-valued networks beside them: files, latency, and the picture.

    python benchmarks/models.py [--rounds=12] [NAME ...]

Exports each model with its default arguments (224x224, 1,000 classes) and fresh weights, and the
networks of mobile_networks.py in float32 and int8; times them in turns with one thread, ours on
our runtime, the others on LiteRT with XNNPACK. Writes docs/models/measured.json, from which
`make cards` writes the tables, and draws docs/models/models.png, with the predictions for Arm that
predict.py makes of the same files. Files are kept in _build/models and taken from there the next
time.

A figure is the least of all runs, by the time that the CPU spent on it: other programs add little
to that. With names, only these are
exported and timed, and the figures are printed and nothing is written.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import mobile_networks
from absl import flags
from models_picture import draw
from report import machine, print_table
from turns import measure, our_run

from bireal_keras import _files, zoo
from bireal_keras._keras import keras
from bireal_keras.commands import _cli

_ROUNDS = flags.DEFINE_integer("rounds", 12, "Measurements of each model.", lower_bound=3)

_ROOT = Path(__file__).parents[1]
_FILES = _ROOT / "_build/models"
_OUTPUT = _ROOT / "docs/models/measured.json"


def main(names: list[str]) -> None:
    makers = {name: lambda name=name: _zoo_file(name) for name in zoo.list_models()}
    makers |= mobile_networks.makers()
    if unknown := [name for name in names if name not in makers]:
        raise ValueError(f"models are {', '.join(makers)}. Received: {', '.join(unknown)}.")
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


def _zoo_file(name: str) -> bytes:
    import larq_compute_engine as lce

    return lce.convert_keras_model(zoo.create_model(name))


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
