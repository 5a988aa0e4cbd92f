"""LceBconv2d, byte for byte: against LCE's reference kernel, and NumPy where LCE has none."""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
from bconv_grid import CASES
from lce_ops import SAME, Bconv2d, pack, run, run_lce


def lce_has_a_reference(case: Bconv2d) -> bool:
    zero_padded = case.padding == SAME and case.pad_values == 0
    # LCE refuses an odd number of channels here, and crashes on packed output.
    return not zero_padded or (case.channels_in % 2 == 0 and case.output != "packed")


LCE_CASES = [seed for seed, case in CASES.items() if lce_has_a_reference(case)]


def test_the_grid_covers_what_it_claims():
    assert len(LCE_CASES) >= 300
    assert len(CASES) - len(LCE_CASES) >= 50
    for case in CASES.values():
        # Every tie, clamp and threshold is only interesting if outputs vary.
        assert case.out_height >= 1
        assert case.out_width >= 1


@pytest.mark.parametrize("seed", CASES)
def test_equals_numpy(seed):
    case = CASES[seed]
    output = run(litert, case.model(), pack(case.inputs))
    expected = case.expected()
    assert output.shape == expected.shape
    assert output.tobytes() == expected.tobytes(), case


@pytest.mark.parametrize("seed", LCE_CASES)
def test_equals_lce_reference_kernel(seed):
    pytest.importorskip("larq_compute_engine", reason="LCE has no wheel for this platform")
    case = CASES[seed]
    model, inputs = case.model(), pack(case.inputs)
    assert run(litert, model, inputs).tobytes() == run_lce(model, inputs).tobytes(), case


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
    for multiplier in (128.0, 1e30, np.inf):
        case.multiplier[:], case.bias[:] = multiplier, 0
        output = run(litert, case.model(), pack(case.inputs)).ravel().tolist()
        # At infinity, infinity - infinity is no number; it must only not crash.
        assert output == [127, -128] or multiplier == np.inf


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
