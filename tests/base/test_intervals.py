"""Intervals against other ways of computing them; the least n by brute force."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from harness.base.intervals import (
    CONFIDENCE,
    ERROR,
    error_at,
    exact_interval,
    least_n,
    mean_interval,
    n_to_settle,
    shared_confidence,
)
from harness.tasks.questions import AUTO_FIRST, AUTO_LOOKS


@pytest.mark.parametrize(("failures", "n"), [(0, 10), (10, 10), (3, 10), (0, 1000), (999, 1000), (17, 500)])
@pytest.mark.parametrize("confidence", [0.95, 0.99, 1 - 0.01 / 6])
def test_the_exact_interval_is_clopper_and_pearsons(failures, n, confidence):
    expected = stats.binomtest(failures, n).proportion_ci(confidence, method="exact")
    assert exact_interval(failures, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("rate", [0.003, 0.05, 0.5])
def test_the_exact_interval_covers_at_least_as_often_as_it_says(rate):
    n, confidence = 200, 0.95
    covered = sum(
        stats.binom.pmf(k, n, rate)
        for k in range(n + 1)
        if (interval := exact_interval(k, n, confidence))[0] <= rate <= interval[1]
    )
    assert covered >= confidence


def test_comparisons_share_the_confidence():
    assert shared_confidence(1) == CONFIDENCE
    assert 1 - shared_confidence(5) == pytest.approx((1 - CONFIDENCE) / 5)


@pytest.mark.parametrize("comparisons", [1, 5, 7])
@pytest.mark.parametrize(
    ("fail_rate", "intact_rate"), [(0.05, None), (0.9, None), (None, 0.01), (0.5, 0.01), (0.99, 0.2)]
)
def test_the_least_n_is_the_least(comparisons, fail_rate, intact_rate):
    def settles(n):
        confidence = shared_confidence(comparisons)
        fails = fail_rate is None or exact_interval(n, n, confidence)[0] > fail_rate
        return fails and (intact_rate is None or exact_interval(0, n, confidence)[1] < intact_rate)

    needed = least_n(comparisons, fail_rate=fail_rate, intact_rate=intact_rate)
    assert settles(needed)
    assert needed == 1 or not settles(needed - 1)


@pytest.mark.parametrize(("fail_rate", "intact_rate"), [(1.0, None), (None, 0.0), (1.0, 0.01)])
def test_some_rates_no_sample_can_show(fail_rate, intact_rate):
    assert math.isinf(least_n(3, fail_rate=fail_rate, intact_rate=intact_rate))


def test_nothing_to_compare_needs_no_questions():
    assert least_n(1, fail_rate=None, intact_rate=None) == least_n(1, fail_rate=0.0, intact_rate=1.0) == 1


def test_the_mean_interval_is_students():
    source = random.Random(1)
    values = [source.expovariate(1) for _ in range(50)]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.99)
    assert mean_interval(values, 0.99) == pytest.approx((expected.low, expected.high))


def test_one_value_has_no_interval():
    assert mean_interval([0.3], 0.99) == (-math.inf, math.inf)


def test_all_looks_together_may_err_no_more_than_one():
    assert sum(map(error_at, range(1000))) <= ERROR


@pytest.mark.parametrize("rate", [0.05, 0.45])
def test_looking_again_and_again_at_a_rate_on_the_threshold_seldom_settles_it(rate):
    """Whatever is decided there is wrong. Computed exactly, for looks that do not know of each other."""

    def outside(n, error):
        ks = range(n + 1)
        inside = [k for k in ks if (ends := exact_interval(k, n, 1 - error))[0] <= rate <= ends[1]]
        return 1 - (stats.binom.cdf(inside[-1], n, rate) - stats.binom.cdf(inside[0] - 1, n, rate))

    def ever(error_of):
        sizes = [(look, AUTO_FIRST * 2**look) for look in range(4)]
        return 1 - math.prod(1 - outside(n, error_of(look)) for look, n in sizes)

    assert AUTO_LOOKS > 4
    assert ever(error_at) <= ERROR < ever(lambda look: ERROR)


@pytest.mark.parametrize(("value", "threshold"), [(0.02, 0.05), (0.0, 0.001), (0.45, 0.42), (0.999, 0.99)])
def test_the_n_that_would_settle_a_rate_does_and_a_smaller_one_does_not(value, threshold):
    n, confidence = 100, shared_confidence(4)
    low, high = exact_interval(round(value * n), n, confidence)
    needed = n_to_settle(value, low, high, n, threshold, confidence, rate=True)

    def settles(size):
        below, above = exact_interval(round(value * size), size, confidence)
        return not below <= threshold <= above

    assert settles(needed)
    assert not settles(int(0.9 * needed))


def test_the_n_that_would_settle_a_mean_shrinks_its_interval_to_the_threshold():
    assert n_to_settle(1.0, 0.8, 1.2, 100, 1.1, 0.99, rate=False) == 400
    assert n_to_settle(1.0, 0.8, 1.2, 100, 0.95, 0.99, rate=False) == pytest.approx(1600, abs=1)


@pytest.mark.parametrize("rate", [True, False])
def test_what_is_at_the_threshold_no_number_settles(rate):
    assert n_to_settle(0.45, 0.4, 0.5, 1000, 0.45, 0.99, rate=rate) is None
    assert n_to_settle(0.45, 0.4, 0.5, 1000, 0.45001, 0.99, rate=rate) is None
