"""Choose the engine for a model: the fast engine if it can run the model, else the reference engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.engines import cone, hooks
from harness.engines.interventions import Intervention
from harness.engines.predictions import Outcome
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.answers import answers

Choice = Literal["auto", "cone", "hooks"]


class Engine(Protocol):
    """The interface of the modules `cone` and `hooks`. `chunk` is the number of questions processed at a time."""

    def run(
        self,
        fixture: Fixture,
        tokens: Int[Tensor, "question pos"],
        interventions: Sequence[Intervention],
        chunk: int | None = None,
    ) -> list[Outcome]:
        """Return the outcome of each intervention; an intervention without nodes is the clean run."""
        ...  # fmt: skip

    def capture(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "question d"]]]:
        """Return the clean outcome, and the clean values of at least those `nodes` that can reach an answer digit."""
        ...

    def capture_means(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
    ) -> dict[Node, Float[Tensor, " d"]]:
        """Return the mean clean value of at least every node that can reach an answer digit."""
        ...

    def attention(
        self, fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "question key"]]]:
        """Return the clean outcome, and each head's attention pattern at its step: one weight per question and key."""
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
    """Return the answers of the free-running model, given the teacher-forced answers `forced`.

    Up to the first wrong digit, both models read the same tokens. So only the questions with a wrong digit need
    a free run.
    """
    wrong = (forced != answers(tokens, fixture.layout)).any(1)
    found = forced.clone()
    if bool(wrong.any()):
        found[wrong] = engine.generate(fixture, tokens[wrong], chunk)
    return found


def engine_for(fixture: Fixture, choice: Choice = "auto") -> tuple[Engine, str]:
    """Return the engine for a fixture's model, and its name for a report: with the reason, if it is a fallback.

    Raises:
        HarnessError: `choice` is ``cone``, and the cone engine cannot run this model.
    """
    refused = cone.refusal(fixture)
    if choice == "cone" and refused:
        raise HarnessError.of("a model that the cone engine can run", f"{refused} in {fixture.name}", "choose auto")
    if choice == "hooks" or refused:
        return hooks, f"hooks (the cone engine cannot run {refused})" if choice == "auto" else "hooks"
    return cone, "cone"
