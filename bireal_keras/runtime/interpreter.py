"""A LiteRT interpreter with the delegate in place."""

import ctypes
import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bireal_keras.runtime.metadata import Metadata, parse

_LIBRARY = Path(__file__).with_name("libbireal_delegate.so")

# What the delegate's own messages start with.
_REPORT_PREFIX = "bireal delegate: "

# Machines by their number in the head of a program or library for Linux.
_ELF_MACHINES = {3: "x86", 40: "32-bit Arm", 62: "x86_64", 183: "64-bit Arm", 243: "RISC-V"}

# Stock interpreters, in the order we look for them.
_LITERT_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def _litert() -> ModuleType:
    for name in _LITERT_MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise  # Found, but something it needs is missing.
    raise ImportError(
        "No LiteRT interpreter is installed: pip install ai-edge-litert (or tflite-runtime, on "
        "32-bit Arm)."
    )


def delegate_path() -> str:
    """Path of the delegate's shared library, for `load_delegate` of any interpreter, for
    `benchmark_model --external_delegate_path=`, or for C++.

    Raises:
        FileNotFoundError: the package was installed without it.
    """
    if not _LIBRARY.is_file():
        raise FileNotFoundError(
            f"The delegate's library is missing: {_LIBRARY}. Install bireal-keras from a wheel "
            "for this platform, or from source with a C++ compiler."
        )
    return str(_LIBRARY)


def load_delegate(
    *,
    num_threads: int = 1,
    kernel: str | None = None,
    float_ops: str = "fastest",
    verbose: bool = False,
    profile: str | os.PathLike[str] | None = None,
) -> Any:
    """Loads the delegate for people who drive LiteRT themselves.

        from ai_edge_litert.interpreter import Interpreter
        interpreter = Interpreter(path, experimental_delegates=[runtime.load_delegate()])

    Args:
        num_threads: threads of the binary ops, 1 to 64. LiteRT has a setting of its own for
            the others.
        kernel: forces the kernels for one instruction set, by name; None takes what the
            environment variable BIREAL_KERNEL says, or the best ones for this CPU.
        float_ops: who runs the float operators that the delegate can run as well, a network's
            stem: "fastest", the delegate where it has kernels that are faster than LiteRT;
            "delegate", which gives the same bytes on every CPU; or "litert".
        verbose: prints on stderr what the delegate takes over.
        profile: a CSV file to write: when, in `time.monotonic_ns`, each of the delegate's
            steps is done. `bireal_keras.runtime.profile` makes use of it.

    Returns:
        The delegate object of the installed LiteRT.

    Raises:
        ValueError: an option is out of its range.
        ImportError: no LiteRT is installed.
        FileNotFoundError: the library is missing.
        OSError: the library is for another machine, or cannot be loaded for another reason.
    """
    options: dict[str, Any] = {
        "num_threads": num_threads,
        "float_ops": float_ops,
        "verbose": int(verbose),
    }
    if kernel is not None:
        options["kernel"] = kernel
    if profile is not None:
        options["profile"] = os.fspath(profile)
    return _load_delegate(options)


def _load_delegate(options: Mapping[str, Any]) -> Any:
    litert, path = _litert(), delegate_path()
    try:
        # Before LiteRT does: after a failure its half-made object prints a traceback of its own.
        ctypes.CDLL(path)
    except OSError as error:
        raise OSError(_why_not_loaded(path, error)) from error
    try:
        return litert.load_delegate(path, dict(options))
    except ValueError as error:
        raise ValueError(_reason(error)) from error


def _why_not_loaded(path: str, error: OSError) -> str:
    """In one line. The loader itself may say "No such file" of a file for another machine."""
    if sys.executable:  # Python may be inside another program.
        library, python = _machine(path), _machine(sys.executable)
        if library != python:
            return (
                f"The delegate's library is for {library}, and this Python is for {python}: "
                f"{path}. Install bireal-keras from a wheel for this platform, or from source "
                "with a C++ compiler."
            )
    return f"The delegate's library cannot be loaded: {' '.join(str(error).split())}"


