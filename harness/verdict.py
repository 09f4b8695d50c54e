"""Counts and an expectation → a verdict, digit by digit, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import MeasurementError, Problem
from harness.hypothesis import Claim, Hypothesis, Keep
from harness.intervals import exact_interval, mean_interval, n_to_settle
from harness.measurement import DigitCount, Measurement

Verdict = Literal["supported", "refuted", "inconclusive", "by construction"]
Finding = Literal["holds", "contradicted", "undecided", "by construction", "not compared"]


@dataclass(frozen=True)
class Comparison:
    """One digit, or the loss: what was expected of it and what was seen."""

    what: str
    expected: str
    observed: str
    value: float  # a rate (fraction), a mean loss (nats per answer digit), or a mean share of attention
    low: float | None  # ends of the interval; None for a census, which has none
    high: float | None
    finding: Finding
    excluded: int = 0  # questions that do not count, because the clean run gets the digit wrong
    sibling: bool = False  # it is of other nodes, named by `what`
    asked: int | None = None  # of a rate: over how many questions, pairs or training runs
    threshold: float | None = None  # of an undecided one: what its interval straddles


Counts = Sequence[DigitCount]


def decide(
    h: Hypothesis, m: Measurement, siblings: Mapping[str, Counts] | None = None
) -> tuple[Verdict, tuple[Comparison, ...]]:
    """Return the verdict on `h`, and the comparisons behind it; `siblings` are counted where it is to be so only here.

    Raises:
        MeasurementError: the clean model is not accurate enough to be asked, a digit was never right, or a
            digit that the nodes cannot reach has changed.
    """
    require_accuracy(h, m.clean_accuracy)
    beside = (compare_sibling(h, name, counts) for name, counts in (siblings or {}).items())
    rows = (*(_compare_digit(h, digit) for digit in m.digits), *_compare_loss(h, m), *beside)
    return verdict_of(h, rows), rows


def verdict_of(claim: Claim, rows: Iterable[Comparison]) -> Verdict:
    """Return what the comparisons of a claim come to."""
    findings = {row.finding for row in rows}
    if "contradicted" in findings:
        return "refuted"
    if claim.true_by_construction:
        return "by construction"
    return "inconclusive" if "undecided" in findings else "supported"


def require_accuracy(claim: Claim, accuracy: float) -> None:
    """Refuse to judge a claim by a model that answers too few of its questions wholly right.

    Raises:
        MeasurementError: `accuracy`, a fraction of the questions, is below the claim's gate.
    """
    if accuracy < claim.gate:
        raise MeasurementError(
            Problem(
                f"a clean accuracy of at least {claim.gate:g} on these questions", f"{accuracy:.4f}",
                f"train {claim.fixture} further, or set `gate` if the claim is about a model that fails here",
                claim.path, claim.line, 1,
            )
        )  # fmt: skip


def within_bounds(
    value: float, low: float | None, high: float | None, at_least: float | None, at_most: float | None
) -> Finding:
    """Return whether a value, or all of its interval if it has one, lies within bounds, outside, or across one."""
    low, high = (value if low is None else low), (value if high is None else high)
    if (at_least is not None and high < at_least) or (at_most is not None and low > at_most):
        return "contradicted"
    inside = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
    return "holds" if inside else "undecided"


def straddled(finding: Finding, low: float | None, high: float | None, *bounds: float | None) -> float | None:
    """Return which of the bounds an undecided comparison's interval straddles; None if it is decided."""
    if finding != "undecided" or low is None or high is None:
        return None
    return next((bound for bound in bounds if bound is not None and low <= bound <= high), None)


def settling_n(claim: Claim, rows: Iterable[Comparison], n: int) -> int | None:
    """Return about how many questions, instead of `n`, would settle a claim, if what was seen stays what it is.

    None where no number is likely to, or nothing is undecided.
    """
    found = [
        n_to_settle(row.value, row.low, row.high, row.asked or n, row.threshold, claim.confidence, rate=bool(row.asked))
        for row in rows
        if row.threshold is not None and row.low is not None and row.high is not None
    ]
    return None if not found or None in found else max(filter(None, found))


def _compare_digit(h: Hypothesis, count: DigitCount) -> Comparison:
    should_fail = count.digit in h.expect.fails
    rate = count.wrong / count.asked if count.asked else 0.0
    low, high = None, None
    if count.digit not in h.reach:
        finding: Finding = "by construction"
        if count.wrong:
            raise MeasurementError(
                Problem(
                    f"{count.digit} untouched, which {h.target} cannot reach", f"{count.wrong} failures",
                    "this is a defect of the engine or of the model's masking; please report it", h.path, h.line, 1,
                )
            )  # fmt: skip
    elif count.digit in h.expect.may_fail:
        finding = "not compared"
    elif count.asked == 0:
        found = f"0 of {count.excluded} right"
        raise MeasurementError(
            Problem(f"questions whose clean run gets {count.digit} right", found, "ask others", h.path, h.line, 1)
        )
    else:
        low, high, finding = _found(h, count, should_fail)
    observed = f"{count.wrong}/{count.asked}"
    expected = _expectation(h, count.digit)
    at = straddled(finding, low, high, _threshold(h, should_fail))
    return Comparison(
        count.digit, expected, observed, rate, low, high, finding, count.excluded, asked=count.asked, threshold=at
    )


