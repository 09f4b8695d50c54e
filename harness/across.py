"""A claim that is asked of several training runs, and in how many of them it holds. Imports no torch.

Head numbers belong to one run, and so, perhaps, does everything else that is seen in one. A spec's ``fixtures`` asks
the same of each: a verdict on every run, by intervals that hold for all of them together, and with the share that the
spec expects, 7/8 say, a verdict on the claim. Those runs are a sample of the training runs that the recipe could have
given, from which the interval of the share comes; it is reported, and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

from harness.hypothesis import Claim, Verb
from harness.intervals import exact_interval
from harness.records import Record, seen
from harness.variants import write_nodes

Verdict = Literal["supported", "refuted", "inconclusive", "by construction"]
RUNS = "training runs"
# What a verdict is as the finding of one run among others.
VERDICT_SHOWS: dict[Verdict, Literal["holds", "contradicted", "undecided", "by construction"]] = {
    "supported": "holds", "refuted": "contradicted", "inconclusive": "undecided", "by construction": "by construction",
}  # fmt: skip


@dataclass(frozen=True)
class Absent:
    """A run of which the claim cannot be asked: a role that it names has no node there."""

    fixture: str
    why: str
    elsewhere: bool  # the role has nodes, but not where the claim has it


@dataclass(frozen=True, kw_only=True)
class AcrossRuns(Claim):
    """A claim about each of several fixtures."""

    verb: ClassVar[Verb] = "across"
    members: tuple[Claim, ...]  # the same of each fixture, at the nodes that it has
    absent: tuple[Absent, ...]
    group: tuple[str, ...]  # all of them, in order
    group_text: str  # as the spec writes it
    about: str  # the spec's words for the nodes
    at_least: Fraction

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence: those of each run share its part of it."""
        return 1

    @property
    def true_by_construction(self) -> bool:
        """Whether the shape settles it of every run."""
        return not self.absent and all(member.true_by_construction for member in self.members)

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that it is asked of."""
        return self.group

    @property
    def target(self) -> str:
        """What it is about, and in which runs."""
        return f"{self.about} of {self.group_text}"

    @property
    def how(self) -> str:
        """How each is looked at."""
        return self.members[0].how if self.members else ""

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A4 fails > 5%; others < 1%; in 7/8 of the runs``."""
        each = f"{self.members[0].expected}; " if self.members else ""
        return f"{each}in {'all' if self.at_least == 1 else f'{self.at_least} of the'} runs"


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


def run_rows(claim: AcrossRuns, by_run: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Return what is shown of each run, as the fields of a comparison: its nodes, what was seen, whether it holds."""
    absent = {row.fixture: row for row in claim.absent}
    members = {member.fixture: member for member in claim.members}
    rows = []
    for name in claim.group:
        if name in absent:
            finding = "contradicted" if absent[name].elsewhere else "undecided"
            rows.append({"what": name, "expected": "such nodes", "observed": absent[name].why, "value": 0.0,
                         "finding": finding})  # fmt: skip
            continue
        record = by_run[name]
        where = write_nodes(members[name].named) if "[" in claim.about else "holds"
        verdict, observed = record["verdict"], seen(record["verb"], record["comparisons"])
        rows.append({"what": name, "expected": where, "observed": observed, "value": float(verdict == "supported"),
                     "finding": VERDICT_SHOWS[verdict]})  # fmt: skip
    return rows