def _machine(path: str) -> str:
    """What kind of computer a program or a library is for."""
    with open(path, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return "another system than Linux"
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _ELF_MACHINES.get(number, f"another machine ({number})")


class Interpreter:
    """Runs one model with one input and one output.

    Args:
        model: path of a .tflite file, or its bytes.
        num_threads: threads of the binary and of the other ops, 1 to 64.
        kernel, float_ops, profile: see `load_delegate`.

    Attributes:
        input_shape: (batch, height, width, channels) as the file has it.
        input_dtype, output_dtype: NumPy dtypes.
        output_shape: as the file has it, (batch, classes) for a classifier.

    Raises:
        ValueError: the file is no TFLite model, is malformed, or has more than one input or
            output; or an option is out of its range.
        OSError: the file cannot be read, or the delegate's library cannot be loaded.
        ImportError: no LiteRT is installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        num_threads: int = 1,
        kernel: str | None = None,
        float_ops: str = "fastest",
        profile: str | os.PathLike[str] | None = None,
    ):
        if isinstance(model, (bytes, bytearray, memoryview)):
            name, content = "the model", bytes(model)
        else:
            name, content = os.fspath(model), Path(model).read_bytes()
        if not content:
            raise ValueError(f"{name}: is empty.")
        self._name, self._content = name, content
        # The interpreter does not keep its delegate alive.
        self._delegate = load_delegate(
            num_threads=num_threads, kernel=kernel, float_ops=float_ops, profile=profile
        )
        try:
            self._interpreter = _litert().Interpreter(
                model_content=content,
                experimental_delegates=[self._delegate],
                num_threads=num_threads,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{name}: {_reason(error)}") from error

        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"{name}: must have one input and one output. "
                f"Received: {len(inputs)} and {len(outputs)}."
            )
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self.input_shape = tuple(int(size) for size in inputs[0]["shape"])
        self.output_shape = tuple(int(size) for size in outputs[0]["shape"])
        self.input_dtype = np.dtype(inputs[0]["dtype"])
        self.output_dtype = np.dtype(outputs[0]["dtype"])

    @functools.cached_property
    def metadata(self) -> Metadata:
        """What the file says about its images and classes, for `load_image`.

        Where it says no `image_size` and the input is an image, the size is the input's.

        Raises:
            ValueError: the metadata make no sense, or speak of another size.
        """
        try:
            metadata = parse(self._content)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from error
        if len(self.input_shape) != 4:
            return metadata
        height, width = self.input_shape[1:3]
        if metadata.image_size is None:
            return dataclasses.replace(metadata, image_size=(height, width))
        if metadata.image_size != (height, width):
            raise ValueError(
                f"{self._name}: takes images of {height} x {width} pixels, and its metadata say "
                f"{metadata.image_size[0]} x {metadata.image_size[1]}."
            )
        return metadata

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Runs the model on any number of inputs.

        Args:
            batch: (n, *input_shape[1:]) of `input_dtype`; Python and NumPy floats are cast.

        Returns:
            (n, *output_shape[1:]) of `output_dtype`.

        Raises:
            ValueError: another shape, or values that would lose more than precision.
        """
        batch = np.asarray(batch)
        if batch.dtype != self.input_dtype:
            if not np.can_cast(batch.dtype, self.input_dtype, casting="same_kind"):
                raise ValueError(
                    f"`batch` must be {self.input_dtype}. Received: dtype {batch.dtype}."
                )
            batch = batch.astype(self.input_dtype)
        size, *shape = self.input_shape
        if batch.ndim != len(self.input_shape) or list(batch.shape[1:]) != shape:
            raise ValueError(
                f"`batch` must have the shape (n, {', '.join(map(str, shape))}). "
                f"Received: {batch.shape}."
            )

        outputs = np.empty((len(batch), *self.output_shape[1:]), self.output_dtype)
        # The file's own batch size, usually 1: what was allocated at load time is used as it
        # is, and a result never depends on its neighbours.
        for start in range(0, len(batch), size):
            inputs = batch[start : start + size]
            count = len(inputs)
            if count < size:
                padding = np.zeros((size - count, *shape), batch.dtype)
                inputs = np.concatenate([inputs, padding])
            self._interpreter.set_tensor(self._input, inputs)
            self._interpreter.invoke()
            outputs[start : start + count] = self._interpreter.get_tensor(self._output)[:count]
        return outputs


def _reason(error: Exception) -> str:
    """The one line of LiteRT's message that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith(_REPORT_PREFIX):
            return line.removeprefix(_REPORT_PREFIX)
    return lines[-1] if lines else type(error).__name__
