"""How fast the loops for Arm should be, without an Arm: instruction counts and llvm-mca.

    make test-aarch64  # builds the library
    python benchmarks/arm_inner_loop.py [--library=libbireal_delegate.so] [--output=arm_loops.json]

Disassembles the delegate built for aarch64, takes the loops of its kernels and has LLVM's models
of two CPUs step through them: the Cortex-A72 of a Raspberry Pi 4, and the Neoverse N1, the server
edition of the Cortex-A76 of a Raspberry Pi 5, which LLVM has no model of its own for. Both CPUs
have two vector pipes, so no loop takes fewer cycles than half its vector instructions. Caches
always hit here. `--output` keeps the table for predict.py: the committed one is
benchmarks/arm_loops.json.

What LiteRT, ncnn and Larq Compute Engine run is not disassembled. Loops of the kind that they have
are written down here with the fewest instructions that such a loop takes.

Fails where a binary kernel's loop takes over 10 % more than its vector instructions on the CPU that
it is for, or does fewer binary MACs per vector instruction than Larq Compute Engine's; and, without
`--output`, where the committed table is of other kernels.
"""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags
from report import print_table

from bireal_keras import _files
from bireal_keras.commands import _cli

_ROOT = Path(__file__).parents[1]
_LIBRARY = flags.DEFINE_string(
    "library",
    str(_ROOT / "_build/aarch64/lib/bireal_keras/runtime/libbireal_delegate.so"),
    "The delegate's shared library, for aarch64 and with its symbols.",
)
_OUTPUT = flags.DEFINE_string("output", None, "A file to write the table to, as JSON.")

_CPUS = ("cortex-a72", "neoverse-n1")
_VECTOR_PIPES = {"cortex-a72": ("A57UnitW", "A57UnitX"), "neoverse-n1": ("N1UnitV0", "N1UnitV1")}
# With 16-bit floats and the dot product.
_NEWER_CPUS = ("neoverse-n1",)
_ITERATIONS = 300

_COMMITTED = Path(__file__).with_name("arm_loops.json")

# The kernels' widest tiles: on which CPU, and the binary MACs of a unit.
_CHECKED = [("neon 4x32", "cortex-a72", 128), ("neon_lookup 4x32", "neoverse-n1", 128)]
_LCE = "LCE"
_TOLERANCE = 1.1


class Loop(NamedTuple):
    """Where a loop is, and how its work is counted.

    Attributes:
        function: matches the names, without namespace, of the function and of those that it may be
            inlined into.
        marker: matches the instructions of which each does one unit of work. Of the function's
            loops it is the one in which they are densest.
        unit: what that is.
        is_short: it runs a few times and then begins anew, so that no pass waits for the one
            before it: what counts is how often the CPU can begin one.
    """

    function: str
    marker: str
    unit: str
    is_short: bool = False


class Code(NamedTuple):
    """Straight code.

    Attributes:
        instructions: as an assembler reads them.
        units: of work, in one pass.
        unit: what that is.
        is_short: see `Loop`.
        cpus: that have all of its instructions.
    """

    instructions: list[str]
    units: int
    unit: str
    is_short: bool = False
    cpus: tuple[str, ...] = _CPUS

    @property
    def vector_instructions(self) -> int:
        """How many compute, and do not load or store."""
        return sum(bool(re.search(r"\bv\d+\.", text)) for text in self.instructions)


