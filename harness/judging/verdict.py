"""Comparisons, the verdict that follows from them, and the result of a claim with weights, code, device and engine."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.base.errors import MeasurementError, Problem
from harness.base.intervals import n_to_settle
from harness.specs.claim import Claim

if TYPE_CHECKING:
    from pandas import DataFrame

    from harness.judging.across import RunsControls
    from harness.judging.controls import Controls

Verdict = Literal["supported", "refuted", "inconclusive", "by construction"]
Finding = Literal["holds", "contradicted", "undecided", "by construction", "not compared"]


@dataclass(frozen=True)
class Comparison:
    """One row of a result: what was expected of a digit, a loss, a sibling or a run, and what was seen."""

    what: str
    expected: str
    observed: str
    value: float  # a rate (fraction), a mean loss (nats per answer digit), or a mean share of attention
    low: float | None  # ends of the interval; None where there is none, as for a census
    high: float | None
    finding: Finding
    excluded: int = 0  # questions that do not count because the clean run gets the digit wrong
    sibling: bool = False  # True: the row is about other nodes, named by `what`
    asked: int | None = None  # for a rate: the number of questions, pairs or training runs
    threshold: float | None = None  # if undecided: the threshold inside the interval


def verdict_of(claim: Claim, rows: Iterable[Comparison]) -> Verdict:
    """Return the verdict that follows from the comparisons of a claim."""
    findings = {row.finding for row in rows}
    if "contradicted" in findings:
        return "refuted"
    if claim.true_by_construction:
        return "by construction"
    return "inconclusive" if "undecided" in findings else "supported"


def require_accuracy(claim: Claim, accuracy: float) -> None:
    """Check that the clean model answers enough of the questions with every digit right.

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
    """Return the finding for a value (or its whole interval): within the bounds, outside, or across a bound."""
    low, high = (value if low is None else low), (value if high is None else high)
    if (at_least is not None and high < at_least) or (at_most is not None and low > at_most):
        return "contradicted"
    inside = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
    return "holds" if inside else "undecided"


def straddled(finding: Finding, low: float | None, high: float | None, *bounds: float | None) -> float | None:
    """Return the first bound that lies inside the interval of an undecided comparison; None if it is decided."""
    if finding != "undecided" or low is None or high is None:
        return None
    return next((bound for bound in bounds if bound is not None and low <= bound <= high), None)


def settling_n(claim: Claim, rows: Iterable[Comparison], n: int) -> int | None:
    """Return about how many questions, instead of `n`, would settle a claim if the observed values stay the same.

    Returns None if no number is likely to settle it, or if nothing is undecided.
    """
    found = [
        n_to_settle(row.value, row.low, row.high, row.asked or n, row.threshold, claim.confidence, rate=bool(row.asked))
        for row in rows
        if row.threshold is not None and row.low is not None and row.high is not None
    ]
    return None if not found or None in found else max(filter(None, found))


def opposite(finding: Finding) -> Finding:
    """Return the finding for the opposite expectation."""
    swapped: dict[Finding, Finding] = {"holds": "contradicted", "contradicted": "holds"}
    return swapped.get(finding, finding)


Status = Literal["passed", "failed", "xfailed", "xpassed"]


class Measured(Protocol):
    """The measurement of any verb."""

    def as_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON values."""
        ...


@dataclass(frozen=True)
class Result:
    """The result of one claim."""

    hypothesis: Claim
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measurement: Measured
    weights: dict[str, str]  # fixture → sha256 of its weights
    code: dict[str, str]  # file of the user's own code → its sha256
    device: str
    engine: str
    seconds: float
    controls: Controls | RunsControls | None = None

    @property
    def status(self) -> Status:
        """The test status: passed if supported, or by construction as the spec says; `xfail`: xfailed/xpassed."""
        h = self.hypothesis
        if self.verdict == "by construction":
            return "passed" if h.by_construction and h.xfail is None else "failed"
        if h.xfail is not None:
            return "xpassed" if self.verdict == "supported" else "xfailed"
        return "passed" if self.verdict == "supported" else "failed"

    def to_frame(self) -> DataFrame:
        """Return one row per comparison: digit or loss, expected, observed, rate, interval, finding."""
        from pandas import DataFrame

        return DataFrame([vars(row) for row in self.comparisons])

    def _repr_html_(self) -> str:
        h = self.hypothesis
        title = f"{h.id}: {self.verdict}. {h.claim} ({h.target}, {h.how}, {h.questions})"
        return f"<p><b>{html.escape(title)}</b></p>{self.to_frame().to_html(index=False)}"
