"""LceBconv2d, byte for byte: against LCE's reference kernel, and NumPy where LCE has none."""

import dataclasses

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from bconv_grid import CASES
from lce_ops import (
    NONE,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    SAME,
    VALID,
    Bconv2d,
    pack,
    run,
    run_lce,
    unpack,
)


def lce_has_a_reference(case: Bconv2d) -> bool:
    zero_padded = case.padding == SAME and case.pad_values == 0
    # LCE refuses an odd number of channels here, and crashes on packed output.
    return not zero_padded or (case.channels_in % 2 == 0 and case.output != "packed")


LCE_CASES = {seed: case for seed, case in CASES.items() if lce_has_a_reference(case)}

# A grid is so many tests: one of them loops over a part of it and names the case that fails.
PARTS = 10


def part_of(cases: dict[int, Bconv2d], part: int) -> list[tuple[int, Bconv2d]]:
    return list(cases.items())[part::PARTS]


def count(cases: dict[int, Bconv2d], **fields) -> int:
    """How many cases have these fields."""
    return sum(
        all(getattr(case, name) == value for name, value in fields.items())
        for case in cases.values()
    )


@pytest.mark.parametrize("cases", [CASES, LCE_CASES], ids=["numpy", "lce"])
def test_the_grid_covers_what_it_claims(cases):
    """Enough of everything, and of what matters only together."""
    assert len(cases) >= 300
    assert len(CASES) - len(LCE_CASES) >= 50
    for output in ("float", "int8", "packed"):
        assert count(cases, output=output) >= 40, output
    for activation in (NONE, RELU, RELU_N1_TO_1, RELU6):
        for output in ("float", "int8"):
            assert count(cases, activation=activation, output=output) >= 8, (activation, output)
    for groups in (1, 2, 3):
        for output in ("float", "int8", "packed"):
            assert count(cases, groups=groups, output=output) >= 6, (groups, output)
    for padding, pad_values in ((SAME, 0), (SAME, 1), (VALID, 0)):
        assert count(cases, padding=padding, pad_values=pad_values) >= 30, (padding, pad_values)
    for strides in ((1, 1), (2, 2), (1, 2), (3, 2)):
        assert count(cases, strides=strides) >= 30, strides
    for dilations in ((1, 1), (2, 2), (1, 3)):
        assert count(cases, dilations=dilations) >= 30, dilations
    assert sum(case.channels_in % 32 != 0 for case in cases.values()) >= 60
    assert sum(case.channels_out % 32 != 0 for case in cases.values()) >= 100


def test_clamps_and_thresholds_of_the_grid_decide_something():
    """An activation that clamps nothing, or a threshold that decides nothing, tests nothing."""
    for activation in (RELU, RELU_N1_TO_1, RELU6):
        cases = [case for case in CASES.values() if case.activation == activation]
        changed = 0
        for case in cases:
            if case.output == "packed":
                continue
            free = dataclasses.replace(case, activation=NONE)
            changed += case.expected().tobytes() != free.expected().tobytes()
        assert changed >= 25, activation
    packed = [case for case in CASES.values() if case.output == "packed"]
    assert sum(
        len(np.unique(unpack(case.expected(), case.channels_out))) == 2 for case in packed
    ) > (0.7 * len(packed))


@pytest.mark.parametrize("part", range(PARTS))
def test_equals_numpy(part):
    for seed, case in part_of(CASES, part):
        output = run(litert, case.model(), pack(case.inputs))
        expected = case.expected()
        assert output.shape == expected.shape, (seed, case)
        assert output.tobytes() == expected.tobytes(), (seed, case)


@pytest.mark.parametrize("width", range(1, 6))
def test_counts_an_odd_number_of_zeros_beside_whole_words_of_filters(width):
    """Then kernels that add up half of a count have a half left over."""
    for channels_in in (1, 33):
        case = Bconv2d(1, 3, width, channels_in, 64)
        output = run(litert, case.model(), pack(case.inputs))
        assert output.tobytes() == case.expected().tobytes(), case