_PRODUCTS = "4 products"
_VALUES = "4 values"
# The widest tiles of the kernels for binary convolutions: the marker of its loop, and its unit.
_BINARY = {
    "neon": ("uadalp", "a pixel, 16 channels, 8 filters"),
    "neon_lookup": ("tbl", "a pair of pixels, 4 channels, 16 filters"),
}
# What becomes of the sums of a tile of so many pixels, as arm_steps.py names it.
_STORES = {
    "counts": "CountTile<{}>",
    "floats": "FloatTile<false, false, false, {}>",
    "floats with shortcut": "FloatTile<false, true, false, {}>",
    "clamped floats": "FloatTile<true, false, false, {}>",
    "clamped floats with shortcut": "FloatTile<true, true, false, {}>",
}
# By the names that arm_kernels.py counts by. What is around the loop counts as well, once for each
# tile.
_TILES = {
    "winograd 4x16": Loop("MultiplyPoint<4>", r"fmla\tv", _PRODUCTS),
    "winograd 4x8": Loop("MultiplyPoint<2>", r"fmla\tv", _PRODUCTS),
    "direct 4x16": Loop("DirectRow<false, 4>|ConvRowOf<4>", r"fmla\tv", _PRODUCTS),
    "direct 4x8": Loop("DirectRow<false, 2>|ConvRowOf<2>", r"fmla\tv", _PRODUCTS),
    "pixels 4x16": Loop("PixelTile<4, 4, 4>|ConvPixelsOf<4, 4>", r"fmla\tv", _PRODUCTS),
    "pixels 4x8": Loop("PixelTile<2, 4, 2>|ConvPixelsOf<2, 2>", r"fmla\tv", _PRODUCTS),
}
_LOOPS = {
    "neon spread": Loop("RunTiles", r"dup\tv\d+\.8h", "32 channels of a pixel"),
    "neon border": Loop("FindStart", r"sub\tv\d+\.8h", "8 filters of a pixel and a tap", True),
    "neon_lookup unpack": Loop("RunLookupTiles", r"st2\t", "32 nibbles"),
    "neon_lookup positions": Loop("RunLookupTiles", r"umlal2\tv", "16 nibbles"),
    "store": Loop("StoreRows<false, false>", r"scvtf\tv", _VALUES),
    "store with shortcut": Loop("StoreRows<true, false>", r"scvtf\tv", _VALUES),
    "pack": Loop("NeonPackFloat", r"fcmlt\tv", _VALUES),
    "winograd transform": Loop("PrepareRow", r"str\tq", "4 of a point's input"),
    "winograd interpolate": Loop("InterpolateRow<4>", r"fmla\tv", "1/6 of 4 pixels, 4 channels"),
    "pixel 1x16": Loop("ConvPixelsOf<4, 4>", r"fmla\tv", _PRODUCTS),
    "max": Loop("MaxRow", r"fcmgt\tv", "4 values of a tap", True),
    "average": Loop("AverageRowOf<false>", r"fadd\tv", "4 values of a tap", True),
}


def _written_down() -> dict[str, Code]:
    """Loops of others' kind, by the name of their work."""
    float32 = _gemm("fmla", "4s", "s", rows=6, columns=2)
    float16 = _gemm("fmla", "8h", "h", rows=6, columns=2)
    dot = _gemm("sdot", "4s", "4b", rows=4, columns=4, operand="16b")
    long = [f"ldr q{row}, [x{row + 1}], #16" for row in range(2)]
    for column in range(8):
        weights = 8 + column % 4
        long.append(f"ldr q{weights}, [x0], #16")
        for row in range(2):
            product = 2 + (2 * column + row) % 6
            long += [
                f"smull v{product}.8h, v{weights}.8b, v{row}.8b",
                f"smlal2 v{product}.8h, v{weights}.16b, v{row}.16b",
                f"sadalp v{16 + 2 * column + row}.4s, v{product}.8h",
            ]
    # Eight vectors' counts are added up pairwise; a load serves several of them.
    lce = [f"ldr q{i}, [x{i}], #16" for i in range(3)]
    lce += [f"eor v{8 + i}.16b, v{i % 2}.16b, v{2 + i % 4}.16b" for i in range(8)]
    lce += [f"cnt v{8 + i}.16b, v{8 + i}.16b" for i in range(8)]
    for step in (1, 2, 4):
        lce += [
            f"addp v{8 + i}.16b, v{8 + i}.16b, v{8 + i + step}.16b" for i in range(0, 8, 2 * step)
        ]
    lce.append("uadalp v31.8h, v8.16b")
    requantize = ["ldr d0, [x0], #8", "ldr d1, [x1], #8", "sshll v0.8h, v0.8b, #0"]
    requantize += ["sshll v1.8h, v1.8b, #0", "smull v2.4s, v0.4h, v30.4h"]
    requantize += ["smull2 v3.4s, v0.8h, v30.8h", "smlal v2.4s, v1.4h, v31.4h"]
    requantize += ["smlal2 v3.4s, v1.8h, v31.8h", "srshl v2.4s, v2.4s, v29.4s"]
    requantize += ["srshl v3.4s, v3.4s, v29.4s", "sqxtn v2.4h, v2.4s", "sqxtn2 v2.8h, v3.4s"]
    requantize += ["sqxtn v2.8b, v2.8h", "str d2, [x2], #8"]
    add = ["ldr q0, [x0], #16", "ldr q1, [x1], #16", "fadd v0.4s, v0.4s, v1.4s"]
    add.append("str q0, [x2], #16")
    half_add = [text.replace("4s", "8h") for text in add]
    return {
        _LCE: Code(lce, 8, "128 binary products"),
        "float32 gemm": Code(float32, 48, _PRODUCTS),
        "float16 gemm": Code(float16, 48, "8 products", cpus=_NEWER_CPUS),
        "int8 gemm, sdot": Code(dot, 64, "16 products", cpus=_NEWER_CPUS),
        "int8 gemm, smull": Code(long, 16, "16 products"),
        "float32 depthwise": Code(_depthwise("4s"), 9, _PRODUCTS, True),
        "float16 depthwise": Code(_depthwise("8h"), 9, "8 products", True, _NEWER_CPUS),
        "int8 depthwise": Code(_int8_depthwise(), 9, "8 products", True),
        "float32 elementwise": Code(add, 1, _VALUES, True),
        "float16 elementwise": Code(half_add, 1, "8 values", True, _NEWER_CPUS),
        "int8 elementwise": Code(requantize, 1, "8 values", True),
    }