def compare_sibling(h: Hypothesis, name: str, counts: Counts) -> Comparison:
    """Return whether what `h` says of its nodes could be said of a sibling too, in which this row is contradicted.

    Of an ablation: all the digits in `fails` fail. Of `keep`: all the digits stay right, although one more is cut.
    """
    keep, telling = isinstance(h, Keep), [count for count in counts if count.digit in h.telling]
    findings = {_found(h, count, not keep)[2] if count.asked else "undecided" for count in telling}
    too: Finding = "contradicted" if "contradicted" in findings else "undecided" if "undecided" in findings else "holds"
    # The digit that tells it apart best stands for all.
    best = (max if keep else min)(telling, key=lambda count: count.wrong / max(count.asked, 1))
    low, high, _ = _found(h, best, not keep) if best.asked else (None, None, None)
    expected = "is needed" if keep else "does not do it too"
    rate = best.wrong / max(best.asked, 1)
    return Comparison(
        name, expected, f"{best.digit} {best.wrong}/{best.asked}", rate, low, high, opposite(too), sibling=True,
        asked=best.asked, threshold=straddled(too, low, high, _threshold(h, not keep)),
    )  # fmt: skip


def opposite(finding: Finding) -> Finding:
    """Return what a finding says of the opposite expectation."""
    swapped: dict[Finding, Finding] = {"holds": "contradicted", "contradicted": "holds"}
    return swapped.get(finding, finding)


def _found(h: Hypothesis, count: DigitCount, should_fail: bool) -> tuple[float | None, float | None, Finding]:
    """Return the interval of a digit's rate, if it has one, and what it says of the expectation."""
    if h.questions.census:
        return None, None, _census(should_fail, count.wrong, count.wrong / count.asked, h)
    low, high = exact_interval(count.wrong, count.asked, h.confidence)
    return low, high, _sample(should_fail, low, high, h)


def _census(should_fail: bool, wrong: int, rate: float, h: Hypothesis) -> Finding:
    if should_fail:
        threshold = h.expect.fail_rate
        holds = wrong > 0 if threshold is None else rate > threshold
    else:
        threshold = h.expect.intact_rate
        holds = wrong == 0 if threshold is None else rate < threshold
    return "holds" if holds else "contradicted"


def _sample(should_fail: bool, low: float, high: float, h: Hypothesis) -> Finding:
    threshold = _threshold(h, should_fail)
    assert threshold is not None  # a sample always has both
    above, below = low > threshold, high < threshold
    if above == below:
        return "undecided"
    return "holds" if above == should_fail else "contradicted"


def _threshold(h: Hypothesis, should_fail: bool) -> float | None:
    return h.expect.fail_rate if should_fail else h.expect.intact_rate


def _expectation(h: Hypothesis, digit: str) -> str:
    if digit in h.expect.may_fail:
        return "may fail"
    if digit in h.expect.fails:
        return "fails" if h.expect.fail_rate is None else f"fails > {100 * h.expect.fail_rate:g}%"
    return "never fails" if h.expect.intact_rate is None else f"fails < {100 * h.expect.intact_rate:g}%"


def _compare_loss(h: Hypothesis, m: Measurement) -> Iterator[Comparison]:
    """Compare the mean loss with its bounds; one interval serves both."""
    if not h.expect.says_loss:
        return
    low, high = None, None
    if h.reach and not h.questions.census:
        low, high = mean_interval(m.losses.tolist(), h.confidence)
    for bound, wanted_below in ((h.expect.loss_below, True), (h.expect.loss_above, False)):
        if bound is None:
            continue
        below = (m.loss if high is None else high) < bound
        above = (m.loss if low is None else low) > bound
        finding: Finding = "undecided"
        if not h.reach:  # the loss stays the clean run's, so the claim is as true as it is of that
            finding = "by construction" if (below if wanted_below else above) else "contradicted"
        elif above != below or low is None:
            finding = "holds" if (below if wanted_below else above) else "contradicted"
        word = "<" if wanted_below else ">"
        at = straddled(finding, low, high, bound)
        yield Comparison("loss", f"{word} {bound:g} nats", f"{m.loss:.3g}", m.loss, low, high, finding, threshold=at)
