"""What the delegate's library offers to whoever loads it, and how it was built."""

import ctypes
import shutil
import subprocess
import sys

import pytest

from bireal_keras import runtime

PLUGIN = {"tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"}


@pytest.fixture
def readelf():
    """Calls readelf, a tool of the compiler's package, on the library."""
    if sys.platform != "linux" or shutil.which("readelf") is None:
        pytest.skip("needs readelf and Linux")

    def call(*options: str) -> str:
        command = ["readelf", "--wide", *options, runtime.delegate_path()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return call


@pytest.mark.parametrize("name", sorted(PLUGIN))
def test_exports_the_plugin_interface(name):
    """A linker that drops what nothing refers to would leave a library without them."""
    assert hasattr(ctypes.CDLL(runtime.delegate_path()), name)


def test_exports_nothing_else(readelf):
    """Neither names of ours nor the C++ library's, which could meet another program's."""
    defined = set()
    for line in readelf("--dyn-syms").splitlines():
        # Number, value, size, type, binding, visibility, section, name.
        fields = line.split()
        if len(fields) == 8 and fields[0].rstrip(":").isdigit() and fields[6] not in ("UND", "ABS"):
            defined.add(fields[7].partition("@")[0])
    assert defined == PLUGIN


def test_is_hardened(readelf):
    """Addresses are resolved and read-only before the library runs; the stack is guarded."""
    assert "BIND_NOW" in readelf("--dynamic")
    segments = readelf("--segments")
    assert "GNU_RELRO" in segments
    stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    wanted = {
        (line.split() + [""])[7] for line in readelf("--dyn-syms").splitlines() if " UND " in line
    }
    names = {name.partition("@")[0] for name in wanted}
    assert "__stack_chk_fail" in names
    # What _FORTIFY_SOURCE makes of printf and its kin.
    assert any(name.endswith("printf_chk") for name in names)
