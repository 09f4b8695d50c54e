"""Comparisons, the verdict that follows from them, and the result of a claim with weights, code, device and engine."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.base.errors import HarnessError, MeasurementError, Problem
from harness.base.intervals import CONFIDENCE, exact_interval, n_to_settle
from harness.specs.claim import Claim, Move
from harness.tasks.questions import PairsError

if TYPE_CHECKING:
    from pandas import DataFrame

    from harness.judging.untested import Untested


Verdict = Literal["supported", "refuted", "inconclusive", "by construction", "vacuous"]
Finding = Literal["holds", "contradicted", "undecided", "by construction", "not compared"]
# What is counted or measured of a subject: how often an answer token fails under an ablation, changes or follows under
# an interchange, or is right; a difference of accuracies; a mean loss; a share of attention; runs in which losses fall
# in order; one training run, or all of them; of a metric, the share of prompts of which something is true, its median,
# its mean, or its mean as a share of the clean mean.
Kind = Literal[
    "fails", "changes", "follows", "right", "gain", "loss", "mass", "order", "run", "runs",
    "share", "median", "mean", "kept",
]  # fmt: skip
# What a claim expects of that: bounds, at least once, never, always, or nothing; nothing can come of it; and of a
# sibling that it is needed, or that the claim is not true of it too; of another variable that the pairs tell it apart.
Expects = Literal["bounds", "some", "none", "all", "free", "unreachable", "needed", "unlike", "apart"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of a result: what was expected of a subject and what was seen, as numbers. Reports make the words."""

    # An answer token, "whole", "jointly", "agreeing", "loss", "mass", a sibling's nodes, a variable, or a fixture.
    subject: str
    fixture: str = ""  # of which of several fixtures
    kind: Kind
    finding: Finding
    value: float  # a rate or a gain (fraction), a loss (nats per token), a share of attention; of a run, 1 if it holds
    k: int | None = None  # of a rate: how many
    n: int | None = None  # of a rate: of how many questions, pairs or training runs
    expects: Expects = "bounds"
    at_least: float | None = None  # the bounds, in the unit of `value`
    at_most: float | None = None
    low: float | None = None  # ends of the interval; None where there is none, as for a census
    high: float | None = None
    excluded: int = 0  # questions that do not count because the clean run gets the token wrong
    threshold: float | None = None  # if undecided: the threshold inside the interval
    cap: float | None = None  # of a sample's loss: what each prompt's counts as at most, nats per token
    token: str = ""  # of a sibling: the answer token that tells it from the claim's nodes
    groups: tuple[float, float] | None = None  # of a gain: the accuracy of each group of fixtures
    nodes: tuple[str, ...] = ()  # of a run: the nodes that the claim's roles have there
    absent: str = ""  # of a run or a sibling: why nothing was measured
    rival: int | None = None  # of another variable: of the `n` pairs, on how many the outcome is what it predicts
    draws: int = 1  # of a reference that is drawn: how many draws were asked; the other fields are of the first
    drawn_low: float | None = None  # the least and the largest `value` over several draws
    drawn_high: float | None = None
    one_draw: bool = False  # of a run: it is refuted by one draw, and enough other runs by all of theirs
    approximate: bool = False  # the interval is valid for many prompts only
    depends: bool = False  # it holds of one draw and is contradicted by another, so that it is undecided

    @property
    def sibling(self) -> bool:
        """Whether the row is about other nodes than the claim's."""
        return self.expects in ("needed", "unlike")


