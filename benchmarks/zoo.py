"""How fast larq-zoo's models are on our runtime and on Larq Compute Engine.

    make test-peers  # makes the models
    python benchmarks/zoo.py [--rounds=5] [NAME ...]

Without names, all models. Batch 1, 224x224, 1 thread, random weights. For each model the settings
take turns, so that a machine whose speed drifts slows all of them; medians are compared.
"""

import statistics
from pathlib import Path

from absl import flags
from report import machine, print_table
from turns import lce_run, measure, our_run, ratio

from bireal_keras.commands import _cli

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each setting.", lower_bound=3)

_FOLDER = Path(__file__).parents[1] / "_build/peers/models"
# All with XNNPACK. LCE's default kernel is the slowest on x86_64.
_LCE_SETTINGS = {
    "indirect": {"use_indirect_bgemm": True},
    "reference": {"use_reference_bconv": True},
}


def main(names: list[str]) -> None:
    names = names or sorted(path.stem for path in _FOLDER.glob("*.tflite"))
    if not names:
        raise FileNotFoundError(f"no models in {_FOLDER}. Make them: make test-peers.")
    rows = []
    for name in names:
        path = _FOLDER / f"{name}.tflite"
        runs = {"ours": our_run(path, 1)}
        for setting, arguments in _LCE_SETTINGS.items():
            runs[setting] = lce_run(path, 1, use_xnnpack=True, **arguments)
        times = measure(runs, _ROUNDS.value)
        ours = times.pop("ours")
        best = min(times, key=lambda setting: statistics.median(times[setting]))
        rows.append(
            [
                name,
                f"{statistics.median(ours):.2f}",
                f"{statistics.median(times[best]):.2f}",
                best,
                f"{ratio(times[best], ours):.1f}",
            ]
        )
    print(f"{machine()}\n")
    header = ["224x224, 1 thread", "ours, median ms", "LCE 0.16 + XNNPACK, median ms"]
    print_table([*header, "kernel", "times our time"], rows)


if __name__ == "__main__":
    _cli.run("zoo", main, module="__main__", doc=__doc__)
