"""``attend``: measures the share of heads' attention that goes to given steps, and compares it with the claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.base.intervals import mean_interval_within
from harness.judging.answers import Attended
from harness.judging.mutants import moves
from harness.judging.requests import AttentionOf, Request
from harness.judging.verb import Mutant, Verb
from harness.judging.verdict import Comparison, require_accuracy, straddled, within_bounds
from harness.specs.nodes import reach
from harness.specs.siblings import write_nodes
from harness.specs.verbs.attend import Attend
from harness.tasks.answers import answers as answers_in


@dataclass(frozen=True)
class AttentionShares:
    """How much attention went to which step; the mean over the claim's heads."""

    clean_accuracy: float
    masses: tuple[float, ...]  # per question, the share of attention on the claim's steps
    by_step: dict[str, float]  # the mean share on each step that the head can see

    def as_dict(self) -> dict[str, Any]:
        """Return the means as JSON values."""
        return {"n": len(self.masses), "clean_accuracy": self.clean_accuracy, "by_step": self.by_step}


class AttendVerb(Verb[Attend]):
    """``attend``: a head looks at these steps."""

    def requests(self, claim: Attend) -> Sequence[Request]:
        """Return the attention of the claim's heads."""
        return [AttentionOf(claim.ref, claim.questions, claim.nodes)]

    def compare(self, claim: Attend, answers: Sequence[Attended]) -> tuple[AttentionShares, tuple[Comparison, ...]]:
        """Return how much attention goes where, and the comparison behind the verdict.

        Raises:
            MeasurementError: the clean model is not accurate enough.
        """
        found = _shares(claim, answers[0])
        mean = sum(found.masses) / len(found.masses)
        low, high = None, None
        if not claim.questions.census:
            low, high = mean_interval_within(found.masses, claim.confidence, width=1)
        finding = within_bounds(mean, low, high, claim.at_least, claim.at_most)
        row = Comparison(
            subject="mass", kind="mass", at_least=claim.at_least, at_most=claim.at_most, finding=finding, value=mean,
            low=low, high=high, threshold=straddled(finding, low, high, claim.at_least, claim.at_most),
        )  # fmt: skip
        return found, (row,)

    def mutants(self, claim: Attend) -> Iterator[Mutant]:
        """Yield the claim of other heads, and of other steps that are looked at."""
        if claim.at_least is None:
            return
        for kind, there in moves(claim.nodes, claim.shape):
            if reach(there, claim.shape) and max(claim.steps) <= there[0].step:
                yield Mutant(kind, replace(claim, nodes=there, node_text=write_nodes(there)))
        for by in (-1, 1):
            steps = tuple(step + by for step in claim.steps)
            if min(steps) >= 0 and max(steps) <= claim.nodes[0].step:
                yield Mutant(f"to{by:+d}", replace(claim, steps=steps, to=tuple(f"S{step}" for step in steps)))


VERB = AttendVerb()


def _shares(claim: Attend, found: Attended) -> AttentionShares:
    layout = found.fixture.layout
    weights = torch.stack([found.patterns[node].double() for node in claim.nodes]).mean(0)
    accuracy = float((found.clean.predicted == answers_in(found.tokens, layout)).all(1).double().mean())
    require_accuracy(claim, accuracy)
    shares = weights.mean(0).tolist()
    masses = weights[:, list(claim.steps)].sum(1).tolist()
    by_step = {f"S{step} {layout.names[step]}": round(shares[step], 4) for step in range(claim.nodes[0].step + 1)}
    return AttentionShares(accuracy, tuple(masses), by_step)
