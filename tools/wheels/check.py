"""Checks wheels before anybody gets them.

Usage: check.py WHEEL [WHEEL ...], with auditwheel installed.

Each must have what an installation from source has and nothing else, be small, and ask for no
newer system than its name says. Prints a line for each; exits with 1 when one is wrong.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
MAX_BYTES = 2_000_000
LIBRARY = "bireal_keras/runtime/libbireal_delegate.so"
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
        if "." in name and Path(name).suffix not in {".pyc", ".so"}
    }


def faults(wheel: Path) -> Iterator[str]:
    """What is wrong with a wheel, in words."""
    if wheel.stat().st_size > MAX_BYTES:
        yield f"has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}"

    name, version, *tags = wheel.stem.split("-")
    names = set(ZipFile(wheel).namelist())
    expected = {LIBRARY} | sources() | {f"{name}-{version}.dist-info/{file}" for file in METADATA}
    for file in sorted(names - expected):
        yield f"holds {file}"
    for file in sorted(expected - names):
        yield f"lacks {file}"

    if tags[:2] != ["py3", "none"]:
        yield f"is for {'-'.join(tags[:2])}, not for every Python"
    show = subprocess.run(
        [Path(sys.executable).with_name("auditwheel"), "show", "--json", wheel],
        capture_output=True,
        text=True,
    )
    if show.returncode:
        yield f"auditwheel: {show.stderr.strip()}"
    elif (platform := json.loads(show.stdout)["overall_tag"]) != tags[2]:
        yield f"is {platform} for auditwheel"


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
