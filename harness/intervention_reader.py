"""A claim that intervenes, as a spec has it → ``ablate``, ``keep``, ``patch``. Imports no torch."""

from __future__ import annotations

from typing import Any

from harness.hypothesis import Claim, Expect, Hypothesis, Keep, Patch
from harness.intervals import least_n
from harness.nodes import Node, all_nodes, reach, read_nodes
from harness.reader import Reader, size_of
from harness.selection import PairList, Pairs, PairSample, Sample, read_pair
from harness.spec_model import (
    REFERENCE_N,
    REFERENCE_SEED,
    AblatingModel,
    ExpectModel,
    HypothesisModel,
    KeepClaimModel,
    PatchModel,
)  # fmt: skip
from harness.tasks import task_of

DEFAULT_REFERENCE = Sample(REFERENCE_N, REFERENCE_SEED)
# What a sample is compared with unless the spec says otherwise.
FAIL_RATE, INTACT_RATE, FOLLOW_RATE = 0.05, 0.01, 0.9


class InterventionReader(Reader):
    """Reads the claims about what happens when nodes are replaced."""

    def read(self, model: HypothesisModel | KeepClaimModel | PatchModel) -> Claim:
        """Return the claim that a validated part of a spec makes."""
        if isinstance(model, HypothesisModel):
            return self._ablate(model)
        return self._keep(model) if isinstance(model, KeepClaimModel) else self._patch(model)

    def _ablating(self, model: AblatingModel) -> dict[str, Any]:
        """Return what claims share whose nodes are ablated."""
        self._unused(model)
        reference = DEFAULT_REFERENCE if model.reference is None else self._questions(model.reference, "reference")
        if isinstance(reference, Sample) and reference.auto:
            self._report(("reference", "n"), "a number (a reference settles nothing)", "auto", "write n: 1000")
        return self.common(model) | {
            "questions": self._questions(model.questions, "questions"), "method": model.method, "reference": reference,
            "seed": model.seed or 0, "gate": model.gate, "by_construction": model.by_construction,
        }  # fmt: skip

    def _ablate(self, model: HypothesisModel) -> Hypothesis:
        texts = as_tuple(model.ablate)
        shared = self._ablating(model)
        hypothesis = Hypothesis(
            **shared, ablate=texts, nodes=read_nodes(texts, self.shape), one_at_a_time=model.one_at_a_time,
            expect=self._expect(model.expect, shared["questions"].census),
        )  # fmt: skip
        self._possible(hypothesis)
        self._decidable(hypothesis)
        return hypothesis

    def _keep(self, model: KeepClaimModel) -> Keep:
        layout = self.shape.layout
        shared = self._ablating(model)
        texts: list[str] = []
        kept: set[Node] = set()
        cut: set[Node] = set()
        for key, kind, named in (("heads", "head", model.keep.heads), ("mlps", "mlp", model.keep.mlps)):
            if named is None:
                continue
            texts += as_tuple(named)
            those = {node for node in read_nodes(as_tuple(named), self.shape) if node.kind == kind}
            if not those:
                self._report(("keep", key), f"some {key}", ", ".join(as_tuple(named)), "name nodes of that kind")
            kept |= those
            cut |= {node for node in all_nodes(self.shape) if node.kind == kind} - those
        if not texts:
            self._report("keep", "heads or mlps to keep", "neither", "name the nodes that suffice")
        elif not cut:
            self._report("keep", "fewer nodes than there are", "all of them", "drop some")
        digits = tuple(d for d in layout.answer_digits if d in model.keep.digits) or layout.answer_digits
        may_fail = tuple(d for d in layout.answer_digits if d not in digits)
        rate = model.expect.intact_rate
        least = rate if rate is not None or shared["questions"].census else INTACT_RATE
        expect = Expect((), may_fail, None, least, only_here=model.expect.only_here)
        claim = Keep(
            **shared, ablate=tuple(texts), nodes=tuple(sorted(cut)), one_at_a_time=False, expect=expect,
            digits=digits, kept=tuple(sorted(kept)),
        )  # fmt: skip
        self._possible(claim)
        self._decidable(claim)
        return claim

    def _patch(self, model: PatchModel) -> Patch:
        layout, carried, expect = self.shape.layout, model.patch, model.expect
        nodes, variable = read_nodes(carried.node, self.shape), task_of(layout).read_variable(carried.variable)
        questions: Pairs
        if isinstance(model.pairs, list):
            questions = PairList(tuple(read_pair(text, layout) for text in model.pairs))
        else:
            questions = PairSample(size_of(model.pairs.n), model.pairs.seed, isinstance(model.pairs.n, str))
        reached, theirs = reach(nodes, self.shape), variable.digits(layout)
        for i, digit in enumerate(carried.digits):
            for who, known in ((as_text(carried.node), reached), (str(variable), theirs)):
                if digit not in known:
                    can = ", ".join(d for d in layout.answer_digits if d in known) or "none"
                    expected = f"digits that {who} can change ({can})"
                    self._report(("patch", "digits", i), expected, digit, "name one of those")
        for i, digit in enumerate(expect.may_change):
            if digit in carried.digits:
                self._report(("expect", "may_change", i), "digits that need not follow", digit, "drop it")
        claim = Patch(
            **self.common(model), questions=questions, gate=model.gate, node_text=as_text(carried.node), nodes=nodes,
            variable=variable, digits=tuple(d for d in layout.answer_digits if d in carried.digits),
            may_change=tuple(d for d in layout.answer_digits if d in expect.may_change),
            follow_rate=expect.follow_rate if questions.census or expect.follow_rate is not None else FOLLOW_RATE,
            intact_rate=expect.intact_rate if questions.census or expect.intact_rate is not None else INTACT_RATE,
            only_here=expect.only_here,
        )  # fmt: skip
        self._comparable(claim, claim.only_here)
        if isinstance(questions, PairSample):
            rates = (claim.follow_rate, claim.intact_rate)
            self._settled(claim.comparisons, *rates, questions, "pairs")
        return claim

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
            model.loss_below, model.loss_above, model.only_here,
        )  # fmt: skip

    def _unused(self, model: AblatingModel) -> None:
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
        self._comparable(h, h.expect.only_here)
        if h.one_at_a_time and h.expect.says_loss:
            self._report("expect", "no loss with one_at_a_time (whose would it be?)", "a bound", "remove it")
        if h.by_construction and not h.true_by_construction:
            can = ", ".join(h.compared) or "the loss"
            self._report(
                "by_construction", "a claim that the model's shape settles", f"{h.target}, which can change {can}",
                "remove by_construction",
            )  # fmt: skip

    def _comparable(self, claim: Hypothesis | Patch, only_here: bool) -> None:
        if only_here and not claim.siblings:
            expected = "other heads or steps that could make the same digits fail or follow"
            self._report(("expect", "only_here"), expected, f"none beside {claim.target}", "remove only_here")

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
        least = 2 if h.expect.says_loss else 1  # one loss has no spread
        self._settled(h.comparisons, fail_rate, intact_rate, h.questions, least=least)

    def _settled(
        self, comparisons: int, high: float | None, low: float | None, sample: Sample | PairSample,
        key: str = "questions", least: int = 1,
    ) -> None:  # fmt: skip
        """Refuse a sample that could not put every rate above `high`, or below `low`."""
        self._least(
            lambda error: max(least, least_n(comparisons, fail_rate=high, intact_rate=low, error=error)), sample, key
        )


def as_tuple(names: str | list[str]) -> tuple[str, ...]:
    """Return what a spec writes as one text or as a list, as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def as_text(names: str | list[str]) -> str:
    """Return it as one text."""
    return ", ".join(as_tuple(names))
