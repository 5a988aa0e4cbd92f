"""How fast the inner loops for Arm should be, without an Arm: instruction counts and llvm-mca.

    python benchmarks/arm_inner_loop.py [--library=libbireal_delegate.so]

Disassembles the delegate built for aarch64 (`make test-aarch64` builds it), takes the inner
loops of its binary convolutions and has LLVM's models of two CPUs step through them: the
Cortex-A72 of a Raspberry Pi 4, and the Neoverse N1, the server edition of the Cortex-A76 of a
Raspberry Pi 5, which LLVM has no model of its own for. Both CPUs have two vector pipes, so no
loop takes fewer cycles than half its vector instructions. Fails where a kernel's loop takes over
10 % more on the CPU that it is for, or does fewer binary MACs per vector instruction than Larq
Compute Engine's. Caches always hit here, and nothing runs but the inner loops; the float
convolutions, XNNPACK's, are counted at the multiply-adds that a CPU can issue. The milliseconds are
predictions, and lower bounds.
"""

import dataclasses
import re
import subprocess
from pathlib import Path

from absl import flags
from report import print_table

from bireal_keras.commands import _cli

_ROOT = Path(__file__).parents[1]
_LIBRARY = flags.DEFINE_string(
    "library",
    str(_ROOT / "_build/aarch64/lib/bireal_keras/runtime/libbireal_delegate.so"),
    "The delegate's shared library, for aarch64 and with its symbols.",
)

# 8 veor, 8 vcnt, 7 vpadd and 1 vpadal for 8 * 128 binary MACs.
_LCE_MACS_PER_INSTRUCTION = 1024 / 24
_TOLERANCE = 1.1
_ITERATIONS = 1000

# LLVM's name, a computer with that CPU, its GHz, the kernel that it takes by default, and its float
# multiply-adds a cycle: by LLVM's models a vector of four in one pipe, or in either of two.
_CPUS = [
    ("cortex-a72", "Raspberry Pi 4", 1.5, "neon", 4),
    ("neoverse-n1", "Raspberry Pi 5", 2.4, "neon_lookup", 8),
]

# Bi-Real-18 at 224x224: (map size of the output, input channels, output channels, how many).
_LAYERS = [
    (56, 64, 64, 4),
    (28, 64, 128, 1),
    (28, 128, 128, 3),
    (14, 128, 256, 1),
    (14, 256, 256, 3),
    (7, 256, 512, 1),
    (7, 512, 512, 3),
]
_MACS = sum(count * size**2 * 9 * channels * filters for size, channels, filters, count in _LAYERS)
# The stem, the 1x1 convolutions of the shortcuts and the classifier.
_REAL_MACS = (
    112**2 * 49 * 3 * 64 + 28**2 * 64 * 128 + 14**2 * 128 * 256 + 7**2 * 256 * 512 + 512 * 1000
)


@dataclasses.dataclass
class Loop:
    """An inner loop: an iteration adds `channels` of the input to `pixels` by `filters` sums."""

    kernel: str
    function: str
    pixels: int
    filters: int
    channels: int
    instructions: list[str] = dataclasses.field(default_factory=list)

    @property
    def vector_instructions(self) -> int:
        """How many compute, and do not load or store."""
        return sum(bool(re.search(r"\bv\d+\.", text)) for text in self.instructions)

    @property
    def macs(self) -> int:
        return self.pixels * self.filters * self.channels

    @property
    def macs_per_instruction(self) -> float:
        return self.macs / self.vector_instructions

    @property
    def bound(self) -> float:
        """Cycles of two vector pipes that never wait."""
        return self.vector_instructions / 2


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    if not Path(_LIBRARY.value).is_file():
        raise ValueError(f"{_LIBRARY.value} does not exist: `make test-aarch64` makes it.")
    # By kernel, the widest tile first; the others do what is left of a row.
    kernels = {
        "neon": [Loop("neon", f"Tile<{pixels}>", pixels, 32, 32) for pixels in (4, 3, 2, 1)],
        "neon_lookup": [Loop("neon_lookup", "Count<2>", 4, 64, 12)],
    }
    functions = _disassemble(_LIBRARY.value)
    for loops in kernels.values():
        for loop in loops:
            loop.instructions = _inner_loop(functions, loop.function)

    rows, predictions, failures = [], [], []
    for cpu, computer, gigahertz, default, real_macs_per_cycle in _CPUS:
        for kernel, loops in kernels.items():
            cycles = {loop.pixels: _cycles(loop, cpu) for loop in loops}
            rows += [_row(loop, cpu, cycles[loop.pixels]) for loop in loops]
            total = _birealnet18_cycles(kernel, cycles)
            predictions.append(
                [
                    f"{computer}, {cpu} at {gigahertz} GHz",
                    kernel + (" (default)" if kernel == default else ""),
                    f"{_MACS / total:.1f}",
                    f"{total / gigahertz / 1e6:.1f} ms",
                    f"{(total + _REAL_MACS / real_macs_per_cycle) / gigahertz / 1e6:.1f} ms",
                ]
            )
            if kernel == default:
                failures += _failures(loops[0], cpu, cycles[loops[0].pixels])
    print_table(
        [
            "inner loop",
            "pixels x filters",
            "vector instructions",
            "MAC each",
            f"(LCE: {_LCE_MACS_PER_INSTRUCTION:.1f})",
            "llvm-mca",
            "cycles",
            "over the bound",
            "MAC/cycle",
        ],
        rows,
    )
    print_table(
        [
            "PREDICTED, 1 thread",
            "kernel",
            "MAC/cycle",
            "Bi-Real-18's binary convolutions",
            "and float convolutions",
        ],
        predictions,
    )
    if failures:
        raise ValueError("; ".join(failures))


