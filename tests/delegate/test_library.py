"""What the delegate's library offers to whoever loads it."""

import ctypes

import pytest

from bireal_keras import runtime


@pytest.mark.parametrize("name", ["create", "destroy"])
def test_exports_the_plugin_interface(name):
    """A linker that drops what nothing refers to would leave a library without them."""
    assert hasattr(ctypes.CDLL(runtime.delegate_path()), f"tflite_plugin_{name}_delegate")
