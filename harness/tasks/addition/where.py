"""The keys of `where` that addition has. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from harness.base.validation import Strict, one_or_many
from harness.tasks.addition.strata import CASES, TriCase
from harness.tasks.where import check_case

Case = Annotated[str, Field(examples=list(CASES)), check_case]
Cases = Annotated[
    Annotated[Case, Tag("one")] | Annotated[list[Case], Field(min_length=1), Tag("many")],
    Discriminator(one_or_many),
]
Lengths = Annotated[
    Annotated[int, Tag("one")] | Annotated[list[int], Field(min_length=1), Tag("many")],
    Discriminator(one_or_many),
]
Stratify = Literal["case", "cascade"]


class Where(Strict):
    """Conditions on questions; all hold together, a list means any of it."""

    case: Cases | None = Field(None, description="the case; of a list, any of them")
    cascade: Lengths | None = Field(None, description="length of the longest cascade")
    columns: dict[str, TriCase] = Field({}, description='what columns sum to without a carry: {D1: "=9"}')
