"""Choose the engine for a model: the fast engine if it can run the model, else the reference engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.engines.interventions import Intervention
from harness.engines.names import ENGINES
from harness.engines.predictions import Outcome
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.batch import Batch


class Engine(Protocol):
    """The interface of the modules `cone` and `hooks`. `chunk` is the number of prompts processed at a time."""

    def refusal(self, fixture: Fixture) -> str | None:
        """Return the reason why this engine cannot run a fixture's model, or None if it can."""
        ...

    def run(
        self,
        fixture: Fixture,
        batch: Batch,
        interventions: Sequence[Intervention],
        chunk: int | None = None,
        *,
        kl: bool = False,
    ) -> list[Outcome]:
        """Return the outcome of each intervention; an intervention without nodes is the clean run.

        With `kl`, also how far each answer's distribution is from that of the clean run.
        """
        ...

    def capture(
        self, fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt d"]]]:
        """Return the clean outcome, and the clean values of at least those `nodes` that can reach an answer token."""
        ...

    def capture_means(
        self, fixture: Fixture, batch: Batch, chunk: int | None = None
    ) -> dict[Node, Float[Tensor, " d"]]:
        """Return the mean clean value of at least every node that can reach an answer token."""
        ...

    def attention(
        self, fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt index key"]]]:
        """Return the clean outcome, and each head's attention pattern at its positions: a weight per prompt and key."""
        ...

    def generate(self, fixture: Fixture, batch: Batch, chunk: int | None = None) -> Int[Tensor, "prompt answer"]:
        """Return the free-running answers."""
        ...


def free_running(
    engine: Engine,
    fixture: Fixture,
    batch: Batch,
    forced: Int[Tensor, "prompt answer"],
    chunk: int | None = None,
) -> Int[Tensor, "prompt answer"]:
    """Return the answers of the free-running model, given the teacher-forced answers `forced`.

    Up to the first wrong token, both models read the same. So only the prompts with a wrong token need a free run.
    """
    wrong = (forced != batch.answers).any(1)
    found = forced.clone()
    if bool(wrong.any()):
        found[wrong] = engine.generate(fixture, batch[wrong], chunk)
    return found


def engine_for(fixture: Fixture, choice: str = "auto") -> tuple[Engine, str]:
    """Return the engine for a fixture's model and its name in reports. The name says why a faster one was not used.

    `choice` is ``auto`` or a name in :data:`harness.engines.names.ENGINES`.

    Raises:
        HarnessError: the chosen engine cannot run this model.
    """
    if choice != "auto":
        engine = engine_named(choice)
        if refused := engine.refusal(fixture):
            expected = f"a model that the {choice} engine can run"
            raise HarnessError.of(expected, f"{refused} in {fixture.name}", "choose auto")
        return engine, choice
    reasons: list[str] = []
    for name in ENGINES:
        engine = engine_named(name)
        if not (refused := engine.refusal(fixture)):
            return engine, f"{name} ({'; '.join(reasons)})" if reasons else name
        reasons.append(f"the {name} engine cannot run {refused}")
    raise AssertionError("the last engine takes any model")


def engine_named(name: str) -> Engine:
    """Return the engine of this name."""
    engine: Engine = import_module(ENGINES[name])  # a module with these functions
    return engine


def reference_engine() -> Engine:
    """Return the engine that all others are compared with. It runs any model, and knows every pattern and value."""
    return engine_named(next(reversed(ENGINES)))
