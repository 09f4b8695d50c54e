"""YAML → frozen hypotheses, each checked against the shape of its fixture. Imports no torch.

A spec is refused as a whole, with every problem in it at once: what it says must be possible (the nodes
exist, they can reach the digits that should fail) and decidable (the sample is large enough).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.across_reader import ClaimReader
from harness.each import expand
from harness.errors import FixtureError, HarnessError, Problem, SpecError, shorten
from harness.files import SPEC_SUFFIXES, is_directory
from harness.hypothesis import Claim
from harness.nodes import Shape
from harness.reader import make_questions, one_verb
from harness.roles import shape_of
from harness.selection import Questions
from harness.spec_model import AskedModel, FileModel
from harness.strict import validate
from harness.yamlfile import Document, Loc, parse_yaml, read_yaml


def load_hypotheses(path: str | Path, fixtures: str | Path = "fixtures") -> list[Claim]:
    """Return the hypotheses in the spec file at `path`, or in all spec files below the directory.

    Raises:
        SpecError: with a line for each thing that is wrong in any of the files.
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
    """Return the spec file at `path`, or all below the directory, in order.

    Raises:
        SpecError: a directory without any.
    """
    root = Path(path)
    if not is_directory(root):
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix in SPEC_SUFFIXES and not file.is_dir())
    if not files:
        raise SpecError(Problem("spec files (*.yaml)", "none", "write one, or name another directory", str(root)))
    return files


def load_file(path: Path, fixtures: Path, shown_as: str | None = None) -> list[Claim]:
    """Return the hypotheses of one spec file; `shown_as` is how messages name it.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
        FixtureError: the fixture's recipe is wrong.
    """
    return claims_in(read_yaml(path, shown_as), fixtures)


def claims_in(document: Document, fixtures: Path) -> list[Claim]:
    """Return the hypotheses of one spec.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
        FixtureError: the fixture's recipe is wrong.
    """
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
        if not one_verb(document, loc, raw):
            continue
        fixture = document.data["fixture"] if shape is not None else ""
        claim = ClaimReader(document, loc, fixture, shape, fixtures, line, index).read(raw)
        found += [] if claim is None else [claim]
    document.raise_problems()
    return found


def read_questions(text: str, shape: Shape) -> Questions:
    """Return the questions that `text` names, in the words of a spec: ``varied``, ``[15+45]``, ``{n: 1000}``.

    Raises:
        SpecError: what it should have been.
    """
    document = parse_yaml(text, "questions")
    document.places = {("questions", *loc): place for loc, place in document.places.items()}
    document.keys = {("questions", *loc): place for loc, place in document.keys.items()}
    asked = validate(AskedModel, document, {"questions": document.data}, (), shape)
    document.raise_problems()
    assert asked is not None
    return make_questions(asked.questions, shape)


def _expanded(document: Document) -> list[tuple[Loc, Any]]:
    """Return the claims with `each` written out, after checking the file's own keys."""
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("hypotheses"), list):
        validate(FileModel, document, data)
        return []
    # The claims are checked one by one below; here, only the keys around them.
    outer = {**data, "hypotheses": [_VALID_CLAIM] if data["hypotheses"] else []}
    validate(FileModel, document, outer)
    return [row for i, claim in enumerate(data["hypotheses"]) for row in expand(document, ("hypotheses", i), claim)]


_VALID_CLAIM = {"id": "x", "claim": "x", "ablate": "x", "questions": "varied", "expect": {"fails": []}}


def _shape(document: Document, fixtures: Path) -> Shape | None:
    name = document.data.get("fixture") if isinstance(document.data, dict) else None
    if not isinstance(name, str) or not name:
        return None
    try:
        return shape_of(name, fixtures)
    except FixtureError:
        raise
    except HarnessError as error:
        document.problem(("fixture",), error)
        return None
