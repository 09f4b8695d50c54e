"""A claim as data: what is cut, what is asked, what is expected, and what the model's shape says of it already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.nodes import Node, Shape, reach
from harness.selection import Questions
from harness.spec_model import Method


@dataclass(frozen=True)
class Expect:
    """What a claim says will happen. None for a rate of a census: at least once, and never."""

    fails: tuple[str, ...]
    may_fail: tuple[str, ...]
    fail_rate: float | None
    intact_rate: float | None
    loss_below: float | None = None
    loss_above: float | None = None

    @property
    def says_loss(self) -> bool:
        """Whether the mean loss is compared with anything."""
        return self.loss_below is not None or self.loss_above is not None


@dataclass(frozen=True)
class Hypothesis:
    """One claim, ready to be judged."""

    id: str
    claim: str
    source: str
    fixture: str
    ablate: tuple[str, ...]
    nodes: tuple[Node, ...]
    one_at_a_time: bool
    method: Method
    reference: Questions
    seed: int
    questions: Questions
    expect: Expect
    gate: float
    by_construction: bool
    xfail: str | None
    tags: tuple[str, ...]
    shape: Shape
    fixtures: Path
    path: str
    line: int
    index: int  # its place among the file's claims
    key: str  # path::id

    @cached_property
    def reach(self) -> frozenset[str]:
        """The answer digits that the intervention could change at all."""
        return reach(self.nodes, self.shape)

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """The answer digits whose counts can come out either way and are compared, highest first."""
        digits = self.shape.layout.answer_digits
        return tuple(d for d in digits if d in self.reach and d not in self.expect.may_fail)

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return len(self.compared) + (self.expect.says_loss and bool(self.reach))

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim."""
        return self.comparisons == 0

    @property
    def target(self) -> str:
        """The nodes as the spec writes them."""
        return ", ".join(self.ablate) + (" (one at a time)" if self.one_at_a_time else "")
