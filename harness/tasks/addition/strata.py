"""Strata of addition questions, from conditions on case, cascade length and columns. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.addition.layout import Layout

TriCase = Literal["<9", "=9", ">9"]  # the sum of a column's digits, without a carry
TRI_CASES: tuple[TriCase, ...] = ("<9", "=9", ">9")
Case = Literal["BA", "MC1", "SimpleUS9", "CascadeUS9"]
# Ordered by the longest cascade: no carry, a carry that stops at once, one column, several columns.
CASES: tuple[Case, ...] = ("BA", "MC1", "SimpleUS9", "CascadeUS9")


@dataclass(frozen=True)
class Stratum:
    """The questions whose longest cascade (-1: no carry at all) and columns are among those given."""

    name: str
    longest: frozenset[int]
    columns: tuple[frozenset[str], ...]  # allowed tri-cases, units first

    @property
    def short(self) -> str:
        """Its name; of a cascade, the length alone."""
        return self.name.removeprefix("cascade ")


def lengths_of_case(case: Case, layout: Layout) -> frozenset[int]:
    """Return the lengths of the longest cascade (-1: no carry) that questions of this case have."""
    first = CASES.index(case) - 1
    last = layout.n_digits - 1 if case == "CascadeUS9" else first
    return frozenset(range(first, min(last, layout.n_digits - 1) + 1))


def lengths_of_cascade(length: int) -> frozenset[int]:
    """Return the lengths of the longest cascade that a spec means by `length`; 0 includes no carry at all (-1)."""
    return frozenset({-1, 0} if length == 0 else {length})


def _possible_lengths(columns: Sequence[frozenset[str]]) -> frozenset[int]:
    """Return the lengths of the longest cascade (-1: no carry) that are possible with these columns (units first)."""
    states = {(-1, -1)}
    for allowed in columns:
        states = {following[case] for following in map(next_states, states) for case in allowed}
    return frozenset(longest for _, longest in states)


def next_states(state: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return the state that follows `state` for each tri-case of the next column up.

    A state is (length of the running cascade or -1, longest so far or -1).
    """
    run, longest = state
    after = {"<9": -1, "=9": run + 1 if run >= 0 else -1, ">9": 0}
    return {tri_case: (length, max(longest, length)) for tri_case, length in after.items()}


def make_strata(
    layout: Layout,
    *,
    cases: Sequence[Case] = (),
    cascades: Sequence[int] = (),
    columns: dict[str, TriCase] | None = None,
    stratify: str | None = None,
) -> tuple[Stratum, ...]:
    """Return the strata of a description: questions must meet all conditions, and `stratify` splits them.

    Raises:
        HarnessError: the layout lacks a cascade length or a column, or no question meets the conditions.
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
