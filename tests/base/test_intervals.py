"""Intervals against other ways of computing them; the least n by brute force."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy import stats

from harness.base.intervals import (
    CONFIDENCE,
    ERROR,
    betting_interval,
    error_at,
    exact_interval,
    least_n,
    least_n_of_betting,
    mean_interval_within,
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


def by_hand(values, confidence, highest, steps=2000):
    """Return the interval of the mean once more, by the formula and a scan over the means of a grid."""
    bets = {0.99: 1 / 2} | {1 / 2**power: 1 / 2 / 14 for power in range(1, 15)}

    def excluded(x, m):
        capital = sum(
            weight * math.prod(1 - bet * (one - m) / (1 - m) for one in x) for bet, weight in bets.items()
        )  # fmt: skip
        return capital >= 2 / (1 - confidence)

    def upper(x):
        return max(m for m in (i / steps for i in range(steps)) if not excluded(x, m))

    x = [value / highest for value in values]
    return highest * (1 - upper([1 - one for one in x])), highest * upper(x)


@pytest.mark.parametrize(
    ("values", "highest"),
    [
        ([0.0] * 12, 1), ([1.0] * 12, 1), ([0.5], 1), ([0.0, 1.0] * 10, 1), ([1e-6] * 30 + [2.5], 2.5),
        ([0.1 * i for i in range(20)], 2), ([2.0, 1.9, 0.3], 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_betting_interval_is_its_formula(values, highest, confidence):
    found, grid = betting_interval(values, confidence, highest), highest / 2000
    assert found == pytest.approx(by_hand(values, confidence, highest), abs=grid)
    assert 0 <= found[0] <= math.fsum(values) / len(values) <= found[1] <= highest


def test_the_betting_interval_does_not_depend_on_the_order_of_values():
    values = [random.Random(1).betavariate(0.3, 2) for _ in range(500)]
    shuffled = random.Random(2).sample(values, len(values))
    assert betting_interval(shuffled, 0.99, 1) == pytest.approx(betting_interval(values, 0.99, 1), abs=1e-11)
    assert betting_interval(sorted(values), 0.99, 1) == pytest.approx(betting_interval(values, 0.99, 1), abs=1e-11)


def students(values, confidence):
    """Return Student's t interval: what the betting interval is here for."""
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def false_verdicts(interval, common, rare, chance, n):
    """Return how often the mean of two values is shown to lie below itself, and above itself: exactly, over all counts."""
    mean, below, above = common + chance * (rare - common), 0.0, 0.0
    for k in range(int(stats.binom.ppf(1e-9, n, chance)), int(stats.binom.ppf(1 - 1e-9, n, chance)) + 1):
        low, high = interval([rare] * k + [common] * (n - k))
        below += stats.binom.pmf(k, n, chance) * (high < mean)
        above += stats.binom.pmf(k, n, chance) * (low > mean)
    return below, above


CAP = math.log(13)


@pytest.mark.parametrize(
    ("common", "rare", "chance", "n"),
    [
        (1e-6, CAP, 0.001, 1000),  # the losses of a model that is wrong on one question of a thousand
        (1e-6, CAP, 0.0078, 1000),  # a mean of 0.02
        (1e-6, 0.7, 0.03, 700), (0.0, CAP, 0.5, 60), (0.0, CAP, 0.98, 100), (0.3, 0.31, 0.5, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_a_mean_at_the_threshold_is_falsely_settled_no_oftener_than_promised(common, rare, chance, n, confidence):
    found = false_verdicts(lambda values: betting_interval(values, confidence, CAP), common, rare, chance, n)
    assert max(found) <= (1 - confidence) / 2


def test_with_students_interval_it_would_be_a_third_of_the_time():
    below, _ = false_verdicts(lambda values: students(values, 0.99), 1e-6, CAP, 0.001, 1000)
    assert below > 0.36


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [(0.05, 2), (0.5, 0.5), (5, 50)])
def test_the_betting_interval_covers_at_least_as_often_as_it_says(a, b):
    draw, repeats = random.Random(3), 400
    missed = 0
    for _ in range(repeats):
        low, high = betting_interval([CAP * draw.betavariate(a, b) for _ in range(150)], 0.95, CAP)
        missed += not low <= CAP * a / (a + b) <= high
    assert missed <= stats.binom.ppf(0.999, repeats, 0.05)


def test_the_betting_interval_is_narrower_than_bernsteins_and_less_than_twice_the_exact_one():
    for k in (0, 3, 500, 997):
        values = [1.0] * k + [0.0] * (1000 - k)
        ends = (betting_interval(values, 0.99, 1), exact_interval(k, 1000, 0.99), mean_interval_within(values, 0.99, 1))
        betting, exact, bernstein = (high - low for low, high in ends)
        assert exact < betting < 2 * exact
        assert betting < bernstein


@pytest.mark.parametrize("comparisons", [1, 7])
@pytest.mark.parametrize(
    ("at_least", "at_most"), [(None, 0.02), (None, 1.0), (0.02, None), (2.5, None), (1.0, 1.5), (0.02, 0.03)]
)
def test_the_least_n_of_a_mean_loss_is_the_least(comparisons, at_least, at_most):
    confidence = shared_confidence(comparisons)

    def settles(n):
        below = at_most is None or betting_interval([0.0] * n, confidence, CAP)[1] < at_most
        return below and (at_least is None or betting_interval([CAP] * n, confidence, CAP)[0] > at_least)

    needed = least_n_of_betting(comparisons, at_least, at_most, highest=CAP)
    assert settles(needed)
    assert needed == 1 or not settles(needed - 1)


@pytest.mark.parametrize(("at_least", "at_most"), [(CAP, None), (3.0, 3.1), (None, 0.0), (None, 1e-13)])
def test_some_means_no_sample_can_show(at_least, at_most):
    assert math.isinf(least_n_of_betting(1, at_least, at_most, highest=CAP))


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
