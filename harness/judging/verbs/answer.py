"""``answer``: how well the clean model answers a class of questions, alone or against other fixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.base.intervals import exact_interval, mean_interval, mean_interval_within
from harness.engines.engine import free_running
from harness.judging.bench import Workbench
from harness.judging.measurement import EXAMPLES, pattern
from harness.judging.verdict import Comparison, Finding, straddled, within_bounds
from harness.specs.verbs.answer import Answer
from harness.tasks.answers import answers


@dataclass(frozen=True)
class Answered:
    """The answers of one fixture."""

    right: Bool[Tensor, "question subject"]  # subject: a digit, or the whole answer
    loss: Float[Tensor, " question"]  # mean nats per digit of the claim, teacher-forced
    examples: tuple[str, ...]  # some questions with wrong answers

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {"n": len(self.right), "right": self.right.sum(0).tolist(), "loss": float(self.loss.mean()),
                "examples": list(self.examples)}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """The answers of all fixtures of a claim."""

    by_fixture: Mapping[str, Answered]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts of each fixture as JSON values."""
        return {"by_fixture": {name: answered.as_dict() for name, answered in self.by_fixture.items()}}


def measure_answers(claim: Answer, bench: Workbench) -> Answers:
    """Return the answers of each fixture of the claim.

    Raises:
        FixtureError: a fixture cannot be loaded.
        MeasurementError: a logit is not finite.
    """
    return Answers({name: _answered(claim, name, bench) for name in claim.models})


def _answered(claim: Answer, name: str, bench: Workbench) -> Answered:
    fixture, tokens = bench.fixture(name, claim.fixtures), bench.tokens(name, claim.fixtures, claim.questions)
    outcome = bench.clean(name, claim.fixtures, claim.questions)
    predicted, truth = outcome.predicted, answers(tokens, fixture.layout)
    if claim.free_running:
        predicted = free_running(bench.engine(name, claim.fixtures), fixture, tokens, predicted, bench.chunk)
    right = predicted == truth
    whole = right.all(1)
    places = [fixture.layout.answer_digits.index(digit) for digit in claim.digits]
    failed = ~(right[:, places].all(1) if places else whole)
    rows = failed.nonzero().squeeze(1)[:EXAMPLES]
    examples = [
        f"{question}={fixture.layout.write_answer(answer)} {pattern(bad)} {case}".rstrip()
        for question, answer, bad, case in zip(
            fixture.task.texts(tokens[rows]), predicted[rows].tolist(), (~right[rows]).tolist(),
            fixture.task.cases_of(tokens[rows]), strict=True,
        )
    ]  # fmt: skip
    losses = outcome.loss[:, places] if places else outcome.loss
    return Answered(right[:, places] if places else whole[:, None], losses.mean(1), tuple(examples))


def compare_answers(claim: Answer, found: Answers) -> tuple[Comparison, ...]:
    """Return the comparisons behind the verdict.

    Raises:
        MeasurementError: the other group is so often right that the gain could not exceed the claim's upper bound.
    """
    if claim.than:
        return (_gain(claim, found),)
    rows = []
    for name in claim.group:
        answered, prefix = found.by_fixture[name], f"{name} " if len(claim.group) > 1 else ""
        n = len(answered.right)
        if claim.at_least is not None or claim.at_most is not None:
            for subject, right in zip(claim.subjects, answered.right.sum(0).tolist(), strict=True):
                low, high = None, None
                if not claim.questions.census:
                    low, high = exact_interval(right, n, claim.confidence)
                rows.append(_bounded(claim, f"{prefix}{subject}", f"{right}/{n}", right / n, low, high, n))
        if claim.says_loss:
            rows.append(_loss(claim, f"{prefix}loss", answered.loss.tolist()))
    return tuple(rows)


def _bounded(
    claim: Answer,
    what: str,
    observed: str,
    value: float,
    low: float | None,
    high: float | None,
    asked: int | None = None,
) -> Comparison:
    finding = within_bounds(value, low, high, claim.at_least, claim.at_most)
    at = straddled(finding, low, high, claim.at_least, claim.at_most)
    return Comparison(what, claim.expected_accuracy, observed, value, low, high, finding, asked=asked, threshold=at)


def _loss(claim: Answer, what: str, losses: Sequence[float]) -> Comparison:
    mean = sum(losses) / len(losses)
    low, high = None, None
    if not claim.questions.census:
        low, high = mean_interval(losses, claim.confidence)
    finding: Finding = within_bounds(mean, low, high, claim.loss_above, claim.loss_below)
    at = straddled(finding, low, high, claim.loss_above, claim.loss_below)
    return Comparison(what, claim.expected_loss, f"{mean:.3g}", mean, low, high, finding, threshold=at)


def _gain(claim: Answer, found: Answers) -> Comparison:
    """Return the row of the gain: per question, the share of right fixtures in the group minus that in the other."""
    ours, theirs = (
        torch.stack([found.by_fixture[name].right[:, 0].double() for name in group]).mean(0)
        for group in (claim.group, claim.than)
    )
    room = 1 - float(theirs.mean())
    if claim.at_most is not None and room <= claim.at_most:
        fix = "ask harder questions, or claim the reverse with gain_at_least"
        seen = f"{claim.than_text} right on {1 - room:.2%}, which leaves no room for one"
        raise MeasurementError(
            Problem(f"a gain that could exceed {claim.at_most:g}", seen, fix, claim.path, claim.line, 1)
        )
    differences = (ours - theirs).tolist()
    gain = sum(differences) / len(differences)
    low, high = None, None
    if not claim.questions.census:
        low, high = mean_interval_within(differences, claim.confidence, width=2)
    observed = f"{float(ours.mean()):.4%} against {float(theirs.mean()):.4%}"
    return _bounded(claim, "gain", observed, gain, low, high)
