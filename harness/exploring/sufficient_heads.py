"""``harness minimal`` of a language model: a greedy search for components that keep a metric, for a ``keep`` claim.

Components are cut at every position, one after the other, in the order of their effect alone, smallest first. One stays
cut if the metric's mean stays at a share of the clean mean. The search ends when a round cuts no further one. It can be
narrowed to some layers: what it does not look at is kept. Its prompts do not test the set: the claim asks others.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.base.errors import HarnessError, MeasurementError, Problem
from harness.engines.interventions import CLEAN
from harness.engines.predictions import Outcome
from harness.exploring.metric_drafts import gate_line
from harness.judging.bench import Workbench
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.judging.verbs.metrics import success_rate, value_of
from harness.specs.node_sets import whole_model
from harness.specs.nodes import Node
from harness.specs.siblings import write_nodes
from harness.tasks.contract import AnyTask
from harness.tasks.questions import Counterparts, Sample

AT_ONCE = 8  # nodes between two steps of the progress
ASKED_N = 200  # prompts of the claim


@dataclass(frozen=True)
class Search:
    """What a search has found: what is kept, and what the metric is with all others cut."""

    ablation: Ablation  # of all components of the kind
    task: AnyTask
    metric: str
    part: str  # heads or mlps
    steps: int  # runs so far
    every: tuple[Node, ...]  # all of the kind
    kept: tuple[Node, ...]
    clean: float  # the metric's mean
    mean: float
    median: float
    accuracy: float  # how often the clean model does what the task calls success

    def spec(self) -> str:
        """Return a spec file with the claim that the kept components suffice.

        Raises:
            HarnessError: none of them is kept, or none could be cut.
        """
        if not self.kept or self.kept == self.every:
            found, fix = "all" if self.kept else "none", "search with another --share, or other --nodes"
            raise HarnessError.of(f"some {self.part} that suffice, without the others", f"{found} of them", fix)
        ref, asked, source = self.ablation.model, self.ablation.questions, self.ablation.reference
        assert isinstance(asked, Sample)
        method = f"{{corrupt: {source.name}}}" if isinstance(source, Counterparts) else self.ablation.method
        nodes = textwrap.fill(write_nodes(self.kept), 96).replace("\n", "\n        ")
        least = float(f"{self.median - abs(self.median) / 10:.2g}")  # a tenth less than what the search saw
        return (
            f"version: 1\nfixture: {ref.name}\n" + (f"task: {ref.task}\n" if ref.task else "") + "hypotheses:\n"
            f"  - id: {len(self.kept)}-{self.part}-suffice\n"
            f"    claim: {len(self.kept)} {self.part} keep {self.metric}, all others cut at every position.\n"
            f"    source: here (harness minimal, {asked}; {self.metric} {self.clean:.3g} to {self.mean:.3g})\n"
            f"    keep:\n      {self.part}: [{nodes}]\n"
            f"    method: {method}\n"
            f"    prompts: {{n: {ASKED_N}, seed: {asked.seed + 1}{self.task.spread_key}}}\n"
            f"    expect: {{{self.metric}: {{median_at_least: {least:g}}}}}\n"
        ) + gate_line(self.accuracy, asked.n, self.task)


def find_sufficient(ablation: Ablation, metric: str, part: str, share: float, bench: Workbench) -> Iterator[Search]:
    """Yield what is known, again and again; at last the components without which `share` of the metric is not kept.

    `ablation` names the components that may be cut, at every position; all others of their kind are kept.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: no prompts, a hook that did not fire, or a clean mean that is not above 0.
        HarnessError: a component that is not of this kind, or at some position only.
    """
    ref, kind = ablation.model, {"heads": "head", "mlps": "mlp"}[part]
    fixture, prompts = bench.fixture(ref), bench.prompts(ref, ablation.questions)
    left = [node for node in ablation.nodes if node.kind == kind]
    if wrong := [node for node in left if not node.everywhere] or ([] if left else list(ablation.nodes)):
        raise HarnessError.of(f"{part} at every position, like L12-L29", str(wrong[0]), "write them without a position")
    every = [node for node in whole_model(fixture.shape) if node.kind == kind]
    make = replacement(replace(ablation, nodes=tuple(left)), bench, prompts)

    def told(outcome: Outcome) -> tuple[float, float]:
        value = value_of(metric, outcome.check(ref.name), prompts)
        return float(value.mean()), float(value.median())

    def measured(sets: Sequence[Sequence[Node]]) -> list[tuple[float, float]]:
        return [told(outcome) for outcome in bench.run(ref, prompts, [make(nodes) for nodes in sets])]

    (of_clean,) = bench.run(ref, prompts, [CLEAN])
    clean, median = told(of_clean)
    if clean <= 0:
        found, fix = f"{clean:.3g}", "search with another metric, or other prompts"
        raise MeasurementError(Problem(f"a clean mean of {metric} above 0, to keep a share of", found, fix))
    accuracy = success_rate(of_clean, prompts, fixture.task)
    first = (ablation, fixture.task, metric, part, 0, tuple(every), tuple(every), clean, clean, median, accuracy)
    state = Search(*first)
    yield state
    alone: dict[Node, float] = {}
    for start in range(0, len(left), AT_ONCE):
        some = left[start : start + AT_ONCE]
        alone |= {node: mean for node, (mean, _) in zip(some, measured([[node] for node in some]), strict=True)}
        state = replace(state, steps=state.steps + len(some))
        yield state
    left.sort(key=lambda node: (-alone[node], node))
    cut: list[Node] = []
    before = -1
    while before != len(left):
        before = len(left)
        for node in list(left):
            ((mean, middle),) = measured([[*cut, node]])
            state = replace(state, steps=state.steps + 1)
            if mean >= share * clean:
                cut.append(node)
                left.remove(node)
                kept = tuple(one for one in every if one not in cut)
                state = replace(state, kept=kept, mean=mean, median=middle)
            yield state
