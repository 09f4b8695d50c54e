"""``answer``: how well the clean model answers a class of questions, alone or against other fixtures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.base.intervals import exact_interval, mean_interval_within
from harness.judging.answers import Answered
from harness.judging.measurement import EXAMPLES, Example, example_of, mean_loss
from harness.judging.requests import CleanAnswers, Request
from harness.judging.untested import LEARNED, Untested
from harness.judging.verb import Verb
from harness.judging.verbs.metric_bounds import compare_metrics
from harness.judging.verbs.metrics import Measured, value_of
from harness.judging.verdict import Comparison, straddled, within_bounds
from harness.specs.verbs.answer import Answer

if TYPE_CHECKING:
    from harness.judging.bench import Workbench


@dataclass(frozen=True)
class FixtureAnswers:
    """What one fixture answered."""

    right: Bool[Tensor, "prompt subject"]
    loss: Float[Tensor, " prompt"]  # nats per token that is asked about, teacher-forced
    examples: tuple[Example, ...]  # some of the questions that were answered wrong
    distinct: int  # different right answers, of the tokens that are asked about
    near_ties: int = 0  # answer tokens of prompts, of those that must be right; teacher-forced
    metrics: Mapping[str, Measured] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {"n": len(self.right), "right": self.right.sum(0).tolist(), "loss": float(self.loss.mean()),
                "near_ties": self.near_ties, "examples": [asdict(example) for example in self.examples],
                "metrics": {name: one.as_dict() for name, one in self.metrics.items()}}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What the fixtures of a claim answered."""

    by_fixture: Mapping[str, FixtureAnswers]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts of each as JSON values."""
        return {"by_fixture": {name: found.as_dict() for name, found in self.by_fixture.items()}}


class AnswerVerb(Verb[Answer]):
    """``answer``: the clean model is right, or has a loss, within bounds."""

    def requests(self, claim: Answer) -> Sequence[Request]:
        """Return the clean answers of each fixture."""
        return [CleanAnswers(ref, claim.questions, claim.free_running) for ref in claim.refs]

    def compare(self, claim: Answer, answers: Sequence[Answered]) -> tuple[Answers, tuple[Comparison, ...]]:
        """Return what each fixture answered, and the comparisons behind the verdict.

        Raises:
            MeasurementError: a gain that could not have come out too large.
        """
        found = Answers({name: _counted(claim, answered) for name, answered in zip(claim.models, answers, strict=True)})
        if claim.than:
            return found, (_gain(claim, found),)
        return found, tuple(row for name in claim.group for row in _rows(claim, name, found.by_fixture[name]))

    def untested(self, claim: Answer, answers: Sequence[Answered], bench: Workbench) -> Iterator[Untested]:
        """Yield that all prompts have the same answer, or that there is nothing that the models could lose."""
        found = [_counted(claim, answered) for answered in answers]
        wants_right = claim.at_least is not None or claim.loss_below is not None
        if not claim.than and wants_right and found[0].distinct == 1:
            yield Untested("constant", claim.subjects)
        if claim.than and (claim.at_least is None or claim.at_least < 0):  # that it is no better, or not much worse
            best = max(float(one.right[:, 0].double().mean()) for one in found)
            if best < LEARNED:
                yield Untested("nothing to lose", claim.subjects, best, LEARNED)


VERB = AnswerVerb()


def _counted(claim: Answer, found: Answered) -> FixtureAnswers:
    task, predicted, prompts = found.fixture.task, found.predicted, found.prompts
    right = prompts.right.contains(predicted)
    whole = right.all(1)
    places = [task.answer_tokens.index(token) for token in claim.tokens]
    rows = (~(right[:, places].all(1) if places else whole)).nonzero().squeeze(1)[:EXAMPLES]
    asked = prompts[rows]
    examples = [
        example_of(prompt, answered, wrong, wanted, task, case)
        for prompt, answered, wrong, wanted, case in zip(
            asked.texts(), predicted[rows].tolist(), (~right[rows]).tolist(), asked.answers.tolist(), asked.cases(),
            strict=True,
        )
    ]  # fmt: skip
    losses, near_tie = found.clean.loss, found.clean.near_tie
    if places:
        losses, near_tie, right = losses[:, places], near_tie[:, places], right[:, places]
    near_ties = int(near_tie.sum()) if claim.says_right else 0
    told = right if places else whole[:, None]
    distinct = len(torch.unique(prompts.answers[:, places or slice(None)], dim=0))
    values = {bound.metric: value_of(bound.metric, found.clean, prompts) for bound in claim.metrics}
    metrics = {name: Measured(value, value) for name, value in values.items()}
    return FixtureAnswers(told, losses.mean(1), tuple(examples), distinct, near_ties, metrics)


def _rows(claim: Answer, name: str, found: FixtureAnswers) -> list[Comparison]:
    """Return the comparisons of one fixture; of several, each names its fixture."""
    rows, n = [], len(found.right)
    whose = name if len(claim.group) > 1 else ""
    if claim.says_right:
        for subject, k in zip(claim.subjects, found.right.sum(0).tolist(), strict=True):
            low, high = None, None
            if not claim.questions.census:
                low, high = exact_interval(k, n, claim.confidence)
            finding = within_bounds(k / n, low, high, claim.at_least, claim.at_most)
            rows.append(
                Comparison(
                    subject=subject, fixture=whose, kind="right", at_least=claim.at_least, at_most=claim.at_most,
                    finding=finding, value=k / n, k=k, n=n, low=low, high=high,
                    threshold=straddled(finding, low, high, claim.at_least, claim.at_most),
                )
            )  # fmt: skip
    if claim.says_loss:
        rows.append(_loss(claim, whose, found.loss))
    metrics = compare_metrics(claim.metrics, found.metrics, claim.confidence, census=claim.questions.census)
    return [*rows, *(replace(row, fixture=whose) for row in metrics)]


def _loss(claim: Answer, whose: str, losses: Float[Tensor, " prompt"]) -> Comparison:
    mean, low, high = mean_loss(losses, claim.loss_cap, claim.confidence)
    finding = within_bounds(mean, low, high, claim.loss_above, claim.loss_below)
    return Comparison(
        subject="loss", fixture=whose, kind="loss", at_least=claim.loss_above, at_most=claim.loss_below,
        finding=finding, value=mean, low=low, high=high,
        threshold=straddled(finding, low, high, claim.loss_above, claim.loss_below), cap=claim.loss_cap,
    )  # fmt: skip


def _gain(claim: Answer, found: Answers) -> Comparison:
    """Compare two groups question by question: the share of a group's fixtures that are right, less the other's."""
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
    if claim.at_least is not None and 1 - room + claim.at_least <= 0:
        fix = "ask easier questions, or claim the reverse with gain_at_most"
        seen = f"{claim.than_text} right on {1 - room:.2%}, which leaves nothing to lose"
        raise MeasurementError(
            Problem(f"a gain that could fall below {claim.at_least:g}", seen, fix, claim.path, claim.line, 1)
        )
    differences = (ours - theirs).tolist()
    gain = sum(differences) / len(differences)
    low, high = None, None
    if not claim.questions.census:
        low, high = mean_interval_within(differences, claim.confidence, width=2)
    finding = within_bounds(gain, low, high, claim.at_least, claim.at_most)
    return Comparison(
        subject="gain", kind="gain", at_least=claim.at_least, at_most=claim.at_most, finding=finding, value=gain,
        low=low, high=high, groups=(float(ours.mean()), float(theirs.mean())),
        threshold=straddled(finding, low, high, claim.at_least, claim.at_most),
    )  # fmt: skip
