"""Predicts how long models take on a Raspberry Pi 4 and 5, and shows how far off that may be.

    python benchmarks/predict.py MODEL.tflite             # step by step
    python benchmarks/predict.py --output=docs/models/predicted.json _build/models/*.tflite
    python benchmarks/predict.py --published              # beside what others measured

For each step of our delegate, and each operator that it leaves to LiteRT, it counts passes through
inner loops (arm_kernels.py, arm_steps.py), and takes the cycles that LLVM's models of the CPUs give
them (arm_loops.json, which arm_inner_loop.py writes), and the bytes that go to and from memory
(arm_computers.py). A step computes, or it waits for memory, whichever takes longer. One thread.

A prediction is not a measurement: every load hits a cache and nothing runs between the steps, so it
tends to be too low. By how much, `--published` shows on networks whose times others have published:
the same counting, with the loops of their kind. It takes the files that benchmarks/models.py keeps
in _build/models.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from absl import app, flags
from arm_computers import (
    RASPBERRY_PI_4,
    RASPBERRY_PI_4_FAST,
    RASPBERRY_PI_5,
    Computer,
    Step,
    steps_of,
    total,
    vector_instructions,
)
from arm_steps import Model
from report import print_table

from bireal_keras import _files
from bireal_keras.commands import _cli

_FLOAT_OPS = flags.DEFINE_enum(
    "float_ops",
    "delegate",
    ["litert", "delegate"],
    "Who runs stems, shortcuts and heads: LiteRT, or the delegate, as is the default on Arm.",
)
_KERNEL = flags.DEFINE_enum(
    "kernel", None, ["neon", "neon_lookup"], "Another kernel than the delegate's default there."
)
_OUTPUT = flags.DEFINE_string("output", None, "A file to write the predictions to, as JSON.")
_PUBLISHED = flags.DEFINE_bool("published", False, "Compare the method with published figures.")

_ROOT = Path(__file__).parents[1]
_MODELS = _ROOT / "_build/models"
_COMPUTERS = (RASPBERRY_PI_4, RASPBERRY_PI_5)


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
