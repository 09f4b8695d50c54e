"""The keys of a prompts file. Imports no torch.

A file fills templates with values, lists rows of facts, or repeats random tokens::

    values: {name: [" Mary", " John"], place: [" store", " park"]}
    slots: {IO: name, S: name, place: place}
    distinct: [[IO, S]]
    templates: {ABBA: "When{IO} and{S as S1} went to the{place},{S as S2} gave a drink to"}
    answer: "{IO}"
    wrong: "{S}"
    positions: {IO: IO, S2: S2, "S1+1": S1+1, END: last}
    counterparts: {abc: {IO: other, S1: other, S2: other}, swap: {IO: S, S: IO}}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from harness.base.validation import Spelled, Strict, Version, expecting
from harness.tasks.positions import POSITION

Name = Annotated[str, Spelled(r"^[A-Za-z][A-Za-z0-9_]{0,19}$", "a name of at most 20 letters, numbers and _")]
PositionName = Annotated[str, Spelled(rf"^{POSITION}$", "a position's name of at most 20 letters, like END or S1+1")]
Template = Annotated[str, Field(min_length=1, max_length=10_000)]
Words = Annotated[str, Field(min_length=1, max_length=200)]
MAX_VALUES = 20_000  # of a list, and rows


class Numbers(Strict):
    """The whole numbers of a range, written as wide: ``{from: 2, to: 98, width: 2}`` is 02 to 98."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[int, Field(ge=0, lt=10**9)] = Field(alias="from")
    to: Annotated[int, Field(ge=0, lt=10**9)]
    width: Annotated[int, Field(ge=1, le=9)] = 1
    before: Annotated[str, Field(max_length=20)] = ""  # a space, say

    @field_validator("to")
    @classmethod
    def _few(cls, to: int, info: ValidationInfo) -> int:
        if to - info.data.get("first", to) >= MAX_VALUES:
            raise PydanticCustomError("harness", "{expected}", {"expected": f"at most {MAX_VALUES:,} numbers"})
        return to

    @property
    def texts(self) -> list[str]:
        """The numbers as text."""
        return [f"{self.before}{number:0{self.width}}" for number in range(self.first, self.to + 1)]


def _listed(value: object) -> str:
    return "range" if isinstance(value, dict) else "list"


Values = Annotated[
    Annotated[list[Words], Field(min_length=1, max_length=MAX_VALUES), Tag("list")] | Annotated[Numbers, Tag("range")],
    Discriminator(_listed),
]


class SetOfValues(Strict):
    """The values of a list that stand in a relation to a slot's value: ``{of: year, above: YY}``."""

    model_config = ConfigDict(populate_by_name=True)

    of: Name
    above: Name | None = None
    at_most: Name | None = None
    other_than: Name | None = Field(None, alias="not")

    @property
    def relation(self) -> tuple[str, str] | None:
        """The relation and its slot; None if not exactly one is given."""
        said = [(key, slot) for key in ("above", "at_most", "other_than") if (slot := getattr(self, key)) is not None]
        return said[0] if len(said) == 1 else None


def _answered(value: object) -> str:
    return "set" if isinstance(value, dict) else "slot"


def _quoted(value: object) -> bool:
    """Return false for `{IO}` without quotes, which is a mapping of YAML."""
    return not isinstance(value, dict) or not value or any(inside is not None for inside in value.values())


Answer = Annotated[
    Annotated[Words, Tag("slot")] | Annotated[SetOfValues, Tag("set")],
    Discriminator(_answered),
    expecting('a slot in quotes, "{NAME}", or a set, {of: LIST, not: NAME}', _quoted),
]


def _counterpart(value: object) -> str:
    return "rules" if isinstance(value, dict) else "word"


Counterpart = Annotated[
    Annotated[Literal["another row"], Tag("word")]
    | Annotated[dict[PositionName, Words], Field(min_length=1), Tag("rules")],
    Discriminator(_counterpart),
]


class FilledFile(Strict):
    """A prompts file whose templates are filled in."""

    version: Version
    description: Words | None = None
    values: dict[Name, Values] = Field({}, max_length=100)
    rows: list[Annotated[dict[Name, Words], Field(min_length=1)]] = Field([], max_length=MAX_VALUES)
    one_token: list[Name] = Field([])  # of these lists, only the values that are one token are drawn
    slots: dict[Name, Name] = Field({})
    distinct: list[Annotated[list[Name], Field(min_length=2)]] = Field([])
    templates: dict[Name, Template] = Field(min_length=1, max_length=100)
    answer: Answer
    wrong: Answer | None = None
    positions: dict[PositionName, Words] = Field({})
    counterparts: dict[Name, Counterpart] = Field({})


class RandomTokens(Strict):
    """A row of random tokens, said again so many times."""

    tokens: Literal["ordinary"] = "ordinary"
    length: Annotated[int, Field(ge=2, le=512)]
    times: Annotated[int, Field(ge=2, le=8)] = 2


class RepeatedFile(Strict):
    """A prompts file about random tokens that are repeated; all of the last repeat but its first token is asked."""

    version: Version
    description: Words | None = None
    random: RandomTokens
    positions: dict[PositionName, Words] = Field({})
    counterparts: dict[Name, Literal["first repeat drawn anew"]] = Field({})
