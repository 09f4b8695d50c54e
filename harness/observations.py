"""Claims that only look: how well a model answers, where a head looks, what is learned first. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.hypothesis import Claim, Verb, bounds_in_words
from harness.nodes import Node
from harness.selection import Questions


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
    """A claim about where heads of one step look: the mean share of their attention that goes to some steps."""

    verb: ClassVar[Verb] = "attend"
    questions: Questions
    node_text: str  # as the spec writes it
    nodes: tuple[Node, ...]
    to: tuple[str, ...]  # as the spec names them
    steps: tuple[int, ...]
    at_least: float | None
    at_most: float | None

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return 1

    @property
    def named(self) -> tuple[Node, ...]:
        """The heads."""
        return self.nodes

    @property
    def target(self) -> str:
        """The heads, and where they look."""
        return f"{self.node_text} to {', '.join(self.to)}"

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
