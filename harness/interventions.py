"""Which values replace which: mean, zero and resample ablation as data, for any engine to apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.errors import MeasurementError, Problem
from harness.nodes import Node
from harness.positions import Positions

# The value of each node on each question of some set, as the clean model computes it.
Activations = Mapping[Node, Float[Tensor, "question d"]]


@dataclass(frozen=True)
class Intervention:
    """Replacement values for nodes: the same row for every question, or for question i the row ``donors[i]``."""

    values: Activations
    donors: Int[Tensor, " question"] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes whose values are replaced, in the order of computation."""
        return tuple(sorted(self.values))

    def at(self, node: Node, questions: slice) -> Float[Tensor, "question d"]:
        """Return what `node` gets on these questions; one row stands for all of them."""
        rows = self.values[node]
        return rows if self.donors is None else rows[self.donors[questions].to(rows.device)]


CLEAN = Intervention({})  # of no nodes: the clean run


def zero(widths: Mapping[Node, int]) -> Intervention:
    """Return zero ablation: each node's value, of the width given, becomes 0."""
    return Intervention({node: torch.zeros(1, width) for node, width in widths.items()})


def mean(nodes: Iterable[Node], means: Mapping[Node, Float[Tensor, " d"]]) -> Intervention:
    """Return mean ablation: each node's value becomes its own mean over the reference questions.

    The mean is of the same layer and step as the node; the notebook wrote layer 0's into layer 1 too.
    """
    return Intervention({node: means[node].unsqueeze(0) for node in nodes})


def resample(activations: Activations, donors: Int[Tensor, " question"]) -> Intervention:
    """Return resample ablation: all nodes take the values they have on one other question, the donor.

    `activations` are the nodes' values on the reference questions, which `donors` counts.
    """
    return Intervention(activations, donors)


def draw_donors(
    tokens: Int[Tensor, "question pos"], reference: Int[Tensor, "donor pos"], layout: Positions, seed: int
) -> Int[Tensor, " question"]:
    """Return for each question the index of a reference question, uniform among those that differ from it.

    Raises:
        MeasurementError: a question has no reference question but itself.
    """
    asked, offered = tokens[:, : layout.answer_start], reference[:, : layout.answer_start]
    distinct = torch.unique(offered, dim=0)
    if len(distinct) == 1 and bool((asked == distinct).all(1).any()):
        raise MeasurementError(
            Problem(
                "a donor other than the question itself",
                "none in the reference set",
                "name a larger reference",
            )
        )
    generator = torch.Generator().manual_seed(seed)
    donors = torch.randint(len(offered), (len(asked),), generator=generator)
    while len(clash := (asked == offered[donors]).all(1).nonzero().squeeze(1)):
        donors[clash] = torch.randint(len(offered), (len(clash),), generator=generator)
    return donors
