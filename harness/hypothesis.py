"""A claim as data: what it says, of which model, asked how, and what the model's shape says of it already.

There is one class for each verb of a spec. Those that intervene are here: :class:`Hypothesis` for ``ablate``,
:class:`Keep` and :class:`Patch`; those that only look are in ``observations.py``. What they have in common is a
:class:`Claim`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from harness.intervals import ERROR, shared_confidence
from harness.nodes import Node, Shape, reach
from harness.selection import Pairs, Questions
from harness.spec_model import Method
from harness.variables import AnyVariable
from harness.variants import Nodes, siblings, write_nodes

# A method of ablation, or none at all: each node gets the value that it has, which changes nothing.
How = Method | Literal["itself"]
Verb = Literal["ablate", "keep", "patch", "answer", "attend", "learn", "across"]


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """What every claim has."""

    verb: ClassVar[Verb]
    id: str
    claim: str
    source: str
    fixture: str  # of whose shape it speaks
    questions: Questions | Pairs | None  # None: it asks none
    gate: float
    xfail: str | None
    tags: tuple[str, ...]
    shape: Shape
    fixtures: Path
    path: str
    line: int
    index: int  # its place among the file's claims
    key: str  # path::id
    by_construction: bool = False
    recorded: bool = False  # what was seen is written down; nobody predicted it
    survivors: tuple[tuple[str, str], ...] = ()  # mutants that hold as well, and why
    error: float = ERROR  # the chance that one of its intervals fails

    @property
    @abstractmethod
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""

    @property
    def confidence(self) -> float:
        """The confidence of each of its intervals."""
        return shared_confidence(self.comparisons, self.error)

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim."""
        return False

    @property
    @abstractmethod
    def target(self) -> str:
        """What it is about, in the spec's words."""

    @property
    @abstractmethod
    def how(self) -> str:
        """How that is looked at, in a word or two."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What is expected, in short."""

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures that it is asked of."""
        return (self.fixture,)

    @property
    def named(self) -> Nodes:
        """The nodes that it says something about."""
        return ()


@dataclass(frozen=True)
class Expect:
    """What an ablation claim says will happen. None for a rate of a census: at least once, and never."""

    fails: tuple[str, ...]
    may_fail: tuple[str, ...]
    fail_rate: float | None
    intact_rate: float | None
    loss_below: float | None = None
    loss_above: float | None = None
    only_here: bool = False  # no sibling makes the same digits fail

    @property
    def says_loss(self) -> bool:
        """Whether the mean loss is compared with anything."""
        return self.loss_below is not None or self.loss_above is not None


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Claim):
    """An ablation claim: these digits fail when these nodes are cut."""

    verb: ClassVar[Verb] = "ablate"
    questions: Questions
    ablate: tuple[str, ...]
    nodes: tuple[Node, ...]
    one_at_a_time: bool
    method: How
    reference: Questions
    seed: int
    expect: Expect

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
        """How many comparisons share the confidence; each sibling adds one for each digit that should fail."""
        own = len(self.compared) + (self.expect.says_loss and bool(self.reach))
        return own + (len(self.siblings) * len(self.telling) if self.expect.only_here else 0)

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim."""
        return self.comparisons == 0

    @property
    def telling(self) -> tuple[str, ...]:
        """The digits by which a sibling is told from these nodes."""
        return self.expect.fails

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """The sets of nodes of which the same could be true, by name; of a claim that nothing fails there are none."""
        return _named_siblings(self.nodes, self.telling, self.shape) if self.telling else {}

    @property
    def named(self) -> Nodes:
        """The nodes that are cut."""
        return self.nodes

    @property
    def target(self) -> str:
        """The nodes as the spec writes them."""
        return ", ".join(self.ablate) + (" (one at a time)" if self.one_at_a_time else "")

    @property
    def how(self) -> str:
        """The ablation method."""
        return self.method

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A5, A4 fail > 5%; A3 may; others < 1%; loss < 0.02``."""
        expect = self.expect
        fails, may = ", ".join(expect.fails), ", ".join(expect.may_fail)
        others = len(expect.fails) + len(expect.may_fail) < self.shape.layout.n_answer
        parts = []
        if fails:
            rate = "" if expect.fail_rate is None else f" > {100 * expect.fail_rate:g}%"
            parts.append(f"{fails} {'fail' if len(expect.fails) > 1 else 'fails'}{rate}")
        if may:
            parts.append(f"{may} may" if fails else f"only {may} may fail" if others else "any digit may fail")
        if others and expect.intact_rate is not None:
            parts.append(f"{'others' if parts else 'every digit fails'} < {100 * expect.intact_rate:g}%")
        elif not parts:
            parts.append("nothing fails")
        parts += ["only here"] if expect.only_here else []
        return "; ".join([*parts, *bounds_in_words("loss", expect.loss_below, expect.loss_above, "{:g}")])


@dataclass(frozen=True, kw_only=True)
class Keep(Hypothesis):
    """A claim that these nodes suffice: every other node of their kind is ablated, and these digits stay right."""

    verb: ClassVar[Verb] = "keep"
    digits: tuple[str, ...]  # that stay right; all others may fail
    kept: Nodes

    @property
    def named(self) -> Nodes:
        """The nodes that are left."""
        return self.kept

    @property
    def target(self) -> str:
        """What is left of the model, and how many nodes are cut."""
        return f"only {', '.join(self.ablate)} ({len(self.kept)} kept, {len(self.nodes)} cut)"

    @property
    def telling(self) -> tuple[str, ...]:
        """The digits that would stay right without a node that is not needed."""
        return self.digits

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """What is cut when one more node is, by that node: each of the kept ones in its turn."""
        return {str(node): tuple(sorted((*self.nodes, node))) for node in self.kept}

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A4 fails < 1%``."""
        whole = self.digits == self.shape.layout.answer_digits
        rate = "never fail" if self.expect.intact_rate is None else f"fail < {100 * self.expect.intact_rate:g}%"
        each = "; each is needed" if self.expect.only_here else ""
        return f"{'all digits' if whole else ', '.join(self.digits)} {rate}{each}"


