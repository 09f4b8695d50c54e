"""What a prompts file defines: templates with their slots, values, positions and counterparts. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.tasks.prompts.keys import SetOfValues

LAST, OTHER, ANOTHER_ROW = "last", "other", "another row"


@dataclass(frozen=True)
class Place:
    """Where a position is: so many tokens behind the first or last token of a slot, or the last token of the prompt."""

    slot: str  # where it stands in the prompt; empty: the prompt's last token
    edge: str = ""  # "first" or "last" of the slot's tokens; empty: it must be one token
    offset: int = 0


@dataclass(frozen=True)
class Template:
    """Text with slots."""

    name: str
    parts: tuple[tuple[str, str], ...]  # text, and the name of the slot's place behind it (empty: none)

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the places where slots stand."""
        return tuple(place for _, place in self.parts if place)


@dataclass(frozen=True)
class Filled:
    """What a file of templates defines. A prompt is a template and the number of a value for each place."""

    name: str
    path: str
    description: str
    templates: tuple[Template, ...]
    slot_at: Mapping[str, str]  # place → slot; a slot may stand at several places, `{S as S1}`
    values: Mapping[str, tuple[str, ...]]  # slot → its values; behind those that are drawn, those of counterparts
    drawn: Mapping[str, int]  # slot → how many of its values are drawn
    lists: Mapping[str, tuple[str, ...]]  # name → the values of a list
    list_of: Mapping[str, str]  # slot → the name of its list
    joint: bool  # whether all slots take their values from one row
    one_token: frozenset[str]  # lists of which only values of one token are drawn
    distinct: tuple[tuple[str, ...], ...]
    answer: str | SetOfValues  # a slot, or a set
    wrong: str | SetOfValues | None
    positions: Mapping[str, Place]
    counterparts: Mapping[str, Mapping[str, str]]  # name → place → rule; empty: another row

    @property
    def places(self) -> tuple[str, ...]:
        """The places of all templates, in order."""
        return tuple(self.slot_at)


@dataclass(frozen=True)
class Repeated:
    """What a file of repeated random tokens defines."""

    name: str
    path: str
    description: str
    length: int
    times: int
    positions: Mapping[str, tuple[int, int]]  # name → which repeat, counted from 0, and the offset
    counterparts: tuple[str, ...]
