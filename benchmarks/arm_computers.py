"""From the work of a model's steps to cycles, bytes and milliseconds of a Raspberry Pi.

Cycles are those of benchmarks/arm_loops.json, which arm_inner_loop.py writes.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from arm_steps import Model, Work

from bireal_keras.runtime.profile import profile

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
