"""A LiteRT interpreter with the delegate in place."""

import ctypes
import dataclasses
import functools
import importlib
import os
import platform
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from bireal_keras.tflite.metadata import Metadata, parse

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_LIBRARY = Path(__file__).with_name(f"libbireal_delegate{_SUFFIX}")

# The delegate's own messages start with this.
_REPORT_PREFIX = "bireal delegate: "

# LiteRT says so of an operator that neither it nor a delegate has.
_UNRESOLVED_PREFIX = "Encountered unresolved custom op: "

# The head of a program or library has a number for the kind of machine: ELF's e_machine, the
# Machine of Windows' COFF, the cputype of macOS' Mach-O.
_ELF_MACHINES = {3: "x86", 40: "32-bit Arm", 62: "x86_64", 183: "64-bit Arm", 243: "RISC-V"}
_COFF_MACHINES = {0x14C: "x86", 0x1C4: "32-bit Arm", 0x8664: "x86_64", 0xAA64: "64-bit Arm"}
_MACHO_MACHINES = {7: "x86", 0x1000007: "x86_64", 0x100000C: "64-bit Arm"}

# These are the stock interpreters, in the order in which we look for them.
_LITERT_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def _litert() -> ModuleType:
    for name in _LITERT_MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise  # Found, but something it needs is missing.
    raise ImportError(f"No LiteRT interpreter is installed: {_remedy()}.")


