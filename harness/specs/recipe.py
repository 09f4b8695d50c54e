"""``recipe.yaml``: how a fixture is trained (sizes, data, optimiser, steps, seed). Imports no torch."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from harness.base.own_code import REFERENCE
from harness.base.validation import Spelled, Strict, Version, validate
from harness.base.yamlfile import Document, read_yaml
from harness.specs.nodes import Shape
from harness.tasks.addition.layout import MAX_DIGITS, EqualsStyle, Layout
from harness.tasks.checked_task import load_task
from harness.tasks.positions import Positions

DECAY_SHARE = 0.25  # last share of the steps, in which `stable_decay` falls
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
HubPath = Annotated[
    str,
    Field(max_length=200),
    Spelled(
        r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", "a path inside the repository, like a/b.pth"
    ),
]
HubRepo = Annotated[
    str,
    Field(max_length=96),
    Spelled(r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", "a repository, like owner/name"),
]
Sha256 = Annotated[str, Spelled(r"^[0-9a-f]{64}$", "a sha256, 64 of 0-9 and a-f")]
Reference = Annotated[str, Field(pattern=REFERENCE, max_length=200)]


class Optimiser(Strict):
    """AdamW, with a linear warm-up and then a schedule; the defaults are the notebook's.

    After the warm-up the rate is constant; or falls as a cosine to 0; or (``stable_decay``) is constant and falls
    linearly to 0 over the last quarter of the steps.
    """

    name: Literal["AdamW"] = "AdamW"
    lr: Positive = 8e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: Annotated[list[Decay], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.98])
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    schedule: Literal["constant", "cosine", "stable_decay"] = "constant"

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` (counted from 0) of `steps`; with a warm-up, the rate of step 0 is 0."""
        if step < self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "stable_decay":
            return self.lr * min(1.0, (1 - step / steps) / DECAY_SHARE)
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.lr * (1 + math.cos(math.pi * done)) / 2


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


class Hardest(Strict):
    """Learning from the hardest questions only: in the last share of the steps, `of` batches are drawn for each.

    Of all their questions those with the largest losses, one batch of them, are learned from. The rest would add
    next to nothing to the gradient, at the price of the backward pass (selective backpropagation, Jiang et al.
    2019, "Accelerating Deep Learning by Focusing on the Biggest Losers").
    """

    of: Annotated[int, Field(ge=2, le=64)]
    last_share: Annotated[float, Field(gt=0, le=1)]

    def is_on(self, step: int, steps: int) -> bool:
        """Return whether `step` (counted from 0) of `steps` learns from the hardest questions only."""
        return step >= steps - round(self.last_share * steps)


class Hub(Strict):
    """Where weights that somebody published are: a file of a repository on the Hugging Face hub."""

    repo: HubRepo
    file: HubPath
    revision: HubPath = "main"
    sha256: Sha256 | None = None


class Recipe(Strict):
    """How a model was, or is to be, trained. Its shape is what imported weights are checked against."""

    version: Version
    task: Literal["addition"]
    n_digits: Annotated[int, Field(ge=1, le=MAX_DIGITS)]
    equals: EqualsStyle = "="
    n_layers: Annotated[int, Field(ge=1, le=64)]
    n_heads: Annotated[int, Field(ge=1, le=64)]
    d_model: Annotated[int, Field(ge=1, le=8192)]
    d_mlp: Annotated[int, Field(ge=1, le=65536)]
    act_fn: Literal["relu", "gelu"] = "relu"
    normalisation: Literal["LN"] = "LN"
    init: Literal["notebook", "transformer_lens"] = "notebook"
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    batch_size: Count = 64
    steps: Count
    optimiser: Optimiser = Optimiser()
    enrichment: Enrichment | None = Enrichment()
    hardest: Hardest | None = None
    hub: Hub | None = None

    @property
    def layout(self) -> Positions:
        """The task's token positions."""
        return Layout(self.n_digits, self.equals)

    @property
    def enriched(self) -> dict[str, float]:
        """The enrichment shares of the training questions; empty if there is no enrichment."""
        return {} if self.enrichment is None else self.enrichment.as_shares()

    @property
    def shape(self) -> Shape:
        """The model's shape, which says which nodes exist."""
        return Shape(self.n_layers, self.n_heads, self.layout)

    @property
    def d_head(self) -> int:
        """Width of a head: ``d_model / n_heads``."""
        return self.d_model // self.n_heads


