"""LceQuantize, LceDequantize and LceBMaxPool2d, byte for byte, and chains of ops."""

import itertools

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from lce_ops import (
    SAME,
    VALID,
    Bconv2d,
    Op,
    Tensor,
    build_model,
    constant,
    output_size,
    pack,
    run,
    run_lce,
    unpack,
)

CHANNELS = [1, 7, 31, 32, 33, 63, 64, 65, 96, 100, 128, 257, 512]
SHAPES = [(), (3,), (1, 2, 5), (3, 4, 2)]  # Dimensions before the channels.


def quantize_model(shape, dtype, **quantization) -> bytes:
    packed = (*shape[:-1], -(-shape[-1] // 32))
    tensors = [Tensor(shape, dtype, **quantization), Tensor(packed, np.int32)]
    return build_model(tensors, [Op("LceQuantize", [0], [1])], [0], [1])


def dequantize_model(shape, dtype, **quantization) -> bytes:
    packed = (*shape[:-1], -(-shape[-1] // 32))
    tensors = [Tensor(packed, np.int32), Tensor(shape, dtype, **quantization)]
    return build_model(tensors, [Op("LceDequantize", [0], [1])], [0], [1])


@pytest.mark.parametrize(("shape", "channels"), [*itertools.product(SHAPES, CHANNELS)])
def test_quantize_float(shape, channels):
    random = np.random.default_rng(channels)
    x = random.normal(size=(*shape, channels)).astype(np.float32)
    model = quantize_model(x.shape, np.float32)
    output = run(litert, model, x)
    assert output.tobytes() == pack(np.where(x < 0, -1, 1)).tobytes()
    assert output.tobytes() == run_lce(model, x).tobytes()


def test_quantize_float_special_values():
    tiny = np.float32(1e-45)  # A denormal: LCE flushes it to zero.
    nan = np.float32(np.nan)
    values = [0.0, -0.0, nan, -nan, tiny, -tiny, np.inf, -np.inf, 1.2e-38, -1.2e-38, -1.0]
    x = np.array(values * 7, np.float32)  # Beyond one vector of any kernel.
    negative = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1] * 7)
    model = quantize_model(x.shape, np.float32)
    output = run(litert, model, x)
    assert output.tobytes() == pack(1 - 2 * negative).tobytes()
    assert output.tobytes() == run_lce(model, x).tobytes()


def test_worker_threads_flush_denormals_too():
    x = np.full((4096, 32), -1e-45, np.float32)
    assert not run(litert, quantize_model(x.shape, np.float32), x, num_threads=4).any()


@pytest.mark.parametrize("zero_point", [-128, -127, -5, 0, 1, 126, 127])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 256])
def test_quantize_int8(channels, zero_point):
    x = np.resize(np.arange(-128, 128), (3, channels)).astype(np.int8)
    model = quantize_model(x.shape, np.int8, scale=0.1, zero_point=zero_point)
    output = run(litert, model, x)
    assert output.tobytes() == pack(np.where(x < zero_point, -1, 1)).tobytes()
    assert output.tobytes() == run_lce(model, x).tobytes()


@pytest.mark.parametrize("channels", CHANNELS)
def test_quantize_bool(channels):
    x = np.random.default_rng(channels).random((2, 3, channels)) < 0.5
    model = quantize_model(x.shape, np.bool_)
    output = run(litert, model, x)
    assert output.tobytes() == pack(np.where(x, 1, -1)).tobytes()
    assert output.tobytes() == run_lce(model, x).tobytes()


@pytest.mark.parametrize(("shape", "channels"), [*itertools.product(SHAPES, CHANNELS)])
def test_dequantize_float(shape, channels):
    signs = np.random.default_rng(channels).choice([-1, 1], (*shape, channels))
    model, x = dequantize_model(signs.shape, np.float32), pack(signs)
    output = run(litert, model, x)
    assert output.tobytes() == signs.astype(np.float32).tobytes()
    assert output.tobytes() == run_lce(model, x).tobytes()
    np.testing.assert_array_equal(unpack(x, channels), signs)


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [(1.0, 0), (0.5, 3), (0.4, -20), (1 / 127, 0), (0.004, 0), (0.01, 100), (2.0, 5), (2.5, -128)],
)
def test_dequantize_int8(scale, zero_point):
    signs = np.random.default_rng(0).choice([-1, 1], (3, 70))
    model = dequantize_model(signs.shape, np.int8, scale=scale, zero_point=zero_point)
    x = pack(signs)
    output = run(litert, model, x)
    steps = int(np.floor(np.float32(1) / np.float32(scale) + 0.5))
    assert (
        output.tobytes() == np.clip(zero_point + signs * steps, -128, 127).astype(np.int8).tobytes()
    )
    assert output.tobytes() == run_lce(model, x).tobytes()


