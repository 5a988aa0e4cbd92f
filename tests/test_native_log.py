"""What C++ code writes to stderr, where Python's own `sys.stderr` does not reach."""

import os

import pytest

from bireal_keras import _native_log


def write(text):
    os.write(2, text.encode())


def test_is_captured_and_at_hand(capfd):
    with _native_log.captured() as errors:
        write("I0000 hello\nERROR: out of tape\n")
        assert errors() == "ERROR: out of tape"
        write("more errors\n")
        assert errors() == "ERROR: out of tape more errors"
    write("after\n")
    assert capfd.readouterr().err == "after\n"


def test_quiet_is_quiet(capfd):
    with _native_log.quiet():
        write("I0000 hello\nERROR: nothing came of it\n")
    assert capfd.readouterr().err == ""


def test_quiet_tells_what_matters_when_something_fails(capfd):
    def fail():
        with _native_log.quiet():
            write("I0000 hello\nERROR: out of tape\n")
            raise ValueError("no recording")

    with pytest.raises(ValueError, match="no recording"):
        fail()
    assert capfd.readouterr().err == "ERROR: out of tape\n"


def test_a_failure_without_a_reason_adds_nothing(capfd):
    def fail():
        with _native_log.quiet():
            write("I0000 hello\n")
            raise ValueError("no recording")

    with pytest.raises(ValueError, match="no recording"):
        fail()
    assert capfd.readouterr().err == ""
