"""``patch``, the interchange claim that a node carries a variable of the task: keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import Discriminator, Field, Tag

from harness.base.validation import Strict, expecting, one_or_many
from harness.specs.claim import Claim
from harness.specs.keys import (
    AnswerToken,
    AtLeast,
    AtMost,
    ClaimModel,
    NodeNames,
    PairText,
    Rate,
    RunsModel,
    SampleSize,
    Seed,
    VariableName,
)
from harness.specs.nodes import Node, reach, read_nodes
from harness.specs.parsing import (
    FOLLOW_RATE,
    INTACT_RATE,
    ClaimParser,
    as_text,
    size_of,
)
from harness.specs.siblings import Nodes, named_siblings
from harness.tasks.contract import AnyVariable
from harness.tasks.questions import PairList, Pairs, PairSample, read_pair


class CarryModel(Strict):
    """Which node carries which variable to which tokens."""

    node: NodeNames = Field(description="the node, or nodes taken together: S8L0H1")
    variable: VariableName = Field(description="of the task's causal model")
    tokens: list[AnswerToken] = Field(alias="digits", min_length=1, description="the answer tokens that follow")


class PairSampleModel(Strict):
    """A random sample of pairs in which carrying the variable over changes the tokens, and as many where it agrees."""

    n: SampleSize = Field(description="how many of each; `auto`: more and more, until the claim is settled")
    seed: Seed = Field(0, description="of the draw")


class FollowModel(RunsModel):
    """How often the tokens follow, and the others keep their value."""

    follow_rate: AtLeast | None = Field(None, description="`digits` follow at more than this rate (sample: 0.9)")
    intact_rate: AtMost | None = Field(None, description="the others change at less than this rate (sample: 0.01)")
    may_change: list[AnswerToken] = Field([], description="these tokens may change or not")
    only_here: bool = Field(False, description="no other head there, and no other step, makes the tokens follow too")


class PatchModel(ClaimModel):
    """An interchange claim: a node carries a variable of the task."""

    patch: CarryModel = Field(description="what is carried, by which node, to which tokens")
    pairs: Annotated[
        Annotated[list[PairText], Field(min_length=1), Tag("many")] | Annotated[PairSampleModel, Tag("one")],
        Discriminator(one_or_many),
        expecting("a list of pairs, or a sample {n: …}", lambda value: isinstance(value, (list, dict))),
    ] = Field(description="from which question into which: a list, or a sample")
    expect: FollowModel = Field(FollowModel(), description="how often the tokens follow")
    gate: Rate | None = Field(None, description="least clean accuracy on the questions of the pairs")


@dataclass(frozen=True, kw_only=True)
class Patch(Claim):
    """An interchange claim: a node carries a variable.

    If the node's value is patched in from another question, these tokens change as the variable predicts.
    """

    verb: ClassVar[str] = "patch"
    questions: Pairs
    node_text: str
    nodes: tuple[Node, ...]
    variable: AnyVariable
    tokens: tuple[str, ...]  # the tokens that follow, in order
    may_change: tuple[str, ...]
    follow_rate: float | None  # None (census only): the tokens always follow
    intact_rate: float | None  # None (census only): the others never change
    only_here: bool = False  # no sibling carries the variable too

    @cached_property
    def reach(self) -> frozenset[str]:
        """The answer tokens that the intervention could change; all others stay by construction."""
        return reach(self.nodes, self.shape)

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """Other sets of nodes for which the claim could hold too, by name."""
        return named_siblings(self.nodes, self.tokens, self.shape)

    @cached_property
    def intact(self) -> tuple[str, ...]:
        """The reachable tokens that must not change."""
        free = {*self.tokens, *self.may_change}
        return tuple(d for d in self.shape.task.answer_tokens if d in self.reach and d not in free)

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence.

        One per token in `tokens` and `intact`, one for all of `tokens` jointly if there are several, one for the pairs
        with equal values of the variable; with `only_here`, one more per sibling.
        """
        own = len(self.tokens) + (len(self.tokens) > 1) + len(self.intact) + 1
        return own + (len(self.siblings) if self.only_here else 0)

    @property
    def observable(self) -> tuple[str, ...]:
        """The answer tokens that the nodes reach, those that follow jointly, agreeing pairs, and the siblings."""
        tokens = tuple(token for token in self.shape.task.answer_tokens if token in self.reach)
        jointly = ("jointly",) if len(self.tokens) > 1 else ()
        return (*tokens, *jointly, "agreeing", *(self.siblings if self.only_here else ()))

    @property
    def named(self) -> Nodes:
        """The nodes that carry the variable."""
        return self.nodes

    @property
    def target(self) -> str:
        """The variable, the nodes that carry it, and the tokens that follow."""
        return f"{self.variable} at {self.node_text} to {', '.join(self.tokens)}"

    @property
    def how(self) -> str:
        """The method: always ``patch``."""
        return "patch"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A5, A4 follow > 90%; A3 may change; others stay > 99%``."""
        follow = "follow" if len(self.tokens) > 1 else "follows"
        rate = "" if self.follow_rate is None else f" > {100 * self.follow_rate:g}%"
        parts = [f"{', '.join(self.tokens)} {follow}{rate}"]
        if self.may_change:
            parts.append(f"{', '.join(self.may_change)} may change")
        rate = "" if self.intact_rate is None else f" > {100 - 100 * self.intact_rate:g}%"
        return "; ".join([*parts, f"others stay{rate}", *(["only here"] if self.only_here else [])])


class PatchParser(ClaimParser):
    """Parses ``patch``."""

    model = PatchModel

    def read(self, model: PatchModel) -> Patch:
        """Return the claim for one validated spec entry."""
        task, carried, expect = self.shape.task, model.patch, model.expect
        nodes, variable = read_nodes(carried.node, self.shape), task.read_variable(carried.variable)
        questions: Pairs
        if isinstance(model.pairs, list):
            questions = PairList(tuple(read_pair(text, task) for text in model.pairs))
        else:
            questions = PairSample(size_of(model.pairs.n), model.pairs.seed, isinstance(model.pairs.n, str))
        reached, theirs = reach(nodes, self.shape), variable.answer_tokens(task)
        for i, token in enumerate(carried.tokens):
            for who, known in ((as_text(carried.node), reached), (str(variable), theirs)):
                if token not in known:
                    can = ", ".join(d for d in task.answer_tokens if d in known) or "none"
                    expected = f"{task.nouns.tokens} that {who} can change ({can})"
                    self._report(("patch", "digits", i), expected, token, "name one of those")
        for i, token in enumerate(expect.may_change):
            if token in carried.tokens:
                self._report(("expect", "may_change", i), f"{task.nouns.tokens} that need not follow", token, "drop it")
        claim = Patch(
            **self.common(model), questions=questions, gate=self.gate_of(model.gate, questions),
            node_text=as_text(carried.node), nodes=nodes,
            variable=variable, tokens=tuple(d for d in task.answer_tokens if d in carried.tokens),
            may_change=tuple(d for d in task.answer_tokens if d in expect.may_change),
            follow_rate=expect.follow_rate if questions.census or expect.follow_rate is not None else FOLLOW_RATE,
            intact_rate=expect.intact_rate if questions.census or expect.intact_rate is not None else INTACT_RATE,
            only_here=expect.only_here,
        )  # fmt: skip
        self._comparable(claim, claim.only_here)
        if isinstance(questions, PairSample):
            rates = (claim.follow_rate, claim.intact_rate)
            self._settled(claim.comparisons, *rates, questions, "pairs")
        return claim

    def about(self, model: PatchModel) -> str:
        """Return the variable, the nodes and the tokens, in the spec's words."""
        return f"{model.patch.variable} at {as_text(model.patch.node)} to {', '.join(model.patch.tokens)}"
