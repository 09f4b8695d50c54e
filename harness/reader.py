"""What reading any claim of a spec needs: its questions, its place, its problems. Imports no torch.

One claim, its values valid each by itself, becomes a claim; what cannot be, or be settled, is refused, and the
problem goes to the document that the claim stands in. ``intervention_reader.py`` and ``observation_reader.py`` do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, did_you_mean, shorten
from harness.intervals import ERROR, error_at
from harness.nodes import Shape
from harness.places import list_fixtures, recipe_of
from harness.selection import (
    AUTO_FIRST,
    AUTO_LOOKS,
    AUTO_MOST,
    NamedSet,
    PairSample,
    QuestionList,
    Questions,
    Sample,
)  # fmt: skip
from harness.spec_model import VERBS, AnsweredModel, ClaimModel, ExpectModel, SampleModel
from harness.tasks import task_of
from harness.yamlfile import Document, Loc


def one_verb(document: Document, loc: Loc, raw: object) -> bool:
    """Return whether a claim has one verb at the most, after noting it in the document where it has more."""
    present = [verb for verb in VERBS if isinstance(raw, dict) and verb in raw]
    if len(present) > 1:
        place = (*loc, present[1])
        document.report(place, f"one of {', '.join(VERBS)}", " and ".join(present), "write a claim each", at_key=True)
    return len(present) < 2


def make_questions(model: str | list[str] | SampleModel, shape: Shape) -> Questions:
    """Return the questions that a validated part of a spec names.

    Raises:
        HarnessError: a set that has none for this layout, or conditions that none meets.
    """
    layout, task = shape.layout, task_of(shape.layout)
    if isinstance(model, str):
        task.question_set(model)
        return NamedSet(model)
    if isinstance(model, list):
        return QuestionList(tuple(layout.read_question(text) for text in model))
    where = model.where
    cases = where.case if isinstance(where.case, list) else [where.case] if where.case else []
    cascades = [where.cascade] if isinstance(where.cascade, int) else where.cascade or []
    strata = task.strata(cases=cases, cascades=cascades, columns=where.columns, stratify=model.stratify)
    auto = isinstance(model.n, str)
    return Sample(size_of(model.n), model.seed, strata, auto)


def size_of(n: int | str) -> int:
    """Return how many questions, or pairs, are asked at first."""
    return AUTO_FIRST if isinstance(n, str) else n


@dataclass
class Reader:
    """Checks one claim against the shape of its fixture."""

    document: Document
    loc: Loc
    fixture: str
    shape: Shape
    fixtures: Path
    line: int
    index: int
    error: float = ERROR  # the chance that one of its intervals fails; less, where it is one of several

    def common(self, model: ClaimModel) -> dict[str, Any]:
        """Return what every claim has."""
        return {
            "id": model.id, "claim": model.claim, "source": model.source or "", "fixture": self.fixture,
            "xfail": model.xfail.reason if model.xfail else None, "tags": tuple(dict.fromkeys(model.tags)),
            "shape": self.shape, "fixtures": self.fixtures, "path": self.document.path, "line": self.line,
            "index": self.index, "key": f"{self.document.path}::{model.id}",
            "survivors": tuple(model.survivors.items()), "error": self.error, "recorded": model.recorded,
        }  # fmt: skip

    def _report(self, key: str | tuple[str | int, ...], expected: str, found: str, fix: str) -> None:
        self.document.report((*self.loc, *((key,) if isinstance(key, str) else key)), expected, found, fix)

    def _questions(self, model: Any, key: str) -> Questions:
        try:
            return make_questions(model, self.shape)
        except HarnessError as error:
            self.document.problem(
                (*self.loc, key, "where") if isinstance(model, SampleModel) else (*self.loc, key), error
            )
            return QuestionList(())

    def _least(self, needed_at: Callable[[float], float], sample: Sample | PairSample, key: str = "questions") -> None:
        """Refuse a sample that could not settle a claim, whatever came out; what is needed depends on the error."""
        needed = needed_at(error_at(AUTO_LOOKS - 1, self.error) if sample.auto else self.error)
        n = AUTO_MOST if sample.auto else sample.n
        if math.isinf(needed):
            fix = "change the rate"
            self._report("expect", "rates between 0 and 1 for a sample", "one that no sample can show", fix)
        elif n < needed:
            self._report(
                (key, "n"), f"n of at least {needed:.0f}, or the claim cannot be settled",
                f"auto, {n} at most" if sample.auto else str(n), f"write n: {needed:.0f} or more",
            )  # fmt: skip

    def _loss_bounds(self, model: ExpectModel | AnsweredModel) -> None:
        if model.loss_below is not None and model.loss_above is not None and model.loss_above >= model.loss_below:
            found = f"{model.loss_above} and {model.loss_below}"
            self._report(("expect", "loss_above"), "loss_above less than loss_below", found, "swap them")

    def group_of(self, names: str | list[str] | None, key: str) -> tuple[str, ...]:
        """Return the fixtures that a claim names, by name or by glob; the file's own where it names none."""
        if names is None:
            return (self.fixture,)
        found: list[str] = []
        known = list_fixtures(self.fixtures)
        for i, name in enumerate([names] if isinstance(names, str) else names):
            place: tuple[str | int, ...] = (key,) if isinstance(names, str) else (key, i)
            matching = [other for other in known if fnmatchcase(other, name)]
            if not matching:
                self._report(place, f"fixtures in {self.fixtures}", shorten(name), did_you_mean(name, known))
            for other in matching:
                try:
                    layout = recipe_of(other, self.fixtures).layout
                except HarnessError as error:
                    self.document.problem((*self.loc, *place), error)
                    continue
                if layout.kind != self.shape.layout.kind:
                    self._report(
                        place, f"fixtures for {self.shape.layout.kind}", f"{other}, of {layout.kind}", "drop it"
                    )
            found += matching
        return tuple(dict.fromkeys(found))


def as_written(names: str | list[str] | None) -> str:
    """Return the names of fixtures as one text; empty for none."""
    return "" if names is None else names if isinstance(names, str) else ", ".join(names)
