"""Models with float operators on the delegate, on each of its kernels; and TensorFlow's windows."""

import ai_edge_litert.interpreter as litert
import numpy as np
from lce_ops import SAME

from bireal_keras import runtime

KERNELS = ["portable", "avx2", "avx512", "neon", "neon_lookup"]


def supported(kernel: str) -> bool:
    try:
        runtime.load_delegate(kernel=kernel)
    except ValueError:
        return False
    return True


def padded(x: np.ndarray, filter_size, strides, padding: int, value: float) -> np.ndarray:
    """As TensorFlow pads images (batch, height, width, channels)."""
    widths = [(0, 0)]
    for size, window, stride in zip(x.shape[1:3], filter_size, strides):
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        widths.append((total // 2, total - total // 2) if padding == SAME else (0, 0))
    return np.pad(x, [*widths, (0, 0)], constant_values=value)


def windows(x: np.ndarray, filter_size, strides, padding: int, value: float) -> np.ndarray:
    """(batch, out height, out width, channels, filter height, filter width)."""
    x = padded(x, filter_size, strides, padding, value)
    views = np.lib.stride_tricks.sliding_window_view(x, filter_size, axis=(1, 2))
    return views[:, :: strides[0], :: strides[1]]


def run(model: bytes, x: np.ndarray, **options) -> list[np.ndarray]:
    """All outputs, in the order of the model."""
    options = {"float_ops": "delegate"} | options
    delegate = litert.load_delegate(runtime.delegate_path(), options)
    interpreter = litert.Interpreter(model_content=model, experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def assert_same_on_every_kernel(model: bytes, x: np.ndarray, expected: list[np.ndarray]) -> None:
    for kernel in filter(supported, KERNELS):
        for threads in (1, 2, 4):
            outputs = run(model, x, kernel=kernel, num_threads=threads)
            for output, other in zip(outputs, expected, strict=True):
                assert output.tobytes() == other.tobytes(), (kernel, threads)


def reported(capfd) -> list[str]:
    prefix = "bireal delegate: "
    lines = capfd.readouterr().err.splitlines()
    return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
