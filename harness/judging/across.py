"""Verdict on a claim about several training runs: the result of each run, and the share of runs where it holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from harness.base.intervals import ERROR, exact_interval
from harness.judging.records import record_of
from harness.judging.verdict import Comparison, Controls, ControlsShown, Finding, Result, Verdict
from harness.specs.claim import RUNS, AcrossRuns, Claim
from harness.specs.fixtures.files import WEIGHTS, FixtureRef
from harness.specs.methods import METHODS
from harness.specs.siblings import write_nodes
from harness.specs.verbs.ablating import Hypothesis

# Maps the verdict on one run to the finding of that run's row.
VERDICT_SHOWS: dict[Verdict, Finding] = {
    "supported": "holds", "refuted": "contradicted", "inconclusive": "undecided", "by construction": "by construction",
    "vacuous": "undecided",
}  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """The result of each run."""

    by_run: Mapping[str, Result]

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {"by_run": {name: record_of(result) for name, result in self.by_run.items()}}


@dataclass(frozen=True)
class Share:
    """In how many runs a claim holds, and in how many it must hold."""

    holds: int
    open: int  # runs that are inconclusive or vacuous, or where a role was not found
    runs: int  # runs that count: all except those where the model's shape alone settles the claim
    needed: int  # runs where the claim must hold
    low: float  # ends of the exact interval of the share among training runs like these
    high: float

    @property
    def verdict(self) -> Verdict:
        """The verdict on the claim."""
        if not self.runs:
            return "by construction"
        if self.holds >= self.needed:
            return "supported"
        return "refuted" if self.holds + self.open < self.needed else "inconclusive"


def share_of(claim: AcrossRuns, verdicts: Mapping[str, str]) -> Share:
    """Return in how many runs a claim holds, given the verdict on each run where it was measured."""
    found = [*verdicts.values(), *("refuted" if row.elsewhere else "inconclusive" for row in claim.absent)]
    told = [verdict for verdict in found if verdict != "by construction"]
    holds = told.count("supported")
    low, high = exact_interval(holds, len(told), claim.confidence) if told else (0.0, 1.0)
    needed = math.ceil(claim.at_least * len(told))
    open_ = told.count("inconclusive") + told.count("vacuous")
    return Share(holds, open_, len(told), needed, low, high)


def to_confirm(claim: AcrossRuns, by_run: Mapping[str, Result]) -> tuple[Claim, ...]:
    """Return the claim on those runs whose refutation other draws of the reference are still to confirm.

    It is refuted by more runs than may be missing, so no more than these are confirmed. It stays open if too few are.
    It is falsely refuted only if one of the runs of which it is true is, and these are as many as are needed.
    """
    error = ERROR / math.ceil(claim.at_least * len(claim.group))
    share = share_of(claim, {name: result.verdict for name, result in by_run.items()})
    if share.verdict != "refuted":
        return ()
    by_one_draw = [member for member in claim.members if is_provisional(by_run[member.fixture])]
    by_one_draw.sort(key=lambda member: _size(member.ref))  # which of them is the same; draws of small models cost less
    confirmed = share.runs - share.holds - share.open - len(by_one_draw)
    missing = max(0, share.runs - share.needed + 1 - confirmed)
    return tuple(
        replace(member, drawing_errors=(member.drawing_errors[0], error))
        for member in by_one_draw[:missing]
        if isinstance(member, Hypothesis)
    )


def _size(ref: FixtureRef) -> int:
    """Return the bytes of a model's weights; 0 of a model by reference, whose weights are elsewhere."""
    weights = ref.directory / WEIGHTS
    return weights.stat().st_size if weights.exists() else 0


def is_provisional(result: Result) -> bool:
    """Return whether a run is refuted by one draw of the reference, while others may say otherwise."""
    claim = result.hypothesis
    drawn = isinstance(claim, Hypothesis) and claim.is_drawn and claim.drawing_errors[1] is None
    return drawn and result.verdict == "refuted"


def confirmed(first: Result, again: Result) -> Result:
    """Return the result of a run that was judged `again` by more draws, with the controls of the first time."""
    together = first.seconds + again.seconds
    return replace(again, controls=first.controls, credited=first.credited, seconds=together)


