"""What replaces the values of ablated nodes: a function for each method, named in `harness/specs/methods.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.engines import interventions
from harness.engines.interventions import Intervention
from harness.judging.requests import Ablation
from harness.models.fixtures import Fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.methods import EVERY_METHOD
from harness.specs.nodes import Node, reach
from harness.tasks.batch import Batch
from harness.tasks.questions import Donors, Source


class Values(Protocol):
    """What a method needs of the bench."""

    def fixture(self, ref: FixtureRef) -> Fixture:
        """Return the model."""
        ...

    def prompts(self, ref: FixtureRef, source: Source) -> Batch:
        """Return the batch of prompts."""
        ...

    def means(self, ref: FixtureRef, reference: Source) -> dict[Node, Tensor]:
        """Return the mean clean value of every node."""
        ...

    def values(self, ref: FixtureRef, source: Source, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Return the clean values of nodes on every prompt."""
        ...


Replacement = Callable[[Iterable[Node]], Intervention]


def replacement(ablation: Ablation, bench: Values, prompts: Batch) -> Replacement:
    """Return a function from nodes to the intervention that replaces their values on these prompts.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a prompt has no donor.
    """
    if ablation.method == "itself":
        return prompted(ablation, bench, prompts)
    module, _, name = EVERY_METHOD[ablation.method].maker.partition(":")
    make: Callable[..., Replacement] = getattr(import_module(module), name)
    return make(ablation, bench, prompts)


def zero(ablation: Ablation, bench: Values, prompts: Batch) -> Replacement:
    """Return zero ablation: every value becomes zero."""
    fixture = bench.fixture(ablation.model)
    return lambda nodes: interventions.zero({node: fixture.width(node) for node in nodes})


def mean(ablation: Ablation, bench: Values, prompts: Batch) -> Replacement:
    """Return mean ablation: every value becomes its mean over the reference prompts."""
    means, fixture = bench.means(ablation.model, ablation.reference), bench.fixture(ablation.model)
    return lambda nodes: interventions.mean(with_value(nodes, means, fixture), means)


def prompted(ablation: Ablation, bench: Values, prompts: Batch) -> Replacement:
    """Return the intervention by other prompts: every value becomes that on a prompt's own donor or counterpart."""
    source = ablation.captured_from
    assert source is not None  # the method captures
    if isinstance(source, Donors) and (wide := [node for node in ablation.nodes if node.everywhere]):
        expected = f"a method that needs no donors, for {wide[0]} at every position"
        raise MeasurementError(Problem(expected, "donors of other lengths", "write method: {corrupt: NAME}, or mean"))
    values, fixture = bench.values(ablation.model, source, ablation.nodes), bench.fixture(ablation.model)
    own = torch.arange(len(prompts))
    return lambda nodes: interventions.resample({n: values[n] for n in with_value(nodes, values, fixture)}, own)


def with_value(nodes: Iterable[Node], values: Mapping[Node, Tensor], fixture: Fixture) -> list[Node]:
    """Return the nodes that have a value; one that nothing reads has none in every engine, and needs none.

    Raises:
        MeasurementError: another node has no value, as not every reference prompt has its step.
    """
    found = []
    for node in nodes:
        if node in values:
            found.append(node)
        elif reach([node], fixture.shape):
            prompts = fixture.task.nouns.prompts
            raise MeasurementError(Problem(f"{node} in all reference {prompts}", "not in all", "name the position"))
    return found