def row_of(row: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values; an infinite end of an interval is None."""
    ends = {end: None if (at := getattr(row, end)) is None or math.isinf(at) else at for end in ("low", "high")}
    return {**vars(row), **ends, "sibling": row.sibling}


def verdict_of(claim: Claim, rows: Iterable[Comparison], untested: Collection[Untested] = ()) -> Verdict:
    """Return the verdict that follows from the comparisons of a claim, and from why it may not have been tested.

    Where no value was moved, no verdict means anything. For other reasons only that it holds means nothing.
    """
    findings = {row.finding for row in rows}
    if any(reason.why == "unmoved" for reason in untested) and not claim.true_by_construction:
        return "vacuous"
    if "contradicted" in findings:
        return "refuted"
    if claim.true_by_construction:
        return "by construction"
    return "inconclusive" if "undecided" in findings else "vacuous" if untested else "supported"


@contextmanager
def placed_at(claim: Claim) -> Iterator[None]:
    """Give trouble with a claim's pairs, or its comparisons, the claim's line in its spec.

    Raises:
        MeasurementError: for a PairsError, or another that says no place; other errors pass as they are.
    """
    try:
        yield
    except (PairsError, MeasurementError) as error:
        if isinstance(error, MeasurementError) and any(problem.where for problem in error.problems):
            raise
        placed = [replace(problem, where=claim.path, line=claim.line, col=1) for problem in error.problems]
        raise MeasurementError(*placed) from None


def require_accuracy(claim: Claim, accuracy: float, n: int = 0, which: str = "") -> None:
    """Check that the clean model answers enough of the questions, by what the task calls success.

    Where success is to prefer a right answer, the rate is seldom near to 1: of a sample of `n` prompts, the lower end
    of its interval must be enough.

    Raises:
        MeasurementError: `accuracy`, a fraction of the questions, is below the claim's gate.
    """
    success, shown = claim.shape.task.success, f"{accuracy:.4f}"
    if success.kind == "prefers" and n and claim.questions is not None and not claim.questions.census:
        least = exact_interval(round(accuracy * n), n, CONFIDENCE)[0]
        accuracy, shown = least, f"{shown}, and {least:.4f} at the least"
    what = "a clean accuracy" if success.kind == "whole" else f"a clean rate of `{success.kind}`"
    if accuracy < claim.gate:
        raise MeasurementError(
            Problem(
                f"{what} of at least {claim.gate:g} on {which}these {claim.shape.task.nouns.prompts}",
                shown,
                ("" if claim.shape.asks else f"train {claim.fixture} further, or ")
                + "set `gate` if the claim is about a model that fails here",
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
        n_to_settle(row.value, row.low, row.high, row.n or n, row.threshold, claim.confidence, rate=bool(row.n))
        for row in rows
        if row.threshold is not None and row.low is not None and row.high is not None
    ]
    return None if not found or None in found else max(filter(None, found))


def opposite(finding: Finding) -> Finding:
    """Return the finding for the opposite expectation."""
    swapped: dict[Finding, Finding] = {"holds": "contradicted", "contradicted": "holds"}
    return swapped.get(finding, finding)


def unmeasured(subject: str, kind: Kind, expects: Expects, error: HarnessError) -> Comparison:
    """Return the row of a sibling that could not be measured."""
    why = str(error.problems[0])
    return Comparison(subject=subject, kind=kind, expects=expects, finding="undecided", value=0.0, absent=why)


@dataclass(frozen=True)
class Controls:
    """The results of the controls of one claim."""

    put_back: int  # questions on which every node got its own clean value, and nothing changed
    own: float | None  # the rank value of the claim's nodes: the lowest failure rate of its tokens, or a follow rate
    siblings: tuple[Comparison, ...]  # "contradicted": the sibling shows the same effect
    methods: dict[str, Verdict | Literal["error"]]  # "error": by that method it cannot be measured
    left_out: tuple[Comparison, ...] = ()  # the claim without each node in its turn; "contradicted": that one is spare
    not_tried: int = 0  # nodes that are too many for that
    variables: tuple[Comparison, ...] = ()  # of `patch`: other variables; "holds": the pairs tell them apart

    @property
    def rank(self) -> int | None:
        """The rank of the claim's nodes among all siblings, 1 is the strongest; None if there is nothing to rank."""
        return None if self.own is None else 1 + sum(row.value > self.own for row in self.siblings)

    @property
    def specific(self) -> bool | None:
        """Whether no sibling shows the same effect and no node is spare; None without siblings, or if one is open."""
        if self.same or self.spare:
            return False
        undecided = any(row.finding == "undecided" for row in (*self.siblings, *self.left_out))
        return True if self.siblings and not undecided and not self.not_tried else None

    @property
    def spare(self) -> tuple[Comparison, ...]:
        """The nodes of the claim without each of which, alone, it shows the same effect."""
        return tuple(row for row in self.left_out if row.finding == "contradicted")

    @property
    def same(self) -> tuple[Comparison, ...]:
        """The siblings that show the same effect; for `keep`, the nodes that can be spared."""
        return tuple(row for row in self.siblings if row.finding == "contradicted")

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {
            "put_back": self.put_back, "own": self.own, "rank": self.rank, "specific": self.specific,
            "siblings": [row_of(row) for row in self.siblings], "methods": self.methods,
            "left_out": [row_of(row) for row in self.left_out], "not_tried": self.not_tried,
            "variables": [row_of(row) for row in self.variables],
        }  # fmt: skip


Status = Literal["passed", "failed", "xfailed", "xpassed"]


class Measured(Protocol):
    """The measurement of any verb."""

    def as_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON values."""
        ...


class ControlsShown(Protocol):
    """What the controls of a claim showed, or those of each of several runs."""

    @property
    def specific(self) -> bool | None:
        """Whether the claim's nodes alone have the effect; None where that is open."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
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
    controls: ControlsShown | None = None
    credited: tuple[str, ...] | None = None  # the nodes that count for coverage; None if that was not asked
    untested: tuple[Untested, ...] = ()  # why nothing was tested, if so

    @property
    def status(self) -> Status:
        """The test status: passed if supported, or by construction as the spec says; `xfail`: xfailed/xpassed.

        A claim with `xfail` that shows something else than that expects has failed.
        """
        h = self.hypothesis
        if self.verdict == "by construction":
            return "passed" if h.by_construction and h.xfail is None else "failed"
        if h.xfail is not None:
            return "xpassed" if self.verdict == "supported" else "failed" if self.moves else "xfailed"
        return "passed" if self.verdict == "supported" else "failed"

    @property
    def moves(self) -> tuple[Move, ...]:
        """What is not as `xfail` expects: another verdict, or a value outside of its range; empty without `xfail`."""
        known = self.hypothesis.xfail
        if known is None or self.verdict == "supported":
            return ()
        measured = (row for row in self.comparisons if not row.absent and row.n != 0)
        return known.moves(self.verdict, {f"{row.fixture} {row.subject}".strip(): row.value for row in measured})

    def to_frame(self) -> DataFrame:
        """Return one row per comparison, its fields as columns."""
        from pandas import DataFrame

        return DataFrame([vars(row) for row in self.comparisons])

    def _repr_html_(self) -> str:
        h = self.hypothesis
        title = f"{h.id}: {self.verdict}. {h.claim} ({h.target}, {h.how}, {h.questions})"
        return f"<p><b>{html.escape(title)}</b></p>{self.to_frame().to_html(index=False)}"
