"""``model.json``: which weights a fixture's are, where they come from, how accurate they were. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from harness.errors import FixtureError, Problem, shorten
from harness.recipe import PIN, Recipe, fixture_directory, missing_weights
from harness.strict import Strict, Version

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Accuracy(Strict):
    """How the clean model did on one kind of question: counts, teacher-forced and free-running."""

    questions: str
    n: int
    right: int = Field(description="questions answered wholly right; teacher-forced and free-running agree on these")
    digits_right_teacher_forced: list[int] = Field(description="per answer digit, highest first")
    digits_right_free_running: list[int]
    loss: float = Field(description="nats per answer digit, mean, teacher-forced")


class Provenance(Strict):
    """Where the weights come from."""

    source: str
    source_sha256: Sha256
    note: str = ""


class Pin(Strict):
    """What ``model.json`` holds."""

    version: Version
    name: str
    weights_sha256: Sha256
    recipe_sha256: Sha256
    provenance: Provenance
    measured: list[Accuracy]


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of what a recipe says, whatever its comments and spacing.

    Defaults are left out, so that a key that recipes get later makes no older weights stale; a default,
    once published, is never changed.
    """
    said = recipe.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_pin(name: str, fixtures: Path) -> Pin:
    """Return the pin of the fixture `name`.

    Raises:
        HarnessError: no such fixture.
        FixtureError: it has no weights, or ``model.json`` is broken.
    """
    path = fixture_directory(name, fixtures) / PIN
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise FixtureError(missing_weights(name, fixtures)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FixtureError(Problem("a readable file", str(error), "restore it", str(path))) from None
    try:
        pin = Pin.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        found = f"{place}: {first['msg']}"
        raise FixtureError(Problem("a pin as `harness import` writes it", found, "restore it", str(path))) from None
    if pin.name != name:
        raise FixtureError(Problem(f"the pin of {name}", f"that of {shorten(pin.name)}", "restore it", str(path)))
    return pin
