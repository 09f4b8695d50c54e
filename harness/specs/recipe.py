"""``recipe.yaml``: how a fixture is trained (sizes, data, optimiser, steps, seed). Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Field, create_model

from harness.base.own_code import REFERENCE
from harness.base.validation import Spelled, Strict, Version, validate
from harness.base.yamlfile import Document, read_yaml
from harness.specs.nodes import Shape
from harness.tasks.contract import AnyTask
from harness.tasks.family import TaskFamily
from harness.tasks.registry import every_shipped, family_of

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


class Transformer(Strict):
    """The sizes of a transformer with TransformerLens's names of weights, which is built here."""

    n_layers: Annotated[int, Field(ge=1, le=64)]
    n_heads: Annotated[int, Field(ge=1, le=64)]
    d_model: Annotated[int, Field(ge=1, le=8192)]
    d_mlp: Annotated[int, Field(ge=1, le=65536)]
    act_fn: Literal["relu", "gelu"] = "relu"
    normalisation: Literal["LN"] = "LN"
    init: Literal["notebook", "transformer_lens"] = "notebook"

    @property
    def d_head(self) -> int:
        """Width of a head: ``d_model / n_heads``."""
        return self.d_model // self.n_heads


class OwnModel(Strict):
    """A model that a function builds, ``model: mymodule:build``; how it was trained is not told here."""

    model: Reference
    n_layers: Annotated[int, Field(ge=1, le=64)]
    n_heads: Annotated[int, Field(ge=1, le=64)]


class TrainingRun(Strict):
    """How a model was, or is to be, trained."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    batch_size: Count = 64
    steps: Count
    optimiser: Optimiser = Optimiser()
    hardest: Hardest | None = None


class Published(Strict):
    """Where the weights are published, if they are."""

    hub: Hub | None = None


@dataclass(frozen=True)
class Recipe:
    """What a fixture is made of, side by side: a task, a model, and the training run that gave it its weights."""

    family: TaskFamily
    keys: Strict  # those of the family
    enrichment: Strict  # the family's keys about training
    model: Transformer | OwnModel
    training: TrainingRun | None  # None: it is not trained here
    hub: Hub | None
    directory: Path = field(compare=False)  # of the recipe, where code that it names is looked up
    said: Mapping[str, Any] = field(repr=False)  # its content without default values, as its hash is made from it

    @property
    def task(self) -> AnyTask:
        """The task.

        Raises:
            FixtureError: the task is code, and that is not allowed, or it is wrong.
        """
        return self.family.load(self.keys, self.directory)

    @property
    def task_name(self) -> str:
        """The task as the recipe names it."""
        return str(getattr(self.keys, "task"))  # noqa: B009 - every family has this key

    @property
    def shape(self) -> Shape:
        """The model's shape, which says which nodes exist."""
        return Shape(self.model.n_layers, self.model.n_heads, self.task)

    @property
    def shares(self) -> Mapping[str, float]:
        """The shares by which batches of training are enriched; empty if they are not."""
        return self.family.shares(self.enrichment)

    @property
    def references(self) -> tuple[str, ...]:
        """The references to code in the recipe: the model, then the task."""
        built = (self.model.model,) if isinstance(self.model, OwnModel) else ()
        return (*built, *self.family.references(self.keys))

    @property
    def transformer(self) -> Transformer:
        """The sizes of a model that is built here."""
        assert isinstance(self.model, Transformer)  # whoever asks has refused the others
        return self.model

    @property
    def run(self) -> TrainingRun:
        """The training run of a model that is trained here."""
        assert self.training is not None  # whoever asks has refused the others
        return self.training


# The parts of a recipe's file, beside the keys of the task: of a model that is built and trained here, and of others.
_TRAINED: tuple[type[Strict], ...] = (Transformer, TrainingRun, Published)
_OWN: tuple[type[Strict], ...] = (OwnModel,)


def load_recipe(path: Path, shown_as: str | None = None) -> Recipe:
    """Return the recipe in the file at `path`.

    Raises:
        SpecError: one line for each problem in the file.
    """
    return recipe_in(read_yaml(path, shown_as), path.parent)


def recipe_in(document: Document, directory: Path) -> Recipe:
    """Return the recipe in a parsed file; code that it names is looked up in `directory`.

    Raises:
        SpecError: one line for each problem.
    """
    recipe = _check(document, directory)
    document.raise_problems()
    assert recipe is not None  # no problem was reported, so the recipe is valid
    return recipe


def _check(document: Document, directory: Path) -> Recipe | None:
    data: Mapping[str, Any] = document.data if isinstance(document.data, dict) else {}
    own_model, family = "model" in data, family_of(data.get("task"))
    families = every_shipped() if family is None else (family,)
    parts = _OWN if own_model else (*_TRAINED, *(one.training for one in families))
    useless = _useless(family, own_model)
    kind = _file_of((*(one.keys for one in families), *parts))
    found = validate(kind, document, {k: v for k, v in data.items() if k not in useless} if data else document.data)
    for key, whose in useless.items():
        if key in data:
            document.report((key,), f"no `{key}` in a recipe of {whose}", "one", "remove it", at_key=True)
    if isinstance(found, Transformer) and found.d_model % found.n_heads:
        document.report(
            ("d_model",), f"a multiple of n_heads ({found.n_heads})", str(found.d_model),
            f"write {found.d_model // found.n_heads * found.n_heads or found.n_heads}",
        )  # fmt: skip
    if found is None or family is None:
        return None
    said = found.model_dump(mode="json", exclude_defaults=True, exclude={"hub"})
    keys, enrichment = _part(family.keys, found), family.training() if own_model else _part(family.training, found)
    if own_model:
        return Recipe(family, keys, enrichment, _part(OwnModel, found), None, None, directory, said)
    model, run, hub = _part(Transformer, found), _part(TrainingRun, found), _part(Published, found).hub
    return Recipe(family, keys, enrichment, model, run, hub, directory, said)


class _Format(Strict):
    version: Version


@cache
def _file_of(parts: tuple[type[Strict], ...]) -> type[Strict]:
    """Return the model of a recipe's file, which has the keys of all its parts side by side."""
    return create_model("Recipe", __base__=(*reversed(parts), _Format))  # fields of the last come first


Part = TypeVar("Part", bound=Strict)


def _part(kind: type[Part], found: Strict) -> Part:
    """Return one part of a recipe's file."""
    return cast("Part", kind.model_construct(**{name: getattr(found, name) for name in kind.model_fields}))


def _useless(family: TaskFamily | None, own_model: bool) -> dict[str, str]:
    """Return the keys that have no meaning here, each with whose recipe does without it."""
    others = [one for one in every_shipped() if family not in (one, None)]
    found = {
        name: "a task of one's own" for one in others for name in (*one.keys.model_fields, *one.training.model_fields)
    }
    found.pop("task", None)
    if own_model:
        trained = [*_TRAINED, *(one.training for one in every_shipped())]
        found |= {name: "a model that code builds" for part in trained for name in part.model_fields}
    return {name: whose for name, whose in found.items() if name not in OwnModel.model_fields}
