"""Predicts how long models take on a Raspberry Pi 4 and 5, and holds the method to account.

    python benchmarks/predict.py MODEL.tflite             # step by step
    python benchmarks/predict.py --output=docs/models/predicted.json _build/models/*.tflite
    python benchmarks/predict.py --published              # beside what others measured

For each step of our delegate, and each operator that it leaves to LiteRT, it counts passes through
inner loops (arm_kernels.py, arm_steps.py), takes the cycles that LLVM's models of the CPUs give
them (arm_loops.json, which arm_inner_loop.py writes), and the bytes that go to and from memory. A
step computes, or it waits for memory, whichever takes longer. One thread.

A prediction is not a measurement: every load hits a cache and nothing runs between the steps, so it
tends to be too low. By how much, `--published` shows on networks whose times others have published:
the same counting, with the loops of their kind. It takes the files that benchmarks/models.py keeps
in _build/models.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from absl import app, flags
from arm_steps import Model, Work
from report import print_table

from bireal_keras import _files
from bireal_keras.commands import _cli
from bireal_keras.runtime.profile import profile

_FLOAT_OPS = flags.DEFINE_enum(
    "float_ops",
    "litert",
    ["litert", "delegate"],
    "Who runs stems, shortcuts and heads: LiteRT, the delegate's default on Arm, or the delegate.",
)
_KERNEL = flags.DEFINE_enum(
    "kernel", None, ["neon", "neon_lookup"], "Another kernel than the delegate's default there."
)
_OUTPUT = flags.DEFINE_string("output", None, "A file to write the predictions to, as JSON.")
_PUBLISHED = flags.DEFINE_bool("published", False, "Compare the method with published figures.")

_ROOT = Path(__file__).parents[1]
_MODELS = _ROOT / "_build/models"
LOOPS = json.loads((Path(__file__).parent / "arm_loops.json").read_text())["loops"]


@dataclasses.dataclass(frozen=True)
class Computer:
    """A computer with one CPU core at work.

    Attributes:
        name: of the board.
        cpu: LLVM's name of its core, or of the one that is closest.
        gigahertz: of the core.
        kernel: that our delegate takes there.
        int8_gemm: what XNNPACK and ncnn multiply int8 by there.
        gigabytes_per_second: between core and memory, reads and writes together.
        cache_bytes: of the last level.
    """

    name: str
    cpu: str
    gigahertz: float
    kernel: str
    int8_gemm: str
    gigabytes_per_second: float
    cache_bytes: int

    def cycles(self, work: Work) -> float:
        """Of a step."""
        return sum(
            units * LOOPS[name]["cycles"][self.cpu] / LOOPS[name]["units"]
            for name, units in work.units.items()
        )

    def bytes_moved(self, work: Work) -> int:
        """To and from memory. Half of the last cache holds what the next step reads."""
        return work.constants + sum(size for size in work.maps if 2 * size > self.cache_bytes)

    def milliseconds(self, work: Work) -> float:
        """Of a step: it computes, or it waits for memory, whichever takes longer."""
        computing = self.cycles(work) / self.gigahertz / 1e6
        return max(computing, self.bytes_moved(work) / self.gigabytes_per_second / 1e6)


def vector_instructions(work: Work) -> float:
    """That compute, in a step."""
    return sum(
        units * LOOPS[name]["vector_instructions"] / LOOPS[name]["units"]
        for name, units in work.units.items()
    )


# Twice what memcpy copies in a second, which reads and writes, as sbc-bench found:
# https://github.com/ThomasKaiser/sbc-bench/tree/master/results/reviews, RPi-4B-Rev1.1.md
# (2,514.6 MB) and RPi-5B-Rev1.0.md (4,447.8 MB). Caches: 1 MiB of second level, 2 MiB of third.
_raspberry_pi_4 = functools.partial(
    Computer,
    cpu="cortex-a72",
    kernel="neon",
    int8_gemm="smull",
    gigabytes_per_second=5.0,
    cache_bytes=2**20,
)
RASPBERRY_PI_4 = _raspberry_pi_4("Raspberry Pi 4", gigahertz=1.5)
# Newer boards' clock.
RASPBERRY_PI_4_FAST = _raspberry_pi_4("Raspberry Pi 4 at 1.8 GHz", gigahertz=1.8)
RASPBERRY_PI_5 = Computer("Raspberry Pi 5", "neoverse-n1", 2.4, "neon_lookup", "sdot", 8.9, 2**21)
_COMPUTERS = (RASPBERRY_PI_4, RASPBERRY_PI_5)


class Step(NamedTuple):
    """A step of the delegate, or what the interpreter runs until the next one.

    Attributes:
        name: its operators.
        works: one of a delegate's step, one for each operator of the interpreter's.
    """

    name: str
    works: list[Work]


def steps_of(path: Path, computer: Computer, float_ops: str) -> list[Step]:
    """The steps of our delegate, as it cuts the model on the machine that this runs on."""
    model = Model(path.read_bytes())
    steps = []
    for entry in profile(path, float_ops=float_ops, num_runs=1, warmup_runs=0):
        if entry.delegated:
            name = f"{' + '.join(entry.ops)} ({_numbers(entry.nodes)})"
            works = [model.delegated(entry.nodes, computer.kernel)]
        else:
            name = f"LiteRT: {', '.join(entry.ops)} ({_numbers(entry.nodes)})"
            interpreted = functools.partial(
                model.interpreted, arithmetic="float32", int8_gemm=computer.int8_gemm
            )
            works = list(map(interpreted, entry.nodes))
        steps.append(Step(name, works))
    return steps


def _numbers(nodes: tuple[int, ...]) -> str:
    return f"op {nodes[0]}" if len(nodes) == 1 else f"op {nodes[0]} to {nodes[-1]}"


def total(steps: list[Step], measure: Callable[[Work], float]) -> float:
    """The sum of a figure over all steps."""
    return sum(measure(work) for step in steps for work in step.works)


class Published(NamedTuple):
    """What somebody measured.

    Attributes:
        file: of the network, in _build/models.
        engine: "ncnn", or "LCE" for Larq Compute Engine.
        computer: that ran it, with one thread.
        milliseconds: as published; the least where there are several.
        arithmetic: of real values.
    """

    file: str
    engine: str
    computer: Computer
    milliseconds: float
    arithmetic: str = "float32"

    def steps(self, model: Model) -> list[Step]:
        """The model as the engine computes it, operator by operator."""
        if self.engine == "LCE":
            works = map(model.of_lce, model.nodes)
        else:
            gemm = self.computer.int8_gemm
            works = (model.interpreted(node, self.arithmetic, gemm) for node in model.nodes)
        return [Step(self.engine, list(works))]


# ncnn: https://github.com/Tencent/ncnn/blob/master/benchmark/README.md. Its benchmark computes in
# float16 where the CPU can, as a Raspberry Pi 5's.
# LCE: https://github.com/larq/compute-engine#performance, a Raspberry Pi 4B at 1.5 GHz.
_PUBLISHED_FIGURES = [
    Published("MobileNetV1_float32", "ncnn", RASPBERRY_PI_4_FAST, 123.8),
    Published("MobileNetV1_int8", "ncnn", RASPBERRY_PI_4_FAST, 84.7),
    Published("MobileNetV2_float32", "ncnn", RASPBERRY_PI_4_FAST, 93.0),
    Published("MobileNetV1_float32", "ncnn", RASPBERRY_PI_5, 20.2, "float16"),
    Published("MobileNetV1_int8", "ncnn", RASPBERRY_PI_5, 14.4),
    Published("MobileNetV2_float32", "ncnn", RASPBERRY_PI_5, 16.2, "float16"),
    Published("QuickNetSmall", "LCE", RASPBERRY_PI_4, 27.7),
    Published("QuickNet", "LCE", RASPBERRY_PI_4, 45.0),
    Published("QuickNetLarge", "LCE", RASPBERRY_PI_4, 77.0),
]


def main(args: list[str]) -> None:
    if _PUBLISHED.value:
        if args:
            raise app.UsageError(f"--published takes no models. Received: {' '.join(args)}.")
        return _compare_with_published()
    if not args:
        raise app.UsageError("a .tflite file is needed.")
    paths = [Path(name) for name in args]
    kernel = {} if _KERNEL.value is None else {"kernel": _KERNEL.value}
    computers = [dataclasses.replace(computer, **kernel) for computer in _COMPUTERS]
    predictions = {}
    rows = []
    for path in paths:
        milliseconds = {}
        for computer in computers:
            steps = steps_of(path, computer, _FLOAT_OPS.value)
            milliseconds[computer.name] = round(total(steps, computer.milliseconds), 1)
            if len(paths) == 1:
                _print_steps(steps, computer)
        predictions[path.stem.replace("_", " ")] = milliseconds
        rows.append([path.stem, *(f"{value:.1f}" for value in milliseconds.values())])
    header = ["PREDICTED, 1 thread", *(f"{computer.name}, ms" for computer in computers)]
    print_table(header, rows)
    if _OUTPUT.value is not None:
        content = {"models": predictions}
        _files.write(_OUTPUT.value, json.dumps(content, indent=2) + "\n")
        print(_OUTPUT.value)


def _print_steps(steps: list[Step], computer: Computer) -> None:
    rows = []
    measures = (
        vector_instructions,
        computer.cycles,
        lambda work: computer.cycles(work.products()),
        computer.bytes_moved,
    )
    for name, some in [*((step.name, [step]) for step in steps), ("all", steps)]:
        millions = [f"{total(some, measure) / 1e6:.3f}" for measure in measures]
        rows.append([name, *millions, f"{total(some, computer.milliseconds):.2f}"])
    header = [f"PREDICTED, {computer.name}, 1 thread", "vector instructions, 1e6", "cycles, 1e6"]
    print_table([*header, "of it in products, 1e6", "bytes of memory, 1e6", "ms"], rows)


def _compare_with_published() -> None:
    rows = []
    for published in _PUBLISHED_FIGURES:
        path = _MODELS / f"{published.file}.tflite"
        if not path.is_file():
            raise ValueError(f"{path} does not exist: `python benchmarks/models.py` makes it.")
        computer = published.computer
        predicted = total(published.steps(Model(path.read_bytes())), computer.milliseconds)
        rows.append(
            [
                f"{published.file}, {published.engine}",
                computer.name,
                f"{published.milliseconds:.1f}",
                f"{predicted:.1f}",
                f"{predicted / published.milliseconds:.2f}",
            ]
        )
    print_table(["1 thread", "", "published, ms", "PREDICTED, ms", "predicted / published"], rows)


if __name__ == "__main__":
    _cli.run("predict", main, module="__main__", doc=__doc__)