class UserTaskRecipe(Recipe):
    """A recipe for a task of one's own, ``task: mymodule:task``, trained like any other."""

    task: Reference  # type: ignore[assignment]
    n_digits: int = 0
    enrichment: Enrichment | None = None
    _directory: Path = PrivateAttr(default=Path())  # the directory of the recipe, where user code is looked up

    @property
    def layout(self) -> Positions:
        """The task's token positions; for a user-defined task this is the task itself.

        Raises:
            FixtureError: user code is not allowed, or it is wrong.
        """
        return super().layout if self.task == "addition" else load_task(self.task, self._directory)

    @property
    def directory(self) -> Path:
        """The directory of the recipe."""
        return self._directory

    @property
    def references(self) -> tuple[str, ...]:
        """References to user code in the recipe, like ``mymodule:task``."""
        return () if self.task == "addition" else (self.task,)


class UserModelRecipe(UserTaskRecipe):
    """A recipe whose model a function builds, ``model: mymodule:build``; how it was trained is not told here."""

    model: Reference
    task: Literal["addition"] | Reference
    d_model: int = 0
    d_mlp: int = 0
    seed: int = 0
    steps: int = 0

    @property
    def references(self) -> tuple[str, ...]:
        """References to user code in the recipe: the model, then the task."""
        return (self.model, *super().references)


# Keys that only recipes for addition have, and keys that only recipes for training here have.
_OF_ADDITION = ("n_digits", "equals", "enrichment")
_OF_TRAINING = (
    "d_model",
    "d_mlp",
    "act_fn",
    "normalisation",
    "init",
    "seed",
    "batch_size",
    "steps",
    "optimiser",
    "hardest",
    "hub",
)


def load_recipe(path: Path, shown_as: str | None = None) -> Recipe:
    """Return the recipe in the file at `path`.

    Raises:
        SpecError: one line for each problem in the file.
    """
    document = read_yaml(path, shown_as)
    recipe = _check(document)
    document.raise_problems()
    assert recipe is not None  # no problem was reported, so the recipe is valid
    if isinstance(recipe, UserTaskRecipe):
        recipe._directory = path.parent
    return recipe


def _check(document: Document) -> Recipe | None:
    kind = _kind(document.data)
    recipe = validate(kind, document, document.data)
    if kind is not Recipe:
        _only_used(document, kind)
    if recipe is not None and recipe.d_model % recipe.n_heads:
        document.report(
            ("d_model",), f"a multiple of n_heads ({recipe.n_heads})", str(recipe.d_model),
            f"write {recipe.d_model // recipe.n_heads * recipe.n_heads or recipe.n_heads}",
        )  # fmt: skip
    return recipe


def _only_used(document: Document, kind: type[Recipe]) -> None:
    """Report keys that have no meaning for a user-defined task, or for a model that code builds."""
    adds = document.data.get("task") == "addition"
    unused = [] if adds else [(key, "a task of one's own") for key in _OF_ADDITION]
    if kind is UserModelRecipe:
        unused += [(key, "a model that code builds") for key in (*_OF_TRAINING, "enrichment")]
        if adds and "n_digits" not in document.data:
            document.report(("n_digits",), "the key `n_digits`", "none", "add `n_digits: …`")
    for key, whose in dict(reversed(unused)).items():
        if key in document.data:
            document.report((key,), f"no `{key}` in a recipe of {whose}", "one", "remove it", at_key=True)


def _kind(data: object) -> type[Recipe]:
    """Return the recipe class for `data`, decided by its `model` and `task` keys."""
    if isinstance(data, dict) and "model" in data:
        return UserModelRecipe
    task = data.get("task") if isinstance(data, dict) else None
    return UserTaskRecipe if isinstance(task, str) and re.fullmatch(REFERENCE, task) else Recipe
