"""Bazel's own Python rules under the names that newer projects load them by."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
