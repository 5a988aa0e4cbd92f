"""Checks wheels before anybody gets them.

Usage: check.py WHEEL [WHEEL ...], with tools/wheels/requirements.txt installed.

Each must have what an installation from source has and nothing else, be small, and ask for no
newer system than its name says. Prints a line for each; exits with 1 when one is wrong.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import lief

lief.logging.disable()

ROOT = Path(__file__).parents[2]
MAX_BYTES = 2_000_000
LIBRARY = "bireal_keras/runtime/libbireal_delegate"
FUNCTIONS = {"tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"}
METADATA = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "top_level.txt",
}


def sources() -> set[str]:
    """Names in a wheel of everything that belongs into it, less metadata and the library."""
    # `os.walk` follows the links to zoo/ and export/, as setuptools does, and `rglob` does not.
    return {
        str((Path(folder) / name).relative_to(ROOT))
        for folder, _, names in os.walk(ROOT / "bireal_keras", followlinks=True)
        for name in names
        if "." in name and Path(name).suffix not in {".pyc", ".so", ".dylib", ".dll"}
    }


def faults(wheel: Path) -> Iterator[str]:
    """What is wrong with a wheel, in words."""
    if wheel.stat().st_size > MAX_BYTES:
        yield f"has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}"

    name, version, *tags = wheel.stem.split("-")
    names = set(ZipFile(wheel).namelist())
    suffix, system_faults = SYSTEMS[tags[2].split("_")[0]]
    library = LIBRARY + suffix
    expected = {library} | sources() | {f"{name}-{version}.dist-info/{file}" for file in METADATA}
    for file in sorted(names - expected):
        yield f"holds {file}"
    for file in sorted(expected - names):
        yield f"lacks {file}"

    if tags[:2] != ["py3", "none"]:
        yield f"is for {'-'.join(tags[:2])}, not for every Python"
    if library in names:
        yield from system_faults(wheel, tags[2])


def linux_faults(wheel: Path, platform: str) -> Iterator[str]:
    show = subprocess.run(
        [Path(sys.executable).with_name("auditwheel"), "show", "--json", wheel],
        capture_output=True,
        text=True,
    )
    if show.returncode:
        yield f"auditwheel: {show.stderr.strip()}"
    elif (found := json.loads(show.stdout)["overall_tag"]) != platform:
        yield f"is {found} for auditwheel"


def macos_faults(wheel: Path, platform: str) -> Iterator[str]:
    binary = lief.MachO.parse(list(ZipFile(wheel).read(f"{LIBRARY}.dylib"))).at(0)
    _, major, minor, machine = platform.split("_")
    if binary.header.cpu_type.name.lower() != machine:
        yield f"holds a library for {binary.header.cpu_type.name}"
    if (found := binary.build_version.minos[:2]) != [int(major), int(minor)]:
        yield f"is for macOS {found}"
    loaded = [
        command.name
        for command in binary.libraries
        if command.command == lief.MachO.LoadCommand.TYPE.LOAD_DYLIB
    ]
    yield from needs(loaded, r"/usr/lib/libSystem\.B\.dylib")
    # Zig's linker shows C++'s operators new and delete as well, which any program may replace.
    replaceable = re.compile(r"_Z(nw|na|dl|da).*|__dso_handle|_mh_dylib_header")
    functions = {function.name.removeprefix("_") for function in binary.exported_functions}
    yield from offers({name for name in functions if not replaceable.fullmatch(name)})


def windows_faults(wheel: Path, platform: str) -> Iterator[str]:
    binary = lief.PE.parse(list(ZipFile(wheel).read(f"{LIBRARY}.dll")))
    if binary.header.machine.name.lower() != platform.split("_")[1]:
        yield f"holds a library for {binary.header.machine.name}"
    # The universal C runtime is a part of Windows 10 and newer.
    yield from needs(binary.libraries, r"KERNEL32\.dll|api-ms-win-crt-[a-z]+-l1-1-0\.dll")
    yield from offers({function.name for function in binary.exported_functions})


def needs(libraries: list[str], of_the_system: str) -> Iterator[str]:
    """Libraries that ours asks for and that a bare system does not have."""
    for name in libraries:
        if not re.fullmatch(of_the_system, name):
            yield f"needs {name}"


def offers(functions: set[str]) -> Iterator[str]:
    """What a library offers but should not, and the other way round."""
    for name in sorted(functions ^ FUNCTIONS):
        yield f"{'lacks' if name in FUNCTIONS else 'offers'} the function {name}"


# By the first word of a platform: how a library's name ends, and what looks at it.
SYSTEMS = {
    "manylinux": (".so", linux_faults),
    "macosx": (".dylib", macos_faults),
    "win": (".dll", windows_faults),
}


def main(wheels: list[Path]) -> int:
    status = 0
    for wheel in wheels:
        found = list(faults(wheel))
        print(f"{wheel}: {wheel.stat().st_size:,} bytes")
        for fault in found:
            print(f"check.py: {wheel}: {fault}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
