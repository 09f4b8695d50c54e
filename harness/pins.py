"""``model.json``: which weights a fixture's are, where they come from, how accurate they were. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.errors import FixtureError, NotImportedError, Problem, shorten
from harness.own_code import file_of
from harness.places import KNOWN, PIN, WEIGHTS, fixture_directory, missing_weights, recipe_of
from harness.recipe import BroughtRecipe, Recipe, Sha256
from harness.strict import Strict, Version, in_words, newer


class Accuracy(Strict):
    """How the clean model did on one kind of question: counts, teacher-forced and free-running."""

    questions: str
    n: int
    right: int = Field(description="questions answered wholly right; teacher-forced and free-running agree on these")
    digits_right_teacher_forced: list[int] = Field(description="per answer digit, highest first")
    digits_right_free_running: list[int]
    loss: float = Field(description="nats per answer digit, mean, teacher-forced")


class Provenance(Strict):
    """Where imported weights come from."""

    source: str
    source_sha256: Sha256
    note: str = ""


class Trained(Strict):
    """How the weights were trained here."""

    steps: int
    seconds: float = Field(description="spent in training steps")
    loss: float = Field(description="nats per answer digit, mean of the last five steps")
    device: str
    threads: int
    torch: str
    harness: str


class Pin(Strict):
    """What ``model.json`` holds. Weights are imported, and have a provenance, or they were trained here."""

    version: Version
    name: str
    weights_sha256: Sha256
    recipe_sha256: Sha256
    provenance: Provenance | None = None
    trained: Trained | None = None
    measured: list[Accuracy]

    @model_validator(mode="after")
    def _from_one_source(self) -> Pin:
        if (self.provenance is None) == (self.trained is None):
            found = "neither" if self.trained is None else "both"
            parts = {"expected": "one of `provenance` and `trained`", "found": found}
            raise PydanticCustomError("harness", "{expected}", parts)
        return self


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of what a recipe says, whatever its comments and spacing.

    Defaults are left out, so that a key that recipes get later makes no older weights stale; a default,
    once published, is never changed. Where weights are published is not how they are made.
    """
    said = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"hub"})
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def code_hashes(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of the files that a recipe's own code is in, by their paths from the directory of fixtures.

    Those are the files that it names, and what else lies in its directory, which the code may read. What is installed,
    and what the code imports from elsewhere, is left out.

    Raises:
        FixtureError: one of them cannot be read.
    """
    if not isinstance(recipe, BroughtRecipe) or not recipe.references:
        return {}
    named = (file_of(reference, recipe.directory) for reference in recipe.references)
    files = {found[1] for found in named if found}
    try:
        beside = (path for path in recipe.directory.iterdir() if path.is_file())
        files |= {path for path in beside if not any(map(path.match, KNOWN))}
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    except OSError as error:
        raise FixtureError(Problem("a readable file", str(error), "restore it", str(recipe.directory))) from None
    return {path.relative_to(recipe.directory.parent).as_posix(): digest for path, digest in digests.items()}


def cache_key(recipe: Recipe) -> str:
    """Return what trained weights are kept by: the hash of the recipe, and of one's own code where it names any."""
    key, code = recipe_hash(recipe), code_hashes(recipe)
    return hashlib.sha256(json.dumps([key, code]).encode()).hexdigest() if code else key


def read_pin(name: str, fixtures: Path) -> Pin:
    """Return the pin of the fixture `name`.

    Raises:
        HarnessError: no such fixture.
        FixtureError: it has no weights, or ``model.json`` is broken.
        NotImportedError: it has none because they are published elsewhere.
    """
    path = fixture_directory(name, fixtures) / PIN
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        elsewhere = recipe_of(name, fixtures).hub is not None and not path.with_name(WEIGHTS).exists()
        raise (NotImportedError if elsewhere else FixtureError)(missing_weights(name, fixtures)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FixtureError(Problem("a readable file", str(error), "restore it", str(path))) from None
    try:
        pin = Pin.model_validate_json(text)
    except ValidationError as error:
        if new := _newer(text):
            raise FixtureError(Problem(*new, str(path))) from None
        found = in_words(Pin, error)
        raise FixtureError(Problem("a pin as `harness import` writes it", found, "restore it", str(path))) from None
    if pin.name != name:
        raise FixtureError(Problem(f"the pin of {name}", f"that of {shorten(pin.name)}", "restore it", str(path)))
    return pin


def _newer(text: str) -> tuple[str, str, str] | None:
    """Return what to say of a pin that is of a format yet to come, or None."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return newer(said.get("version")) if isinstance(said, dict) else None
