"""``answer``, a claim about the accuracy or loss of the clean model: its spec keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from harness.base.intervals import least_n_of_mean
from harness.base.validation import expecting, one_or_many
from harness.specs.claim import Claim, bounds_in_words, loss_in_words
from harness.specs.keys import (
    AnswerToken,
    AtLeast,
    AtMost,
    ClaimModel,
    FixtureNames,
    LossBound,
    QuestionsModel,
)
from harness.specs.metrics import MetricBound, MetricsModel
from harness.specs.nodes import Shape
from harness.specs.parsing import ClaimParser, as_text
from harness.tasks.questions import Questions, Sample


def _tokens(shape: Shape | None) -> str:
    return "tokens" if shape is None else shape.task.nouns.tokens


class AnsweredModel(MetricsModel):
    """How well the clean model answers; with `than`, how much better than other fixtures."""

    accuracy_at_least: AtLeast | None = Field(None, description="fraction of the questions")
    accuracy_at_most: AtMost | None = Field(None, description="fraction of the questions")
    gain_at_least: Annotated[float, Field(gt=-1, le=1)] | None = Field(
        None, description="accuracy less that of the fixtures in `than`, fraction"
    )
    gain_at_most: Annotated[float, Field(ge=-1, lt=1)] | None = Field(None, description="the same, at most")
    loss_below: LossBound = None
    loss_above: LossBound = None


class AnswerModel(ClaimModel):
    """A claim about how well the clean model answers, or several of them."""

    answer: Annotated[
        Annotated[Literal["whole"], Tag("one")] | Annotated[list[AnswerToken], Field(min_length=1), Tag("many")],
        Discriminator(one_or_many),
        expecting(
            lambda shape: f"`whole`, or a list of {_tokens(shape)}",
            lambda value: value == "whole" or isinstance(value, list),
        ),
    ] = Field(description="what must be right: the answer as a `whole`, or each of these tokens")
    free_running: bool = Field(False, description="the model reads its own tokens, not the true ones")
    than: FixtureNames | None = Field(None, description="the fixtures that `gain_at_…` compares with")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    expect: AnsweredModel = Field(description="bounds on accuracy, gain or loss")


@dataclass(frozen=True, kw_only=True)
class Answer(Claim):
    """A claim about how well the clean model answers, on each fixture of a group or one group against another."""

    verb: ClassVar[str] = "answer"
    questions: Questions
    tokens: tuple[str, ...]  # that must be right, each by itself; empty: the whole answer
    free_running: bool
    group: tuple[str, ...]
    group_text: str  # as written in the spec; empty: the fixture of the file
    than: tuple[str, ...]  # the group to compare with; empty: no comparison
    than_text: str
    at_least: float | None  # bound on the accuracy, or with `than` on the gain; a fraction of the questions
    at_most: float | None
    loss_below: float | None = None
    loss_above: float | None = None
    metrics: tuple[MetricBound, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """What is counted as right or wrong on a question: the whole answer, or each named token."""
        return self.tokens or ("whole",)

    @property
    def says_right(self) -> bool:
        """Whether the claim bounds the accuracy, or with `than` the gain."""
        return self.at_least is not None or self.at_most is not None

    @property
    def says_loss(self) -> bool:
        """Whether the claim bounds the mean loss."""
        return self.loss_below is not None or self.loss_above is not None

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence; a lower and an upper bound use the same interval."""
        counted = len(self.subjects) * self.says_right
        return (counted + self.says_loss + len(self.metrics)) * (1 if self.than else len(self.group))

    @property
    def observable(self) -> tuple[str, ...]:
        """What is counted, the loss or the gain; of several fixtures, each with whose: ``quick_d5_l2_s0 whole``."""
        if self.than:
            return ("gain",)
        counted = self.subjects if self.at_least is not None or self.at_most is not None else ()
        found = (*counted, *(("loss",) if self.says_loss else ()), *(bound.subject for bound in self.metrics))
        return tuple(f"{name} {one}" for name in self.group for one in found) if len(self.group) > 1 else found

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Both groups."""
        return (self.group, self.than)

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures of both groups."""
        return tuple(dict.fromkeys((*self.group, *self.than)))

    @property
    def target(self) -> str:
        """Which tokens are compared, of which fixtures, against which others."""
        whom = f" of {self.group_text}" if self.group_text else ""
        against = f" against {self.than_text}" if self.than else ""
        return f"{', '.join(self.tokens) or 'answers'}{whom}{against}"

    @property
    def how(self) -> str:
        """``free-running`` if the model reads its own tokens, else ``clean``."""
        return "free-running" if self.free_running else "clean"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``≥ 99.9% right``."""
        metrics = (bound.expected for bound in self.metrics)
        return "; ".join(filter(None, [self.expected_accuracy, self.expected_loss, *metrics]))

    @property
    def expected_accuracy(self) -> str:
        """What is expected of the accuracy or the gain, in short; empty if nothing is."""
        most, least = (None if bound is None else 100 * bound for bound in (self.at_most, self.at_least))
        what, form = ("gain", "{:g} points") if self.than else ("right", "{:g}%")
        return ", ".join(bounds_in_words(what, most, least, form, "≤", "≥"))

    @property
    def expected_loss(self) -> str:
        """What is expected of the mean loss, in short; empty if nothing is."""
        return ", ".join(loss_in_words(self, self.loss_below, self.loss_above))


class AnswerParser(ClaimParser):
    """Parses ``answer``."""

    model = AnswerModel
    names_nodes = False

    def read(self, model: AnswerModel) -> Answer:
        """Return the claim for one validated spec entry."""
        questions, expect = self._questions(model.questions, "questions"), model.expect
        noun = self.shape.task.nouns.token
        tokens = () if isinstance(model.answer, str) else tuple(dict.fromkeys(model.answer))
        gain = expect.gain_at_least is not None or expect.gain_at_most is not None
        accuracy = expect.accuracy_at_least is not None or expect.accuracy_at_most is not None
        loss = expect.loss_below is not None or expect.loss_above is not None
        metrics = self.metrics_of(expect, clean=True)
        if metrics and (model.than is not None or tokens):
            self._report("expect", "metrics of whole answers alone", "`than`, or tokens", "write a claim each")
        if model.than is None and gain:
            self._report("expect", "a gain only over the fixtures in `than`", "no `than`", "add `than: …`")
        elif model.than is not None and (accuracy or loss):
            self._report("expect", "with `than`, a gain", "another bound", "write gain_at_least or gain_at_most")
        elif not (gain or accuracy or loss or metrics):
            self._report("expect", "something that could fail", "no bound", "add accuracy_at_least, say")
        if len(tokens) > 1 and model.than is not None:
            self._report(
                "answer", f"`whole`, or one {noun}, with `than`", f"{len(tokens)} {noun}s", "write a claim each"
            )
        self._loss_bounds(expect)
        if model.free_running and not tokens:
            found = "`whole`, on which it agrees with the teacher-forced one: both read the same up to the first error"
            self._report("answer", f"{noun}s, with free_running", found, f"name {noun}s, or remove free_running")
        if model.free_running and loss:
            self._report("expect", "no loss of a free-running model", "a bound", "remove it, or free_running")
        group = self.group_of(model.fixtures, "fixtures")
        than = () if model.than is None else self.group_of(model.than, "than")
        if both := sorted(set(group) & set(than)):
            self._report("than", "other fixtures than those that are compared with them", both[0], "drop it")
        claim = Answer(
            **self.common(model), questions=questions, gate=0.0, tokens=tokens, free_running=model.free_running,
            group=group, group_text=as_text(model.fixtures), than=than, than_text=as_text(model.than),
            at_least=expect.gain_at_least if than else expect.accuracy_at_least,
            at_most=expect.gain_at_most if than else expect.accuracy_at_most,
            loss_below=expect.loss_below, loss_above=expect.loss_above, metrics=metrics,
        )  # fmt: skip
        if claim.at_least is not None and claim.at_most is not None and claim.at_least >= claim.at_most:
            found = f"{claim.at_least:g} and {claim.at_most:g}"
            self._report("expect", "the lower bound below the upper one", found, "swap them, or leave one out")
        if isinstance(questions, Sample):
            if than:
                self._least(
                    lambda error: least_n_of_mean(1, claim.at_least, claim.at_most, lowest=-1, highest=1, error=error),
                    questions,
                )
            else:
                least = self._least_n_of_loss(claim, claim.loss_below, claim.loss_above)
                self._settled(claim.comparisons, claim.at_least, claim.at_most, questions, loss=least)
                self.settled_metrics(metrics, claim.comparisons, questions)
        return claim
