"""``patch`` with ``from``, the claim that nodes carry the answer of a counterpart: its keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Field

from harness.base.validation import Strict, checked
from harness.specs.keys import ClaimModel, NodeNames, QuestionsModel, Rate, RunsModel, Seed
from harness.specs.methods import CORRUPT
from harness.specs.metrics import MetricBound, MetricsModel
from harness.specs.nodes import read_nodes
from harness.specs.parsing import DEFAULT_REFERENCE, FOLLOW_RATE, ClaimParser, as_text, as_tuple
from harness.specs.siblings import Nodes, named_siblings
from harness.specs.verbs.ablating import Expect, Hypothesis
from harness.tasks.questions import Counterparts, QuestionList, Sample, Toward

Share = Annotated[float, Field(gt=0, lt=1)]


class FromModel(Strict):
    """Which nodes carry the answer over, and from which counterpart of each prompt."""

    node: NodeNames = Field(description="the node, or nodes taken together: L29R@END")
    source: Annotated[str, checked(lambda name, shape: shape.task.check_counterpart(name))] = Field(
        alias="from", description="the counterpart's name, of those that the task has"
    )


class FollowsModel(RunsModel, MetricsModel):
    """How often the answer follows. Metrics are of the counterpart's answer against the prompt's own."""

    follow_rate: Share | None = Field(
        None, description="the counterpart's answer is preferred to the own one on more than this share (0.9)"
    )


class PatchFromModel(ClaimModel):
    """An activation-patching claim: nodes take the values that they have on a counterpart, and the answer follows."""

    patch: FromModel = Field(description="what is carried over, and from which counterpart")
    questions: QuestionsModel = Field(description="what is asked: a list, or a sample")
    expect: FollowsModel = Field(FollowsModel(), description="how often the answer follows")
    seed: Seed = Field(0, description="of counterparts that are drawn")
    gate: Rate | None = Field(None, description="least clean success on the prompts, and on their counterparts")


@dataclass(frozen=True, kw_only=True)
class PatchFrom(Hypothesis):
    """An activation-patching claim: with the values of a counterpart at its nodes, a prompt gets that one's answer."""

    verb: ClassVar[str] = "patch from"

    @property
    def judged_on(self) -> Toward:
        """The prompts with the answers of their counterparts as the right ones, and their own as the wrong ones."""
        return Toward(Counterparts(self.questions, self.counterpart, self.seed))

    @property
    def follows(self) -> MetricBound:
        """The bound by which siblings and spare nodes are told: how often the answer follows."""
        return self.expect.metrics[0]

    @property
    def observable(self) -> tuple[str, ...]:
        """How often the answer follows, and the metrics."""
        return ("follows", *(bound.subject for bound in self.expect.metrics[1:]))

    @property
    def acting(self) -> Nodes:
        """The nodes that carry the answer."""
        return self.nodes

    @property
    def acts(self) -> bool:
        """Always: something is to move."""
        return True

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """Other sets of nodes for which the claim could hold too, by name."""
        return named_siblings(self.nodes, self.shape.task.answer_tokens, self.shape)

    @property
    def target(self) -> str:
        """The nodes, and which counterpart's answer they carry."""
        return f"the answer of {self.counterpart} at {', '.join(self.ablate)}"

    @property
    def how(self) -> str:
        """The method: ``patch from`` and the counterpart."""
        return f"patch from {self.counterpart}"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``follows on > 90%``."""
        first, *others = self.expect.metrics
        return "; ".join([first.expected.replace("prefers", "follows", 1), *(bound.expected for bound in others)])


class PatchFromParser(ClaimParser):
    """Parses ``patch`` with ``from``."""

    model = PatchFromModel

    def read(self, model: PatchFromModel) -> PatchFrom:
        """Return the claim for one validated spec entry."""
        task, texts = self.shape.task, as_tuple(model.patch.node)
        others = self.metrics_of(model.expect, against=True)
        for bound in others:
            if bound.what == "fails" or bound.metric == "kl":
                found = f"{bound.subject}, which is of the own answer or of none"
                self._report(("expect", bound.metric), "what may be said of the other answer", found, "write at_least")
        follows = MetricBound("prefers", "above", at_least=model.expect.follow_rate or FOLLOW_RATE, value=0.5)
        if any(bound.metric == "prefers" for bound in others):
            self._report(("expect", "prefers"), "follow_rate, which says the same", "prefers", "write follow_rate")
        questions = self._questions(model.questions, "questions")
        claim = PatchFrom(
            **self.common(model), questions=questions, gate=self.gate_of(model.gate, questions), ablate=texts,
            nodes=read_nodes(texts, self.shape), one_at_a_time=False, method=CORRUPT, counterpart=model.patch.source,
            reference=DEFAULT_REFERENCE, seed=model.seed, by_construction=False,
            expect=Expect((), task.answer_tokens, None, None, metrics=(follows, *others), counts=False),
        )  # fmt: skip
        if not claim.reach and isinstance(questions, Sample | QuestionList):
            self._report(("patch", "node"), "nodes that an answer can read", claim.target, "name an earlier position")
        if isinstance(questions, Sample):
            self.settled_metrics(claim.expect.metrics, claim.comparisons, questions)
        return claim

    def about(self, model: PatchFromModel) -> str:
        """Return the counterpart and the nodes, in the spec's words."""
        return f"the answer of {model.patch.source} at {as_text(model.patch.node)}"