def _gemm(
    multiply: str, sums: str, lane: str, rows: int, columns: int, operand: str = ""
) -> list[str]:
    """Four lanes of each row of the input by vectors of weights, into rows * columns sums."""
    operand = operand or sums
    text = [f"ldr q{row}, [x{row + 1}], #16" for row in range(rows)]
    for k in range(4):
        for column in range(columns):
            weights = 6 + (columns * k + column) % 8
            text.append(f"ldr q{weights}, [x0], #16")
            text += [
                f"{multiply} v{16 + columns * row + column}.{sums}, v{weights}.{operand}, "
                f"v{row}.{lane}[{k}]"
                for row in range(rows)
            ]
    return text


def _depthwise(lanes: str) -> list[str]:
    """One vector of channels, 3x3, with its bias and an activation."""
    text = ["ldr q0, [x0], #16"]
    for tap in range(9):
        text += [f"ldr q{2 + tap % 4}, [x{1 + tap}], #16", f"ldr q{8 + tap % 4}, [x0], #16"]
        text.append(f"fmla v0.{lanes}, v{2 + tap % 4}.{lanes}, v{8 + tap % 4}.{lanes}")
    text += [
        f"fmax v0.{lanes}, v0.{lanes}, v30.{lanes}",
        f"fmin v0.{lanes}, v0.{lanes}, v31.{lanes}",
    ]
    return [*text, "str q0, [x11], #16"]


def _int8_depthwise() -> list[str]:
    """Eight channels, 3x3, up to their sums."""
    text = ["ldp q0, q1, [x0], #32"]
    for tap in range(9):
        x, w = 2 + tap % 4, 8 + tap % 4
        text += [f"ldr d{x}, [x{1 + tap}], #8", f"ldr d{w}, [x0], #8"]
        text += [f"sshll v{x}.8h, v{x}.8b, #0", f"sshll v{w}.8h, v{w}.8b, #0"]
        text += [f"smlal v0.4s, v{x}.4h, v{w}.4h", f"smlal2 v1.4s, v{x}.8h, v{w}.8h"]
    return text