@dataclass(frozen=True, kw_only=True)
class Patch(Claim):
    """An interchange claim: a node carries a variable, and these digits follow when its value is carried over."""

    verb: ClassVar[Verb] = "patch"
    questions: Pairs
    node_text: str
    nodes: tuple[Node, ...]
    variable: AnyVariable
    digits: tuple[str, ...]  # that follow, highest first
    may_change: tuple[str, ...]
    follow_rate: float | None  # None for a census: always, and never
    intact_rate: float | None
    only_here: bool = False  # no sibling carries it too

    @cached_property
    def reach(self) -> frozenset[str]:
        """The answer digits that the intervention could change at all."""
        return reach(self.nodes, self.shape)

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """The sets of nodes of which the same could be true, by name."""
        return _named_siblings(self.nodes, self.digits, self.shape)

    @cached_property
    def intact(self) -> tuple[str, ...]:
        """The digits that could change and may not."""
        free = {*self.digits, *self.may_change}
        return tuple(d for d in self.shape.layout.answer_digits if d in self.reach and d not in free)

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence: each digit, those that follow jointly, pairs that agree."""
        own = len(self.digits) + (len(self.digits) > 1) + len(self.intact) + 1
        return own + (len(self.siblings) if self.only_here else 0)

    @property
    def named(self) -> Nodes:
        """The nodes that carry it."""
        return self.nodes

    @property
    def target(self) -> str:
        """The nodes, and what they carry to where."""
        return f"{self.variable} at {self.node_text} to {', '.join(self.digits)}"

    @property
    def how(self) -> str:
        """What is done."""
        return "patch"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A5, A4 follow > 90%; A3 may change; others stay > 99%``."""
        follow = "follow" if len(self.digits) > 1 else "follows"
        rate = "" if self.follow_rate is None else f" > {100 * self.follow_rate:g}%"
        parts = [f"{', '.join(self.digits)} {follow}{rate}"]
        if self.may_change:
            parts.append(f"{', '.join(self.may_change)} may change")
        rate = "" if self.intact_rate is None else f" > {100 - 100 * self.intact_rate:g}%"
        return "; ".join([*parts, f"others stay{rate}", *(["only here"] if self.only_here else [])])


def _named_siblings(nodes: Nodes, digits: tuple[str, ...], shape: Shape) -> dict[str, Nodes]:
    found = (others for others in siblings(nodes, shape) if set(digits) <= reach(others, shape))
    return {write_nodes(others): others for others in found}


def bounds_in_words(
    what: str, below: float | None, above: float | None, form: str, less: str = "<", more: str = ">"
) -> list[str]:
    """Return ``loss < 0.02`` and the like, for the bounds that there are."""
    found = [(less, below), (more, above)]
    return [f"{what} {sign} {form.format(bound)}" for sign, bound in found if bound is not None]
