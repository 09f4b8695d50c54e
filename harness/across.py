"""A claim that is asked of several training runs, and in how many of them it holds. Imports no torch.

Head numbers belong to one run, and so, perhaps, does everything else that is seen in one. A spec's ``fixtures`` asks
the same of each: a verdict on every run, by intervals that hold for all of them together, and with the share that the
spec expects, 7/8 say, a verdict on the claim. Those runs are a sample of the training runs that the recipe could have
given, from which the interval of the share comes; it is reported, and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from harness.hypothesis import Claim, Verb


@dataclass(frozen=True)
class Absent:
    """A run of which the claim cannot be asked: a role that it names has no node there."""

    fixture: str
    why: str
    elsewhere: bool  # the role has nodes, but not where the claim has it


@dataclass(frozen=True, kw_only=True)
class AcrossRuns(Claim):
    """A claim about each of several fixtures."""

    verb: ClassVar[Verb] = "across"
    members: tuple[Claim, ...]  # the same of each fixture, at the nodes that it has
    absent: tuple[Absent, ...]
    group: tuple[str, ...]  # all of them, in order
    group_text: str  # as the spec writes it
    about: str  # the spec's words for the nodes
    at_least: Fraction

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence: those of each run share its part of it."""
        return 1

    @property
    def true_by_construction(self) -> bool:
        """Whether the shape settles it of every run."""
        return not self.absent and all(member.true_by_construction for member in self.members)

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that it is asked of."""
        return self.group

    @property
    def target(self) -> str:
        """What it is about, and in which runs."""
        return f"{self.about} of {self.group_text}"

    @property
    def how(self) -> str:
        """How each is looked at."""
        return self.members[0].how if self.members else ""

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A4 fails > 5%; others < 1%; in 7/8 of the runs``."""
        each = f"{self.members[0].expected}; " if self.members else ""
        return f"{each}in {'all' if self.at_least == 1 else f'{self.at_least} of the'} runs"