def _row(loop: Loop, cpu: str, cycles: float) -> list[str]:
    return [
        loop.kernel,
        f"{loop.pixels} x {loop.filters}",
        str(loop.vector_instructions),
        f"{loop.macs_per_instruction:.1f}",
        f"{loop.macs_per_instruction / _LCE_MACS_PER_INSTRUCTION:.2f}x",
        cpu,
        f"{cycles:.1f}",
        f"{cycles / loop.bound - 1:.1%}",
        f"{loop.macs / cycles:.1f}",
    ]


def _failures(loop: Loop, cpu: str, cycles: float) -> list[str]:
    name = f"{loop.kernel} on {cpu}"
    failures = []
    if cycles > _TOLERANCE * loop.bound:
        failures.append(f"{name}: {cycles:.1f} cycles, where {loop.bound:.1f} are possible")
    if loop.macs_per_instruction < _LCE_MACS_PER_INSTRUCTION:
        failures.append(f"{name}: {loop.macs_per_instruction:.1f} MAC per vector instruction")
    return failures


def _birealnet18_cycles(kernel: str, cycles: dict[int, float]) -> float:
    """Cycles in inner loops, given those of an iteration by the number of pixels in the tile."""
    total = 0.0
    for size, channels, filters, count in _LAYERS:
        if kernel == "neon":
            # The filter rows above and below the image are skipped.
            filter_rows = 3 * size - (2 if channels == filters else 1)
            blocks, steps = filters // 32, 3 * channels // 32
            full, rest = divmod(size, 4)
            row = full * cycles[4] + (cycles[rest] if rest else 0)
        else:
            filter_rows = 3 * size
            blocks, steps = filters // 64, 3 * channels // 12
            row = -(-size // 4) * cycles[4]
        total += count * filter_rows * blocks * steps * row
    return total


def _run(command: list[str], text: str | None = None) -> str:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError as error:
        raise ValueError(
            f"{command[0]} is missing: apt-get install binutils-aarch64-linux-gnu llvm-19"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{command[0]}: {error.stderr.strip()}") from error


def _disassemble(library: str) -> dict[str, list[tuple[int, str]]]:
    """Name and (address, instruction) pairs of every function."""
    listing = _run(
        ["aarch64-linux-gnu-objdump", "--disassemble", "--demangle", "--no-show-raw-insn", library]
    )
    functions: dict[str, list[tuple[int, str]]] = {}
    for line in listing.splitlines():
        if header := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            body = functions.setdefault(header[1], [])
        elif instruction := re.fullmatch(r"\s+([0-9a-f]+):\s+(.*?)(?:\s+//.*)?", line):
            body.append((int(instruction[1], 16), instruction[2]))
    return functions


def _inner_loop(functions: dict[str, list[tuple[int, str]]], name: str) -> list[str]:
    """The longest loop of a function among those that nothing branches in."""
    (body,) = (body for header, body in functions.items() if f"::{name}(" in header)
    index_of = {address: index for index, (address, _) in enumerate(body)}
    longest: list[str] = []
    straight = 0  # Where the code without branches begins.
    for index, (_, text) in enumerate(body):
        if branch := re.match(r"(?:b|b\.\w+|cbn?z|tbn?z|ret)\b(?:.*\b([0-9a-f]+) <)?", text):
            start = index_of.get(int(branch[1] or "0", 16), index)
            if straight <= start < index and index - start > len(longest):
                longest = [text for _, text in body[start:index]]
            straight = index + 1
    return longest


def _cycles(loop: Loop, cpu: str) -> float:
    """Of an iteration, without the branch, which is predicted."""
    report = _run(
        ["llvm-mca-19", "-march=aarch64", f"-mcpu={cpu}", f"-iterations={_ITERATIONS}"],
        "\n".join(loop.instructions),
    )
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / _ITERATIONS


if __name__ == "__main__":
    _cli.run("arm_inner_loop", main, module="__main__", doc=__doc__)
