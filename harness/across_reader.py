"""One claim of a spec, of one fixture or of several → a claim as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness.across import Absent, AcrossRuns
from harness.errors import HarnessError, Problem
from harness.hypothesis import Claim
from harness.intervals import ERROR
from harness.intervention_reader import InterventionReader, as_text
from harness.nodes import NoSuchRoleError, RoleElsewhereError, RoleNotFoundError, Shape, read_nodes
from harness.observation_reader import ObservationReader
from harness.reader import Reader, as_written
from harness.roles import shape_of
from harness.spec_model import (
    VERBS,
    AnswerModel,
    AttendModel,
    ClaimModel,
    HypothesisModel,
    KeepClaimModel,
    LearnModel,
    PatchModel,
    RunsModel,
    verb_of,
)  # fmt: skip
from harness.strict import validate
from harness.yamlfile import Document, Loc

# Claims that name nodes: `fixtures` asks them of each. The others have groups of their own.
_OF_NODES = (HypothesisModel, KeepClaimModel, PatchModel, AttendModel)


@dataclass
class ClaimReader:
    """Reads one claim, checked against the shape of each fixture that it is about."""

    document: Document
    loc: Loc
    fixture: str  # the file's
    shape: Shape | None  # of it; None: there is no such fixture
    fixtures: Path
    line: int
    index: int

    def read(self, raw: Any) -> Claim | None:
        """Return the claim that `raw` makes; None after noting what is wrong with it."""
        of_runs = isinstance(raw, dict) and raw.get("fixtures") is not None and VERBS[verb_of(raw)] in _OF_NODES
        if of_runs:
            return self._across(raw)
        model = validate(VERBS[verb_of(raw)], self.document, raw, self.loc, self.shape)
        if model is None or self.shape is None:
            return None
        if isinstance(model, _OF_NODES) and isinstance(model.expect, RunsModel) and model.expect.at_least is not None:
            at = (*self.loc, "expect", "at_least")
            self.document.report(at, "`fixtures` that at_least is a share of", "none", "name them, or drop at_least")
        return self._one(model, self.document, self.fixture, self.shape)

    def _one(self, model: ClaimModel, document: Document, fixture: str, shape: Shape, error: float = ERROR) -> Claim:
        where = (document, self.loc, fixture, shape, self.fixtures, self.line, self.index, error)
        if isinstance(model, HypothesisModel | KeepClaimModel | PatchModel):
            return InterventionReader(*where).read(model)
        assert isinstance(model, AnswerModel | AttendModel | LearnModel)
        return ObservationReader(*where).read(model)

    def _across(self, raw: dict[str, Any]) -> AcrossRuns | None:
        """Return a claim of each of several fixtures."""
        model = validate(VERBS[verb_of(raw)], self.document, raw, self.loc)
        if model is None or self.shape is None:
            return None
        reader = Reader(self.document, self.loc, self.fixture, self.shape, self.fixtures, self.line, self.index)
        before = len(self.document.problems)
        group = reader.group_of(model.fixtures, "fixtures")
        if len(self.document.problems) > before:
            return None
        if len(group) == 1:
            self.document.report((*self.loc, "fixtures"), "several fixtures", group[0], "name it as `fixture`")
        members, absent = self._members(raw, group)
        if self.document.problems:
            return None
        expect = getattr(model, "expect")  # noqa: B009 - every such claim has one
        share = Fraction(expect.at_least or 1)
        return AcrossRuns(
            **reader.common(model), questions=members[0].questions if members else None, gate=0.0,
            by_construction=bool(getattr(model, "by_construction", False)), members=tuple(members),
            absent=tuple(absent), group=group, group_text=as_written(model.fixtures), about=_about(model),
            at_least=share,
        )  # fmt: skip

    def _members(self, raw: dict[str, Any], group: tuple[str, ...]) -> tuple[list[Claim], list[Absent]]:
        members: list[Claim] = []
        absent: list[Absent] = []
        missing: list[HarnessError] = []
        for name in group:
            try:
                shape = shape_of(name, self.fixtures)
                for text in _texts(raw[verb_of(raw)]):
                    if "[" in text:
                        read_nodes(text, shape)
            except RoleElsewhereError as error:
                absent.append(Absent(name, error.problems[0].found, elsewhere=True))
                continue
            except NoSuchRoleError as error:
                missing += [] if isinstance(error, RoleNotFoundError) else [error]
                absent.append(Absent(name, "not placed", elsewhere=False))
                continue
            except HarnessError as error:
                self.document.problem((*self.loc, "fixtures"), error)
                continue
            # What is wrong with it for one fixture is told once, with the fixture's name.
            scratch = replace(self.document, problems=[])
            model = validate(VERBS[verb_of(raw)], scratch, raw, self.loc, shape)
            if model is not None:
                members.append(self._one(model, scratch, name, shape, ERROR / len(group)))
            if scratch.problems:
                self.document.problems += [_of_fixture(problem, name) for problem in scratch.problems]
                return members, absent
        if missing and len(missing) == len(group):  # a slip of the pen, most likely
            self.document.problem((*self.loc, verb_of(raw)), missing[0])
        return members, absent


def _of_fixture(problem: Problem, name: str) -> Problem:
    return replace(problem, found=f"{problem.found} (asked of {name})")


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a part of a spec."""
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        yield from _texts(part)


def _about(model: ClaimModel) -> str:
    """Return the spec's words for the nodes that a claim is about, and what of them."""
    if isinstance(model, HypothesisModel):
        return as_text(model.ablate) + (" (one at a time)" if model.one_at_a_time else "")
    if isinstance(model, KeepClaimModel):
        return "only " + ", ".join(as_text(part) for part in (model.keep.heads, model.keep.mlps) if part)
    if isinstance(model, PatchModel):
        return f"{model.patch.variable} at {as_text(model.patch.node)} to {', '.join(model.patch.digits)}"
    assert isinstance(model, AttendModel)
    return f"{model.attend.node} to {', '.join(model.attend.to)}"
