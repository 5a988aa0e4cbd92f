"""What an idea brings: against SciPy's paired t-test, and the rule by which a claim holds."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from bireal_keras.training.ablation import Cell, Result, effects

CELL = Cell("per_conv", "approx_sign", "plain", "scratch")


def result(accuracies, **choices):
    return Result(dataclasses.replace(CELL, **choices), dict(enumerate(accuracies)), 0.01)


def of_two(ours, theirs):
    [effect] = effects([result(ours), result(theirs, activation="ste_sign")])
    return effect


@pytest.mark.parametrize("seeds", range(2, 11))
def test_the_interval_is_that_of_a_paired_t_test(seeds):
    random = np.random.default_rng(seeds)
    ours, theirs = random.uniform(0.4, 0.6, (2, seeds))
    effect = of_two(ours, theirs)
    expected = stats.ttest_rel(100 * ours, 100 * theirs).confidence_interval(0.95)
    assert effect.mean == pytest.approx(100 * (ours - theirs).mean())
    # The quantiles have four digits.
    half = (expected.high - expected.low) / 2
    np.testing.assert_allclose(effect.interval, expected, atol=5e-4 * half)


def test_more_seeds_than_the_table_has_give_an_interval_that_is_too_wide():
    ours, theirs = np.random.default_rng(0).uniform(0.4, 0.6, (2, 30))
    low, high = of_two(ours, theirs).interval
    expected = stats.ttest_rel(100 * ours, 100 * theirs).confidence_interval(0.95)
    assert low < expected.low < expected.high < high


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([0.50, 0.52, 0.51], [0.40, 0.41, 0.42], "holds"),
        ([0.40, 0.41, 0.42], [0.50, 0.52, 0.51], "does not hold"),
        ([0.50, 0.52, 0.51], [0.40, 0.52, 0.60], "not decided"),
        ([0.90], [0.10], "not decided"),
        ([0.50, 0.52], [0.50, 0.52], "not decided"),
    ],
)
def test_a_claim_holds_where_the_interval_is_above_zero(ours, theirs, verdict):
    effect = of_two(ours, theirs)
    assert effect.verdict == verdict
    assert (effect.interval is None) == (len(ours) == 1)


def test_each_seed_gives_the_mean_over_what_it_was_tried_with():
    [shortcuts, activation] = effects(
        [
            result([0.50, 0.60]),
            result([0.40, 0.52], activation="ste_sign"),
            result([0.30, 0.31], shortcuts="none"),
            result([0.33, 0.35], shortcuts="none", activation="ste_sign"),
        ]
    )
    assert (shortcuts.idea, shortcuts.other) == ("per_conv", "none")
    assert shortcuts.points == pytest.approx({0: (20 + 7) / 2, 1: (29 + 17) / 2})
    assert (shortcuts.contexts, shortcuts.pairs, shortcuts.positive) == (2, 4, 4)
    assert activation.points == pytest.approx({0: (10 - 3) / 2, 1: (8 - 4) / 2})
    assert activation.positive == 2


def test_a_seed_that_was_not_tried_with_everything_is_left_out():
    [shortcuts, *_] = effects(
        [
            result([0.50, 0.60, 0.7]),
            result([0.30, 0.31, 0.3], shortcuts="none"),
            result([0.40, 0.50, 0.5], weight_gradient="magnitude_aware"),
            result([0.30, 0.20], weight_gradient="magnitude_aware", shortcuts="none"),
        ]
    )
    assert shortcuts.points == pytest.approx({0: 15, 1: 29.5})
