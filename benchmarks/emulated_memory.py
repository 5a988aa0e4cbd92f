"""How much memory a model takes on a 64-bit Arm: the peak of a process under emulation.

    make test-aarch64  # builds the library and what emulates a Raspberry Pi
    python benchmarks/emulated_memory.py MODEL.tflite

Runs the model once on an emulated Cortex-A72 and Cortex-A76, with the float operators on LiteRT and
in the delegate, and prints the peak beyond what the process took before it had the model: the least
of a few runs. What the emulator keeps of the code that it has translated is a part of every figure.
"""

import subprocess
from pathlib import Path

from absl import app, flags
from report import machine, print_table

from bireal_keras.commands import _cli

_RUNS = flags.DEFINE_integer("runs", 3, "Processes of each kind.", lower_bound=1)

_AARCH64 = Path(__file__).parents[1] / "_build/aarch64"
_CPUS = ("cortex-a72", "cortex-a76")
_SCRIPT = """
import sys
import ai_edge_litert.interpreter as litert
from bireal_keras import runtime
sys.path.insert(0, sys.argv[1])
from report import peak_kilobytes
delegate = runtime.load_delegate(float_ops=sys.argv[3])
before = peak_kilobytes()
interpreter = litert.Interpreter(sys.argv[2], num_threads=1, experimental_delegates=[delegate])
interpreter.allocate_tensors()
interpreter.invoke()
print(peak_kilobytes() - before)
"""


def main(args: list[str]) -> None:
    if len(args) != 1:
        raise app.UsageError("a .tflite file is needed.")
    if not (_AARCH64 / "root/usr/bin/python3.11").is_file():
        raise ValueError(f"{_AARCH64} has no emulated machine: `make test-aarch64` makes it.")
    print(f"{machine()}\n")
    rows = []
    for cpu in _CPUS:
        peaks = [
            min(_peak_mebibytes(args[0], cpu, float_ops) for _ in range(_RUNS.value))
            for float_ops in ("litert", "delegate")
        ]
        rows.append([cpu, *(f"{peak:.1f}" for peak in peaks)])
    print_table(
        [f"{Path(args[0]).name}, emulated", "float operators: LiteRT, MiB", "ours, MiB"], rows
    )


def _peak_mebibytes(model: str, cpu: str, float_ops: str) -> float:
    root = _AARCH64 / "root"
    path = f"PYTHONPATH={_AARCH64 / 'lib'}:{_AARCH64 / 'packages'}"
    command = ["qemu-aarch64-static", "-cpu", cpu, "-L", root, "-E", path]
    command += [root / "usr/bin/python3.11", "-P", "-c", _SCRIPT, Path(__file__).parent]
    result = subprocess.run(
        [*command, model, float_ops], capture_output=True, text=True, check=True
    )
    return int(result.stdout) / 1024


if __name__ == "__main__":
    _cli.run("emulated_memory", main, module="__main__", doc=__doc__)
