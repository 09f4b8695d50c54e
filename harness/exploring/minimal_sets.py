"""``harness minimal``: a greedy search for a small set of nodes that carries the whole answer, for a ``keep`` claim.

The search ablates nodes one after the other, in the order of their effect alone, smallest first. A node stays ablated
if every token still stays right on all but a few questions. The search ends when a whole round ablates no further node.
Each set is tried with several draws of the reference. The remaining set is minimal for this search only. The questions
of the search do not test it: the claim asks others, with draws of its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.base.errors import MeasurementError, Problem
from harness.base.seeds import seed_for
from harness.judging.bench import Workbench
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.specs.fixtures.files import FixtureRef
from harness.specs.keys import DEFAULT_GATE, REFERENCE_N
from harness.specs.methods import Method
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Node, reach
from harness.specs.siblings import write_nodes
from harness.tasks.questions import Sample

Part = Literal["heads", "mlps"]
KINDS = {"heads": "head", "mlps": "mlp"}
DRAWS = 3  # of the reference: a claim must hold of several, so a node stays ablated only if it may in all of these
MOST_WRONG = 0.004  # largest share of the questions that may fail at any token
ASKED_N, ASKED_SEED, ASKED_RATE = 1_000, 31, 0.03  # of the claim; its prompts are not those of the search


@dataclass(frozen=True)
class MinimalSet:
    """The result of a search: the nodes that remain, out of those that reach an answer token."""

    fixture: str
    part: Part
    kept: tuple[Node, ...]
    live: int  # nodes that reach an answer token
    accuracy: float  # of the clean run, on the questions of the search
    searched_on: str
    seed: int  # of the prompts of the search
    method: Method
    spread_key: str  # for the prompts of the claim

    def claim(self) -> str:
        """Return the claim that the kept nodes suffice, as an entry of a spec."""
        seed = ASKED_SEED + (self.seed == ASKED_SEED)
        size, nodes = len(self.kept), textwrap.fill(write_nodes(self.kept), 96).replace("\n", "\n        ")
        return (
            f"  - id: {size}-{self.part}-suffice\n"
            f"    claim: {size} of the {self.live} {self.part} that anything reads carry the whole answer.\n"
            f"    source: here (harness minimal, {self.searched_on})\n"
            f"    keep:\n      {self.part}: [{nodes}]\n"
            + ("" if self.method == "mean" else f"    method: {self.method}\n")
            + f"    questions: {{n: {ASKED_N}, seed: {seed}{self.spread_key}}}\n"
            f"    expect: {{intact_rate: {ASKED_RATE}}}\n"
            + (f"    gate: {0.9 * self.accuracy:.1f}\n" if self.accuracy < DEFAULT_GATE else "")
        )


def find_minimal(
    ref: FixtureRef, part: Part, bench: Workbench, *, n: int = 400, seed: int = 77, method: Method = "mean"
) -> MinimalSet:
    """Return heads (or MLPs) of a fixture that suffice when all its other ones are ablated together.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: the measurement is invalid.
    """
    fixture = bench.fixture(ref)
    if not fixture.task.names:
        expected = f"a task whose {fixture.task.nouns.prompts} are all as long, for all other nodes are cut"
        raise MeasurementError(Problem(expected, fixture.task.title, "look with harness sweep, and claim with ablate"))
    questions = Sample(n, seed, fixture.task.spread())
    prompts = bench.prompts(ref, questions)
    every = [node for node in all_nodes(fixture.shape) if node.kind == KINDS[part]]
    live = [node for node in every if reach([node], fixture.shape)]
    drawn = [Sample(REFERENCE_N, seed_for("reference of a search", draw)) for draw in range(DRAWS)]
    makers = [replacement(Ablation(ref, tuple(every), method, draw, questions), bench, prompts) for draw in drawn]
    right = prompts.right.contains(bench.clean(ref, questions).predicted)

    def worst(node_sets: Sequence[Sequence[Node]]) -> list[float]:
        """Return for each ablated set the failure rate of the token that fails most, by the worst of the draws."""
        outcomes = bench.run(ref, prompts, [make(nodes) for nodes in node_sets for make in makers])
        rates = [
            float((~prompts.right.contains(found.check(ref.name).predicted) & right).double().mean(0).max())
            for found in outcomes
        ]
        return [max(rates[i : i + DRAWS]) for i in range(0, len(rates), DRAWS)]

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
            searched_on = f"{n} {fixture.task.nouns.prompts} of seed {seed}"
            return MinimalSet(
                ref.name, part, tuple(sorted(left)), len(live), accuracy, searched_on,
                seed, method, fixture.task.spread_key,
            )  # fmt: skip
