"""Every kernel that this CPU can run gives the bytes of the portable one."""

import dataclasses
import platform
import re
import sys
from pathlib import Path

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from bconv_grid import CASES
from lce_ops import SAME, VALID, Bconv2d, Op, Tensor, build_model, constant, pack, run

from bireal_keras import runtime


def kernel_names() -> list[str]:
    """All kernels in the library, the fastest first: it lists them when asked for another."""
    with pytest.raises(ValueError, match="must be one of") as error:
        litert.load_delegate(runtime.delegate_path(), {"kernel": "?"})
    return re.search(r"must be one of: ([^.]*), and one", str(error.value))[1].split(", ")


def supported(kernel: str) -> bool:
    try:
        litert.load_delegate(runtime.delegate_path(), {"kernel": kernel})
    except ValueError:
        return False
    return True


KERNELS = kernel_names()


@pytest.fixture(params=[name for name in KERNELS if name != "portable"])
def kernel(request) -> str:
    if not supported(request.param):
        pytest.skip(f"this CPU cannot run the kernel {request.param}")
    return request.param


def assert_equals_portable(kernel: str, model: bytes, inputs: np.ndarray, **options) -> None:
    expected = run(litert, model, inputs, kernel="portable")
    output = run(litert, model, inputs, kernel=kernel, **options)
    assert output.tobytes() == expected.tobytes()


