"""``harness minimal``: how small a part of a model carries the whole answer? A greedy search for a claim with ``keep``.

Nodes are cut one after the other, those first whose cut alone matters least, and stay cut as long as every digit stays
right on all but a few of the questions; until a whole round cuts nothing more. What is left is minimal for this search
only, and what it was found on is no test of it: the claim asks other questions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.addition import answers
from harness.intervention_reader import DEFAULT_REFERENCE
from harness.nodes import Node, all_nodes, reach
from harness.selection import Sample
from harness.spec_model import DEFAULT_GATE, Method
from harness.variants import write_nodes
from harness.workbench import Ablation, Workbench, intervention_maker

Part = Literal["heads", "mlps"]
KINDS = {"heads": "head", "mlps": "mlp"}
MOST_WRONG = 0.004  # of the questions, at any digit
ASKED_N, ASKED_SEED, ASKED_RATE = 500, 31, 0.03  # what the claim asks; other questions than those searched with


@dataclass(frozen=True)
class Minimal:
    """What a search found: the nodes that are left, of those that reach a digit."""

    fixture: str
    part: Part
    kept: tuple[Node, ...]
    live: int
    accuracy: float  # clean, of the questions that it was searched on
    searched_on: str
    spread_key: str  # of the questions that the claim asks

    def claim(self) -> str:
        """Return the claim that these nodes suffice, as an entry of a spec."""
        size, nodes = len(self.kept), textwrap.fill(write_nodes(self.kept), 96).replace("\n", "\n        ")
        return (
            f"  - id: {size}-{self.part}-suffice\n"
            f"    claim: {size} of the {self.live} {self.part} that anything reads carry the whole answer.\n"
            f"    source: here (harness minimal, {self.searched_on})\n"
            f"    keep:\n      {self.part}: [{nodes}]\n"
            f"    questions: {{n: {ASKED_N}, seed: {ASKED_SEED}{self.spread_key}}}\n"
            f"    expect: {{intact_rate: {ASKED_RATE}}}\n"
            + (f"    gate: {0.9 * self.accuracy:.1f}\n" if self.accuracy < DEFAULT_GATE else "")
        )


def find_minimal(
    name: str, fixtures: Path, part: Part, bench: Workbench, *, n: int = 400, seed: int = 77, method: Method = "mean"
) -> Minimal:
    """Return which heads, or MLPs, of the fixture `name` suffice when all its others are cut at once.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing.
    """
    fixture = bench.fixture(name, fixtures)
    questions = Sample(n, seed, fixture.task.spread())
    tokens = bench.tokens(name, fixtures, questions)
    every = [node for node in all_nodes(fixture.shape) if node.kind == KINDS[part]]
    live = [node for node in every if reach([node], fixture.shape)]
    make = intervention_maker(
        Ablation(name, fixtures, tuple(every), method, DEFAULT_REFERENCE, questions), bench, tokens
    )
    truth = answers(tokens, fixture.layout)
    right = bench.clean(name, fixtures, questions).predicted == truth

    def worst(node_sets: Sequence[Sequence[Node]]) -> list[float]:
        """Return, of each set that is cut, how often the digit fails that fails most."""
        outcomes = bench.run(name, fixtures, tokens, [make(nodes) for nodes in node_sets])
        return [float(((found.check(name).predicted != truth) & right).double().mean(0).max()) for found in outcomes]

    alone = dict(zip(live, worst([[node] for node in live]), strict=True))
    cut = [node for node in every if node not in alone]
    left = sorted(live, key=lambda node: (alone[node], node))
    while True:
        before = len(left)
        for node in list(left):
            if worst([[*cut, node]])[0] <= MOST_WRONG:
                cut.append(node)
                left.remove(node)
        if len(left) == before:
            accuracy = float(right.all(1).double().mean())
            return Minimal(
                name, part, tuple(sorted(left)), len(live), accuracy, f"{n} questions of seed {seed}",
                fixture.task.spread_key,
            )  # fmt: skip
