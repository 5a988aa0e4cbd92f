"""How fast: Bi-Real-18 on our runtime, on Larq Compute Engine, and float32 and int8 twins.

    python benchmarks/compare.py [--rounds=30]

One run, one set of tables. Every setting takes its turn in each round and runs a few times in a
row, as it would in an application; a machine whose speed drifts slows all of them. Medians are
compared. Batch 1, 224x224 unless a table says otherwise. LCE's settings: its default kernel, its
reference kernel, and its indirect kernel with XNNPACK, which is its fastest here. The twins are
the same network with real-valued convolutions after ReLU, on stock LiteRT with XNNPACK, as are the
MobileNets: what people deploy without 1-bit layers. Memory is a process's peak beyond the same
process without a model.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags
from popcount import popcount_peaks
from report import machine, print_table
from turns import lce_run, measure, our_run, ratio

from bireal_keras import runtime
from bireal_keras.commands import _cli
from bireal_keras.runtime.profile import profile

_ROUNDS = flags.DEFINE_integer("rounds", 30, "Measurements of each setting.", lower_bound=3)

# Of mobile_networks.py, which needs TensorFlow: the processes whose memory is measured do without.
_MOBILE_NETWORKS = [
    f"{network} {kind}"
    for network in ("MobileNetV2-0.35", "MobileNetV2")
    for kind in ("float32", "int8")
]

_ROOT = Path(__file__).parents[1]
# The stages of Bi-Real-18, four 1-bit 3x3 convolutions each: (map size, channels).
_STAGES = [(56, 64), (28, 128), (14, 256), (7, 512)]


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        models = _make_models(Path(folder))
        _compare_networks(models)
        _compare_memory(models)
        _measure_layers(models["binary"], popcount_peaks())
    _measure_growth()


def _make_models(folder: Path) -> dict[str, Path]:
    """Bi-Real-18, its twins and the MobileNets; their speed does not depend on the weights."""
    import larq_compute_engine as lce
    import mobile_networks

    from bireal_keras import zoo

    print("converting the models ...", file=sys.stderr)
    content = {"binary": lce.convert_keras_model(zoo.BiRealNet18())}
    twin = zoo.BiRealNet18Float()
    for kind in ("float32", "int8"):
        content[f"{kind} twin"] = mobile_networks.convert(twin, int8=kind == "int8")
    makers = mobile_networks.makers()
    content |= {name: makers[name]() for name in _MOBILE_NETWORKS}
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
            f"LCE 0.16, indirect + XNNPACK{suffix}": lce_run(
                models["binary"], threads, use_indirect_bgemm=True, use_xnnpack=True
            ),
        }
        runs |= {
            f"{name}, XNNPACK{suffix}": our_run(models[name], threads)
            for name in ("float32 twin", "int8 twin", *_MOBILE_NETWORKS)
        }
    runs |= {
        "LCE 0.16, indirect, 1 thread": lce_run(models["binary"], 1, use_indirect_bgemm=True),
        "LCE 0.16, default, 1 thread": lce_run(models["binary"], 1),
        "LCE 0.16, reference, 1 thread": lce_run(models["binary"], 1, use_reference_bconv=True),
    }
    runs["ours, float operators on LiteRT, 1 thread"] = our_run(
        models["binary"], 1, float_ops="litert"
    )
    for kernel in _kernels():
        runs[f"ours, kernel {kernel}, 1 thread"] = our_run(models["binary"], 1, kernel)
    times = measure(runs, _ROUNDS.value)
    rows = []
    for name, values in times.items():
        threads = name.rpartition(", ")[2]
        times_ours = ratio(values, times[f"ours, {threads}"])
        rows.append(
            [name, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{times_ours:.1f}"]
        )
    print_table(["Bi-Real-18, 224x224", "median ms", "min ms", "times our time"], rows)


def _kernels() -> list[str]:
    """Those that this CPU can run, the fastest, which is the default, first."""
    supported = []
    for kernel in ("avx512", "avx2", "neon_lookup", "neon", "portable"):
        try:
            runtime.load_delegate(kernel=kernel)
        except ValueError:
            continue
        supported.append(kernel)
    return supported


_PEAK_MEMORY_SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import compare
import report
{warm_up}
before = report.peak_kilobytes()
run = {make_run}
run()
print(report.peak_kilobytes() - before)
"""


def _compare_memory(models: dict[str, Path]) -> None:
    ours = "from bireal_keras import runtime; runtime.load_delegate()"
    lce = "from larq_compute_engine.tflite.python import interpreter_wrapper_lite"
    binary, float32 = (
        f"compare.Path({str(models[name])!r})" for name in ("binary", "float32 twin")
    )
    settings = {
        "ours": (ours, f"compare.our_run({binary}, 1)"),
        "ours, float operators on LiteRT": (
            ours,
            f"compare.our_run({binary}, 1, float_ops='litert')",
        ),
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


def _measure_layers(model: Path, peak: float) -> None:
    """Bi-Real-18's binary convolutions where they are, with the ADD and the LceQuantize that they
    take over."""
    rows = []
    for kernel in _kernels():
        steps = [
            entry.milliseconds
            for entry in profile(model, kernel=kernel, num_runs=2 * _ROUNDS.value)
            if entry.ops[0] == "LceBconv2d"
        ]
        total_macs = 0
        for stage, (size, channels) in enumerate(_STAGES):
            macs = 9 * size**2 * channels**2
            # The first of a later stage has half the input channels.
            of_step = [macs // 2 if stage > 0 and index == 0 else macs for index in range(4)]
            times = steps[4 * stage : 4 * stage + 4]
            total_macs += sum(of_step)
            name = f"{kernel}: four of {size}x{size}, {channels} channels"
            rows.append(_rate_row(name, times, sum(of_step), peak))
        rows.append(_rate_row(f"{kernel}: all", steps, total_macs, peak))
    print_table(
        [
            "binary 3x3 convolutions with ADD and LceQuantize, 1 thread",
            "ms",
            "1e9 MAC/s",
            f"of the highest peak ({peak:.0f})",
        ],
        rows,
    )


def _rate_row(name: str, milliseconds: list[float], macs: float, peak: float) -> list[str]:
    rate = macs / sum(milliseconds) / 1e6
    return [name, f"{sum(milliseconds):.3f}", f"{rate:.0f}", f"{rate / peak:.0%}"]


def _measure_growth() -> None:
    sys.path.insert(0, str(_ROOT / "tests/helpers"))
    from lce_ops import Bconv2d

    shapes = [(7, 256, 1), (14, 256, 1), (28, 256, 1), (56, 256, 1)]
    shapes += [(14, channels, 1) for channels in (32, 64, 128, 512)]
    shapes += [(14, 256, batch) for batch in (2, 4, 8)]
    rows = []
    for size, channels, batch in shapes:
        model = Bconv2d(batch, size, size, channels, channels).model()
        (convolution,) = (
            entry.milliseconds
            for entry in profile(model, num_runs=_ROUNDS.value)
            if entry.delegated
        )
        macs = batch * size**2 * channels**2 * 9
        rows.append(
            [
                f"{size}x{size}, {channels} channels, batch {batch}",
                f"{convolution:.3f}",
                f"{macs / convolution / 1e6:.0f}",
            ]
        )
    print_table(["growth: one binary 3x3 convolution, 1 thread", "median ms", "1e9 MAC/s"], rows)


if __name__ == "__main__":
    _cli.run("compare", main, module="__main__", doc=__doc__)
