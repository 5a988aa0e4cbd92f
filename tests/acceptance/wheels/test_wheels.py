"""The wheels as people get them: installed by pip into a fresh Python, and used.

On this machine, and, where the emulated Debians of `make test-wheels` are there, on Raspberry Pis
with 64 bits, of Debian 12, 13 and sid, and one with 32. What is computed must be what the recording
machine computed (record.py): the classes of a photo as bireal-classify prints them, every byte of a
network, and every byte that bireal-export makes of a float file. On 32 bits the bytes are those of
the binary part: the float operators around it are XNNPACK's there, which rounds differently on
every CPU.
"""

import email
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "_build/wheels"
RECORDED = BUILD / "recorded"

DECLARED = {"absl-py", "ai-edge-litert", "numpy", "pillow"}
# 32-bit Arm: the older interpreter; NumPy and Pillow are the distribution's.
DECLARED_ARM32 = {"absl-py", "tflite-runtime"}


@dataclass
class Machine:
    """Where a wheel is installed. `emulator` runs `python`; pip is part of the machine."""

    name: str
    emulator: list[str]
    python: Path
    pip: list[str]
    declared: set[str]

    def run(self, *arguments: object) -> subprocess.CompletedProcess:
        """Runs Python, without anything from the environment of this one."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return subprocess.run(
            [*self.emulator, self.python, *map(str, arguments)],
            cwd=RECORDED,
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    def command(self, name: str, *arguments: object) -> subprocess.CompletedProcess:
        """Runs a console command. By way of Python: the emulator starts no scripts."""
        return self.run(self.python.with_name(name), *arguments)


def native() -> Machine:
    folder = BUILD / "venv"
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    return Machine(platform.machine(), [], folder / "bin/python", ["-m", "pip"], DECLARED)


def emulated(debian: str) -> Machine:
    """`debian` is Debian's suite and architecture, as "trixie-arm64"."""
    root = BUILD / debian
    if not (root / "made").exists():
        pytest.skip(f"needs an emulated Debian at {root}: make test-wheels")
    if debian.endswith("-arm64"):
        name, declared = "aarch64", DECLARED
        emulator = ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L", str(root)]
    else:
        name, declared = "armv7l", DECLARED_ARM32
        emulator = ["qemu-arm-static", "-cpu", "cortex-a7", "-L", str(root)]
    folder = BUILD / f"{debian}-venv"
    shutil.rmtree(folder, ignore_errors=True)
    # The emulator cannot start a process, which installing pip into the environment takes.
    [python] = (root / "usr/bin").glob("python3.[1-9][0-9]")
    subprocess.run(
        [*emulator, python, "-m", "venv", "--without-pip", "--system-site-packages", folder],
        check=True,
    )
    [pip] = (root / "usr/share/python-wheels").glob("pip-*.whl")
    return Machine(name, emulator, folder / "bin/python", [str(pip / "pip")], declared)


@pytest.fixture(
    scope="module",
    params=["native", "bookworm-arm64", "trixie-arm64", "sid-arm64", "bookworm-armhf"],
)
def machine(request) -> Machine:
    return native() if request.param == "native" else emulated(request.param)


