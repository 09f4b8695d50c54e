"""``attend``: measures the share of heads' attention that goes to given steps, and compares it with the claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.base.intervals import mean_interval_within
from harness.judging.answers import Attended
from harness.judging.requests import AttentionOf, Request
from harness.judging.untested import Untested
from harness.judging.verb import Mutant, Verb
from harness.judging.verbs.metrics import success_rate
from harness.judging.verdict import Comparison, require_accuracy, straddled, within_bounds
from harness.judging.worth.mutants import moves
from harness.specs.nodes import Node, reach
from harness.specs.siblings import write_nodes
from harness.specs.verbs.attend import Attend
from harness.tasks.batch import Batch

if TYPE_CHECKING:
    from harness.judging.bench import Workbench


@dataclass(frozen=True)
class AttentionShares:
    """How much attention went to which step; the mean over the claim's heads."""

    clean_accuracy: float
    masses: tuple[float, ...]  # per question, the share of attention on the claim's steps
    uniform: float  # that share, if the head looked at all that it sees alike; the mean over the questions
    by_step: dict[str, float]  # the mean share on each step that the head can see

    def as_dict(self) -> dict[str, Any]:
        """Return the means as JSON values."""
        return {"n": len(self.masses), "clean_accuracy": self.clean_accuracy, "uniform": self.uniform,
                "by_step": self.by_step}  # fmt: skip


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

    def untested(self, claim: Attend, answers: Sequence[Attended], bench: Workbench) -> Iterator[Untested]:
        """Yield that a head which looks everywhere alike would meet the bound."""
        uniform = _shares(claim, answers[0]).uniform
        if within_bounds(uniform, None, None, claim.at_least, claim.at_most) == "holds":
            yield Untested("uniform", value=uniform, least=claim.at_most if claim.at_least is None else claim.at_least)

    def mutants(self, claim: Attend) -> Iterator[Mutant]:
        """Yield the claim of other heads, and of other steps that are looked at."""
        if claim.at_least is None:
            return
        node, steps = claim.nodes[0], [place for place in claim.places if isinstance(place, int)]
        for kind, there in moves(claim.nodes, claim.shape):
            if reach(there, claim.shape) and (node.at or max(steps, default=0) <= there[0].step):
                yield Mutant(kind, replace(claim, nodes=there, node_text=write_nodes(there)))
        if node.at or len(steps) < len(claim.places):  # only steps have a next one
            return
        for by in (-1, 1):
            moved = tuple(step + by for step in steps)
            if min(moved) >= 0 and max(moved) <= node.step:
                yield Mutant(f"to{by:+d}", replace(claim, places=moved, to=tuple(f"S{step}" for step in moved)))


VERB = AttendVerb()


def _shares(claim: Attend, found: Attended) -> AttentionShares:
    weights = torch.stack([found.patterns[node].double() for node in claim.nodes]).mean(0)
    accuracy = success_rate(found.clean, found.prompts, found.fixture.task)
    require_accuracy(claim, accuracy, len(found.prompts))
    steps, node = [place for place in claim.places if isinstance(place, int)], claim.nodes[0]
    if len(steps) == len(claim.places) and weights.shape[1] == 1 and not node.at:
        masses, uniform = weights[:, 0, steps].sum(1), len(steps) / (node.step + 1)
    else:
        looked_at = _looked_at(claim, found.prompts, weights)
        masses = (weights * looked_at).sum(-1).mean(1)
        uniform = float((looked_at.sum(-1) / (_positions(node, found.prompts) + 1)).mean())
    by_place = _by_place(claim, found.prompts, weights.mean(1))
    return AttentionShares(accuracy, tuple(masses.tolist()), uniform, by_place)


def _positions(node: Node, prompts: Batch) -> Int[Tensor, "prompt index"]:
    """Return where a node is in each prompt."""
    return prompts.positions[node.at] if node.at else torch.full((len(prompts), 1), node.step)


def _looked_at(
    claim: Attend, prompts: Batch, weights: Float[Tensor, "prompt index key"]
) -> Bool[Tensor, "prompt index key"]:
    """Return whether each key is one of those that the claim names.

    Where the head and what it looks at are each at several positions, these are paired by index.

    Raises:
        MeasurementError: the head cannot see such a key, or the positions cannot be paired.
    """
    n, size, _ = weights.shape
    node, mask = claim.nodes[0], torch.zeros_like(weights, dtype=torch.bool)
    from_ = _positions(node, prompts)
    for place in claim.places:
        to = torch.full((n, 1), place) if isinstance(place, int) else prompts.positions[place]
        if size > 1 and to.shape[1] not in (1, size):
            expected = f"one position {place}, or {size}, as many as of {node.at}"
            raise MeasurementError(Problem(expected, str(to.shape[1]), "name another", claim.path, claim.line, 1))
        paired = to if size == 1 else to.expand(-1, size)
        if bool((paired > from_).any()):
            expected, fix = f"positions that {node} can see", "name one that stands before it, or there"
            named = f"S{place}" if isinstance(place, int) else place
            found = f"{named}, which comes later in some {claim.shape.task.nouns.prompts}"
            raise MeasurementError(Problem(expected, found, fix, claim.path, claim.line, 1))
        mask.scatter_(2, paired.unsqueeze(1) if size == 1 else paired.unsqueeze(2), value=True)
    return mask


def _by_place(claim: Attend, prompts: Batch, weights: Float[Tensor, "prompt key"]) -> dict[str, float]:
    """Return the mean share on each step that the head can see, or on each named position where steps differ."""
    node, names = claim.nodes[0], claim.shape.task.names
    if names and not node.at:
        shares = weights.mean(0).tolist()
        return {f"S{step} {names[step]}": round(shares[step], 4) for step in range(node.step + 1)}
    return {name: round(float(weights.gather(1, at).mean()), 4) for name, at in prompts.positions.items()}
