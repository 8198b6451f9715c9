"""Intervals against scipy's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from clippy_core.evaluation.metrics import wilson_interval


@given(st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_is_scipy_s(counts):
    right, total = counts
    want = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, total, z=norm.ppf(0.975)) == pytest.approx((want.low, want.high), abs=1e-9)
    assert wilson_interval(right, total) == pytest.approx((want.low, want.high), abs=2e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_z_decides_how_sure(confidence):
    want = binomtest(47, 100).proportion_ci(confidence, method="wilson")
    assert wilson_interval(47, 100, z=norm.ppf((1 + confidence) / 2)) == pytest.approx((want.low, want.high))


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (0, 374), (374, 374), (1, 10**9)])
def test_the_interval_lies_in_0_to_1_and_holds_the_share(right, total):
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high + 1e-12
    assert high <= 1
    assert low < high


@pytest.mark.parametrize(("right", "total"), [(0, 0), (1, 0), (-1, 5), (6, 5), (0, -3)])
def test_what_is_no_proportion_is_an_error(right, total):
    with pytest.raises(ValueError, match=f"{right} of {total} is not a proportion"):
        wilson_interval(right, total)


def test_a_known_value():
    # Half of 4 points: the centre is 0.5 and the half width z·sqrt(1/16 + z²/64) / (1 + z²/4).
    z = 1.96
    half = z * math.sqrt(1 / 16 + z * z / 64) / (1 + z * z / 4)
    assert wilson_interval(2, 4) == pytest.approx((0.5 - half, 0.5 + half))
