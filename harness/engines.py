"""Which engine runs a model: the fast one where the model's shape allows, else the reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness import cone, hooked
from harness.addition import answers
from harness.errors import HarnessError
from harness.fixtures import Fixture
from harness.interventions import Intervention
from harness.nodes import Node
from harness.outcome import Outcome

Choice = Literal["auto", "cone", "hooks"]


class Engine(Protocol):
    """What the modules `cone` and `hooked` both offer; `chunk` is how many questions are in work at a time."""

    def run(
        self,
        fixture: Fixture,
        tokens: Int[Tensor, "question pos"],
        interventions: Sequence[Intervention],
        chunk: int | None = None,
    ) -> list[Outcome]:
        """Return the outcome of each intervention; one of no nodes is the clean run."""
        ...  # fmt: skip

    def capture(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "question d"]]]:
        """Return the clean outcome, and the clean values of `nodes`, at least of those that reach a digit."""
        ...

    def capture_means(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
    ) -> dict[Node, Float[Tensor, " d"]]:
        """Return the mean clean value of every node, at least of those that reach a digit."""
        ...

    def attention(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "question key"]]]:
        """Return the clean outcome, and each head's attention pattern at its step: per question, a share per step."""
        ...

    def generate(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
    ) -> Int[Tensor, "question digit"]:
        """Return the free-running answers."""
        ...


def free_running(
    engine: Engine,
    fixture: Fixture,
    tokens: Int[Tensor, "question pos"],
    forced: Int[Tensor, "question digit"],
    chunk: int | None = None,
) -> Int[Tensor, "question digit"]:
    """Return the answers of the free-running model, given the teacher-forced ones.

    Up to its first wrong digit it reads what the teacher-forced one reads, so only the questions that are not
    answered wholly right need a run.
    """
    wrong = (forced != answers(tokens, fixture.layout)).any(1)
    found = forced.clone()
    if bool(wrong.any()):
        found[wrong] = engine.generate(fixture, tokens[wrong], chunk)
    return found


def engine_for(fixture: Fixture, choice: Choice = "auto") -> tuple[Engine, str]:
    """Return the engine for a fixture's model, and what a report calls it: with the reason, where it is a fallback.

    Raises:
        HarnessError: the cone is asked for, and cannot run this model.
    """
    refused = cone.refusal(fixture)
    if choice == "cone" and refused:
        raise HarnessError.of("a model that the cone engine can run", f"{refused} in {fixture.name}", "choose auto")
    if choice == "hooks" or refused:
        return hooked, f"hooks (the cone engine cannot run {refused})" if choice == "auto" else "hooks"
    return cone, "cone"
