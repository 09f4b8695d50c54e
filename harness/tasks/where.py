"""The keys of `where` that any task with cases has: prompts of one case, or of any of several. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Discriminator, Field, Tag

from harness.base.validation import Strict, checked, one_or_many

check_case = checked(lambda name, shape: shape.task.check_case(name))
Case = Annotated[str, check_case]
Cases = Annotated[
    Annotated[Case, Tag("one")] | Annotated[list[Case], Field(min_length=1), Tag("many")],
    Discriminator(one_or_many),
]


class CaseKeys(Strict):
    """Conditions on prompts; of a list, any of it."""

    model_config = ConfigDict(extra="allow")  # the task refuses other keys in its own words

    case: Cases | None = Field(None, description="the case; of a list, any of them")


def as_list(value: object) -> list[object]:
    """Return the values of a key that takes one value or a list; empty for None."""
    return value if isinstance(value, list) else [] if value is None else [value]
