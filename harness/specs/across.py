"""Claims about several training runs (the key ``fixtures``), and their parser. Imports no torch.

Head numbers differ between training runs, and other findings may differ too. With ``fixtures`` the same claim is
tested on each run. Each run gets a verdict, by intervals that hold for all runs jointly. The share of runs in which
the claim must hold (7/8, for example) then gives the verdict on the claim. The runs are a sample of all training runs
that the recipe could give, so the share has an interval too; it is reported, but decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError, Problem
from harness.base.intervals import ERROR
from harness.base.validation import validate
from harness.base.yamlfile import Document, Loc
from harness.specs.claim import Absent, AcrossRuns, Claim, Xfail
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import shape_of, without_evidence
from harness.specs.keys import RunsModel
from harness.specs.nodes import NoSuchRoleError, RoleElsewhereError, RoleNotFoundError, Shape, read_nodes, roles_in
from harness.specs.parsing import ClaimParser, as_text
from harness.specs.verbs.ablating import Hypothesis
from harness.specs.verbs.registry import key_of, parser_of, verb_of


@dataclass
class ClaimReader:
    """Reads one claim of a spec file and checks it against the shape of each of its fixtures."""

    document: Document
    loc: Loc
    fixture: str  # the fixture of the file
    shape: Shape | None  # its shape; None if there is no such fixture
    fixtures: Path
    line: int
    index: int

    def read(self, raw: Any) -> Claim | None:
        """Return the claim in `raw`, or None after reporting its problems to the document."""
        of_runs = isinstance(raw, dict) and raw.get("fixtures") is not None and parser_of(verb_of(raw)).names_nodes
        if of_runs:
            return self._across(raw)
        model = validate(parser_of(verb_of(raw)).model, self.document, raw, self.loc, self.shape)
        if model is None or self.shape is None:
            return None
        if isinstance(expect := getattr(model, "expect", None), RunsModel) and expect.at_least is not None:
            at = (*self.loc, "expect", "at_least")
            self.document.report(at, "`fixtures` that at_least is a share of", "none", "name them, or drop at_least")
        parser = self._parser(raw, self.document, self.fixture, self.shape)
        claim = parser.read(model)
        parser.check_xfail(claim)
        return self._with_evidence(claim, raw)

    def _with_evidence(self, claim: Claim, raw: Any) -> Claim:
        """Return a claim about one fixture, which knows the roles in `raw` that no evidence stands behind."""
        texts = [text for text in _texts(raw[key_of(claim.verb)]) if "[" in text]
        if not texts or not parser_of(claim.verb).names_nodes:
            return claim
        roles = (role for text in texts for role in roles_in(text, claim.shape))
        return replace(claim, unproven=without_evidence(claim.ref, roles))

    def _parser(self, raw: Any, document: Document, fixture: str, shape: Shape, error: float = ERROR) -> ClaimParser:
        where = (document, self.loc, fixture, shape, self.fixtures, self.line, self.index, error)
        return parser_of(verb_of(raw))(*where)

    def _across(self, raw: dict[str, Any]) -> AcrossRuns | None:
        """Return a claim about each of several fixtures, or None after reporting its problems."""
        model = validate(parser_of(verb_of(raw)).model, self.document, raw, self.loc)
        if model is None or self.shape is None:
            return None
        parser = self._parser(raw, self.document, self.fixture, self.shape)
        before = len(self.document.problems)
        group = parser.group_of(model.fixtures, "fixtures")
        if len(self.document.problems) > before:
            return None
        if len(group) == 1:
            self.document.report((*self.loc, "fixtures"), "several fixtures", group[0], "name it as `fixture`")
        members, absent = self._members(raw, group)
        if self.document.problems:
            return None
        expect = getattr(model, "expect")  # noqa: B009 - every such claim has one
        share = Fraction(expect.at_least or 1)
        members = [_with_draws(member, len(group), share) for member in members]
        claim = AcrossRuns(
            **parser.common(model), questions=members[0].questions if members else None, gate=0.0,
            by_construction=bool(getattr(model, "by_construction", False)), members=tuple(members),
            absent=tuple(absent), group=group, group_text=as_text(model.fixtures), about=parser.about(model),
            at_least=share,
        )  # fmt: skip
        parser.check_xfail(claim)
        return claim

    def _members(self, raw: dict[str, Any], group: tuple[str, ...]) -> tuple[list[Claim], list[Absent]]:
        members: list[Claim] = []
        absent: list[Absent] = []
        missing: list[HarnessError] = []
        for name in group:
            try:
                shape = shape_of(FixtureRef(name, self.fixtures, self.shape.asks if self.shape else ""))
                for text in _texts(raw[key_of(verb_of(raw))]):
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
            # Only the first fixture with problems is reported, so that no problem is told twice; its name is added.
            scratch = replace(self.document, problems=[])
            model = validate(parser_of(verb_of(raw)).model, scratch, raw, self.loc, shape)
            if model is not None:
                member = self._parser(raw, scratch, name, shape, ERROR / len(group)).read(model)
                # What `xfail` expects is said of all runs together.
                member = replace(member, xfail=Xfail(member.xfail.reason) if member.xfail else None)
                members.append(self._with_evidence(member, raw))
            if scratch.problems:
                self.document.problems += [_of_fixture(problem, name) for problem in scratch.problems]
                return members, absent
        if missing and len(missing) == len(group):  # no run has the role: most likely a typing error
            self.document.problem((*self.loc, key_of(verb_of(raw))), missing[0])
        return members, absent


def _with_draws(member: Claim, runs: int, share: Fraction) -> Claim:
    """Return a claim on one run with the errors that the draws of its reference may have.

    The claim about all is falsely supported only if one of the runs of which it is false is, and these are more than
    may be missing. What refutes it is confirmed once all runs were asked.
    """
    if not isinstance(member, Hypothesis):
        return member
    return replace(member, drawing_errors=(ERROR / (math.floor((1 - share) * runs) + 1), None))


def _of_fixture(problem: Problem, name: str) -> Problem:
    return replace(problem, found=f"{problem.found} (asked of {name})")


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a part of a spec."""
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        yield from _texts(part)
