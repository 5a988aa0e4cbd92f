"""Every model of the zoo: size of its file and latency, for the model cards.

    python benchmarks/models.py [--rounds=12]

Exports each model with its default arguments (224x224, 1,000 classes) and fresh weights, times
it on our runtime with one thread, by turns as compare.py does, and writes
docs/models/measured.json. Files are kept in _build/models and taken from there the next time.
"""

import json
import os
import statistics
from pathlib import Path

from absl import flags
from report import machine
from turns import measure, our_run

from bireal_keras.commands import _cli

_ROUNDS = flags.DEFINE_integer("rounds", 12, "Measurements of each model.", lower_bound=3)

_ROOT = Path(__file__).parents[1]
_FILES = _ROOT / "_build/models"
_OUTPUT = _ROOT / "docs/models/measured.json"


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    paths = _export()
    times = measure({name: our_run(path, 1) for name, path in paths.items()}, _ROUNDS.value)
    results = {
        name: {
            "bytes": paths[name].stat().st_size,
            "milliseconds": round(statistics.median(times[name]), 2),
        }
        for name in paths
    }
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "threads": 1, "models": results}
    _OUTPUT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(_OUTPUT)


def _export() -> dict[str, Path]:
    import larq_compute_engine as lce

    from bireal_keras import zoo
    from bireal_keras._keras import keras

    _FILES.mkdir(parents=True, exist_ok=True)
    paths = {name: _FILES / f"{name}.tflite" for name in zoo.list_models()}
    for name, path in paths.items():
        if path.exists():
            continue
        print(f"exporting {name} ...", flush=True)
        keras.utils.set_random_seed(0)
        partial = path.with_suffix(".partial")
        partial.write_bytes(lce.convert_keras_model(zoo.create_model(name)))
        os.replace(partial, path)
        keras.backend.clear_session()
    return paths


if __name__ == "__main__":
    _cli.run("models", main, module="__main__", doc=__doc__)
