"""A claim as data: what it says, of which model, asked how, and what the model's shape says of it already.

There is one class for each verb of a spec: :class:`Hypothesis` for ``ablate``, :class:`Answer`, :class:`Attend`
and :class:`Learn`. What they have in common is a :class:`Claim`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from harness.nodes import Node, Shape, reach
from harness.selection import Questions
from harness.spec_model import Method

Verb = Literal["ablate", "answer", "attend", "learn"]
MAJORITY = 0.5  # of training runs, where a claim about them names no other share


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """What every claim has."""

    verb: ClassVar[Verb]
    id: str
    claim: str
    source: str
    fixture: str  # of whose shape it speaks
    questions: Questions | None  # None: it asks none
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

    @property
    @abstractmethod
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""

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


@dataclass(frozen=True)
class Expect:
    """What an ablation claim says will happen. None for a rate of a census: at least once, and never."""

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


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Claim):
    """An ablation claim: these digits fail when these nodes are cut."""

    verb: ClassVar[Verb] = "ablate"
    questions: Questions
    ablate: tuple[str, ...]
    nodes: tuple[Node, ...]
    one_at_a_time: bool
    method: Method
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
        return "; ".join([*parts, *bounds_in_words("loss", expect.loss_below, expect.loss_above, "{:g}")])


@dataclass(frozen=True, kw_only=True)
class Answer(Claim):
    """A claim about how well the clean model answers: each fixture of a group, or one group against another."""

    verb: ClassVar[Verb] = "answer"
    questions: Questions
    digits: tuple[str, ...]  # that must be right, each by itself; none: the answer as a whole
    free_running: bool
    group: tuple[str, ...]
    group_text: str  # as the spec writes it; empty: the file's fixture
    than: tuple[str, ...]  # the other group; none: there is nothing to compare with
    than_text: str
    at_least: float | None  # the accuracy, or with `than` the gain in it, as a fraction of the questions
    at_most: float | None
    loss_below: float | None = None
    loss_above: float | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """What is right or wrong on a question: the whole answer, or each of these digits."""
        return self.digits or ("whole",)

    @property
    def says_loss(self) -> bool:
        """Whether the mean loss is compared with anything."""
        return self.loss_below is not None or self.loss_above is not None

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence; one interval serves both bounds."""
        counted = len(self.subjects) * (self.at_least is not None or self.at_most is not None)
        return (counted + self.says_loss) * (1 if self.than else len(self.group))

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures of both groups."""
        return tuple(dict.fromkeys((*self.group, *self.than)))

    @property
    def target(self) -> str:
        """What is answered, and by whom."""
        whom = f" of {self.group_text}" if self.group_text else ""
        against = f" against {self.than_text}" if self.than else ""
        return f"{', '.join(self.digits) or 'answers'}{whom}{against}"

    @property
    def how(self) -> str:
        """Who writes the context."""
        return "free-running" if self.free_running else "clean"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``≥ 99.9% right``."""
        return "; ".join(filter(None, [self.expected_accuracy, self.expected_loss]))

    @property
    def expected_accuracy(self) -> str:
        """What is expected of the accuracy, or of the gain in it; empty: nothing."""
        most, least = (None if bound is None else 100 * bound for bound in (self.at_most, self.at_least))
        what, form = ("gain", "{:g} points") if self.than else ("right", "{:g}%")
        return ", ".join(bounds_in_words(what, most, least, form, "≤", "≥"))

    @property
    def expected_loss(self) -> str:
        """What is expected of the mean loss; empty: nothing."""
        return ", ".join(bounds_in_words("loss", self.loss_below, self.loss_above, "{:g}"))


@dataclass(frozen=True, kw_only=True)
class Attend(Claim):
    """A claim about where a head looks: the mean share of its attention that goes to some steps."""

    verb: ClassVar[Verb] = "attend"
    questions: Questions
    node: Node
    to: tuple[str, ...]  # as the spec names them
    steps: tuple[int, ...]
    at_least: float | None
    at_most: float | None

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return 1

    @property
    def target(self) -> str:
        """The head, and where it looks."""
        return f"{self.node} to {', '.join(self.to)}"

    @property
    def how(self) -> str:
        """What is measured."""
        return "attention"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``mass ≥ 0.8``."""
        return "; ".join(bounds_in_words("mass", self.at_most, self.at_least, "{:g}", "≤", "≥"))


@dataclass(frozen=True, kw_only=True)
class Learn(Claim):
    """A claim about training runs: in each, one loss falls for good below a bound before others do."""

    verb: ClassVar[Verb] = "learn"
    first: tuple[str, ...]  # series of the learning curves
    before: tuple[str, ...]
    below: float  # nats per digit
    group: tuple[str, ...]
    group_text: str  # as the spec writes it
    share_above: float  # of training runs like these

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return 1

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures whose training runs are looked at."""
        return self.group

    @property
    def target(self) -> str:
        """Which series come first, and before which."""
        return f"{', '.join(self.first)} before {', '.join(self.before)} in {self.group_text or self.fixture}"

    @property
    def how(self) -> str:
        """What is looked at."""
        return "learning curves"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``in > 50% of training runs``."""
        return f"in > {100 * self.share_above:g}% of training runs"


def bounds_in_words(
    what: str, below: float | None, above: float | None, form: str, less: str = "<", more: str = ">"
) -> list[str]:
    """Return ``loss < 0.02`` and the like, for the bounds that there are."""
    found = [(less, below), (more, above)]
    return [f"{what} {sign} {form.format(bound)}" for sign, bound in found if bound is not None]