@pytest.mark.parametrize("part", range(PARTS))
def test_equals_lce_reference_kernel(part):
    pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    for seed, case in part_of(LCE_CASES, part):
        model, inputs = case.model(), pack(case.inputs)
        output = run(litert, model, inputs)
        assert output.tobytes() == run_lce(model, inputs).tobytes(), (seed, case)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_a_byte(threads):
    for seed in list(CASES)[::20]:
        case = CASES[seed]
        model, inputs = case.model(), pack(case.inputs)
        one = run(litert, model, inputs)
        assert run(litert, model, inputs, num_threads=threads).tobytes() == one.tobytes()


def test_int8_ties_round_away_from_zero():
    # One channel, one tap: the convolution is +-1, times 0.5 is a tie.
    case = Bconv2d(1, 1, 2, 1, 1, filter_size=(1, 1), output="int8", scale=1.0, zero_point=0)
    case.kernel[:] = 1
    case.inputs[:] = np.array([1, -1]).reshape(1, 1, 2, 1)
    for multiplier, expected in [(0.5, [1, -1]), (2.5, [3, -3]), (1.5, [2, -2]), (0.25, [0, 0])]:
        case.multiplier[:], case.bias[:] = multiplier, 0
        assert run(litert, case.model(), pack(case.inputs)).ravel().tolist() == expected


def test_int8_saturates():
    case = Bconv2d(1, 1, 2, 1, 1, filter_size=(1, 1), output="int8", scale=1.0, zero_point=0)
    case.kernel[:] = 1
    case.inputs[:] = np.array([1, -1]).reshape(1, 1, 2, 1)
    for multiplier in (128.0, 1e30):
        case.multiplier[:], case.bias[:] = multiplier, 0
        assert run(litert, case.model(), pack(case.inputs)).ravel().tolist() == [127, -128]
    for bias, expected in ((np.inf, 127), (-np.inf, -128)):
        case.multiplier[:], case.bias[:] = 1, bias
        assert run(litert, case.model(), pack(case.inputs)).ravel().tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("multiplier", "bias"),
    [(np.inf, 0), (-np.inf, 0), (np.nan, 0), (1, np.nan), (np.inf, -np.inf), (np.nan, np.inf)],
)
def test_int8_of_nan_is_zero(multiplier, bias):
    """Infinity less infinity, too: both are in what a count is multiplied by and what is added."""
    case = Bconv2d(1, 1, 2, 1, 40, filter_size=(1, 1), output="int8", pad_values=1, zero_point=0)
    case.multiplier[:], case.bias[:] = multiplier, bias
    model, inputs = case.model(), pack(case.inputs)
    for kernel in ({}, {"kernel": "portable"}):
        output = run(litert, model, inputs, **kernel)
        assert output.tobytes() == bytes(output.size)
    assert output.tobytes() == run_lce(model, inputs).tobytes()


def test_odd_channels_with_zero_padding_count_a_border_tap_as_zero():
    case = Bconv2d(1, 1, 1, 3, 2, seed=5)
    center = np.einsum("c,oc->o", case.inputs[0, 0, 0], case.kernel[:, 1, 1])
    np.testing.assert_array_equal(case.convolve().ravel(), center)
    output = run(litert, case.model(), pack(case.inputs)).ravel()
    np.testing.assert_allclose(output, center * case.multiplier + case.bias, rtol=0, atol=2e-5)


def test_stray_bits_behind_the_last_channel_count_as_lce_counts_them():
    pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    case = Bconv2d(1, 3, 3, 33, 4, pad_values=1, seed=9)
    inputs = pack(case.inputs)
    inputs[..., 1] |= np.int32(0x7F0)
    model = case.model()
    output = run(litert, model, inputs)
    assert output.tobytes() == run_lce(model, inputs).tobytes()
    assert output.tobytes() != case.expected().tobytes()