def test_the_fastest_supported_kernel_is_the_default(capfd):
    case = Bconv2d(1, 2, 2, 32, 32)
    run(litert, case.model(), pack(case.inputs), verbose=1)
    default = next(name for name in KERNELS if supported(name))
    assert f"kernel {default}," in capfd.readouterr().err
    assert KERNELS[-1] == "portable"


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="x86, Linux")
def test_runs_the_kernels_that_linux_knows_this_cpu_can():
    """Whichever compiler made the library: not all know what their CPU can do."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert supported("avx2") == ({"avx2", "fma"} <= flags)
    assert supported("avx512") == ({"avx512f", "avx512_vpopcntdq"} <= flags)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_grid(kernel, threads):
    for case in CASES.values():
        assert_equals_portable(kernel, case.model(), pack(case.inputs), num_threads=threads)


@pytest.mark.parametrize("pad_values", [0, 1])
@pytest.mark.parametrize("width", range(1, 10))
def test_every_width_of_the_last_tile(kernel, width, pad_values):
    for channels_out in (1, 15, 16, 31, 32, 33, 48, 64, 80, 96):
        for padding in (SAME, VALID):
            case = Bconv2d(
                1,
                3,
                width + 2 * (padding == VALID),
                64,
                channels_out,
                padding=padding,
                pad_values=pad_values,
            )
            assert case.out_width == width
            assert_equals_portable(kernel, case.model(), pack(case.inputs))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    ("height", "width", "channels", "strides"),
    [
        (3, 56, 64, (1, 1)),
        (3, 28, 128, (1, 1)),
        (5, 14, 256, (1, 1)),
        (7, 7, 512, (1, 1)),
        (4, 56, 64, (2, 2)),
        (4, 14, 256, (2, 2)),
    ],
)
def test_convolutions_of_birealnet18(kernel, height, width, channels, strides, threads):
    channels_out = channels * strides[0]
    case = Bconv2d(1, height, width, channels, channels_out, strides=strides)
    assert_equals_portable(kernel, case.model(), pack(case.inputs), num_threads=threads)


# The highest counts: all signs differ. Beyond 16-bit sums a kernel may leave it to another.
@pytest.mark.parametrize("channels", [4096, 7264, 7296])
def test_the_largest_sums(kernel, channels):
    case = Bconv2d(1, 3, 5, channels, 3, pad_values=1)
    case.inputs[:] = -1
    case.kernel[:] = 1
    assert_equals_portable(kernel, case.model(), pack(case.inputs))
    assert case.expected().tobytes() == run(litert, case.model(), pack(case.inputs)).tobytes()


def test_bits_after_the_last_channel(kernel):
    """No sign stands for them, but they count, and so the sums have to be clamped."""
    case = Bconv2d(1, 5, 6, 8, 64)
    words = pack(case.inputs) | np.int32(-256)
    assert_equals_portable(kernel, case.model(), words)


@pytest.mark.parametrize(
    "steps",
    [{"strides": (1, 2**30)}, {"dilations": (1, 2**29)}, {"dilations": (2**29, 200)}],
    ids=str,
)
def test_steps_far_wider_than_the_image(kernel, steps):
    case = Bconv2d(1, 2, 3, 64, 5, **steps)
    assert_equals_portable(kernel, case.model(), pack(case.inputs), num_threads=2)


# The extent of such a filter fits 32 bits, and so do its steps: sums of two do not.
@pytest.mark.parametrize("pad_values", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("step", [2**29, 2**30 - 1, 2**30, 1_431_655_766, 2**31 - 5])
def test_steps_whose_sums_exceed_32_bits(kernel, step, axis, pad_values):
    """Both taps of the filter lie outside the image, so the padding alone says what comes out."""
    filter_size = (2, 1) if axis == 0 else (1, 2)
    dilations = (step, 1) if axis == 0 else (1, step)
    case = Bconv2d(1, 4, 4, 64, 40, filter_size=filter_size, pad_values=pad_values)
    case.multiplier[:], case.bias[:] = 0.5, np.arange(40)
    model = dataclasses.replace(case, dilations=dilations)
    model.kernel, model.multiplier, model.bias = case.kernel, case.multiplier, case.bias
    of_padding = case.kernel.sum(axis=(1, 2, 3)) if pad_values == 1 else 0
    expected = np.broadcast_to(case.bias + np.float32(0.5) * of_padding, (1, 4, 4, 40))
    for name in (kernel, "portable"):
        output = run(litert, model.model(), pack(case.inputs), kernel=name)
        np.testing.assert_array_equal(output, expected)


SPECIAL_VALUES = np.array(
    [0.0, -0.0, np.nan, -np.nan, 1e-45, -1e-45, np.inf, -np.inf, 1.2e-38, -1.2e-38, 3.0, -3.0],
    np.float32,
)


@pytest.mark.parametrize("channels", [1, 4, 31, 32, 33, 63, 64, 65, 96, 100])
def test_quantize(kernel, channels):
    x = np.resize(SPECIAL_VALUES, (11, channels))
    packed = Tensor((11, -(-channels // 32)), np.int32)
    model = build_model([Tensor(x.shape), packed], [Op("LceQuantize", [0], [1])], [0], [1])
    assert_equals_portable(kernel, model, x)


@pytest.mark.parametrize("output", ["float", "packed"])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("channels", [3, 32, 40, 64, 96, 100])
def test_residual_block(kernel, channels, relu, output):
    """The sum with special values of the shortcut, as floats and as signs of them."""
    x = np.resize(SPECIAL_VALUES, (1, 3, 5, channels))
    case = Bconv2d(*x.shape, channels)
    # Some sums are exactly 0, and some differ from it by a denormal.
    case.multiplier[::3] = 0
    case.bias[::3] = 0
    packed = Tensor((*x.shape[:3], -(-channels // 32)), np.int32)
    tensors = [Tensor(x.shape), packed, *map(constant, (pack(case.kernel), case.multiplier))]
    tensors += [constant(case.bias), Tensor(x.shape), Tensor(x.shape), packed]
    add = schema.AddOptionsT()
    add.fusedActivationFunction = int(relu)
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, 3, 4, -1], [5], case.options),
        Op("ADD", [5, 0], [6], builtin=("AddOptions", add)),
        Op("LceQuantize", [6], [7]),
    ]
    model = build_model(tensors, ops, [0], [6 if output == "float" else 7])
    assert_equals_portable(kernel, model, x)
