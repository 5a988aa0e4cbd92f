"""Checks that several parts share."""

import pytest

from bireal_keras import _checks


@pytest.mark.parametrize("value", [1, 1.0, 0.5, 1e-9])
def test_a_share(value):
    assert _checks.is_share(value)
    _checks.check_share(part=value)


@pytest.mark.parametrize("value", [0, 0.0, -0.5, 1.01, 2, True, None, "1", float("nan")])
def test_no_share(value):
    assert not _checks.is_share(value)
    with pytest.raises(ValueError, match=r"`part` must be a number in \(0, 1\]\. Received: part="):
        _checks.check_share(whole=1, part=value)


def test_near():
    known = ("cifar10", "cifar10_staged", "mnist_5k")
    assert _checks.near("cifar11", known) == " Near: cifar10."
    assert _checks.near("mnist5k", iter(known)) == " Near: mnist_5k."
    assert _checks.near("photos", known) == ""
