"""Which questions a claim is asked of, as data: a named set, a list, or a description. Imports no torch.

A named set and a list are a *census*: they are all the questions the claim is about. A description is a
*sample* of the population it describes, so its rates come with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.errors import HarnessError, shorten
from harness.layout import Layout
from harness.positions import AnyQuestion, Positions

TRI_CASES = ("<9", "=9", ">9")  # what a column's digits sum to, without a carry
TriCase = Literal["<9", "=9", ">9"]
Case = Literal["BA", "MC1", "SimpleUS9", "CascadeUS9"]
# In the order of the longest cascade: no carry, none that runs, one column, several.
CASES: tuple[Case, ...] = ("BA", "MC1", "SimpleUS9", "CascadeUS9")
Stratify = Literal["case", "cascade"]
# `n: auto` asks the first number of questions, then twice as many, and so on, at most so often.
AUTO_FIRST, AUTO_LOOKS = 500, 7
AUTO_MOST = AUTO_FIRST * 2 ** (AUTO_LOOKS - 1)


@dataclass(frozen=True)
class Stratum:
    """The questions whose longest cascade (-1: no carry at all) and whose columns are as given."""

    name: str
    longest: frozenset[int]
    columns: tuple[frozenset[str], ...]  # allowed tri-cases, units first


@dataclass(frozen=True)
class CaseStratum:
    """The questions of one case, of a task that somebody brought."""

    name: str


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
    strata: tuple[Stratum | CaseStratum, ...] = ()
    auto: bool = False
    census = False

    def __str__(self) -> str:
        first = self.strata[0].name if self.strata else "uniform"
        of = first if len(self.strata) < 2 else f"{first} … {self.strata[-1].name.removeprefix('cascade ')}"
        return f"{self.n}{' (auto)' if self.auto else ''} × {of}, seed {self.seed}"


Questions = NamedSet | QuestionList | Sample


def shares(n: int, parts: int) -> list[int]:
    """Return how many of `n` questions each part gets: as equally many as can be, the first ones the remainder."""
    share, rest = divmod(n, parts)
    return [share + (i < rest) for i in range(parts)]


class Pair(NamedTuple):
    """A value is carried from the source question into the base question."""

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
    """`n` random pairs in which a variable, carried over, changes a claim's digits; and as many where it agrees."""

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
        HarnessError: it is none.
    """
    source, arrow, base = text.partition("->") if isinstance(text, str) else ("", "", "")
    if not arrow:
        raise HarnessError.of("a pair like 77711+22711 -> 44444+55555", shorten(text), "write source -> base")
    return Pair(layout.read_question(source.strip()), layout.read_question(base.strip()))


def write_pair(pair: Pair, layout: Positions) -> str:
    """Return the text of a pair, which :func:`read_pair` reads."""
    return f"{layout.write_question(pair.source)} -> {layout.write_question(pair.base)}"


def lengths_of_case(case: Case, layout: Layout) -> frozenset[int]:
    """Return which lengths of the longest cascade (-1: no carry) make a question's case `case`."""
    first = CASES.index(case) - 1
    last = layout.n_digits - 1 if case == "CascadeUS9" else first
    return frozenset(range(first, min(last, layout.n_digits - 1) + 1))


def lengths_of_cascade(length: int) -> frozenset[int]:
    """Return the same for a cascade length, where 0 is also a question without any carry."""
    return frozenset({-1, 0} if length == 0 else {length})


def _possible_lengths(columns: Sequence[frozenset[str]]) -> frozenset[int]:
    """Return which longest cascades (-1: no carry) questions with these columns (units first) can have."""
    states = {(-1, -1)}
    for allowed in columns:
        states = {following[case] for following in map(next_states, states) for case in allowed}
    return frozenset(longest for _, longest in states)


def next_states(state: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return what each tri-case of the next column up makes of (the cascade that runs or -1, the longest so far)."""
    run, longest = state
    after = {"<9": -1, "=9": run + 1 if run >= 0 else -1, ">9": 0}
    return {tri_case: (length, max(longest, length)) for tri_case, length in after.items()}


def make_strata(
    layout: Layout,
    *,
    cases: Sequence[Case] = (),
    cascades: Sequence[int] = (),
    columns: dict[str, TriCase] | None = None,
    stratify: Stratify | None = None,
) -> tuple[Stratum, ...]:
    """Return the strata of a description: all conditions hold together, `stratify` splits what is left.

    Raises:
        HarnessError: a cascade or column the layout has not, or conditions that no question meets.
    """
    columns = columns or {}
    longest_possible = layout.n_digits - 1
    for length in cascades:
        if not 0 <= length <= longest_possible:
            raise HarnessError.of(
                f"a cascade length 0 to {longest_possible}",
                str(length),
                "name one of these; a carry from D0 can run through no more",
            )
    places = [f"D{place}" for place in range(layout.n_digits)]
    for column in columns:
        if column not in places:
            raise HarnessError.of(f"a column D0 to {places[-1]}", shorten(column), "name a column of the question")
    allowed = tuple(frozenset([columns[place]] if place in columns else TRI_CASES) for place in places)

    wanted = _possible_lengths(allowed)
    if cases:
        wanted &= frozenset[int]().union(*(lengths_of_case(case, layout) for case in cases))
    if cascades:
        wanted &= frozenset[int]().union(*(lengths_of_cascade(length) for length in cascades))
    if not stratify and not cases and not cascades and not columns:
        return ()

    conditions = [
        *([" or ".join(dict.fromkeys(cases))] if cases else []),
        *([f"cascade {' or '.join(map(str, dict.fromkeys(cascades)))}"] if cascades else []),
        *(f"{c} {t}" for c, t in columns.items()),
    ]
    suffix = f" with {', '.join(conditions)}" if conditions and stratify else ""
    if stratify == "case":
        parts = [(case + suffix, lengths_of_case(case, layout)) for case in CASES]
    elif stratify == "cascade":
        parts = [(f"cascade {i}{suffix}", lengths_of_cascade(i)) for i in range(longest_possible + 1)]
    else:
        parts = [(" and ".join(conditions), wanted)]
    strata = tuple(Stratum(name, wanted & longest, allowed) for name, longest in parts if wanted & longest)
    if not strata:
        raise HarnessError.of(
            f"conditions that some {layout.n_digits}-digit question meets",
            " and ".join(conditions),
            "drop one of them",
        )
    return strata
