"""Coverage of a model by claims: which nodes measurably matter, and which of these no supported claim names.

A node matters if some answer digit fails on more than :data:`MATTERS` of the questions of :mod:`harness.nodemap` when
it alone is mean-ablated. A stream is all that its step computes, so that a claim about a stream names no head and no
MLP.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from harness.intervals import exact_interval, shared_confidence
from harness.nodemap import NodeMap
from harness.records import percent

MATTERS = 0.01  # of the questions
COVERAGE_N = 1_000


@dataclass(frozen=True)
class Coverage:
    """The nodes of one model that matter, in the order of computation, and those of them that are named."""

    fixture: str
    asked: int  # nodes that reach a digit
    matter: dict[str, str]  # node → the digit that fails most, and on how many questions
    named: frozenset[str]

    @property
    def share(self) -> float:
        """The fraction of the nodes that matter that is named; 0 where none matters, as nothing was shown."""
        return len(self.named) / len(self.matter) if self.matter else 0.0

    @property
    def missing(self) -> dict[str, str]:
        """The nodes that matter and are not named."""
        return {node: seen for node, seen in self.matter.items() if node not in self.named}

    def __str__(self) -> str:
        line = f"{self.fixture}: {len(self.named)} of the {len(self.matter)} nodes that matter are named by a"
        return f"{line} supported claim ({percent(self.share)})"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "asked": self.asked, "matter": self.matter, "named": sorted(self.named), "share": self.share,
            "missing": list(self.missing),
        }  # fmt: skip


def coverage_of(found: NodeMap, named: Collection[str]) -> Coverage:
    """Return which of the nodes that were cut matter, and which of those are among `named`."""
    confidence = shared_confidence(found.comparisons)
    matter = {}
    for node in found.counts:
        worst = found.worst(node)
        if worst and exact_interval(worst.wrong, worst.asked, confidence)[0] > MATTERS:
            matter[str(node)] = f"{worst.digit} {worst.wrong}/{worst.asked}"
    return Coverage(found.fixture, len(found.counts), matter, frozenset(named) & frozenset(matter))