@pytest.fixture(scope="module")
def wheel(machine) -> Path:
    [wheel] = (ROOT / "dist").glob(f"*_{machine.name}.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(machine, wheel, tmp_path_factory) -> dict[str, dict]:
    """Installs the wheel. Returns the metadata of all that pip installed, by name."""
    report = tmp_path_factory.mktemp("pip") / "report.json"
    options = ["--disable-pip-version-check", "--no-cache-dir", "--only-binary=:all:"]
    result = machine.run(*machine.pip, "install", *options, "--report", report, wheel)
    assert result.returncode == 0, result.stderr
    distributions = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    return {canonicalize_name(metadata["name"]): metadata for metadata in distributions}


def fastest_kernels(machine: Machine) -> str:
    if machine.name != "x86_64":
        return {"aarch64": "neon", "armv7l": "portable"}[machine.name]
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if {"avx512f", "avx512_vpopcntdq"} <= flags:
        return "avx512"
    return "avx2" if "avx2" in flags else "portable"


def needed_by(name: str, installed: dict[str, dict]) -> set[str]:
    """A distribution and all that it declares to need, of what was installed."""
    names, pending = set(), {name}
    while pending:
        names |= pending
        requirements = {
            canonicalize_name(Requirement(line).name)
            for name in pending
            for line in installed[name].get("requires_dist", [])
            if "extra ==" not in line
        }
        pending = requirements & set(installed) - names
    return names


def test_brings_what_it_declares_and_nothing_else(machine, installed):
    own = {"bireal-keras"} | machine.declared
    assert own <= set(installed)
    # The rest is what LiteRT declares to need.
    [litert] = machine.declared & {"ai-edge-litert", "tflite-runtime"}
    assert set(installed) == own | needed_by(litert, installed)


def test_classifies_a_photo_as_elsewhere(machine, installed):
    result = machine.command("bireal-classify", "network.tflite", "photo.jpg")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6
    assert result.stdout == (RECORDED / "classes.txt").read_text()


def test_has_a_model_to_try(machine, installed):
    """By its name alone, and with the same answer as here."""
    here = Path(sys.executable).with_name("bireal-classify")
    arguments = ["cifar10", "photo.jpg"]
    expected = subprocess.run([here, *arguments], cwd=RECORDED, check=True, stdout=subprocess.PIPE)
    result = machine.command("bireal-classify", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected.stdout.decode()


def test_the_binary_part_is_the_same_bytes_with_the_fastest_kernels(machine, installed):
    script = ROOT / "tools/wheels/repeat.py"
    result = machine.run(script, "binary_part.tflite", "binary_part.npz")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 of 4 outputs are the recorded bytes" in result.stdout
    assert f"kernel {fastest_kernels(machine)}," in result.stderr
    print(result.stdout, end="")


def test_a_network_is_the_same_bytes(machine, installed):
    if machine.name == "armv7l":
        pytest.skip("LiteRT runs the float operators on 32 bits")
    result = machine.run(ROOT / "tools/wheels/repeat.py", "network.tflite", "network.npz")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 of 1 outputs are the recorded bytes" in result.stdout


def test_packs_a_float_file_as_elsewhere(machine, installed, tmp_path):
    """Without TensorFlow, and to the byte."""
    if machine.name == "armv7l":
        pytest.skip("tflite-runtime, the interpreter of 32-bit Arm, has no schema of the file")
    packed = tmp_path / "packed.tflite"
    result = machine.command("bireal-export", "--model=float.tflite", f"--output={packed}")
    assert result.returncode == 0, result.stderr
    assert "convolutions: 16 bit-packed" in result.stdout
    assert packed.read_bytes() == (RECORDED / "packed.tflite").read_bytes()


def test_measures_latency(machine, installed):
    result = machine.command("bireal-bench", "network.tflite", "--num_runs=2")
    assert result.returncode == 0, result.stderr
    assert "2 runs, batch 1" in result.stdout


def test_no_litert_is_one_line(machine, installed):
    hide = "import sys; sys.modules.update(dict.fromkeys(['ai_edge_litert', 'tflite_runtime']));"
    call = "from bireal_keras.commands import bench; sys.argv[1:] = ['network.tflite']; bench.run()"
    result = machine.run("-c", hide + call)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    [litert] = machine.declared & {"ai-edge-litert", "tflite-runtime"}
    assert f"No LiteRT interpreter is installed: pip install {litert}." in line


def test_pip_is_told_which_pythons_it_is_for(wheel):
    """And refuses others in one line of its own."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(">=3.10")


def test_a_wheel_for_another_platform_is_one_line(tmp_path):
    other = "armv7l" if platform.machine() == "x86_64" else "x86_64"
    [wheel] = (ROOT / "dist").glob(f"*_{other}.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    result = subprocess.run([*pip, "--target", tmp_path, wheel], capture_output=True, text=True)
    assert result.returncode == 1
    [line] = (line for line in result.stderr.splitlines() if line.startswith("ERROR"))
    assert f"{wheel.name} is not a supported wheel on this platform" in line
