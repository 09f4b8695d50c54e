"""What came of each of several training runs, and in how many of them a claim holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from harness.across import AcrossRuns
from harness.controls import Controls
from harness.intervals import exact_interval
from harness.records import Record, seen
from harness.spec_model import METHODS
from harness.variants import write_nodes
from harness.verdict import Comparison, Finding, Verdict

RUNS = "training runs"
# What a verdict is as the finding of one run among others.
VERDICT_SHOWS: dict[Verdict, Finding] = {
    "supported": "holds", "refuted": "contradicted", "inconclusive": "undecided", "by construction": "by construction",
}  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """What came of each run."""

    by_run: dict[str, Record]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"by_run": self.by_run}


@dataclass(frozen=True)
class Share:
    """In how many runs a claim holds, of those that could tell."""

    holds: int
    open: int  # inconclusive, or with a role that was not found
    runs: int  # but those of which the model's shape alone settles it
    needed: int
    low: float  # the exact interval of the share of training runs like these
    high: float

    @property
    def verdict(self) -> Verdict:
        """What that makes of the claim."""
        if not self.runs:
            return "by construction"
        if self.holds >= self.needed:
            return "supported"
        return "refuted" if self.holds + self.open < self.needed else "inconclusive"


def share_of(claim: AcrossRuns, verdicts: Mapping[str, str]) -> Share:
    """Return in how many runs a claim holds, given the verdict on each that was asked."""
    found = [*verdicts.values(), *("refuted" if row.elsewhere else "inconclusive" for row in claim.absent)]
    told = [verdict for verdict in found if verdict != "by construction"]
    holds = told.count("supported")
    low, high = exact_interval(holds, len(told), claim.confidence) if told else (0.0, 1.0)
    needed = math.ceil(claim.at_least * len(told))
    return Share(holds, told.count("inconclusive"), len(told), needed, low, high)


def compare_runs(claim: AcrossRuns, by_run: Mapping[str, Record], share: Share) -> tuple[Comparison, ...]:
    """Return what is shown of each run: its nodes, what was seen, whether the claim holds; and of all together."""
    absent = {row.fixture: row for row in claim.absent}
    members = {member.fixture: member for member in claim.members}
    rows = []
    for name in claim.group:
        if name in absent:
            finding: Finding = "contradicted" if absent[name].elsewhere else "undecided"
            rows.append(Comparison(name, "nodes there", absent[name].why, 0.0, None, None, finding))
            continue
        verdict, observed = by_run[name]["verdict"], seen(by_run[name]["verb"], by_run[name]["comparisons"])
        where = write_nodes(members[name].named) if "[" in claim.about else "holds"
        held = float(verdict == "supported")
        rows.append(Comparison(name, where, observed, held, None, None, VERDICT_SHOWS[verdict]))
    together = Comparison(
        RUNS, f"at least {share.needed}", f"{share.holds}/{share.runs}", share.holds / max(1, share.runs), share.low,
        share.high, VERDICT_SHOWS[share.verdict], asked=share.runs,
    )  # fmt: skip
    return (*rows, together)


@dataclass(frozen=True)
class RunsControls:
    """What the controls of each run come to."""

    by_run: Mapping[str, Controls]  # of every run that was asked
    holds: frozenset[str]  # the runs that the claim holds of
    at_least: Fraction

    @property
    def compared(self) -> tuple[Controls, ...]:
        """Of the runs that the claim holds of, those in which there are siblings."""
        return tuple(row for name, row in self.by_run.items() if name in self.holds and row.siblings)

    @property
    def specific(self) -> bool | None:
        """Whether as large a share of these is specific as the claim needs of the runs; None where that is open."""
        if not self.compared or self._specific_runs < self._needed <= self._specific_runs + self._open:
            return None
        return self._specific_runs >= self._needed

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
        """Return it as JSON values; what each run's controls are in full stands with its run."""
        every = self.by_run.values()
        ranks = [row.rank for row in every if row.rank is not None]
        return {
            "runs": len(every), "put_back": min(row.put_back for row in every), "specific": self.specific,
            "compared": len(self.compared), "specific_runs": self._specific_runs, "open": self._open,
            "needed": self._needed,
            "ranked": len(ranks), "first": ranks.count(1), "same": _tally(self.compared),
            "methods": _tally_methods(every),
        }  # fmt: skip


def _tally_methods(controls: Iterable[Controls]) -> dict[str, int]:
    """Return in how many runs each method supports the claim."""
    rows = [row.methods for row in controls if row.methods]
    return {method: sum(row[method] == "supported" for row in rows) for method in METHODS if rows}


def _tally(controls: Iterable[Controls]) -> dict[str, int]:
    """Return in how many runs each sibling does it too, the most frequent first."""
    return dict(Counter(row.what for found in controls for row in found.same).most_common())


def controls_of_runs(
    claim: AcrossRuns, found: Mapping[str, Controls | RunsControls | None], verdicts: Mapping[str, Verdict]
) -> RunsControls | None:
    """Return what the controls of each run come to, or None of a claim that does not intervene."""
    by_run = {name: controls for name, controls in found.items() if isinstance(controls, Controls)}
    if not by_run:
        return None
    return RunsControls(by_run, frozenset(name for name in by_run if verdicts[name] == "supported"), claim.at_least)
