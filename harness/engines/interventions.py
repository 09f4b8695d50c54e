"""Interventions as data that any engine can apply: zero, mean and resample ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.specs.nodes import Node

# The clean run's value of each node, on each prompt of a set.
Activations = Mapping[Node, Float[Tensor, "prompt d"]]


@dataclass(frozen=True)
class Intervention:
    """Replacement values for nodes: one row for all prompts, or the row ``donors[i]`` for prompt i.

    The values of a node at a name that stands for several positions are side by side; one value serves all of them.
    """

    values: Activations
    donors: Int[Tensor, " prompt"] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes whose values are replaced, in the order of computation."""
        return tuple(sorted(self.values))

    def at(self, node: Node, prompts: slice) -> Float[Tensor, "prompt d"]:
        """Return the replacement values of `node` on these prompts; without donors, one row for all of them."""
        rows = self.values[node]
        return rows if self.donors is None else rows[self.donors[prompts].to(rows.device)]


CLEAN = Intervention({})  # no nodes: the clean run


def zero(widths: Mapping[Node, int]) -> Intervention:
    """Return zero ablation: each node's value becomes 0. `widths` gives the size of each node's value."""
    return Intervention({node: torch.zeros(1, width) for node, width in widths.items()})


def mean(nodes: Iterable[Node], means: Mapping[Node, Float[Tensor, " d"]]) -> Intervention:
    """Return mean ablation: each node's value becomes its own mean over the reference prompts.

    The mean is taken at the node's own layer and step. (The notebook wrote layer 0's means into layer 1 too.)
    """
    return Intervention({node: means[node].unsqueeze(0) for node in nodes})


def resample(activations: Activations, donors: Int[Tensor, " prompt"]) -> Intervention:
    """Return resample ablation: on each prompt, all nodes take their values from one other prompt, the donor.

    `activations` are the nodes' values on the reference prompts. `donors` are indices of reference prompts.
    """
    return Intervention(activations, donors)
