"""The questions, or pairs of questions, of a claim, as data: a named set, a list, or a sample. Imports no torch.

A named set and a list are a *census*: they are all the questions the claim is about. A *sample* is drawn from the
population that its description defines, so its rates come with intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.positions import AnyQuestion, Positions

# `n: auto` asks AUTO_FIRST questions, then twice as many, and so on, at most AUTO_LOOKS times.
AUTO_FIRST, AUTO_LOOKS = 500, 7
AUTO_MOST = AUTO_FIRST * 2 ** (AUTO_LOOKS - 1)


class AnyStratum(Protocol):
    """A part of a task's prompts, from which a sample is drawn; only the task knows what else it holds."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def short(self) -> str:
        """What it is called after another stratum of the same kind."""
        ...


@dataclass(frozen=True)
class CaseStratum:
    """The prompts of one case."""

    name: str

    @property
    def short(self) -> str:
        """Its name."""
        return self.name


@dataclass(frozen=True)
class NamedSet:
    """One of the task's question sets."""

    name: str
    census = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class QuestionList:
    """Questions written out in the spec."""

    questions: tuple[AnyQuestion, ...]
    census = True

    def __str__(self) -> str:
        return f"{len(self.questions)} listed"


@dataclass(frozen=True)
class Sample:
    """`n` random questions: uniform, or equally many from each stratum. `auto`: more, until the claim is settled."""

    n: int
    seed: int
    strata: tuple[AnyStratum, ...] = ()
    auto: bool = False
    census = False

    @property
    def population(self) -> str:
        """What is drawn from, in short: ``uniform``, or the strata."""
        first = self.strata[0].name if self.strata else "uniform"
        return first if len(self.strata) < 2 else f"{first} … {self.strata[-1].short}"

    def __str__(self) -> str:
        return f"{self.n}{' (auto)' if self.auto else ''} × {self.population}, seed {self.seed}"


@dataclass(frozen=True)
class Counterparts:
    """The counterpart of each of these prompts."""

    of: NamedSet | QuestionList | Sample
    name: str
    seed: int = 0  # of counterparts that are drawn

    @property
    def census(self) -> bool:
        """Whether these are all the prompts the claim is about."""
        return self.of.census

    def __str__(self) -> str:
        return f"{self.name} of each"


@dataclass(frozen=True)
class Donors:
    """A donor for each of these prompts, drawn from what the reference is: of a sample, from its population.

    No two prompts share a donor by more than chance. So how often they fail is a binomial count of pairs of a prompt
    and a donor, and the size of a sampled reference plays no part.
    """

    of: NamedSet | QuestionList | Sample
    reference: NamedSet | QuestionList | Sample
    seed: int = 0

    def __str__(self) -> str:
        reference = self.reference.population if isinstance(self.reference, Sample) else self.reference
        return f"a donor each from {reference}, seed {self.seed}"


@dataclass(frozen=True)
class Toward:
    """The prompts of which these are the counterparts, judged by these ones' answers: their own are the wrong ones."""

    counterparts: Counterparts

    def __str__(self) -> str:
        return f"{self.counterparts.of}, toward {self.counterparts.name}"


MOST_IN_PART = 256


@dataclass(frozen=True)
class Part:
    """At most :data:`MOST_IN_PART` of these prompts, spread evenly over them: enough to see how far values move."""

    of: NamedSet | QuestionList | Sample

    @staticmethod
    def rows(n: int) -> list[int]:
        """Return which of `n` prompts these are."""
        size = min(n, MOST_IN_PART)
        return [i * n // size for i in range(size)]


Questions = NamedSet | QuestionList | Sample
Source = Questions | Counterparts | Donors | Part | Toward  # whose activations may replace those of other prompts


def shares(n: int, parts: int) -> list[int]:
    """Return how many of `n` questions each part gets: nearly equal numbers; the first parts get the remainder."""
    share, rest = divmod(n, parts)
    return [share + (i < rest) for i in range(parts)]


class PairsError(HarnessError):
    """Pairs of questions that say nothing about a claim, or that cannot be drawn."""


class Pair(NamedTuple):
    """Two questions of an interchange intervention, which copies a value from the source into the base."""

    source: AnyQuestion
    base: AnyQuestion


@dataclass(frozen=True)
class PairList:
    """Pairs written out in the spec."""

    pairs: tuple[Pair, ...]
    census = True

    def __str__(self) -> str:
        return f"{len(self.pairs)} listed pair{'' if len(self.pairs) == 1 else 's'}"


@dataclass(frozen=True)
class PairSample:
    """`n` random pairs where copying a variable's value changes the claim's tokens, and as many where it agrees."""

    n: int
    seed: int
    auto: bool = False
    census = False

    def __str__(self) -> str:
        return f"{self.n}{' (auto)' if self.auto else ''} pairs, seed {self.seed}"


Pairs = PairList | PairSample


def read_pair(text: object, layout: Positions) -> Pair:
    """Return the pair that `text` writes: ``77711+22711 -> 44444+55555``, from the first into the second.

    Raises:
        HarnessError: the text is not a pair.
    """
    source, arrow, base = text.partition("->") if isinstance(text, str) else ("", "", "")
    if not arrow:
        raise HarnessError.of("a pair like 77711+22711 -> 44444+55555", shorten(text), "write source -> base")
    return Pair(layout.read_question(source.strip()), layout.read_question(base.strip()))


def write_pair(pair: Pair, layout: Positions) -> str:
    """Return the text of a pair, in the form that :func:`read_pair` reads."""
    return f"{layout.write_question(pair.source)} -> {layout.write_question(pair.base)}"
