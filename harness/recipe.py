"""What a fixture's weights are a training run of: sizes, data, optimiser, steps, seed. Imports no torch."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.errors import FixtureError, HarnessError, Problem, SpecError, did_you_mean, shorten
from harness.layout import MAX_DIGITS, EqualsStyle, Layout
from harness.nodes import Shape
from harness.positions import Positions
from harness.strict import Strict, Version, validate
from harness.yamlfile import Document, read_yaml

# The files of a fixture.
RECIPE, WEIGHTS, PIN, CARD, ROLES = "recipe.yaml", "model.safetensors", "model.json", "README.md", "roles.yaml"
CURVES, CHECKPOINT, LOCK = "training.csv.gz", "checkpoint.safetensors", ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DECAY_SHARE = 0.25  # of the steps, in which `stable_decay` falls
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
HubPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
        """Return the learning rate of step `step`, from 0, of `steps`; with a warm-up the first one is 0."""
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
    it to 8 or 10, a narrow miss or a narrow carry.
    """

    batch_share: Share = 0.4
    digit_share: Share = 0.4
    question_share: Share = 0.0
    cascade_share: Share = 0.0
    near_share: Share = 0.0

    def as_shares(self) -> dict[str, float]:
        """Return the shares by the names that :func:`harness.sampling.sample_uniform` has for them."""
        return {
            "sum9_batch_share": self.batch_share, "sum9_digit_share": self.digit_share,
            "sum9_question_share": self.question_share, "cascade_share": self.cascade_share,
            "near_share": self.near_share,
        }  # fmt: skip


class Hub(Strict):
    """Where weights that somebody published are: a file of a repository on the Hugging Face hub."""

    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=96)]
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
    hub: Hub | None = None

    @property
    def layout(self) -> Positions:
        """The task's token positions."""
        return Layout(self.n_digits, self.equals)

    @property
    def enriched(self) -> dict[str, float]:
        """How questions to train on are enriched."""
        return {} if self.enrichment is None else self.enrichment.as_shares()

    @property
    def shape(self) -> Shape:
        """Which nodes the model has."""
        return Shape(self.n_layers, self.n_heads, self.layout)

    @property
    def d_head(self) -> int:
        """Width of a head: ``d_model / n_heads``."""
        return self.d_model // self.n_heads


def load_recipe(path: Path, shown_as: str | None = None) -> Recipe:
    """Return the recipe in the file at `path`.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
    """
    document = read_yaml(path, shown_as)
    recipe = _check(document)
    document.raise_problems()
    assert recipe is not None  # no problem was noted, so it is valid
    return recipe


def _check(document: Document) -> Recipe | None:
    recipe = validate(Recipe, document, document.data)
    if recipe is not None and recipe.d_model % recipe.n_heads:
        document.report(
            ("d_model",), f"a multiple of n_heads ({recipe.n_heads})", str(recipe.d_model),
            f"write {recipe.d_model // recipe.n_heads * recipe.n_heads or recipe.n_heads}",
        )  # fmt: skip
    return recipe


def check_name(name: str) -> None:
    """Refuse a fixture name that is not a plain directory name.

    Raises:
        HarnessError: without a position; specs add theirs.
    """
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise HarnessError.of(
            "a fixture name of letters, digits, `_`, `-` and `.`",
            shorten(name),
            "name a directory below fixtures/",
        )


def fixture_directory(name: str, fixtures: Path) -> Path:
    """Return the directory of the fixture `name` below `fixtures`.

    Raises:
        HarnessError: not a name, or there is no such fixture.
    """
    check_name(name)
    known = list_fixtures(fixtures)
    directory = fixtures / name
    if not fixtures.is_dir():
        raise HarnessError.of("a directory of fixtures", f"{fixtures}, which is none", "name another")
    if name not in known:
        if not known:
            fix = "make one (harness import --help) or name another directory of fixtures"
            raise HarnessError.of(f"a fixture in {fixtures}", f"{name}, but there is none at all", fix)
        raise HarnessError.of(f"a fixture in {fixtures}", name, did_you_mean(name, known))
    if not directory.resolve().is_relative_to(fixtures.resolve()):
        raise HarnessError.of(f"a fixture inside {fixtures}", f"{name}, a link that leads outside", "copy it in")
    return directory


def list_fixtures(fixtures: Path) -> list[str]:
    """Return the names of the directories below `fixtures` that hold a recipe."""
    return sorted(path.parent.name for path in fixtures.glob(f"*/{RECIPE}") if _NAME.fullmatch(path.parent.name))


def alike(name: str, fixtures: Path) -> list[str]:
    """Return the other pinned fixtures whose models have the same nodes and the same layout as those of `name`."""
    shape = recipe_of(name, fixtures).shape
    others = [other for other in list_fixtures(fixtures) if other != name and (fixtures / other / PIN).exists()]
    return [other for other in others if recipe_of(other, fixtures).shape == shape]


def recipe_of(name: str, fixtures: Path) -> Recipe:
    """Return the recipe of the fixture `name`.

    Raises:
        HarnessError: no such fixture.
        FixtureError: the recipe is wrong.
    """
    path = fixture_directory(name, fixtures) / RECIPE
    try:
        found = path.stat()
        return _load_once(path, (found.st_mtime_ns, found.st_size, found.st_ino))
    except OSError:
        return _load_once.__wrapped__(path, None)  # says what is wrong with it
    except SpecError as error:
        raise FixtureError(*error.problems) from None


@lru_cache(maxsize=256)
def _load_once(path: Path, stamp: object) -> Recipe:
    """Return the recipe at `path` as it was when it had this `stamp`; a claim about a group reads many, many times."""
    return load_recipe(path)


def missing_weights(name: str, fixtures: Path) -> Problem:
    """Return what to say of a fixture that has a recipe but no weights."""
    published = recipe_of(name, fixtures).hub is not None
    command = f"import them: harness import hub:{name}" if published else f"train them: harness train {name}"
    return Problem(f"weights pinned in {fixtures / name / PIN}", "no such file", command + elsewhere(fixtures))


def elsewhere(fixtures: Path) -> str:
    """Return what a command needs in addition where the fixtures are not in their usual place."""
    return "" if fixtures == Path("fixtures") else f" --fixtures {fixtures}"
