"""Addition in a recipe: its keys, the enrichment of its training, and the line of a model card about that.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.base.validation import Strict
from harness.tasks.addition.layout import MAX_DIGITS, EqualsStyle
from harness.tasks.addition.question_sets import NAMES
from harness.tasks.addition.strata import CASES
from harness.tasks.addition.task import Addition
from harness.tasks.addition.where import Where
from harness.tasks.family import ShippedFamily

Share = Annotated[float, Field(ge=0, le=1)]


class Enrichment(Strict):
    """Extra sum-9 columns: in this share of the batches, this share of the columns. The notebook's, in fact.

    `question_share` is another way of it: in this share of all questions each column is made to sum to 9 with a
    probability of the question's own, drawn uniformly. `cascade_share` is a third: in this share of all questions one
    run of columns, of any length and at any place, is made to sum to 9; and in `near_share` of these the column below
    it to 8 or 10, a narrow miss or a narrow carry. `double_share` of all columns, whatever they were, become 4+4 or
    5+5: what a head that finds the same digit twice learns last.
    """

    batch_share: Share = 0.4
    digit_share: Share = 0.4
    question_share: Share = 0.0
    cascade_share: Share = 0.0
    near_share: Share = 0.0
    double_share: Share = 0.0

    def as_shares(self) -> dict[str, float]:
        """Return the shares as keyword arguments of :func:`harness.tasks.addition.sampling.sample_uniform`."""
        return {
            "sum9_batch_share": self.batch_share, "sum9_digit_share": self.digit_share,
            "sum9_question_share": self.question_share, "cascade_share": self.cascade_share,
            "near_share": self.near_share, "double_share": self.double_share,
        }  # fmt: skip


class AdditionKeys(Strict):
    """The keys of a recipe for addition."""

    task: Literal["addition"]
    n_digits: Annotated[int, Field(ge=1, le=MAX_DIGITS)]
    equals: EqualsStyle = "="


class EnrichmentKeys(Strict):
    """The key of a recipe about the questions of training."""

    enrichment: Enrichment | None = Enrichment()


class AdditionFamily(ShippedFamily):
    """Addition of two numbers, of any number of digits."""

    keys = AdditionKeys
    training = EnrichmentKeys
    where = Where
    sets = NAMES
    cases = CASES
    spreads = Addition.spreads
    variables = ("D2.tricase", "D4.T1", "D3.base_add", "D1.carry", "D1.sum9", "D2.carry_in")
    role = "base_add.A4"

    def load(self, keys: Any, directory: Path) -> Addition:
        """Return the task."""
        return Addition(keys.n_digits, keys.equals)

    def shares(self, training: Any) -> Mapping[str, float]:
        """Return the enrichment; empty if there is none."""
        return {} if training.enrichment is None else training.enrichment.as_shares()

    def training_facts(self, training: Any) -> list[tuple[str, str]]:
        """Return how many columns that sum to 9 the training batches had besides those of chance."""
        made, extra = training.enrichment, []
        if made and made.batch_share:
            share = f"{made.digit_share:.0%} of their columns made to sum to 9"
            extra.append(f"{made.batch_share:.0%} of the batches have {share}")
        if made and made.question_share:
            share = "columns made to sum to 9, each with a probability of the question's own"
            extra.append(f"{made.question_share:.0%} of the questions have {share}")
        if made and made.cascade_share:
            share = f"a cascade made, {made.near_share:.0%} of these over a column that sums to 8 or 10"
            extra.append(f"{made.cascade_share:.0%} of the questions have {share}")
        if made and made.double_share:
            extra.append(f"{made.double_share:.0%} of all columns are made 4+4 or 5+5")
        return [("extra sum-9 questions", "; ".join(extra) or "none")]


FAMILY = AdditionFamily()
