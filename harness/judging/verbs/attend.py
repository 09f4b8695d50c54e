"""``attend``: measures the share of heads' attention that goes to given steps, and compares it with the claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from harness.base.intervals import mean_interval_within
from harness.judging.bench import Workbench
from harness.judging.verdict import Comparison, require_accuracy, straddled, within_bounds
from harness.specs.verbs.attend import Attend
from harness.tasks.answers import answers


@dataclass(frozen=True)
class Attended:
    """How much attention went to which step; the mean over the claim's heads."""

    clean_accuracy: float
    masses: tuple[float, ...]  # per question, the share of attention on the claim's steps
    by_step: dict[str, float]  # the mean share on each step that the head can see

    def as_dict(self) -> dict[str, Any]:
        """Return the means as JSON values."""
        return {"n": len(self.masses), "clean_accuracy": self.clean_accuracy, "by_step": self.by_step}


def measure_attention(claim: Attend, bench: Workbench) -> Attended:
    """Return how much of the heads' attention went to the claim's steps.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: the clean model is not accurate enough, or a logit is not finite.
    """
    where = (claim.fixture, claim.fixtures)
    fixture, tokens = bench.fixture(*where), bench.tokens(*where, claim.questions)
    found = [bench.attention(*where, claim.questions, node) for node in claim.nodes]
    clean, weights = found[0][0], torch.stack([pattern.double() for _, pattern in found]).mean(0)
    accuracy = float((clean.predicted == answers(tokens, fixture.layout)).all(1).double().mean())
    require_accuracy(claim, accuracy)
    names = fixture.layout.names
    shares = weights.mean(0).tolist()
    masses = weights[:, list(claim.steps)].sum(1).tolist()
    return Attended(
        accuracy,
        tuple(masses),
        {f"S{step} {names[step]}": round(shares[step], 4) for step in range(claim.nodes[0].step + 1)},
    )


def compare_attention(claim: Attend, found: Attended) -> tuple[Comparison, ...]:
    """Return the comparison behind the verdict."""
    mean = sum(found.masses) / len(found.masses)
    low, high = None, None
    if not claim.questions.census:
        low, high = mean_interval_within(found.masses, claim.confidence, width=1)
    finding = within_bounds(mean, low, high, claim.at_least, claim.at_most)
    expected, at = claim.expected.removeprefix("mass "), straddled(finding, low, high, claim.at_least, claim.at_most)
    return (Comparison("mass", expected, f"{mean:.3f}", mean, low, high, finding, threshold=at),)
