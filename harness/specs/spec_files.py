"""Reads spec files (YAML) into claims, checked against the shape of their fixture. Imports no torch.

A spec with any problem is refused as a whole, and all its problems are reported at once. Each claim must be possible
(the nodes exist and can reach the tokens that should fail) and decidable (the sample is large enough).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.base.errors import FixtureError, HarnessError, Problem, SpecError
from harness.base.files import SPEC_SUFFIXES, is_directory
from harness.base.text import shorten
from harness.base.validation import validate
from harness.base.yamlfile import Document, Loc, parse_yaml, read_yaml
from harness.specs.across import ClaimReader
from harness.specs.claim import Claim
from harness.specs.fixtures.files import MODEL, FixtureRef
from harness.specs.fixtures.roles import shape_of
from harness.specs.keys import AskedModel
from harness.specs.nodes import Shape
from harness.specs.parsing import make_questions
from harness.specs.schema import FileModel
from harness.specs.templates import expand
from harness.specs.verbs.registry import KEYS
from harness.tasks.questions import Questions


def load_hypotheses(path: str | Path, fixtures: str | Path = "fixtures") -> list[Claim]:
    """Return the claims in the spec file at `path`, or in all spec files below the directory `path`.

    Raises:
        SpecError: one line for each problem in any of the files.
    """
    found: list[Claim] = []
    problems: list[Problem] = []
    for file in spec_files(path):
        try:
            found += load_file(file, Path(fixtures))
        except (SpecError, FixtureError) as error:
            problems += error.problems
    if problems:
        raise SpecError(*problems)
    return found


def spec_files(path: str | Path) -> list[Path]:
    """Return the spec file at `path`, or all spec files below the directory `path`, sorted.

    Raises:
        SpecError: the directory holds no spec file.
    """
    root = Path(path)
    if not is_directory(root):
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix in SPEC_SUFFIXES and not file.is_dir())
    if not files:
        raise SpecError(Problem("spec files (*.yaml)", "none", "write one, or name another directory", str(root)))
    return files


def load_file(path: Path, fixtures: Path, shown_as: str | None = None) -> list[Claim]:
    """Return the claims of one spec file; messages call the file `shown_as`.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
        FixtureError: the fixture's recipe is wrong.
    """
    return claims_in(read_yaml(path, shown_as), fixtures)


def claims_in(document: Document, fixtures: Path) -> list[Claim]:
    """Return the claims of one parsed spec.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
        FixtureError: the fixture's recipe is wrong.
    """
    _rename_prompts(document)
    rows = _expanded(document)
    shape = _shape(document, fixtures)
    found: list[Claim] = []
    seen: dict[str, int] = {}
    for index, (loc, raw) in enumerate(rows):
        line = document.place(loc)[0]
        name = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(name, str) and name in seen:
            first = f"{shorten(name)} again (first in line {seen[name]})"
            document.report((*loc, "id"), "each id once in a file", first, "give one of them another id")
        elif isinstance(name, str):
            seen[name] = line
        if not _one_verb(document, loc, raw):
            continue
        fixture = document.data["fixture"] if shape is not None else ""
        claim = ClaimReader(document, loc, fixture, shape, fixtures, line, index).read(raw)
        found += [] if claim is None else [claim]
    document.raise_problems()
    return found


def _rename_prompts(document: Document) -> None:
    """Let claims say `prompts` for `questions`, which is the word of language models."""
    claims = document.data.get("hypotheses") if isinstance(document.data, dict) else None
    for i, claim in enumerate(claims if isinstance(claims, list) else []):
        if not isinstance(claim, dict) or "prompts" not in claim:
            continue
        old, new = ("hypotheses", i, "prompts"), ("hypotheses", i, "questions")
        if "questions" in claim:
            document.report(old, "`prompts` or `questions`", "both, which mean the same", "drop one", at_key=True)
            claim.pop("prompts")
            continue
        claim["questions"] = claim.pop("prompts")
        for where in (document.places, document.keys):
            where |= {(*new, *loc[3:]): place for loc, place in where.items() if loc[:3] == old}


def _one_verb(document: Document, loc: Loc, raw: object) -> bool:
    """Return whether a claim has at most one verb; report it to the document if it has more."""
    present = [verb for verb in KEYS if isinstance(raw, dict) and verb in raw]
    if len(present) > 1:
        place = (*loc, present[1])
        document.report(place, f"one of {', '.join(KEYS)}", " and ".join(present), "write a claim each", at_key=True)
    return len(present) < 2


SEARCH_SEED = 161803  # of commands that look before there is a claim: what they ask, a claim does not ask again


def read_questions(text: str, shape: Shape, seed: int = SEARCH_SEED) -> Questions:
    """Return the questions that `text` describes, in spec syntax: ``varied``, ``[15+45]``, ``{n: 1000}``.

    `seed` is that of a sample which names none.

    Raises:
        SpecError: the text is wrong; the error says what is expected.
    """
    document = parse_yaml(text, "questions")
    document.places = {("questions", *loc): place for loc, place in document.places.items()}
    document.keys = {("questions", *loc): place for loc, place in document.keys.items()}
    asked = validate(AskedModel, document, {"questions": document.data}, (), shape)
    document.raise_problems()
    assert asked is not None
    return make_questions(asked.questions, shape, seed)


def _expanded(document: Document) -> list[tuple[Loc, Any]]:
    """Return the raw claims with `each` expanded, after checking the top-level keys of the file."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("hypotheses"), list):
        validate(FileModel, document, data)
        return []
    # Only the top-level keys are checked here, with one valid claim as a stand-in. Each claim is checked later.
    outer = {**data, "hypotheses": [_VALID_CLAIM] if data["hypotheses"] else []}
    validate(FileModel, document, outer)
    return [row for i, claim in enumerate(data["hypotheses"]) for row in expand(document, ("hypotheses", i), claim)]


_VALID_CLAIM = {"id": "x", "claim": "x", "ablate": "x", "questions": "varied", "expect": {"fails": []}}


def _shape(document: Document, fixtures: Path) -> Shape | None:
    name = document.data.get("fixture") if isinstance(document.data, dict) else None
    if not isinstance(name, str) or not name:
        return None
    said, by_reference = document.data.get("task"), (fixtures / name / MODEL).exists()
    if "task" in document.data and not by_reference:
        found = f"{name}, which says itself what it is asked"
        document.report(("task",), "a model by reference, for `task`", found, "remove it", at_key=True)
    try:
        return shape_of(FixtureRef(name, fixtures, said if isinstance(said, str) and by_reference else ""))
    except FixtureError:
        raise
    except HarnessError as error:
        document.problem(("task",) if "task" in document.data else ("fixture",), error)
        return None
