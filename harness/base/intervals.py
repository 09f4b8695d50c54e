"""Confidence intervals, and the least n that could settle a claim. Imports scipy only when it is needed.

All intervals of one hypothesis hold together with 99% confidence: each of its `m` comparisons gets
``1 - 0.01 / m`` (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

CONFIDENCE = 0.99
ERROR = 0.01  # 1 - CONFIDENCE: the chance that one of a claim's intervals fails
MOST_N = 10_000_000  # the search for an n that settles a claim stops here
# The bets of `betting_interval`: one with half the weight for values without spread, the others for more and more.
BETS = (0.99, *(0.5**power for power in range(1, 15)))
_LOG_WEIGHTS = (math.log(0.5), *([math.log(0.5 / 14)] * 14))
_HALVINGS = 40  # so its ends are too far out by less than 1e-12 of the range


def shared_confidence(comparisons: int, error: float = ERROR) -> float:
    """Return the confidence of each of several intervals, so that the chance that any of them fails is `error`."""
    return 1 - error / max(comparisons, 1)


def draws_for(error: float = ERROR) -> int:
    """Return how many draws of a reference must all say the same, its own among them, for this chance of `error`.

    A claim that is false of the median draw is false of any draw with a chance of at least a half: `n` draws are all
    of the other kind with a chance of at most ``2 ** -n``, which may be half of the error. The other half is that of
    the prompts' intervals.
    """
    return max(1, math.ceil(math.log2(2 / error)))


def error_at(look: int, error: float = ERROR) -> float:
    """Return the part of `error` that look number `look` (from 0) at a growing sample may use.

    The parts are a half, a quarter, and so on. So their sum stays below `error` for any number of looks (union bound).
    """
    return error * 0.5 ** (look + 1)


def exact_interval(failures: int, n: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided exact (Clopper-Pearson 1934) interval of a failure rate, as fractions.

    For a stratified sample, the rate is that of the equal mixture of the strata. The interval is still valid
    away from the observed rate: unequal strata only make the count vary less (Hoeffding 1956).
    """
    from scipy.special import betaincinv  # scipy.stats has this interval too, but takes a second to import

    tail = (1 - confidence) / 2
    low = float(betaincinv(failures, n - failures + 1, tail)) if failures else 0.0
    high = float(betaincinv(failures + 1, n - failures, 1 - tail)) if failures < n else 1.0
    return low, high