def compare_runs(claim: AcrossRuns, by_run: Mapping[str, Result], share: Share) -> tuple[Comparison, ...]:
    """Return one row for each run (its nodes, what was seen, whether the claim holds), then one row for all runs."""
    absent = {row.fixture: row for row in claim.absent}
    members = {member.fixture: member for member in claim.members}
    rows = []
    for name in claim.group:
        if name in absent:
            finding: Finding = "contradicted" if absent[name].elsewhere else "undecided"
            rows.append(Comparison(subject=name, kind="run", finding=finding, value=0.0, absent=absent[name].why))
            continue
        nodes = tuple(write_nodes(members[name].named).split(", ")) if "[" in claim.about else ()
        verdict = by_run[name].verdict
        rows.append(
            Comparison(
                subject=name,
                kind="run",
                finding=VERDICT_SHOWS[verdict],
                value=float(verdict == "supported"),
                nodes=nodes,
                one_draw=is_provisional(by_run[name]),
            )
        )
    return (*rows, runs_row(share))


def runs_row(share: Share) -> Comparison:
    """Return the comparison of all training runs together: in how many the claim holds."""
    return Comparison(
        subject=RUNS, kind="runs", at_least=share.needed / max(1, share.runs), finding=VERDICT_SHOWS[share.verdict],
        value=share.holds / max(1, share.runs), k=share.holds, n=share.runs, low=share.low, high=share.high,
    )  # fmt: skip


@dataclass(frozen=True)
class RunsControls:
    """The controls of all runs together."""

    by_run: Mapping[str, Controls]  # of every run where the claim was measured
    holds: frozenset[str]  # the runs where the claim holds
    at_least: Fraction

    @property
    def compared(self) -> tuple[Controls, ...]:
        """The controls of the runs where the claim holds and there are siblings, or nodes that can be spared."""
        holding = (row for name, row in self.by_run.items() if name in self.holds)
        return tuple(row for row in holding if row.siblings or row.spare)

    @property
    def specific(self) -> bool | None:
        """Whether the claim is specific in the needed share of the `compared` runs; None if that is undecided."""
        if not self.compared or self._specific_runs < self._needed <= self._specific_runs + self._open:
            return None
        return self._specific_runs >= self._needed

    @property
    def _variables(self) -> dict[str, int]:
        """In how many of the runs where the claim holds the pairs tell each other variable apart."""
        rows = [row for name, found in self.by_run.items() if name in self.holds for row in found.variables]
        return {row.subject: 0 for row in rows} | _tally(row for row in rows if row.finding == "holds")

    @property
    def _specific_runs(self) -> int:
        return sum(row.specific is True for row in self.compared)

    @property
    def _open(self) -> int:
        return sum(row.specific is None for row in self.compared)

    @property
    def _needed(self) -> int:
        return math.ceil(self.at_least * len(self.compared))

    def as_dict(self) -> dict[str, Any]:
        """Return a summary as JSON values; the full controls of each run are in the record of that run."""
        every = self.by_run.values()
        ranks = [row.rank for row in every if row.rank is not None]
        return {
            "runs": len(every), "put_back": min(row.put_back for row in every), "specific": self.specific,
            "compared": len(self.compared), "specific_runs": self._specific_runs, "open": self._open,
            "needed": self._needed,
            "held": len(self.holds), "ranked": len(ranks), "first": ranks.count(1),
            "same": _tally(row for found in self.compared for row in found.same),
            "methods": _tally_methods(every), "spare": _tally(row for found in self.compared for row in found.spare),
            "variables": self._variables,
        }  # fmt: skip


def _tally_methods(controls: Iterable[Controls]) -> dict[str, int]:
    """Return in how many runs each method supports the claim."""
    rows = [row.methods for row in controls if row.methods]
    return {method: sum(row[method] == "supported" for row in rows) for method in METHODS if rows}


def _tally(rows: Iterable[Comparison]) -> dict[str, int]:
    """Return how many of the rows are about each subject, such as a sibling; the most frequent first."""
    return dict(Counter(row.subject for row in rows).most_common())


def controls_of_runs(
    claim: AcrossRuns, found: Mapping[str, ControlsShown | None], verdicts: Mapping[str, Verdict]
) -> RunsControls | None:
    """Return the controls of all runs together, or None for a claim without an intervention."""
    by_run = {name: controls for name, controls in found.items() if isinstance(controls, Controls)}
    if not by_run:
        return None
    return RunsControls(by_run, frozenset(name for name in by_run if verdicts[name] == "supported"), claim.at_least)
