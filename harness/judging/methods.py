"""What replaces the values of ablated nodes: a function for each method, named in `harness/specs/methods.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from harness.engines import interventions
from harness.engines.interventions import Intervention
from harness.judging.requests import Ablation
from harness.models.fixtures import Fixture
from harness.specs.fixture_files import FixtureRef
from harness.specs.methods import METHODS
from harness.specs.nodes import Node
from harness.tasks.questions import Questions


class Values(Protocol):
    """What a method needs of the bench."""

    def fixture(self, ref: FixtureRef) -> Fixture:
        """Return the model."""
        ...

    def tokens(self, ref: FixtureRef, questions: Questions) -> Tensor:
        """Return the tokens of questions."""
        ...

    def means(self, ref: FixtureRef, reference: Questions) -> dict[Node, Tensor]:
        """Return the mean clean value of every node."""
        ...

    def values(self, ref: FixtureRef, questions: Questions, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Return the clean values of nodes on every question."""
        ...


Replacement = Callable[[Iterable[Node]], Intervention]


def replacement(ablation: Ablation, bench: Values, tokens: Int[Tensor, "question pos"]) -> Replacement:
    """Return a function from nodes to the intervention that replaces their values on the questions in `tokens`.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a question has no donor.
    """
    if ablation.method == "itself":
        return _values_of(ablation.questions, torch.arange(len(tokens)), ablation, bench)
    module, _, name = METHODS[ablation.method].maker.partition(":")
    make: Callable[..., Replacement] = getattr(import_module(module), name)
    return make(ablation, bench, tokens)


def zero(ablation: Ablation, bench: Values, tokens: Int[Tensor, "question pos"]) -> Replacement:
    """Return zero ablation: every value becomes zero."""
    fixture = bench.fixture(ablation.model)
    return lambda nodes: interventions.zero({node: fixture.width(node) for node in nodes})


def mean(ablation: Ablation, bench: Values, tokens: Int[Tensor, "question pos"]) -> Replacement:
    """Return mean ablation: every value becomes its mean over the reference questions."""
    means = bench.means(ablation.model, ablation.reference)
    # A node that nothing reads has no value in every engine, and needs none.
    return lambda nodes: interventions.mean([node for node in nodes if node in means], means)


def resample(ablation: Ablation, bench: Values, tokens: Int[Tensor, "question pos"]) -> Replacement:
    """Return resample ablation: every value becomes that on a random reference question, the same for all nodes."""
    reference, layout = bench.tokens(ablation.model, ablation.reference), bench.fixture(ablation.model).layout
    donors = interventions.draw_donors(tokens, reference, layout, ablation.seed)
    return _values_of(ablation.reference, donors, ablation, bench)


def _values_of(source: Questions, donors: Int[Tensor, " question"], ablation: Ablation, bench: Values) -> Replacement:
    values = bench.values(ablation.model, source, ablation.nodes)
    return lambda nodes: interventions.resample({node: values[node] for node in nodes if node in values}, donors)