def test_dequantize_bool():
    signs = np.random.default_rng(0).choice([-1, 1], (3, 70))
    model, x = dequantize_model(signs.shape, np.bool_), pack(signs)
    output = run(litert, model, x)
    np.testing.assert_array_equal(output, signs > 0)
    assert output.tobytes() == run_lce(model, x).tobytes()


def max_pool_options(filter_size, strides, padding) -> dict[str, int]:
    return {
        "filter_height": filter_size[0],
        "filter_width": filter_size[1],
        "padding": padding,
        "stride_height": strides[0],
        "stride_width": strides[1],
    }


@pytest.mark.parametrize("padding", [SAME, VALID], ids=["same", "valid"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 6)], ids=str)
@pytest.mark.parametrize("channels", [1, 33, 128])
def test_max_pool(channels, size, padding):
    for batch, filter_size, strides in itertools.product(
        (1, 3), ((1, 1), (2, 2), (3, 3), (3, 2)), ((1, 1), (2, 2), (2, 3))
    ):
        fits = filter_size[0] <= size[0] and filter_size[1] <= size[1]
        if padding == SAME or fits:
            check_max_pool(batch, size, channels, filter_size, strides, padding)


def check_max_pool(batch, size, channels, filter_size, strides, padding):
    case = f"{batch=} {filter_size=} {strides=}"
    random = np.random.default_rng(0)
    signs = np.where(random.random((batch, *size, channels)) < 0.3, 1, -1)
    (out_h, top), (out_w, left) = (
        output_size(*axis, 1, padding) for axis in zip(size, filter_size, strides)
    )
    expected = np.empty((batch, out_h, out_w, channels), int)
    for y, x in np.ndindex(out_h, out_w):
        y0, x0 = y * strides[0] - top, x * strides[1] - left
        window = signs[:, max(y0, 0) : y0 + filter_size[0], max(x0, 0) : x0 + filter_size[1]]
        expected[:, y, x] = window.max(axis=(1, 2))
    packed = pack(signs)
    tensors = [
        Tensor(packed.shape, np.int32),
        Tensor((batch, out_h, out_w, packed.shape[-1]), np.int32),
    ]
    options = max_pool_options(filter_size, strides, padding)
    model = build_model(tensors, [Op("LceBMaxPool2d", [0], [1], options)], [0], [1])
    output = run(litert, model, packed)
    assert output.tobytes() == pack(expected).tobytes(), case
    assert output.tobytes() == run_lce(model, packed).tobytes(), case


def test_a_chain_of_ops_in_one_partition():
    """float -> quantize -> packed convolution -> max pool -> float convolution."""
    first = Bconv2d(1, 9, 8, 40, 70, pad_values=1, output="packed", seed=1)
    second = Bconv2d(1, 5, 4, 70, 24, seed=2)
    tensors = [
        Tensor((1, 9, 8, 40)),
        Tensor((1, 9, 8, 2), np.int32),
        constant(pack(first.kernel)),
        constant(first.thresholds),
        Tensor((1, 9, 8, 3), np.int32),
        Tensor((1, 5, 4, 3), np.int32),
        constant(pack(second.kernel)),
        constant(second.multiplier),
        constant(second.bias),
        Tensor((1, 5, 4, 24)),
    ]
    ops = [
        Op("LceQuantize", [0], [1]),
        Op("LceBconv2d", [1, 2, -1, -1, 3], [4], first.options),
        Op("LceBMaxPool2d", [4], [5], max_pool_options((2, 2), (2, 2), SAME)),
        Op("LceBconv2d", [5, 6, 7, 8, -1], [9], second.options),
    ]
    model = build_model(tensors, ops, [0], [9])
    x = np.random.default_rng(3).normal(size=(1, 9, 8, 40)).astype(np.float32)
    assert run(litert, model, x).tobytes() == run_lce(model, x).tobytes()
    # With the intermediate tensors as outputs, the interpreter owns them.
    open_model = build_model(tensors, ops, [0], [9, 1, 4, 5])
    assert run(litert, open_model, x).tobytes() == run_lce(model, x).tobytes()


def test_resizing_the_batch_and_back():
    case = Bconv2d(1, 5, 5, 64, 32, seed=4)
    from bireal_keras import runtime

    delegate = runtime.load_delegate(num_threads=2)
    interpreter = litert.Interpreter(model_content=case.model(), experimental_delegates=[delegate])
    index = interpreter.get_input_details()[0]["index"]
    for batch in (1, 4, 1):
        other = Bconv2d(batch, 5, 5, 64, 32, seed=4)
        other.kernel, other.multiplier, other.bias = case.kernel, case.multiplier, case.bias
        interpreter.resize_tensor_input(index, pack(other.inputs).shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, pack(other.inputs))
        interpreter.invoke()
        output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert output.tobytes() == other.expected().tobytes()
