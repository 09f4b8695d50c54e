"""The base class of claims. Each verb adds its own fields (``harness/specs/verbs/``)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from harness.base.intervals import ERROR, shared_confidence
from harness.base.ranges import Range
from harness.specs.fixtures.files import FixtureRef, runs_like
from harness.specs.nodes import Shape, reach
from harness.specs.siblings import Nodes
from harness.tasks.questions import Pairs, Questions, Source

# An ablation method; "itself" replaces each node's value with the same value, which changes nothing.
How = str
RUNS = "training runs"  # the subject of the comparison of all runs of a claim about several


@dataclass(frozen=True)
class Move:
    """Something that an `xfail` does not expect: another verdict, or a value outside of its range."""

    subject: str  # empty: the verdict
    expected: str | tuple[float, float]
    observed: str | float | None  # None: the subject has no value

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"subject": self.subject, "expected": self.expected, "observed": self.observed}


@dataclass(frozen=True)
class Xfail:
    """What is known of a claim that does not hold, and what is seen instead.

    A verdict alone stays what it is while the numbers behind it move: what failed on 3% of the prompts may fail on 40%
    some day, and the claim is refuted as before. So the range of each value may be said, too.
    """

    reason: str
    verdict: str | None = None  # None: any but supported
    observed: tuple[Range, ...] = ()

    def moves(self, verdict: str, values: Mapping[str, float]) -> tuple[Move, ...]:
        """Return what is not as expected, given the verdict and the observed value of each subject."""
        found = []
        if self.verdict not in (None, verdict):
            found.append(Move("", str(self.verdict), verdict))
        for due in self.observed:
            value = values.get(due.subject)
            if value is None or value not in due:
                found.append(Move(due.subject, (due.low, due.high), value))
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return what is expected as JSON values."""
        return {"verdict": self.verdict, "observed": {due.subject: [due.low, due.high] for due in self.observed}}


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """The fields that every claim has."""

    verb: ClassVar[str]
    id: str
    claim: str
    source: str
    fixture: str  # whose shape the claim is checked against
    questions: Questions | Pairs | None  # None: the claim asks no questions
    gate: float
    xfail: Xfail | None
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
    unproven: tuple[str, ...] = ()  # roles that it names, for which the fixture's roles file gives no evidence
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
    def loss_cap(self) -> float | None:
        """What a prompt's loss counts as at most: nats per answer token; None for a census, where it is not capped.

        It is what guessing costs: the log of the vocabulary's size.
        """
        return None if self.questions is None or self.questions.census else math.log(self.shape.task.d_vocab)

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
    def observable(self) -> tuple[str, ...]:
        """The subjects of its comparisons whose values can vary, as `xfail` names them."""
        return ()

    @property
    def ref(self) -> FixtureRef:
        """The fixture of whose shape it speaks."""
        return FixtureRef(self.fixture, self.fixtures, self.shape.asks)

    @property
    def refs(self) -> tuple[FixtureRef, ...]:
        """The fixtures that it is asked of."""
        return tuple(FixtureRef(name, self.fixtures, self.shape.asks) for name in self.models)

    @property
    def across(self) -> AcrossRuns | None:
        """The claim itself if it is about each of several training runs, else None."""
        return None

    @property
    def parts(self) -> tuple[Claim, ...]:
        """The claims that are asked: itself, or one for each training run."""
        return (self,)

    @property
    def fails(self) -> tuple[str, ...]:
        """The answer tokens that it says fail."""
        return ()

    @property
    def may_fail(self) -> tuple[str, ...]:
        """The answer tokens that it says may fail."""
        return ()

    @property
    def replaced_by(self) -> Source | None:
        """The prompts whose activations replace those of the nodes; None where there are none."""
        return None

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that the claim is tested on."""
        return (self.fixture,)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of fixtures that it is asked of, or that it compares; empty for a claim about one fixture."""
        return ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The fixtures that differ from those of its groups in the seed of training alone, and that it leaves out."""
        groups = (runs_like(group, self.fixtures) for group in self.groups if len(group) > 1)
        return tuple(dict.fromkeys(name for group in groups for name in group if name not in self.models))

    @property
    def without_evidence(self) -> dict[str, tuple[str, ...]]:
        """The roles that it names without evidence: role → the fixtures whose roles file gives none."""
        return dict.fromkeys(self.unproven, (self.fixture,))

    @property
    def named(self) -> Nodes:
        """The nodes that the claim is about; empty if it names none."""
        return ()

    @property
    def acting(self) -> Nodes:
        """The named nodes, if the claim says that they do something; empty if it says that they do nothing."""
        return self.named

    @property
    def unread(self) -> Nodes:
        """Those of the acting nodes that can change no answer token, because nothing reads them."""
        return tuple(node for node in self.acting if not reach([node], self.shape))


@dataclass(frozen=True)
class Absent:
    """A run on which the claim cannot be tested, because a role that it names has no node there."""

    fixture: str
    why: str
    elsewhere: bool  # the role has nodes, but not at the steps or layer that the claim names


@dataclass(frozen=True, kw_only=True)
class AcrossRuns(Claim):
    """A claim about each of several fixtures."""

    verb: ClassVar[str] = "across"
    members: tuple[Claim, ...]  # the claim on each fixture, with roles bound to its nodes
    absent: tuple[Absent, ...]
    group: tuple[str, ...]  # all fixtures, in order
    group_text: str  # as the spec writes it
    about: str  # the nodes, in the spec's words
    at_least: Fraction

    @property
    def across(self) -> AcrossRuns:
        """The claim itself."""
        return self

    @property
    def parts(self) -> tuple[Claim, ...]:
        """The claim on each fixture."""
        return self.members

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence: one, the share of runs; the claim on each run has its own."""
        return 1

    @property
    def observable(self) -> tuple[str, ...]:
        """All runs together, in what share of them it holds; and each run, 1 or 0."""
        return (RUNS, *self.group)

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim for every run."""
        return not self.absent and all(member.true_by_construction for member in self.members)

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that the claim is tested on."""
        return self.group

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """All its fixtures, one group."""
        return (self.group,)

    @property
    def without_evidence(self) -> dict[str, tuple[str, ...]]:
        """The roles that it names without evidence in some run: role → these runs."""
        roles = dict.fromkeys(role for member in self.members for role in member.unproven)
        return {role: tuple(one.fixture for one in self.members if role in one.unproven) for role in roles}

    @property
    def target(self) -> str:
        """What the claim is about, and in which runs."""
        return f"{self.about} of {self.group_text}"

    @property
    def how(self) -> str:
        """The method of the experiment on each run."""
        return self.members[0].how if self.members else ""

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A4 fails > 5%; others < 1%; in 7/8 of the runs``."""
        each = f"{self.members[0].expected}; " if self.members else ""
        return f"{each}in {'all' if self.at_least == 1 else f'{self.at_least} of the'} runs"


def loss_in_words(claim: Claim, below: float | None, above: float | None) -> list[str]:
    """Return texts like ``loss < 0.02``, or for a sample ``capped loss < 0.02``, one for each bound."""
    return bounds_in_words("loss" if claim.loss_cap is None else "capped loss", below, above, "{:g}")


def bounds_in_words(
    what: str, below: float | None, above: float | None, form: str, less: str = "<", more: str = ">"
) -> list[str]:
    """Return texts like ``loss < 0.02``, one for each bound that is not None."""
    found = [(less, below), (more, above)]
    return [f"{what} {sign} {form.format(bound)}" for sign, bound in found if bound is not None]
