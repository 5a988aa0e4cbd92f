"""How fast: Bi-Real-18 on our runtime, on Larq Compute Engine, and float32 and int8 twins.

    python benchmarks/compare.py [--rounds=30]

One run, one set of tables. Every setting takes its turn in each round and runs a few times in a
row, as it would in an application; a machine whose speed drifts slows all of them. Medians are
compared. Batch 1, 224x224 unless a table says
otherwise. LCE's settings: its default kernel, its reference kernel, and its indirect kernel with
XNNPACK, which is its fastest here. The twins are the same network with real-valued convolutions
behind ReLU, on stock LiteRT with XNNPACK. Memory is a process's peak beyond the same process
without a model.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from report import machine, print_table
from turns import Run, lce_run, measure, our_run, ratio

from bireal_keras import _cli, runtime

_ROUNDS = flags.DEFINE_integer("rounds", 30, "Measurements of each setting.", lower_bound=3)

_ROOT = Path(__file__).parents[1]
# The 3x3 convolutions of Bi-Real-18 with stride 1: (map size, channels).
_LAYERS = [(56, 64), (28, 128), (14, 256), (7, 512)]


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        models = _make_models(Path(folder))
        _compare_networks(models)
        _compare_memory(models)
    peak = _popcount_peak()
    _measure_layers(peak)
    _measure_growth()


def _make_models(folder: Path) -> dict[str, Path]:
    """Bi-Real-18 and its twins as files; their speed does not depend on the weights."""
    import larq_compute_engine as lce

    from bireal_keras import zoo
    from bireal_keras._keras import tf

    print("converting the models ...", file=sys.stderr)
    content = {"binary": lce.convert_keras_model(zoo.BiRealNet18())}
    twin = zoo.BiRealNet18Float()
    converter = tf.lite.TFLiteConverter.from_keras_model(twin)
    content["float32"] = converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    random = np.random.default_rng(0)
    converter.representative_dataset = lambda: (
        [random.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)] for _ in range(8)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content["int8"] = converter.convert()
    paths = {name: folder / f"{name}.tflite" for name in content}
    for name, path in paths.items():
        path.write_bytes(content[name])
    return paths


def _compare_networks(models: dict[str, Path]) -> None:
    runs = {}
    for threads in (1, 2):
        suffix = f", {threads} thread{'s' * (threads > 1)}"
        runs |= {
            f"ours{suffix}": our_run(models["binary"], threads),
            f"float32 twin, XNNPACK{suffix}": our_run(models["float32"], threads),
            f"int8 twin, XNNPACK{suffix}": our_run(models["int8"], threads),
            f"LCE 0.16, indirect + XNNPACK{suffix}": lce_run(
                models["binary"], threads, use_indirect_bgemm=True, use_xnnpack=True
            ),
        }
    runs |= {
        "LCE 0.16, indirect, 1 thread": lce_run(models["binary"], 1, use_indirect_bgemm=True),
        "LCE 0.16, default, 1 thread": lce_run(models["binary"], 1),
        "LCE 0.16, reference, 1 thread": lce_run(models["binary"], 1, use_reference_bconv=True),
        "ours, portable kernel, 1 thread": our_run(models["binary"], 1, "portable"),
    }
    times = measure(runs, _ROUNDS.value)
    rows = []
    for name, values in times.items():
        threads = name.rpartition(", ")[2]
        times_ours = ratio(values, times[f"ours, {threads}"])
        rows.append(
            [name, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{times_ours:.1f}"]
        )
    print_table(["Bi-Real-18, 224x224", "median ms", "min ms", "times our time"], rows)


_PEAK_MEMORY_SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import compare
{warm_up}
before = compare._peak_kilobytes()
run = {make_run}
run()
print(compare._peak_kilobytes() - before)
"""


def _peak_kilobytes() -> int:
    # Not getrusage's ru_maxrss, in which a new process inherits its parent's.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM: peak memory is measured on Linux only.")


def _compare_memory(models: dict[str, Path]) -> None:
    ours = "compare.runtime.load_delegate()"
    lce = "from larq_compute_engine.tflite.python import interpreter_wrapper_lite"
    binary, float32 = (f"compare.Path({str(models[name])!r})" for name in ("binary", "float32"))
    settings = {
        "ours": (ours, f"compare.our_run({binary}, 1)"),
        "float32 twin, XNNPACK": (ours, f"compare.our_run({float32}, 1)"),
        "LCE 0.16, indirect + XNNPACK": (
            lce,
            f"compare.lce_run({binary}, 1, use_indirect_bgemm=True, use_xnnpack=True)",
        ),
        "LCE 0.16, default": (lce, f"compare.lce_run({binary}, 1)"),
    }
    rows = []
    for name, (warm_up, make_run) in settings.items():
        script = _PEAK_MEMORY_SCRIPT.format(
            folder=str(Path(__file__).parent), warm_up=warm_up, make_run=make_run
        )
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append([name, f"{int(result.stdout) / 1024:.1f}"])
    print_table(["peak memory beyond a process without a model, 1 thread", "MiB"], rows)


def _popcount_peak() -> float:
    """1e9 binary MACs a second; see popcount_peak.cc."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "popcount_peak"
        source = Path(__file__).with_name("popcount_peak.cc")
        subprocess.run(["c++", "-O3", "-march=native", "-o", program, source], check=True)
        result = subprocess.run([program], capture_output=True, text=True, check=True)
    return float(result.stdout)


def _layer(size: int, channels: int, batch: int = 1) -> tuple[Run, float]:
    """A single LceBconv2d and its number of binary MACs."""
    sys.path.insert(0, str(_ROOT / "tests"))
    from lce_ops import Bconv2d, pack

    case = Bconv2d(batch, size, size, channels, channels)
    interpreter = runtime.Interpreter(case.model())
    inputs = pack(case.inputs)
    return lambda: interpreter.predict(inputs), batch * size**2 * channels**2 * 9


def _measure_layers(peak: float) -> None:
    built = {f"{s}x{s}, {c} channels": _layer(s, c) for s, c in _LAYERS}
    times = measure({name: run for name, (run, _) in built.items()}, _ROUNDS.value)
    rows = []
    for name, values in times.items():
        rate = _rate(built[name][1], values)
        rows.append([name, f"{statistics.median(values):.3f}", f"{rate:.0f}", f"{rate / peak:.0%}"])
    print_table(
        [
            "binary 3x3 convolution, 1 thread",
            "median ms",
            "1e9 MAC/s",
            f"of xor + popcount's peak ({peak:.0f})",
        ],
        rows,
    )


def _measure_growth() -> None:
    shapes = [(7, 256, 1), (14, 256, 1), (28, 256, 1), (56, 256, 1)]
    shapes += [(14, channels, 1) for channels in (32, 64, 128, 512)]
    shapes += [(14, 256, batch) for batch in (2, 4, 8)]
    built = {f"{s}x{s}, {c} channels, batch {b}": _layer(s, c, b) for s, c, b in shapes}
    times = measure({name: run for name, (run, _) in built.items()}, _ROUNDS.value)
    print_table(
        ["growth, 1 thread", "median ms", "1e9 MAC/s"],
        [
            [name, f"{statistics.median(values):.3f}", f"{_rate(built[name][1], values):.0f}"]
            for name, values in times.items()
        ],
    )


def _rate(macs: float, milliseconds: list[float]) -> float:
    return macs / statistics.median(milliseconds) / 1e6


if __name__ == "__main__":
    _cli.run("compare", main, module="__main__", doc=__doc__)
