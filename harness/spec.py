"""YAML → frozen hypotheses, each checked against the shape of its fixture. Imports no torch.

A spec is refused as a whole, with every problem in it at once: what it says must be possible (the nodes
exist, they can reach the digits that should fail) and decidable (the sample is large enough).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.each import expand
from harness.errors import FixtureError, HarnessError, Problem, SpecError, shorten
from harness.files import SPEC_SUFFIXES
from harness.hypothesis import Expect, Hypothesis
from harness.intervals import least_n
from harness.nodes import Shape, read_nodes
from harness.question_sets import named_set
from harness.recipe import recipe_of
from harness.selection import NamedSet, QuestionList, Questions, Sample, make_strata
from harness.spec_model import (
    REFERENCE_N,
    REFERENCE_SEED,
    AskedModel,
    ExpectModel,
    FileModel,
    HypothesisModel,
    SampleModel,
)  # fmt: skip
from harness.strict import validate
from harness.yamlfile import Document, Loc, parse_yaml, read_yaml

DEFAULT_REFERENCE = Sample(REFERENCE_N, REFERENCE_SEED)
FAIL_RATE, INTACT_RATE = 0.05, 0.01  # what a sample is compared with unless the spec says otherwise


def load_hypotheses(path: str | Path, fixtures: str | Path = "fixtures") -> list[Hypothesis]:
    """Return the hypotheses in the spec file at `path`, or in all spec files below the directory.

    Raises:
        SpecError: with a line for each thing that is wrong in any of the files.
    """
    found: list[Hypothesis] = []
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
    if not root.is_dir():
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix in SPEC_SUFFIXES and not file.is_dir())
    if not files:
        raise SpecError(Problem("spec files (*.yaml)", "none", "write one, or name another directory", str(root)))
    return files


def load_file(path: Path, fixtures: Path, shown_as: str | None = None) -> list[Hypothesis]:
    """Return the hypotheses of one spec file; `shown_as` is how messages name it.

    Raises:
        SpecError: with a line for each thing that is wrong in it.
        FixtureError: the fixture's recipe is wrong.
    """
    document = read_yaml(path, shown_as)
    rows = _expanded(document)
    shape = _shape(document, fixtures)
    found: list[Hypothesis] = []
    seen: dict[str, int] = {}
    for index, (loc, raw) in enumerate(rows):
        line = document.place(loc)[0]
        name = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(name, str) and name in seen:
            first = f"{shorten(name)} again (first in line {seen[name]})"
            document.report((*loc, "id"), "each id once in a file", first, "give one of them another id")
        elif isinstance(name, str):
            seen[name] = line
        model = validate(HypothesisModel, document, raw, loc, shape)
        if model is not None and shape is not None:
            found.append(_Reader(document, loc, shape).read(model, fixtures, line, index))
    document.raise_problems()
    return found


def read_questions(text: str, shape: Shape) -> Questions:
    """Return the questions that `text` names, in the words of a spec: ``varied``, ``[15+45]``, ``{n: 1000}``.

    Raises:
        SpecError: what it should have been.
    """
    document = parse_yaml(text, "questions")
    asked = validate(AskedModel, document, {"questions": document.data}, (), shape)
    document.raise_problems()
    assert asked is not None
    return make_questions(asked.questions, shape)


def make_questions(model: str | list[str] | SampleModel, shape: Shape) -> Questions:
    """Return the questions that a validated part of a spec names.

    Raises:
        HarnessError: a set that has none for this layout, or conditions that none meets.
    """
    layout = shape.layout
    if isinstance(model, str):
        named_set(model, layout)
        return NamedSet(model)
    if isinstance(model, list):
        return QuestionList(tuple(layout.read_question(text) for text in model))
    where = model.where
    cases = where.case if isinstance(where.case, list) else [where.case] if where.case else []
    cascades = [where.cascade] if isinstance(where.cascade, int) else where.cascade or []
    strata = make_strata(layout, cases=cases, cascades=cascades, columns=where.columns, stratify=model.stratify)
    return Sample(model.n, model.seed, strata)


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
        return recipe_of(name, fixtures).shape
    except FixtureError:
        raise
    except HarnessError as error:
        document.problem(("fixture",), error)
        return None


@dataclass
class _Reader:
    """Checks one claim against the shape of its fixture; problems go to the document."""

    document: Document
    loc: Loc
    shape: Shape

    def read(self, model: HypothesisModel, fixtures: Path, line: int, index: int) -> Hypothesis:
        texts = (model.ablate,) if isinstance(model.ablate, str) else tuple(model.ablate)
        questions = self._questions(model.questions, "questions")
        reference = DEFAULT_REFERENCE if model.reference is None else self._questions(model.reference, "reference")
        self._unused(model)
        hypothesis = Hypothesis(
            id=model.id, claim=model.claim, source=model.source or "", fixture=self.document.data["fixture"],
            ablate=texts, nodes=read_nodes(texts, self.shape), one_at_a_time=model.one_at_a_time,
            method=model.method, reference=reference, seed=model.seed or 0, questions=questions,
            expect=self._expect(model.expect, questions.census), gate=model.gate,
            by_construction=model.by_construction, xfail=model.xfail.reason if model.xfail else None,
            tags=tuple(dict.fromkeys(model.tags)), shape=self.shape, fixtures=fixtures,
            path=self.document.path, line=line, index=index,
            key=f"{self.document.path}::{model.id}",
        )  # fmt: skip
        self._possible(hypothesis)
        self._decidable(hypothesis)
        return hypothesis

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

    def _expect(self, model: ExpectModel, census: bool) -> Expect:
        digits = self.shape.layout.answer_digits
        seen: set[str] = set()
        for key, names in (("fails", model.fails), ("may_fail", model.may_fail)):
            for i, name in enumerate(names):
                if name in seen:
                    self._report(("expect", key, i), "each digit once", f"{name} again", "keep one of them")
                seen.add(name)
        if set(digits) <= set(model.may_fail) and model.loss_below is None and model.loss_above is None:
            self._report("expect", "something that could fail", "every digit in may_fail", "claim something")
        if model.loss_below is not None and model.loss_above is not None and model.loss_above >= model.loss_below:
            found = f"{model.loss_above} and {model.loss_below}"
            self._report(("expect", "loss_above"), "loss_above less than loss_below", found, "swap them")
        if model.fail_rate is not None and not model.fails:
            self._report(
                ("expect", "fail_rate"),
                "digits in `fails` that the rate is about",
                "none",
                "remove fail_rate",
            )
        return Expect(
            tuple(d for d in digits if d in model.fails), tuple(d for d in digits if d in model.may_fail),
            model.fail_rate if model.fail_rate is not None or census else FAIL_RATE,
            model.intact_rate if model.intact_rate is not None or census else INTACT_RATE,
            model.loss_below, model.loss_above,
        )  # fmt: skip

    def _unused(self, model: HypothesisModel) -> None:
        if model.method == "zero" and model.reference is not None:
            self._report("reference", "no reference with method zero", "one", "remove it, or choose mean or resample")
        if model.method != "resample" and model.seed is not None:
            self._report("seed", "a seed only with method resample", f"method {model.method}", "remove it")

    def _possible(self, h: Hypothesis) -> None:
        """Refuse what no model of this shape could show, and what is wrongly called true by construction."""
        layout = self.shape.layout
        for digit in h.expect.fails:
            if digit not in h.reach:
                reachable = (
                    f"only {', '.join(d for d in layout.answer_digits if d in h.reach)}" if h.reach else "no digit"
                )
                self._report(
                    ("expect", "fails"), f"digits that {h.target} can reach ({reachable})", digit,
                    f"{digit} is predicted at S{layout.predicted_at(digit)}; claim a digit it can reach",
                )  # fmt: skip
        if not h.reach and h.expect.loss_above is not None:
            found = f"{h.target}, which reaches no digit"
            self._report(("expect", "loss_above"), "a loss that the nodes can change", found, "remove it")
        if h.true_by_construction and h.xfail is not None:
            expected = "no xfail on what the model's shape settles"
            self._report("xfail", expected, "one", "remove it, and say by_construction")
        if h.one_at_a_time and h.expect.says_loss:
            self._report("expect", "no loss with one_at_a_time (whose would it be?)", "a bound", "remove it")
        if h.by_construction and not h.true_by_construction:
            can = ", ".join(h.compared) or "the loss"
            self._report(
                "by_construction", "a claim that the model's shape settles", f"{h.target}, which can change {can}",
                "remove by_construction",
            )  # fmt: skip

    def _decidable(self, h: Hypothesis) -> None:
        if h.true_by_construction:
            return
        intact = [digit for digit in h.compared if digit not in h.expect.fails]
        fail_rate = h.expect.fail_rate if h.expect.fails else None
        intact_rate = h.expect.intact_rate if intact else None
        if not isinstance(h.questions, Sample):
            for key, rate, impossible in (("fail_rate", fail_rate, 1), ("intact_rate", intact_rate, 0)):
                if rate == impossible:
                    side = "above" if impossible else "below"
                    fix = "leave it out: then a digit in `fails` fails at least once, the others never"
                    self._report(("expect", key), f"a rate that a count can be {side}", f"{rate:g}", fix)
            return
        needed = least_n(h.comparisons, fail_rate=fail_rate, intact_rate=intact_rate)
        needed = max(needed, 2 if h.expect.says_loss else 1)  # one loss has no spread
        if math.isinf(needed):
            self._report(
                "expect",
                "rates between 0 and 1 for a sample",
                "one that no sample can show",
                "change the rate",
            )
        elif h.questions.n < needed:
            self._report(
                ("questions", "n"), f"n of at least {needed:.0f}, or the claim cannot be settled",
                str(h.questions.n), f"write n: {needed:.0f} or more",
            )  # fmt: skip