def main(args: list[str]) -> None:
    if args:
        raise ValueError(f"takes flags only. Received: {' '.join(args)}.")
    if not Path(_LIBRARY.value).is_file():
        raise ValueError(f"{_LIBRARY.value} does not exist: `make test-aarch64` makes it.")
    codes = {**_disassembled(_functions(_LIBRARY.value)), **_written_down()}
    table = {
        name: {
            "unit": code.unit,
            "units": code.units,
            "vector_instructions": code.vector_instructions,
            "cycles": {cpu: round(_cycles(code, cpu), 2) for cpu in code.cpus},
        }
        for name, code in codes.items()
    }
    header = ["a pass", "units", "of", "vector instructions", *(f"cycles, {cpu}" for cpu in _CPUS)]
    rows = [[name, *_cells(figures)] for name, figures in table.items()]
    print_table(header, rows)
    content = {
        "command": "python benchmarks/arm_inner_loop.py --output=benchmarks/arm_loops.json",
        "compiler": _compiler(_LIBRARY.value),
        "llvm": _run(["llvm-mca-19", "--version"]).split("LLVM version ")[1].split()[0],
        "loops": table,
    }
    failures = list(_failures(table))
    if _OUTPUT.value is not None:
        _files.write(_OUTPUT.value, json.dumps(content, indent=1) + "\n")
        print(_OUTPUT.value)
    elif _is_stale(content):
        failures.append(f"{_COMMITTED.name} is of other kernels: `{content['command']}`")
    if failures:
        raise ValueError("; ".join(failures))


def _cells(figures: dict) -> list[str]:
    cycles = [f"{figures['cycles'][cpu]:.1f}" if cpu in figures["cycles"] else "" for cpu in _CPUS]
    return [str(figures["units"]), figures["unit"], str(figures["vector_instructions"]), *cycles]


def _is_stale(content: dict) -> bool:
    """Whether the committed table differs, although the same tools made it."""
    committed = json.loads(_COMMITTED.read_text())
    tools = ("compiler", "llvm")
    return committed != content and all(committed[tool] == content[tool] for tool in tools)


def _failures(table: dict[str, dict]) -> Iterator[str]:
    lce = 128 * table[_LCE]["units"] / table[_LCE]["vector_instructions"]
    for name, cpu, macs in _CHECKED:
        figures = table[name]
        bound, cycles = figures["vector_instructions"] / 2, figures["cycles"][cpu]
        if cycles > _TOLERANCE * bound:
            yield f"{name} on {cpu}: {cycles:.1f} cycles, where {bound:.1f} are possible"
        macs_per_instruction = macs * figures["units"] / figures["vector_instructions"]
        if macs_per_instruction < lce:
            yield f"{name}: {macs_per_instruction:.1f} MAC per vector instruction, LCE {lce:.1f}"


Body = list[tuple[int, str]]


def _disassembled(functions: dict[str, list[Body]]) -> dict[str, Code]:
    codes = _binary_tiles(functions)
    for name, loop in {**_TILES, **_LOOPS}.items():
        body, begin, end, units = _find(functions, loop)
        codes[name] = Code(_straight(body[begin:end]), units, loop.unit, loop.is_short)
        if name in _TILES:
            codes[f"{name}, around"] = _around(body, begin, end)
    return codes


def _binary_tiles(functions: dict[str, list[Body]]) -> dict[str, Code]:
    """The loops of tiles of 4, 3, 2 and 1 pixels, and what is around them, by what they write."""
    codes: dict[str, Code] = {}
    for kernel, (marker, unit) in _BINARY.items():
        for pixels, (store, function) in itertools.product((4, 3, 2, 1), _STORES.items()):
            body, begin, end, units = _find(functions, Loop(function.format(pixels), marker, unit))
            name = f"{kernel} {pixels}x32"
            codes.setdefault(name, Code(_straight(body[begin:end]), units, unit))
            if kernel == "neon_lookup":
                # The loop begins anew before its sums overflow a byte.
                inner = begin, end
                begin, end = _enclosing(body, begin, end)
                parts = [*body[begin : inner[0]], *body[inner[1] : end]]
                codes.setdefault(f"{name}, sums", Code(_straight(parts), 1, "60 look-ups", True))
            codes[f"{name}, {store}"] = _around(body, begin, end)
    return codes


