"""Finds fixtures, their files and their recipes. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from harness.base.errors import FixtureError, HarnessError, Problem, SpecError
from harness.base.files import is_directory, once_per_version, version_of
from harness.base.text import did_you_mean, in_ascii, shorten
from harness.specs.recipe import OwnModel, Recipe, load_recipe

# The files of a fixture.
RECIPE, WEIGHTS, PIN, CARD, ROLES = "recipe.yaml", "model.safetensors", "model.json", "README.md", "roles.yaml"
CURVES, CHECKPOINT, LOCK = "training.csv.gz", "checkpoint.safetensors", ".lock"
FIGURES = "curves-*.png"
KNOWN = (RECIPE, WEIGHTS, PIN, CARD, ROLES, CURVES, CHECKPOINT, FIGURES, ".*")  # user code may read any other file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class FixtureRef(NamedTuple):
    """A fixture by its name, and the directory in which fixtures are."""

    name: str
    root: Path

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.root / self.name


def check_name(name: str) -> None:
    """Refuse a fixture name that is not a plain directory name.

    Raises:
        HarnessError: without a file position; the spec parser adds it.
    """
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise HarnessError.of(
            "a fixture name of letters, digits, `_`, `-` and `.`",
            shorten(name),
            in_ascii(name) or "name a directory below fixtures/",
        )


def fixture_directory(ref: FixtureRef) -> Path:
    """Return the directory of a fixture.

    Raises:
        HarnessError: not a valid name, or there is no such fixture.
    """
    (name, root), directory = ref, ref.directory
    check_name(name)
    known = list_fixtures(root)
    _check_directory(root)
    if name not in known:
        if not known:
            fix = "make one (harness import --help) or name another directory of fixtures"
            raise HarnessError.of(f"a fixture in {root}", f"{name}, but there is none at all", fix)
        raise HarnessError.of(f"a fixture in {root}", name, did_you_mean(name, known))
    if not directory.resolve().is_relative_to(root.resolve()):
        raise HarnessError.of(f"a fixture inside {root}", f"{name}, a link that leads outside", "copy it in")
    return directory


def _check_directory(fixtures: Path) -> None:
    if not is_directory(fixtures):
        raise HarnessError.of("a directory of fixtures", f"{fixtures}, which is none", "name another")


def list_fixtures(fixtures: Path) -> list[str]:
    """Return the names of the directories below `fixtures` that hold a recipe."""
    if not is_directory(fixtures):
        return []
    return sorted(path.parent.name for path in fixtures.glob(f"*/{RECIPE}") if _NAME.fullmatch(path.parent.name))


def untrained(fixtures: Path) -> list[str]:
    """Return the names of the fixtures that have no pinned weights and no weights on the hub.

    A fixture whose recipe is broken is included, so that training reports the problem.

    Raises:
        HarnessError: there is no such directory.
    """
    _check_directory(fixtures)
    bare = [name for name in list_fixtures(fixtures) if not (fixtures / name / PIN).exists()]
    return [name for name in bare if not _is_published(FixtureRef(name, fixtures))]


def _is_published(ref: FixtureRef) -> bool:
    try:
        return recipe_of(ref).hub is not None
    except HarnessError:
        return False  # training will report what is wrong


def fixtures_of_same_shape(ref: FixtureRef) -> list[str]:
    """Return the other pinned fixtures whose models have the same shape as a fixture."""
    recipe = recipe_of(ref)
    others = [ref._replace(name=other) for other in list_fixtures(ref.root) if other != ref.name]
    others = [other for other in others if (other.directory / PIN).exists()]
    # Filter by task first: the shape of a user-defined task would run user code.
    others = [other for other in others if recipe_of(other).task_name == recipe.task_name]
    return [other.name for other in others if recipe_of(other).shape == recipe.shape]


def runs_like(names: Iterable[str], root: Path) -> list[str]:
    """Return the fixtures, those named and others, that are training runs of the same recipes but for the seed.

    Only those with pinned weights count, and only recipes that name no code: code of one name may differ.
    """
    recipes = [root / name / RECIPE for name in list_fixtures(root)]
    kinds = _kinds(root, tuple((path.parent.name, version_of(path)) for path in recipes))
    same = {id(kinds[name]) for name in names if name in kinds}
    return [name for name, kind in kinds.items() if id(kind) in same and (root / name / PIN).exists()]


@lru_cache(maxsize=8)
def _kinds(root: Path, versions: tuple[tuple[str, object], ...]) -> dict[str, Recipe]:
    """Return the recipe of each fixture that is trained here, without its seed; equal ones are the same object."""
    found: dict[str, Recipe] = {}
    for name, _ in versions:
        try:
            recipe = recipe_of(FixtureRef(name, root))
        except HarnessError:  # whoever uses it says what is wrong
            continue
        if recipe.training is not None and not recipe.references:
            run = recipe.training.model_copy(update={"seed": 0})
            kind = replace(recipe, training=run, hub=None, said={})
            found[name] = next((other for other in found.values() if other == kind), kind)
    return found


def recipe_of(ref: FixtureRef) -> Recipe:
    """Return the recipe of a fixture.

    Raises:
        HarnessError: there is no such fixture.
        FixtureError: the recipe is wrong.
    """
    path = fixture_directory(ref) / RECIPE
    try:
        return _load(path)
    except SpecError as error:
        raise FixtureError(*error.problems) from None


_load = once_per_version(256)(load_recipe)  # a claim about a group reads recipes many times


def missing_weights(ref: FixtureRef) -> Problem:
    """Return the problem to report for a fixture that has a recipe but no weights."""
    recipe = recipe_of(ref)
    command = f"import them: harness import hub:{ref.name}" if recipe.hub else f"train them: harness train {ref.name}"
    if isinstance(recipe.model, OwnModel):
        command = f"pin them: harness import FILE --recipe {ref.directory / RECIPE} --name {ref.name} --allow-code"
    return Problem(f"weights pinned in {ref.directory / PIN}", "no such file", command + elsewhere(ref.root))


def elsewhere(fixtures: Path) -> str:
    """Return the ``--fixtures`` option for a suggested command; empty for the default directory."""
    return "" if fixtures == Path("fixtures") else f" --fixtures {fixtures}"