def _remedy() -> str:
    """How to come by an interpreter on this machine."""
    if sys.maxsize > 2**32:
        return "pip install ai-edge-litert"
    if sys.version_info < (3, 12):
        return "pip install tflite-runtime"
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"there is none for a 32-bit Python {version}. Take the 64-bit system, or a 32-bit one "
        "with Python 3.11, as Debian 12 and Raspberry Pi OS 12 are"
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
            stem, shortcuts and head: "fastest", the delegate where it has kernels that are faster
            than LiteRT or take less memory, as on x86-64 with AVX2 and on 64-bit Arm; "delegate",
            which gives the same bytes on every CPU; or "litert".
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
        # We load it before LiteRT does, whose half-made object prints a traceback after a failure.
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
    """What kind of computer a program or a library is for, as "x86_64" or "x86_64 Windows"."""
    with open(path, "rb") as file:
        head = file.read(4096)

    def number(offset: int, size: int, order: Literal["little", "big"] = "little") -> int:
        return int.from_bytes(head[offset : offset + size], order)

    if head.startswith(b"\x7fELF"):
        value = number(18, 2, "little" if head[5:6] == b"\1" else "big")
        return _ELF_MACHINES.get(value, f"another machine ({value})")
    coff = number(60, 4)
    if head.startswith(b"MZ") and head[coff : coff + 4] == b"PE\0\0":
        value = number(coff + 4, 2)
        return f"{_COFF_MACHINES.get(value, f'another machine ({value})')} Windows"
    if head.startswith((b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")):
        value = number(4, 4)
        return f"{_MACHO_MACHINES.get(value, f'another machine ({value})')} macOS"
    if head.startswith(b"\xca\xfe\xba\xbe"):
        # A program for several machines, as Python for macOS is; it runs as what this one is.
        return {"arm64": "64-bit Arm"}.get(platform.machine(), platform.machine()) + " macOS"
    return "an unknown system"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or an output of a model.

    Attributes:
        name: as the file has it.
        shape: as the file has it, the batch first.
        dtype: of NumPy.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class Interpreter:
    """Runs a model on a stock LiteRT interpreter.

    It may be used by several threads, of which one computes at a time, and as a context manager,
    which lets go of the model's memory at its end.

    Args:
        model: path of a .tflite file, or its bytes.
        num_threads: threads of the binary and of the other ops, 1 to 64.
        kernel, float_ops, profile: see `load_delegate`.

    Attributes:
        name: path of the file, or "the model".
        inputs, outputs: a `Tensor` for each, in the order of the file.
        input_shape: of the first input: (batch, height, width, channels) for an image.
        input_dtype, output_dtype: NumPy dtypes of the first input and the first output.
        output_shape: of the first output: (batch, classes) for a classifier.

    Raises:
        ValueError: the file is not a TFLite model or is malformed; or an option is out of its
            range.
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
        self.name, self._content = name, content
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

        # A LiteRT interpreter must not be entered twice.
        self._lock = threading.Lock()
        details = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._indices = tuple([one["index"] for one in some] for some in details)
        self.inputs, self.outputs = (tuple(map(_tensor, some)) for some in details)
        # A graph may have none of either.
        none = Tensor("", (), np.dtype(np.float32))
        first_input, first_output = [*self.inputs, none][0], [*self.outputs, none][0]
        self.input_shape, self.input_dtype = first_input.shape, first_input.dtype
        self.output_shape, self.output_dtype = first_output.shape, first_output.dtype

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, some)) for some in (self.inputs, self.outputs))
        return f"Interpreter({self.name!r}: {inputs} -> {outputs})"

    def __enter__(self) -> "Interpreter":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._interpreter = self._delegate = None

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
            raise ValueError(f"{self.name}: {error}") from error
        if len(self.input_shape) != 4:
            return metadata
        metadata = dataclasses.replace(metadata, takes_pixels=self.input_dtype == np.uint8)
        height, width, channels = self.input_shape[1:]
        if channels in (1, 3):
            metadata = dataclasses.replace(metadata, channels=channels)
        if metadata.image_size is None:
            return dataclasses.replace(metadata, image_size=(height, width))
        if metadata.image_size != (height, width):
            raise ValueError(
                f"{self.name}: takes images of {height} x {width} pixels, and its metadata say "
                f"{metadata.image_size[0]} x {metadata.image_size[1]}."
            )
        return metadata

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Runs a model of one input and one output on any number of inputs.

        Args:
            batch: (n, *input_shape[1:]) of `input_dtype`. Other floating-point numbers are
                rounded to it, other integers are taken if they all fit.

        Returns:
            (n, *output_shape[1:]) of `output_dtype`.

        Raises:
            ValueError: another shape, values that do not fit, a model of several inputs or
                outputs, or a closed interpreter.
        """
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise ValueError(
                f"{self.name}: `predict` needs a model of one input and one output; `run` takes "
                f"any. Received: {len(self.inputs)} and {len(self.outputs)}."
            )
        return self.run([batch])[0]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs a model of any number of inputs and outputs.

        Args:
            inputs: one array for each of `inputs`, in their order, as `predict` takes one, all of
                the same n. Of a model whose inputs and outputs do not all begin with the same
                batch size, as the file has it, the shapes are the file's own.

        Returns:
            One array for each of `outputs`.

        Raises:
            ValueError: as `predict`; or the model computes the shape of an output, and it is not
                the file's, so that nothing says which of its values belong to which input.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(
                f"`inputs` must be {len(self.inputs)} arrays. Received: {len(inputs)}."
            )
        size = self._batch_size()
        arrays = [
            _fitting(array, tensor, size is not None)
            for array, tensor in zip(inputs, self.inputs, strict=True)
        ]
        if size is None or not arrays:
            return self._invoke(arrays)
        count = len(arrays[0])
        if any(len(array) != count for array in arrays):
            lengths = ", ".join(str(len(array)) for array in arrays)
            raise ValueError(f"`inputs` must have the same length. Received: {lengths}.")
        outputs = [np.empty((count, *one.shape[1:]), one.dtype) for one in self.outputs]
        # The file's own batch size, usually 1: what was allocated at load time is used as it
        # is, and a result never depends on its neighbours.
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            results = self._invoke([_padded(array[part], size) for array in arrays])
            for tensor, result in zip(self.outputs, results, strict=True):
                if result.shape != tensor.shape:
                    raise ValueError(
                        f"{self.name}: the output {tensor.name!r} must have the file's shape, "
                        f"{tensor.shape}. Received from the model, which computes it: "
                        f"{result.shape}. LiteRT's own Interpreter with `load_delegate` returns it."
                    )
            for output, result in zip(outputs, results, strict=True):
                output[part] = result[: part.stop - start]
        return outputs

    def _batch_size(self) -> int | None:
        """What all shapes begin with; None if they do not."""
        sizes = {tensor.shape[:1] for tensor in (*self.inputs, *self.outputs)}
        return next(iter(sizes))[0] if len(sizes) == 1 and sizes not in ({()}, {(0,)}) else None

    def _invoke(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            if self._interpreter is None:
                raise ValueError(f"{self.name}: the interpreter is closed.")
            inputs, outputs = self._indices
            for index, array in zip(inputs, arrays, strict=True):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in outputs]


def _tensor(detail: Mapping[str, Any]) -> Tensor:
    shape = tuple(int(size) for size in detail["shape"])
    return Tensor(detail["name"], shape, np.dtype(detail["dtype"]))


def _fitting(array: np.ndarray, tensor: Tensor, has_batch: bool) -> np.ndarray:
    """The array with a tensor's dtype, if nothing but precision is lost, and its shape."""
    array = np.asarray(array)
    shape = tensor.shape[1:] if has_batch else tensor.shape
    received = array.shape[1:] if has_batch else array.shape
    if received != shape or (has_batch and array.ndim == 0):
        wanted = ", ".join(map(str, (["n", *shape] if has_batch else shape)))
        raise ValueError(f"`batch` must have the shape ({wanted}). Received: {array.shape}.")
    if array.dtype == tensor.dtype:
        return array
    kinds = (np.floating, np.integer, np.complexfloating)
    if not any(
        np.issubdtype(array.dtype, kind) and np.issubdtype(tensor.dtype, kind) for kind in kinds
    ):
        hint = ""
        if array.dtype == np.uint8 and np.issubdtype(tensor.dtype, np.floating):
            hint = " Pixels are normalized by `runtime.classify` or `runtime.load_image`."
        if tensor.dtype == np.uint8:
            hint = " Pixels are taken as they are, from 0 to 255."
        raise ValueError(f"`batch` must be {tensor.dtype}. Received: dtype {array.dtype}.{hint}")
    with np.errstate(over="ignore"):
        cast = array.astype(tensor.dtype)
    fits = cast == array
    if not np.issubdtype(tensor.dtype, np.integer):
        fits = np.isfinite(cast) | ~np.isfinite(array)
    if not fits.all():
        raise ValueError(
            f"`batch` must fit into {tensor.dtype}. Received: {array[~fits].flat[0]} of "
            f"{array.dtype}."
        )
    return cast


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    """With zeros, to a batch of a size."""
    missing = size - len(array)
    if not missing:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def _reason(error: Exception) -> str:
    """The one line of LiteRT's message that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith(_REPORT_PREFIX):
            return line.removeprefix(_REPORT_PREFIX)
        if line.startswith(_UNRESOLVED_PREFIX):  # The lines after it only say where.
            return line
    return lines[-1] if lines else type(error).__name__
