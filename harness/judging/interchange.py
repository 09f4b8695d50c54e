"""Runs interchange interventions: the values of nodes on source prompts are carried into base prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from harness.engines import interventions
from harness.engines.groups import decided_answers
from harness.engines.interventions import CLEAN, Intervention
from harness.engines.predictions import Outcome
from harness.judging.answers import Interchanged
from harness.judging.methods import Values
from harness.judging.movement import moved, spreads
from harness.judging.requests import Interchange
from harness.specs.fixtures.files import FixtureRef
from harness.specs.nodes import Node
from harness.tasks.batch import Batch
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import Part


class Running(Values, Protocol):
    """What an interchange needs of the bench."""

    def run(self, ref: FixtureRef, prompts: Batch, changes: Sequence[Intervention]) -> list[Outcome]:
        """Return what the model answers under each intervention."""
        ...

    def capture(
        self, ref: FixtureRef, prompts: Batch, nodes: Iterable[Node]
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt d"]]]:
        """Return the clean outcome on these prompts, and the clean values of nodes."""
        ...

    def fixed_steps(self, ref: FixtureRef) -> frozenset[int]:
        """Return the steps at which all prompts of the task have the same token."""
        ...


def run_interchange(request: Interchange, bench: Running) -> Interchanged:
    """Return the clean runs, and those under the interchanges, of pairs that are drawn for the request.

    Raises:
        HarnessError: pairs that say nothing, or none that change these tokens.
        MeasurementError: a hook that did not fire, or a logit that is not finite.
    """
    ref, fixture = request.model, bench.fixture(request.model)
    drawn = draw_pairs(request.questions, request.variable, request.tokens, fixture.task)
    every = {node for nodes in request.sets for node in nodes}
    source, values = bench.capture(ref, drawn.sources, every)

    def carry(nodes: Iterable[Node], donors: Int[Tensor, " pair"]) -> Intervention:
        # A base without a source of this kind gets any, and is not counted.
        return interventions.resample({node: values[node] for node in nodes if node in values}, donors.clamp(min=0))

    own = carry(request.sets[0], drawn.differing)
    others = (carry(nodes, drawn.differing) for nodes in request.sets[1:])
    changes = [carry(request.sets[0], drawn.agreeing), own, *others]
    base, agreeing, *differing = (
        outcome.check(fixture.name) for outcome in bench.run(ref, drawn.bases, [CLEAN, *changes])
    )
    # How far it moves the values of its nodes, in some of the bases that have a source.
    paired = (drawn.differing >= 0).nonzero().squeeze(1)
    rows = paired[Part.rows(len(paired))]
    _, before = bench.capture(ref, drawn.bases[rows], own.nodes)
    moves = moved(own, rows, before, spreads(ref, own.nodes, bench))
    decided = decided_answers(request.sets[:1], fixture, drawn.bases, bench.fixed_steps(ref))
    return Interchanged(fixture, drawn, source.check(fixture.name), base, agreeing, differing, moves, decided)