def betting_interval(values: Sequence[float], confidence: float, highest: float) -> tuple[float, float]:
    """Return an interval of the mean of `values` that lie in 0 to `highest`, in their unit; it is valid for any n.

    Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting" (JRSS B). With
    values x in 0 to 1, the upper end is the largest m at which this capital is below 2 / (1 - confidence)::

        K(m) = sum over bets f of weight(f) * product over i of (1 - f * (x_i - m) / (1 - m))

    No factor is negative, and the mean of each is 1 if m is the mean. So K(m) exceeds 2 / (1 - confidence) with a
    chance of at most half the error (Markov). K rises with m. The bets are fixed (:data:`BETS`): the order of values
    does not matter. The lower end is that of 1 - x.
    """
    import numpy as np

    x = np.clip(np.asarray(values, dtype=np.float64) / highest, 0, 1)

    def upper_end(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        def log_products(m: float) -> list[float]:
            gains = (m - x) / (1 - m)
            return [float(np.log1p(bet * gains).sum()) for bet in BETS]

        return _largest_mean(log_products, confidence)

    return highest * (1 - upper_end(1 - x)), highest * upper_end(x)


def _largest_mean(log_products: Callable[[float], Sequence[float]], confidence: float) -> float:
    """Return the largest m of 0 to 1 at which the capital is too small to exclude it, or a little more.

    `log_products` maps m to the log of each bet's product.
    """
    limit = math.log(2 / (1 - confidence))

    def excluded(m: float) -> bool:
        logs = [weight + log for weight, log in zip(_LOG_WEIGHTS, log_products(m), strict=True)]
        most = max(logs)
        return most + math.log(math.fsum(math.exp(log - most) for log in logs)) >= limit

    inside, outside = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return the two-sided interval of the median by order statistics (Thompson 1936); it is valid for any n.

    With fewer values than :func:`least_n_of_median` says it is the whole line.
    """
    from scipy.stats import binom

    ordered, n, tail = sorted(values), len(values), (1 - confidence) / 2
    below = int(binom.ppf(tail, n, 0.5))  # the largest count whose chance of fewer is at most the tail
    while below > 0 and float(binom.cdf(below - 1, n, 0.5)) > tail:
        below -= 1
    if below == 0:
        return -math.inf, math.inf
    return ordered[below - 1], ordered[n - below]


def least_n_of_median(comparisons: int, error: float = ERROR) -> int:
    """Return with how many values the interval of a median has ends."""
    return math.ceil(math.log2(2 * max(comparisons, 1) / error))


def normal_interval(mean: float, error: float, confidence: float) -> tuple[float, float]:
    """Return the interval ``mean ± z · error`` of the normal distribution; it is approximate at every n."""
    from scipy.special import ndtri

    half = float(ndtri((1 + confidence) / 2)) * error
    return mean - half, mean + half


def mean_interval_within(values: Sequence[float], confidence: float, width: float) -> tuple[float, float]:
    """Return an interval of the mean of `values` that lie in a range of this `width`; it is valid for any n.

    The empirical Bernstein bound (Maurer and Pontil 2009, theorem 4), two-sided. Unlike Student's t it
    needs no normality, and it still has a width if all values are equal.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return -math.inf, math.inf
    log = math.log(4 / (1 - confidence))
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = math.sqrt(2 * variance * log / n) + 7 * width * log / (3 * (n - 1))
    return mean - half, mean + half


def least_n_of_mean(
    comparisons: int,
    at_least: float | None,
    at_most: float | None,
    *,
    lowest: float,
    highest: float,
    error: float = ERROR,
) -> float:
    """Return the least n that settles the bounds of a mean in the best case; infinity if none does.

    In the best case all values are equal and lie at the far end of their range, `lowest` to `highest`. The interval
    is that of :func:`mean_interval_within`.
    """
    log = math.log(4 / (1 - shared_confidence(comparisons, error)))
    rooms = [highest - at_least] if at_least is not None else []
    rooms += [at_most - lowest] if at_most is not None else []
    if any(room <= 0 for room in rooms):
        return math.inf
    return max([2, *(math.ceil(1 + 7 * (highest - lowest) * log / (3 * room)) for room in rooms)])


def least_n_of_betting(
    comparisons: int, at_least: float | None, at_most: float | None, *, highest: float, error: float = ERROR
) -> float:
    """Return the least n that settles the bounds of a mean of values in 0 to `highest`; infinity if none does.

    In the best case all values are 0, or for `at_least` all are `highest`. The interval is that of
    :func:`betting_interval`.
    """
    confidence = shared_confidence(comparisons, error)
    rooms = [at_most / highest] if at_most is not None else []
    rooms += [1 - at_least / highest] if at_least is not None else []  # the same from the other end
    if any(room <= 2 * 0.5**_HALVINGS for room in rooms):
        return math.inf

    def settles(n: int, room: float) -> bool:
        return _largest_mean(lambda m: [n * math.log1p(bet * m / (1 - m)) for bet in BETS], confidence) < room

    found = 1
    for room in rooms:
        fails = found - 1
        while not settles(found, room):
            fails, found = found, 2 * found
        while found - fails > 1:
            middle = (fails + found) // 2
            fails, found = (fails, middle) if settles(middle, room) else (middle, found)
    return found


def n_to_settle(
    value: float, low: float, high: float, n: int, threshold: float, confidence: float, *, rate: bool
) -> int | None:
    """Return about how large a sample puts `threshold` outside the interval, if the observed value stays the same.

    For a rate, the exact interval is computed. The width of any other interval shrinks as one over the root of n.
    None: the value equals the threshold, or n would be more than :data:`MOST_N`.
    """
    if value == threshold:
        return None
    if not rate:
        end = high if threshold > value else low
        needed = n * ((end - value) / (threshold - value)) ** 2
        return math.ceil(needed) if needed <= MOST_N else None

    def settles(size: int) -> bool:
        below, above = exact_interval(round(value * size), size, confidence)
        return not below <= threshold <= above

    first, last = n, 2 * n
    while not settles(last):
        first, last = last, 2 * last
        if first > MOST_N:
            return None
    while last - first > max(1, first // 50):  # to within 2%: it is only an estimate
        middle = (first + last) // 2
        first, last = (first, middle) if settles(middle) else (middle, last)
    return last


def least_n(comparisons: int, *, fail_rate: float | None, intact_rate: float | None, error: float = ERROR) -> float:
    """Return the least n with which the most extreme counts settle every comparison; infinity if none does.

    With confidence c, n failures of n put a rate above ``((1-c)/2)**(1/n)``, and no failure of n puts it below
    ``1 - ((1-c)/2)**(1/n)``: the ends of the exact interval, in closed form. A rate of None is not compared.
    """
    tail = math.log((1 - shared_confidence(comparisons, error)) / 2)
    # n must exceed each bound. A rate that needs no evidence adds 0; a rate that no evidence can show adds infinity.
    bounds = [0.0]
    if fail_rate is not None and fail_rate > 0:
        bounds.append(tail / math.log(fail_rate) if fail_rate < 1 else math.inf)
    if intact_rate is not None and intact_rate < 1:
        bounds.append(tail / math.log1p(-intact_rate) if intact_rate > 0 else math.inf)
    return math.floor(max(bounds)) + 1 if max(bounds) < math.inf else math.inf
