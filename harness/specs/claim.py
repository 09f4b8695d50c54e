"""The base class of claims. Each verb adds its own fields (``harness/specs/verbs/``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.base.intervals import ERROR, shared_confidence
from harness.specs.keys import Method
from harness.specs.nodes import Shape
from harness.specs.siblings import Nodes
from harness.tasks.questions import Pairs, Questions

# An ablation method; "itself" replaces each node's value with the same value, which changes nothing.
How = Method | Literal["itself"]
Verb = Literal["ablate", "keep", "patch", "answer", "attend", "learn", "across"]


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """The fields that every claim has."""

    verb: ClassVar[Verb]
    id: str
    claim: str
    source: str
    fixture: str  # whose shape the claim is checked against
    questions: Questions | Pairs | None  # None: the claim asks no questions
    gate: float
    xfail: str | None
    tags: tuple[str, ...]
    shape: Shape
    fixtures: Path
    path: str
    line: int
    index: int  # position among the claims of the file
    key: str  # path::id
    by_construction: bool = False
    recorded: bool = False  # the expectation was observed first, not predicted
    survivors: tuple[tuple[str, str], ...] = ()  # (mutant, reason): mutants that are supported too
    error: float = ERROR  # chance that any of the claim's intervals fails

    @property
    @abstractmethod
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""

    @property
    def confidence(self) -> float:
        """The confidence of each of the claim's intervals."""
        return shared_confidence(self.comparisons, self.error)

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim."""
        return False

    @property
    @abstractmethod
    def target(self) -> str:
        """What the claim is about, in the spec's words."""

    @property
    @abstractmethod
    def how(self) -> str:
        """The method of the experiment, in a word or two."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What is expected, in short."""

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that the claim is tested on."""
        return (self.fixture,)

    @property
    def named(self) -> Nodes:
        """The nodes that the claim is about; empty if it names none."""
        return ()


def bounds_in_words(
    what: str, below: float | None, above: float | None, form: str, less: str = "<", more: str = ">"
) -> list[str]:
    """Return texts like ``loss < 0.02``, one for each bound that is not None."""
    found = [(less, below), (more, above)]
    return [f"{what} {sign} {form.format(bound)}" for sign, bound in found if bound is not None]
