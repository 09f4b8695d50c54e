"""``attend``, a claim about the attention pattern of heads: its spec keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from harness.base.intervals import least_n_of_mean
from harness.base.validation import Strict
from harness.specs.claim import Claim, bounds_in_words
from harness.specs.keys import (
    AtLeast,
    AtMost,
    ClaimModel,
    NodesText,
    QuestionsModel,
    Rate,
    RunsModel,
    StepName,
)
from harness.specs.nodes import Node, reach, read_nodes
from harness.specs.parsing import (
    ClaimParser,
)
from harness.tasks.questions import Questions, Sample


class AttendToModel(Strict):
    """A head, or several of one step, and the steps that are looked at."""

    node: NodesText = Field(description="heads at one step: S12L0H0; of several, the mean")
    to: list[StepName] = Field(min_length=1, description="steps, or tokens by name: S3, D4, D'4")


class MassModel(RunsModel):
    """How much of the head's attention goes there: a fraction, mean over the questions."""

    mass_at_least: AtLeast | None = Field(None, description="fraction of the attention")
    mass_at_most: AtMost | None = Field(None, description="fraction of the attention")


class AttendModel(ClaimModel):
    """A claim about where a head looks."""

    attend: AttendToModel = Field(description="which head, and where it looks")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    expect: MassModel = Field(description="bounds on the share of attention")
    gate: Rate | None = Field(None, description="least clean accuracy on these questions")


@dataclass(frozen=True, kw_only=True)
class Attend(Claim):
    """A claim about the attention pattern of heads at one position: the mean share of attention to given ones."""

    verb: ClassVar[str] = "attend"
    questions: Questions
    node_text: str  # as written in the spec
    nodes: tuple[Node, ...]
    to: tuple[str, ...]  # the attended steps, as named in the spec
    places: tuple[int | str, ...]  # the same: a step, or the name of a position that each prompt has elsewhere
    at_least: float | None
    at_most: float | None

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return 1

    @property
    def observable(self) -> tuple[str, ...]:
        """The share of attention."""
        return ("mass",)

    @property
    def named(self) -> tuple[Node, ...]:
        """The heads."""
        return self.nodes

    @property
    def acting(self) -> tuple[Node, ...]:
        """The heads, if the claim says where they look, not only where they do not."""
        return () if self.at_least is None else self.nodes

    @property
    def target(self) -> str:
        """The heads, and the steps that they attend to."""
        return f"{self.node_text} to {', '.join(self.to)}"

    @property
    def how(self) -> str:
        """The quantity that is measured: always ``attention``."""
        return "attention"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``mass ≥ 0.8``."""
        return "; ".join(bounds_in_words("mass", self.at_most, self.at_least, "{:g}", "≤", "≥"))


class AttendParser(ClaimParser):
    """Parses ``attend``."""

    model = AttendModel

    def read(self, model: AttendModel) -> Attend:
        """Return the claim for one validated spec entry."""
        questions, expect = self._questions(model.questions, "questions"), model.expect
        nodes, task = read_nodes(model.attend.node, self.shape), self.shape.task
        node = nodes[0]
        if any(other.kind != "head" or (other.step, other.at) != (node.step, node.at) for other in nodes):
            self._report(("attend", "node"), "heads of one step, like S12L0H0", model.attend.node, "name some")
        elif node.everywhere:
            expected = f"a position, for where it looks from is compared with {', '.join(model.attend.to)}"
            self._report(("attend", "node"), expected, model.attend.node, f"write {model.attend.node}@NAME")
        elif idle := [other for other in nodes if not reach([other], self.shape)]:
            found = f"{idle[0]}, which reaches no {task.nouns.token}"
            self._report(("attend", "node"), "a head that something reads", found, "name another")
        named = {name: name if name in task.positions else task.step_of(name) for name in model.attend.to}
        places: tuple[int | str, ...] = tuple(dict.fromkeys(named.values()))
        for i, name in enumerate(model.attend.to if not node.at else ()):
            if isinstance(step := named[name], int) and step > node.step:
                self._report(("attend", "to", i), f"steps up to S{node.step}, which {node} can see", name, "drop it")
        if not node.at and set(places) >= set(range(node.step + 1)):
            self._report(("attend", "to"), "some of the steps that the head can see", "all", "drop some")
        if (expect.mass_at_least is None) == (expect.mass_at_most is None):
            found = "none" if expect.mass_at_least is None else "both"
            self._report("expect", "mass_at_least or mass_at_most", found, "write one of them")
        if isinstance(questions, Sample):
            bounds = (expect.mass_at_least, expect.mass_at_most)
            self._least(lambda error: least_n_of_mean(1, *bounds, lowest=0, highest=1, error=error), questions)
        return Attend(
            **self.common(model), questions=questions, gate=self.gate_of(model.gate, questions),
            node_text=model.attend.node, nodes=nodes,
            to=tuple(model.attend.to),
            places=places, at_least=expect.mass_at_least, at_most=expect.mass_at_most,
        )  # fmt: skip

    def about(self, model: AttendModel) -> str:
        """Return the heads and the attended steps, in the spec's words."""
        return f"{model.attend.node} to {', '.join(model.attend.to)}"