def _around(body: Body, begin: int, end: int) -> Code:
    return Code(_straight([*body[:begin], *body[end:]]), 1, "a tile", True)


def _find(functions: dict[str, list[Body]], loop: Loop) -> tuple[Body, int, int, int]:
    """The body of a function, where in it a loop begins and ends, and its units of work."""
    best: tuple[float, Body, int, int, int] | None = None
    named = [bodies for name, bodies in functions.items() if re.fullmatch(loop.function, name)]
    for body in itertools.chain(*named):
        for begin, end in _loops(body):
            units = sum(bool(re.match(loop.marker, text)) for _, text in body[begin:end])
            if units and (best is None or units / (end - begin) > best[0]):
                best = (units / (end - begin), body, begin, end, units)
    if best is None:
        raise ValueError(
            f"the library has no loop of {loop.function} with {loop.marker!r}: after a change of "
            "the kernels, the tables of loops in this script have to follow."
        )
    return best[1:]


def _loops(body: Body) -> Iterator[tuple[int, int]]:
    """Where a branch leads back to, and where it is."""
    index_of = {address: index for index, (address, _) in enumerate(body)}
    for end, (_, text) in enumerate(body):
        branch = re.match(r"(?:b|b\.\w+|cbn?z|tbn?z)\t.*\b([0-9a-f]+) <", text)
        begin = index_of.get(int(branch[1], 16), end) if branch else end
        if begin < end:
            yield begin, end


def _enclosing(body: Body, begin: int, end: int) -> tuple[int, int]:
    """The least loop around a loop."""
    around = [loop for loop in _loops(body) if loop[0] <= begin and loop[1] > end]
    return min(around, key=lambda loop: loop[1] - loop[0])


def _straight(body: Body) -> list[str]:
    """Without branches, which are predicted, and addresses, which no assembler knows."""
    return [text for _, text in body if "<" not in text and not re.match(r"(?:ret|bl?r)\b", text)]


def _functions(library: str) -> dict[str, list[Body]]:
    """(address, instruction) pairs of every function, by its name without namespace, arguments."""
    listing = _run(
        ["aarch64-linux-gnu-objdump", "--disassemble", "--demangle", "--no-show-raw-insn", library]
    )
    functions: dict[str, list[Body]] = {}
    body: Body = []
    for line in listing.splitlines():
        if header := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = header[1].replace("(anonymous namespace)::", "").partition("(")[0]
            body = []
            functions.setdefault(name.rpartition("bireal::")[2], []).append(body)
        elif instruction := re.fullmatch(r"\s+([0-9a-f]+):\s+(.*?)(?:\s+//.*)?", line):
            body.append((int(instruction[1], 16), instruction[2]))
    return functions


def _cycles(code: Code, cpu: str) -> float:
    """Of a pass."""
    report = _run(
        ["llvm-mca-19", "-march=aarch64", f"-mcpu={cpu}", f"-iterations={_ITERATIONS}"],
        "\n".join(code.instructions),
    )
    if code.is_short:
        # The former asks each pipe alone for what only it can do, and all of them for what any can.
        begun = float(re.search(r"Block RThroughput:\s+([\d.]+)", report)[1])
        return max(begun, _vector_operations(report) / len(_VECTOR_PIPES[cpu]))
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / _ITERATIONS


def _vector_operations(report: str) -> float:
    """Of a pass: what the vector pipes do, an instruction that takes a pipe twice counted twice."""
    names = re.findall(r"^\[[\d.]+\]\s+- (\w+)$", report, re.MULTILINE)
    row = re.search(r"Resource pressure per iteration:\n.*\n(.*)\n", report)[1].split()
    pipes = {pipe for of_cpu in _VECTOR_PIPES.values() for pipe in of_cpu}
    return sum(float(value) for name, value in zip(names, row) if name in pipes and value != "-")


def _compiler(library: str) -> str:
    comment = _run(["aarch64-linux-gnu-readelf", "--string-dump=.comment", library])
    return re.search(r"(?:GCC|clang).*", comment)[0]


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


if __name__ == "__main__":
    _cli.run("arm_inner_loop", main, module="__main__", doc=__doc__)
