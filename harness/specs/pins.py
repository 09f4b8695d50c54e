"""``model.json``, the pin of a fixture: its weights' hash, source and measured accuracy. Imports no torch."""

from __future__ import annotations

import hashlib
import json

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.base.errors import FixtureError, NotImportedError, Problem
from harness.base.own_code import file_of
from harness.base.text import shorten
from harness.base.validation import Strict, Version, in_words, newer
from harness.specs.fixture_files import KNOWN, PIN, WEIGHTS, FixtureRef, fixture_directory, missing_weights, recipe_of
from harness.specs.recipe import Recipe, Sha256


class Accuracy(Strict):
    """How the clean model did on one kind of prompts: counts, teacher-forced and free-running."""

    model_config = ConfigDict(populate_by_name=True)

    questions: str
    n: int
    right: int = Field(description="prompts answered wholly right; teacher-forced and free-running agree on these")
    right_teacher_forced: list[int] = Field(alias="digits_right_teacher_forced", description="per answer token")
    right_free_running: list[int] = Field(alias="digits_right_free_running")
    loss: float = Field(description="nats per answer token, mean, teacher-forced")


class Provenance(Strict):
    """Where imported weights come from."""

    source: str
    source_sha256: Sha256
    note: str = ""


class Trained(Strict):
    """How the weights were trained here."""

    steps: int
    seconds: float = Field(description="spent in training steps")
    loss: float = Field(description="nats per answer token, mean of the last five steps")
    device: str
    threads: int
    torch: str
    harness: str
    curves_sha256: Sha256 | None = Field(None, description="of the learning curves; pins from before 0.2 have none")


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
    """Return the sha256 of a recipe's content; comments and spacing do not matter.

    Default values are left out, so a key added to the format later does not make older weights stale. A published
    default is therefore never changed. `hub` is left out too: it says where weights are published, not how they
    are made.
    """
    return hashlib.sha256(json.dumps(dict(recipe.said), sort_keys=True).encode()).hexdigest()


def code_hashes(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of each file of the recipe's user code, by its path relative to the fixtures directory.

    These are the files that the recipe names, and every file in its directory that does not match :data:`KNOWN`,
    because the code may read it. Installed packages are left out, and so are files that the code imports from
    elsewhere.

    Raises:
        FixtureError: one of the files cannot be read.
    """
    if not recipe.references:
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
    """Return the cache key of trained weights: the recipe hash, combined with the user-code hashes if there are any."""
    key, code = recipe_hash(recipe), code_hashes(recipe)
    return hashlib.sha256(json.dumps([key, code]).encode()).hexdigest() if code else key


def read_pin(ref: FixtureRef) -> Pin:
    """Return the pin of a fixture.

    Raises:
        HarnessError: there is no such fixture.
        FixtureError: the fixture has no weights, or ``model.json`` is broken.
        NotImportedError: the weights are published on the hub and were not imported yet.
    """
    path = fixture_directory(ref) / PIN
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        elsewhere = recipe_of(ref).hub is not None and not path.with_name(WEIGHTS).exists()
        raise (NotImportedError if elsewhere else FixtureError)(missing_weights(ref)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FixtureError(Problem("a readable file", str(error), "restore it", str(path))) from None
    try:
        pin = Pin.model_validate_json(text)
    except ValidationError as error:
        if new := _newer(text):
            raise FixtureError(Problem(*new, str(path))) from None
        found = in_words(Pin, error)
        raise FixtureError(Problem("a pin as `harness import` writes it", found, "restore it", str(path))) from None
    if pin.name != ref.name:
        raise FixtureError(Problem(f"the pin of {ref.name}", f"that of {shorten(pin.name)}", "restore it", str(path)))
    return pin


def _newer(text: str) -> tuple[str, str, str] | None:
    """Return the problem (expected, found, fix) if the pin has a newer format version, else None."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return newer(said.get("version")) if isinstance(said, dict) else None
