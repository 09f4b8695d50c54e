"""Coverage of a model by claims: which nodes measurably matter, and which of these no supported claim names.

A node matters if some answer digit fails on more than :data:`MATTERS` of the questions when it alone is mean-ablated.
The questions are the coverage's own: as many of each cascade length, from a seed that no claim need share. A stream is
all that its step computes, so that a claim about a stream names no head and no MLP.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.intervals import exact_interval, shared_confidence
from harness.intervention_reader import DEFAULT_REFERENCE
from harness.nodes import all_nodes, reach
from harness.records import percent
from harness.selection import Sample, make_strata
from harness.workbench import Ablation, Workbench

MATTERS = 0.01  # of the questions
COVERAGE_N, COVERAGE_SEED = 1_000, 7_007


@dataclass(frozen=True)
class Coverage:
    """The nodes of one model that matter, in the order of computation, and those of them that are named."""

    fixture: str
    asked: int  # nodes that reach a digit
    matter: dict[str, str]  # node → the digit that fails most, and on how many questions
    named: frozenset[str]

    @property
    def share(self) -> float:
        """The fraction of the nodes that matter that is named; 1 where none matters."""
        return len(self.named) / len(self.matter) if self.matter else 1.0

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


def measure_coverage(name: str, fixtures: Path, named: Collection[str], bench: Workbench) -> Coverage:
    """Return which nodes of the fixture `name` matter, and which of those are among `named`.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing.
    """
    fixture = bench.fixture(name, fixtures)
    nodes = [node for node in all_nodes(fixture.shape) if node.kind != "resid" and reach([node], fixture.shape)]
    questions = Sample(COVERAGE_N, COVERAGE_SEED, make_strata(fixture.layout, stratify="cascade"))
    asked = [Ablation(name, fixtures, (node,), "mean", DEFAULT_REFERENCE, questions) for node in nodes]
    bench.plan(asked, details=False)
    comparisons = sum(len(reach([node], fixture.shape)) for node in nodes)
    matter = {}
    for node, ablation in zip(nodes, asked, strict=True):
        digits = [d for d in bench.measure(ablation, details=False).measurement.digits if d.asked]
        worst = max(digits, key=lambda digit: digit.wrong / digit.asked, default=None)
        if worst and exact_interval(worst.wrong, worst.asked, shared_confidence(comparisons))[0] > MATTERS:
            matter[str(node)] = f"{worst.digit} {worst.wrong}/{worst.asked}"
    return Coverage(name, len(nodes), matter, frozenset(named) & frozenset(matter))
