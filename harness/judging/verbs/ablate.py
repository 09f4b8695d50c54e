"""``ablate`` and ``keep``: compares the counts of each answer digit, and the loss, with the claim's expectation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.base.errors import MeasurementError, Problem
from harness.base.intervals import exact_interval, mean_interval
from harness.judging.measurement import DigitCount, Measurement
from harness.judging.verdict import (
    Comparison,
    Finding,
    Verdict,
    opposite,
    require_accuracy,
    straddled,
    verdict_of,
)
from harness.specs.verbs.ablate import Hypothesis
from harness.specs.verbs.keep import Keep

Counts = Sequence[DigitCount]


def decide(
    h: Hypothesis, m: Measurement, siblings: Mapping[str, Counts] | None = None
) -> tuple[Verdict, tuple[Comparison, ...]]:
    """Return the verdict on `h` and its comparisons; `siblings` are the siblings' counts for a claim with `only_here`.

    Raises:
        MeasurementError: the clean model is not accurate enough, a digit was never right in the clean run, or a
            digit that the nodes cannot reach has changed.
    """
    require_accuracy(h, m.clean_accuracy)
    beside = (compare_sibling(h, name, counts) for name, counts in (siblings or {}).items())
    rows = (*(_compare_digit(h, digit) for digit in m.digits), *_compare_loss(h, m), *beside)
    return verdict_of(h, rows), rows


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
    """Return the row of a sibling; it is contradicted if the sibling shows the same effect as the nodes of `h`.

    Same effect for `ablate`: all digits in `fails` fail. For `keep`: all digits stay right with one more node ablated.
    """
    keep, telling = isinstance(h, Keep), [count for count in counts if count.digit in h.telling]
    findings = {_found(h, count, not keep)[2] if count.asked else "undecided" for count in telling}
    too: Finding = "contradicted" if "contradicted" in findings else "undecided" if "undecided" in findings else "holds"
    # The row shows the digit that separates the sibling best from the claim's nodes.
    best = (max if keep else min)(telling, key=lambda count: count.wrong / max(count.asked, 1))
    low, high, _ = _found(h, best, not keep) if best.asked else (None, None, None)
    expected = "is needed" if keep else "does not do it too"
    rate = best.wrong / max(best.asked, 1)
    return Comparison(
        name, expected, f"{best.digit} {best.wrong}/{best.asked}", rate, low, high, opposite(too), sibling=True,
        asked=best.asked, threshold=straddled(too, low, high, _threshold(h, not keep)),
    )  # fmt: skip


def _found(h: Hypothesis, count: DigitCount, should_fail: bool) -> tuple[float | None, float | None, Finding]:
    """Return the interval of a digit's failure rate (None for a census) and the finding."""
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
    assert threshold is not None  # a sample always has both rates
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
        if not h.reach:  # the loss equals that of the clean run, so that decides the claim
            finding = "by construction" if (below if wanted_below else above) else "contradicted"
        elif above != below or low is None:
            finding = "holds" if (below if wanted_below else above) else "contradicted"
        word = "<" if wanted_below else ">"
        at = straddled(finding, low, high, bound)
        yield Comparison("loss", f"{word} {bound:g} nats", f"{m.loss:.3g}", m.loss, low, high, finding, threshold=at)
