"""Node maps and coverage: every head and MLP of a model is mean-ablated alone.

The prompts have their own seed and are spread evenly over the task's strata, if it has any. They need not be those of
any claim. Coverage and the maps on the report page both use this sweep;
if both are asked for, one sweep serves both. Nodes that cannot reach an answer token are left out, because they cannot
change the answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.base.errors import HarnessError
from harness.base.intervals import exact_interval, shared_confidence
from harness.base.text import percent
from harness.judging.bench import Workbench
from harness.judging.measurement import TokenCount
from harness.judging.requests import Ablation
from harness.models.bridge import device_name
from harness.specs.fixtures.files import MODEL, FixtureRef
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Node, Shape, reach
from harness.specs.parsing import DEFAULT_REFERENCE
from harness.tasks.questions import Sample

MAP_N, MAP_SEED = 300, 7_007  # for maps; coverage uses more questions with the same seed


@dataclass(frozen=True)
class NodeMap:
    """How many questions each head and MLP of one model breaks when it alone is ablated, token by token."""

    fixture: str
    weights_sha256: str
    shape: Shape
    questions: str
    reference: str
    engine: str
    device: str
    seconds: float  # duration of the sweep
    counts: Mapping[Node, tuple[TokenCount, ...]]  # only nodes that reach a token, in order of computation

    @property
    def nodes(self) -> Iterator[Node]:
        """Every head and MLP in the order of computation, including those that reach no token."""
        return (node for node in all_nodes(self.shape) if node.kind != "resid")

    @property
    def comparisons(self) -> int:
        """The number of pairs of a node and a token that it reaches; their intervals share the confidence."""
        return sum(len(reach([node], self.shape)) for node in self.counts)

    def worst(self, node: Node) -> TokenCount | None:
        """Return the token that fails most when `node` is ablated; None if there is no such token."""
        asked = [token for token in self.counts.get(node, ()) if token.asked]
        return max(asked, key=lambda token: token.wrong / token.asked, default=None)


def map_nodes(ref: FixtureRef, bench: Workbench, n: int = MAP_N) -> NodeMap:
    """Return the map of the fixture: each head and MLP is ablated alone, on `n` questions.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: the measurement is invalid.
        HarnessError: a language model has too many nodes.
    """
    if (ref.directory / MODEL).exists():
        found, fix = "a language model by reference", "look with harness sweep --nodes"
        raise HarnessError.of("a small model, each of whose nodes can be cut", found, fix)
    start, fixture = time.perf_counter(), bench.fixture(ref)
    nodes = [node for node in all_nodes(fixture.shape) if node.kind != "resid" and reach([node], fixture.shape)]
    questions = Sample(n, MAP_SEED, fixture.task.spread())
    asked = [Ablation(ref, (node,), "mean", DEFAULT_REFERENCE, questions, details=False) for node in nodes]
    bench.gather(asked)
    counts = {node: bench.measure(ablation).measurement.tokens for node, ablation in zip(nodes, asked, strict=True)}
    return NodeMap(
        ref.name, fixture.weights_sha256, fixture.shape, str(questions), str(DEFAULT_REFERENCE),
        bench.engine_name(ref), device_name(fixture.device), time.perf_counter() - start, counts,
    )  # fmt: skip


MATTERS = 0.01  # a node matters if the whole interval of its failure rate is above this
COVERAGE_N = 1_000


@dataclass(frozen=True)
class Coverage:
    """The nodes of one model that matter, in the order of computation, and which of them supported claims need."""

    fixture: str
    asked: int  # nodes that reach a token
    matter: dict[str, str]  # node → the token that fails most, and its failures/questions
    named: frozenset[str]  # those that get credit from a supported claim, see `controls.py`
    alone: frozenset[str]  # those that get it from a claim of a single node

    @property
    def share(self) -> float:
        """The fraction of the nodes that matter which is named; 0 if no node matters, as nothing was shown."""
        return len(self.named) / len(self.matter) if self.matter else 0.0

    @property
    def share_alone(self) -> float:
        """The same fraction of nodes that a claim of a single node names."""
        return len(self.alone) / len(self.matter) if self.matter else 0.0

    @property
    def missing(self) -> dict[str, str]:
        """The nodes that matter but are not named, as in `matter`."""
        return {node: seen for node, seen in self.matter.items() if node not in self.named}

    def __str__(self) -> str:
        line = f"{self.fixture}: {len(self.named)} of the {len(self.matter)} nodes that matter are named by a"
        line += f" supported claim that needs them ({percent(self.share)})"
        return f"{line}, {len(self.alone)} by one of a single node ({percent(self.share_alone)})"

    def as_dict(self) -> dict[str, Any]:
        """Return the coverage as JSON values."""
        return {
            "asked": self.asked, "matter": self.matter, "named": sorted(self.named), "share": self.share,
            "missing": list(self.missing), "alone": sorted(self.alone), "share_alone": self.share_alone,
        }  # fmt: skip


def coverage_of(found: NodeMap, named: Collection[str], alone: Collection[str] = ()) -> Coverage:
    """Return which of the ablated nodes matter, and which of those are in `named`, and in `alone`."""
    confidence = shared_confidence(found.comparisons)
    matter = {}
    for node in found.counts:
        worst = found.worst(node)
        if worst and exact_interval(worst.wrong, worst.asked, confidence)[0] > MATTERS:
            matter[str(node)] = f"{worst.token} {worst.wrong}/{worst.asked}"
    mattering = frozenset(matter)
    return Coverage(found.fixture, len(found.counts), matter, mattering & set(named), mattering & set(alone))
