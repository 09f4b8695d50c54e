"""One claim of a spec, its values valid each by itself → a claim; what cannot be, or be settled, is refused.

Imports no torch. Problems go to the document that the claim stands in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, did_you_mean, shorten
from harness.hypothesis import Answer, Attend, Claim, Expect, Hypothesis, Learn
from harness.intervals import least_n, least_n_of_mean
from harness.nodes import Shape, reach, read_nodes
from harness.question_sets import named_set
from harness.recipe import list_fixtures, recipe_of
from harness.selection import NamedSet, QuestionList, Questions, Sample, make_strata
from harness.series import TASKS, loss_names
from harness.spec_model import (
    REFERENCE_N,
    REFERENCE_SEED,
    VERBS,
    AnsweredModel,
    AnswerModel,
    AttendModel,
    ClaimModel,
    ExpectModel,
    HypothesisModel,
    LearnModel,
    SampleModel,
)  # fmt: skip
from harness.yamlfile import Document, Loc

DEFAULT_REFERENCE = Sample(REFERENCE_N, REFERENCE_SEED)
FAIL_RATE, INTACT_RATE = 0.05, 0.01  # what a sample is compared with unless the spec says otherwise


def one_verb(document: Document, loc: Loc, raw: object) -> bool:
    """Return whether a claim has one verb at the most, after noting it in the document where it has more."""
    present = [verb for verb in VERBS if isinstance(raw, dict) and verb in raw]
    if len(present) > 1:
        place = (*loc, present[1])
        document.report(place, f"one of {', '.join(VERBS)}", " and ".join(present), "write a claim each", at_key=True)
    return len(present) < 2


def _as_written(names: str | list[str] | None) -> str:
    return "" if names is None else names if isinstance(names, str) else ", ".join(names)


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


@dataclass
class Reader:
    """Checks one claim against the shape of its fixture."""

    document: Document
    loc: Loc
    shape: Shape
    fixtures: Path
    line: int
    index: int

    def read(self, model: ClaimModel) -> Claim:
        """Return the claim that a validated part of a spec makes."""
        if isinstance(model, AnswerModel):
            return self._answer(model)
        if isinstance(model, AttendModel):
            return self._attend(model)
        if isinstance(model, LearnModel):
            return self._learn(model)
        assert isinstance(model, HypothesisModel)
        return self._ablate(model)

    def _common(self, model: ClaimModel) -> dict[str, Any]:
        return {
            "id": model.id, "claim": model.claim, "source": model.source or "", "fixture": self._fixture,
            "xfail": model.xfail.reason if model.xfail else None, "tags": tuple(dict.fromkeys(model.tags)),
            "shape": self.shape, "fixtures": self.fixtures, "path": self.document.path, "line": self.line,
            "index": self.index, "key": f"{self.document.path}::{model.id}",
        }  # fmt: skip

    @property
    def _fixture(self) -> str:
        name: str = self.document.data["fixture"]
        return name

    def _ablate(self, model: HypothesisModel) -> Hypothesis:
        texts = (model.ablate,) if isinstance(model.ablate, str) else tuple(model.ablate)
        questions = self._questions(model.questions, "questions")
        reference = DEFAULT_REFERENCE if model.reference is None else self._questions(model.reference, "reference")
        self._unused(model)
        hypothesis = Hypothesis(
            **self._common(model), ablate=texts, nodes=read_nodes(texts, self.shape),
            one_at_a_time=model.one_at_a_time, method=model.method, reference=reference, seed=model.seed or 0,
            questions=questions, expect=self._expect(model.expect, questions.census), gate=model.gate,
            by_construction=model.by_construction,
        )  # fmt: skip
        self._possible(hypothesis)
        self._decidable(hypothesis)
        return hypothesis

    def _answer(self, model: AnswerModel) -> Answer:
        questions, expect = self._questions(model.questions, "questions"), model.expect
        digits = () if isinstance(model.answer, str) else tuple(dict.fromkeys(model.answer))
        gain = expect.gain_at_least is not None or expect.gain_at_most is not None
        accuracy = expect.accuracy_at_least is not None or expect.accuracy_at_most is not None
        loss = expect.loss_below is not None or expect.loss_above is not None
        if model.than is None and gain:
            self._report("expect", "a gain only over the fixtures in `than`", "no `than`", "add `than: …`")
        elif model.than is not None and (accuracy or loss):
            self._report("expect", "with `than`, a gain", "another bound", "write gain_at_least or gain_at_most")
        elif not (gain or accuracy or loss):
            self._report("expect", "something that could fail", "no bound", "add accuracy_at_least, say")
        if len(digits) > 1 and model.than is not None:
            self._report("answer", "`whole`, or one digit, with `than`", f"{len(digits)} digits", "write a claim each")
        self._loss_bounds(expect)
        if model.free_running and not digits:
            found = "`whole`, on which it agrees with the teacher-forced one: both read the same up to the first error"
            self._report("answer", "digits, with free_running", found, "name digits, or remove free_running")
        if model.free_running and loss:
            self._report("expect", "no loss of a free-running model", "a bound", "remove it, or free_running")
        group = self._group(model.fixtures, "fixtures")
        than = () if model.than is None else self._group(model.than, "than")
        if both := sorted(set(group) & set(than)):
            self._report("than", "other fixtures than those that are compared with them", both[0], "drop it")
        claim = Answer(
            **self._common(model), questions=questions, gate=0.0, digits=digits, free_running=model.free_running,
            group=group, group_text=_as_written(model.fixtures), than=than, than_text=_as_written(model.than),
            at_least=expect.gain_at_least if than else expect.accuracy_at_least,
            at_most=expect.gain_at_most if than else expect.accuracy_at_most,
            loss_below=expect.loss_below, loss_above=expect.loss_above,
        )  # fmt: skip
        if claim.at_least is not None and claim.at_most is not None and claim.at_least >= claim.at_most:
            found = f"{claim.at_least:g} and {claim.at_most:g}"
            self._report("expect", "the lower bound below the upper one", found, "swap them, or leave one out")
        if isinstance(questions, Sample):
            if than:
                needed = least_n_of_mean(1, claim.at_least, claim.at_most, lowest=-1, highest=1)
            else:
                rates = {"fail_rate": claim.at_least, "intact_rate": claim.at_most}
                needed = max(least_n(claim.comparisons, **rates), 2 if claim.says_loss else 1)
            self._least(needed, questions.n)
        return claim

    def _attend(self, model: AttendModel) -> Attend:
        questions, expect = self._questions(model.questions, "questions"), model.expect
        nodes, layout = read_nodes(model.attend.node, self.shape), self.shape.layout
        node = nodes[0]
        if len(nodes) > 1 or node.kind != "head":
            self._report(("attend", "node"), "one head at one step, like S12L0H0", model.attend.node, "name one")
        elif not reach(nodes, self.shape):
            self._report(("attend", "node"), "a head that something reads", f"{node}, which reaches no digit",
                         "name another")  # fmt: skip
        steps = tuple(dict.fromkeys(layout.step_of(name) for name in model.attend.to))
        for i, name in enumerate(model.attend.to):
            if layout.step_of(name) > node.step:
                self._report(("attend", "to", i), f"steps up to S{node.step}, which {node} can see", name, "drop it")
        if set(steps) >= set(range(node.step + 1)):
            self._report(("attend", "to"), "some of the steps that the head can see", "all", "drop some")
        if (expect.mass_at_least is None) == (expect.mass_at_most is None):
            found = "none" if expect.mass_at_least is None else "both"
            self._report("expect", "mass_at_least or mass_at_most", found, "write one of them")
        if isinstance(questions, Sample):
            bounds = (expect.mass_at_least, expect.mass_at_most)
            self._least(least_n_of_mean(1, *bounds, lowest=0, highest=1), questions.n)
        return Attend(
            **self._common(model), questions=questions, gate=model.gate, node=node, to=tuple(model.attend.to),
            steps=steps, at_least=expect.mass_at_least, at_most=expect.mass_at_most,
        )  # fmt: skip

    def _learn(self, model: LearnModel) -> Learn:
        # No carry runs into the units, so these have no case, ever.
        never = {f"{task}.D0" for task in TASKS[1:]}
        known = [name for name in loss_names(self.shape.layout) if name not in never]
        for key, names in (("first", model.learn.first), ("before", model.learn.before)):
            for i, name in enumerate(names):
                if name not in known:
                    self._report(("learn", key, i), "a loss of the learning curves", name, did_you_mean(name, known))
        if both := set(model.learn.first) & set(model.learn.before):
            self._report(("learn", "before"), "other losses than in `first`", sorted(both)[0], "drop it")
        claim = Learn(
            **self._common(model), questions=None, gate=0.0, first=tuple(dict.fromkeys(model.learn.first)),
            before=tuple(dict.fromkeys(model.learn.before)), below=model.learn.below,
            group=self._group(model.fixtures, "fixtures"), group_text=_as_written(model.fixtures),
            share_above=model.expect.share_above,
        )  # fmt: skip
        needed = least_n(1, fail_rate=claim.share_above, intact_rate=None)
        if len(claim.group) < needed:
            expected = f"at least {needed:g} training runs, or the claim cannot be settled"
            self._report("fixtures", expected, str(len(claim.group)), "name more, or claim a smaller share")
        return claim

    def _group(self, names: str | list[str] | None, key: str) -> tuple[str, ...]:
        """Return the fixtures that a claim names, by name or by glob; the file's own where it names none."""
        if names is None:
            return (self._fixture,)
        found: list[str] = []
        for i, name in enumerate([names] if isinstance(names, str) else names):
            place: tuple[str | int, ...] = (key,) if isinstance(names, str) else (key, i)
            known = list_fixtures(self.fixtures)
            matching = [other for other in known if fnmatchcase(other, name)]
            if not matching:
                self._report(place, f"fixtures in {self.fixtures}", shorten(name), did_you_mean(name, known))
            for other in matching:
                try:
                    digits = recipe_of(other, self.fixtures).n_digits
                except HarnessError as error:
                    self.document.problem((*self.loc, *place), error)
                    continue
                if digits != self.shape.layout.n_digits:
                    wrong = f"{other}, of {digits}"
                    self._report(place, f"fixtures for {self.shape.layout.n_digits} digits", wrong, "drop it")
            found += matching
        return tuple(dict.fromkeys(found))

    def _least(self, needed: float, n: int) -> None:
        """Refuse a sample of `n` questions that could not settle a claim, whatever came out."""
        if math.isinf(needed):
            fix = "change the rate"
            self._report("expect", "rates between 0 and 1 for a sample", "one that no sample can show", fix)
        elif n < needed:
            self._report(
                ("questions", "n"), f"n of at least {needed:.0f}, or the claim cannot be settled",
                str(n), f"write n: {needed:.0f} or more",
            )  # fmt: skip

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
        self._loss_bounds(model)
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

    def _loss_bounds(self, model: ExpectModel | AnsweredModel) -> None:
        if model.loss_below is not None and model.loss_above is not None and model.loss_above >= model.loss_below:
            found = f"{model.loss_above} and {model.loss_below}"
            self._report(("expect", "loss_above"), "loss_above less than loss_below", found, "swap them")

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
        self._least(max(needed, 2 if h.expect.says_loss else 1), h.questions.n)  # one loss has no spread
