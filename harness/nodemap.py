"""What each single node of a model does: every head and MLP mean-ablated alone, on questions that no claim need share.

The questions are as many of each cascade length, from a seed of their own. Coverage and the report page's maps are
both made of it, of one sweep where both are asked for. Nodes that can reach no answer digit are not asked: nothing
could come of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.intervention_reader import DEFAULT_REFERENCE
from harness.measurement import DigitCount
from harness.models import device_name
from harness.nodes import Node, Shape, all_nodes, reach
from harness.selection import Sample
from harness.workbench import Ablation, Workbench

MAP_N, MAP_SEED = 300, 7_007  # a map's own; coverage asks more of the same seed


@dataclass(frozen=True)
class NodeMap:
    """Of one model, how many questions each head and MLP breaks when it alone is cut, digit by digit."""

    fixture: str
    weights_sha256: str
    shape: Shape
    questions: str
    reference: str
    engine: str
    device: str
    seconds: float  # that the sweep took
    counts: Mapping[Node, tuple[DigitCount, ...]]  # of the nodes that reach a digit, in the order of computation

    @property
    def nodes(self) -> Iterator[Node]:
        """Every head and MLP, those that reach no digit included, in the order of computation."""
        return (node for node in all_nodes(self.shape) if node.kind != "resid")

    @property
    def comparisons(self) -> int:
        """How many digits the nodes could have broken, over all of them: what shares the confidence."""
        return sum(len(reach([node], self.shape)) for node in self.counts)

    def worst(self, node: Node) -> DigitCount | None:
        """Return the digit that fails most when `node` is cut; None of one that reaches none."""
        asked = [digit for digit in self.counts.get(node, ()) if digit.asked]
        return max(asked, key=lambda digit: digit.wrong / digit.asked, default=None)


def map_nodes(name: str, fixtures: Path, bench: Workbench, n: int = MAP_N) -> NodeMap:
    """Return what becomes of `n` answers of the fixture `name` when each of its heads and MLPs is cut alone.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing.
    """
    start, fixture = time.perf_counter(), bench.fixture(name, fixtures)
    nodes = [node for node in all_nodes(fixture.shape) if node.kind != "resid" and reach([node], fixture.shape)]
    questions = Sample(n, MAP_SEED, fixture.task.spread())
    asked = [Ablation(name, fixtures, (node,), "mean", DEFAULT_REFERENCE, questions) for node in nodes]
    bench.plan(asked, details=False)
    counts = {
        node: bench.measure(ablation, details=False).measurement.digits
        for node, ablation in zip(nodes, asked, strict=True)
    }
    return NodeMap(
        name, fixture.weights_sha256, fixture.shape, str(questions), str(DEFAULT_REFERENCE),
        bench.engine_name(name, fixtures), device_name(fixture.device), time.perf_counter() - start, counts,
    )  # fmt: skip
