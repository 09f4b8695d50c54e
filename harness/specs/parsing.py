"""Base of all verb parsers: reads questions and groups of fixtures, reports problems. Imports no torch.

A verb's parser (``harness/specs/verbs/``) turns the validated keys of one claim into a claim. It refuses a claim that
is impossible, or that the sample is too small to settle. Each problem is reported to the claim's document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.base.errors import HarnessError
from harness.base.intervals import CONFIDENCE, ERROR, error_at, least_n, least_n_of_betting, least_n_of_median
from harness.base.ranges import beyond, limits_of, ranges_of
from harness.base.text import did_you_mean, shorten
from harness.base.yamlfile import Document, Loc
from harness.specs.claim import Claim, Xfail
from harness.specs.fixtures.files import FixtureRef, list_fixtures, recipe_of
from harness.specs.keys import REFERENCE_N, REFERENCE_SEED, ClaimModel, SampleModel, XfailModel
from harness.specs.metrics import METRICS, MetricBound, bounds_of, missing_of
from harness.specs.nodes import Shape
from harness.specs.siblings import Nodes
from harness.tasks.questions import (
    AUTO_FIRST,
    AUTO_LOOKS,
    AUTO_MOST,
    NamedSet,
    Pairs,
    PairSample,
    QuestionList,
    Questions,
    Sample,
)

LEAST_OF_MEAN = 100  # prompts; the interval of a mean without bounds is that of many values


def make_questions(model: str | list[str] | SampleModel, shape: Shape, seed: int = 0) -> Questions:
    """Return the questions that the validated `questions` key describes; `seed` is that of a sample which names none.

    Raises:
        HarnessError: the named set is empty for this task, or no question meets the conditions.
    """
    task = shape.task
    if isinstance(model, str):
        task.question_set(model)
        return NamedSet(model)
    if isinstance(model, list):
        return QuestionList(tuple(task.read_question(text) for text in model))
    strata = task.strata(model.where, model.stratify)
    given = model.seed if "seed" in model.model_fields_set else seed
    return Sample(size_of(model.n), given, strata, isinstance(model.n, str))


def size_of(n: int | str) -> int:
    """Return the number of questions or pairs in the first round; `auto` begins with a fixed number."""
    return AUTO_FIRST if isinstance(n, str) else n


DEFAULT_REFERENCE = Sample(REFERENCE_N, REFERENCE_SEED)
# Default rates for a sample, if the spec gives none.
FAIL_RATE, INTACT_RATE, FOLLOW_RATE = 0.05, 0.01, 0.9


class LossBounds(Protocol):
    """The keys of a spec that bound a mean loss, in nats per answer token."""

    @property
    def loss_below(self) -> float | None:
        """Upper bound on the mean loss."""
        ...

    @property
    def loss_above(self) -> float | None:
        """Lower bound on the mean loss."""
        ...


class Comparable(Protocol):
    """A claim that can be compared with siblings (key `only_here`)."""

    @property
    def siblings(self) -> dict[str, Nodes]:
        """Other sets of nodes for which the claim could hold too, by name."""
        ...

    @property
    def target(self) -> str:
        """What the claim is about, in the spec's words."""
        ...


@dataclass
class ClaimParser:
    """Checks one claim against the shape of its fixture."""

    model: ClassVar[type[ClaimModel]]  # the keys of the verb
    names_nodes: ClassVar[bool] = True  # so `fixtures` asks the claim of each; other verbs have groups of their own

    document: Document
    loc: Loc
    fixture: str
    shape: Shape
    fixtures: Path
    line: int
    index: int
    error: float = ERROR  # chance that any of the claim's intervals fails; smaller if several runs share it

    def read(self, model: Any) -> Claim:
        """Return the claim for one validated spec entry."""
        raise NotImplementedError

    def about(self, model: Any) -> str:
        """Return what the claim is about, in the spec's words."""
        raise NotImplementedError

    def common(self, model: ClaimModel) -> dict[str, Any]:
        """Return the fields that every claim has, as keyword arguments."""
        return {
            "id": model.id, "claim": model.claim, "source": model.source or "", "fixture": self.fixture,
            "xfail": _xfail(model.xfail), "tags": tuple(dict.fromkeys(model.tags)),
            "shape": self.shape, "fixtures": self.fixtures, "path": self.document.path, "line": self.line,
            "index": self.index, "key": f"{self.document.path}::{model.id}",
            "survivors": tuple(model.survivors.items()), "error": self.error, "recorded": model.recorded,
        }  # fmt: skip

    def gate_of(self, said: float | None, asked: Questions | Pairs) -> float:
        """Return how often the clean model must answer; the task's own share unless the claim says one.

        A sample in which even a model that always prefers the right answer stays below it is refused.
        """
        success, nouns = self.shape.task.success, self.shape.task.nouns
        gate = success.gate if said is None else said
        if success.kind == "prefers" and isinstance(asked, Sample) and not asked.auto and 0 < gate < 1:
            least = math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(gate))  # n of n reach it (Clopper and Pearson)
            if asked.n < least:
                expected = f"n of at least {least}, or no model can show that it prefers the right one on {gate:g}"
                self._report(("questions", "n"), expected, str(asked.n), f"ask {least} {nouns.prompts} or more")
        return gate

    def metrics_of(self, expect: object, *, clean: bool = False, against: bool = False) -> tuple[MetricBound, ...]:
        """Return what `expect` says of metrics; what cannot be asked of the task is reported.

        `clean`: there is no intervention. `against`: the prompts are given wrong answers to compare with.
        """
        found = tuple(bounds_of(expect))
        for bound in found:
            if missing := missing_of(bound, self.shape.task, clean=clean, against=against):
                self._report(("expect", bound.metric), *missing)
        for metric in METRICS:
            if getattr(expect, metric, None) is not None and not any(one.metric == metric for one in found):
                self._report(("expect", metric), "a bound", "none", "write falls_on: 0.9, say")
        return found

    def settled_metrics(self, bounds: Iterable[MetricBound], comparisons: int, sample: Sample) -> None:
        """Refuse a sample too small to settle a share of prompts or a median, or to know a mean."""
        for bound in bounds:
            if bound.is_share:
                self._settled(comparisons, bound.at_least, bound.at_most, sample)
                continue
            # The ends of a median's interval are values that are there; the interval of a mean is one of many values.
            least = least_n_of_median(comparisons, self.error) if bound.what == "median" else LEAST_OF_MEAN
            if not sample.auto and sample.n < least:
                expected = f"at least {least} {self.shape.task.nouns.prompts}, for {bound.subject}"
                self._report("questions", expected, str(sample.n), f"ask {least} or more")

    def check_xfail(self, claim: Claim) -> None:
        """Refuse a range, in `xfail`, of what the claim never compares, or of values that cannot come out."""
        for due in claim.xfail.observed if claim.xfail else ():
            at, limits = ("xfail", "observed", due.subject), limits_of(due.subject)
            if due.subject not in claim.observable:
                known = shorten(", ".join(claim.observable) or "nothing", 100)
                expected, fix = f"what the claim compares ({known})", "name one of those, or drop it"
                self.document.report((*self.loc, *at), expected, shorten(due.subject), fix, at_key=True)
            elif limits is not None and beyond(due, limits):
                found = f"{due.low:g} to {due.high:g}"
                self._report(at, f"values from {limits[0]:g} to {limits[1]:g}", found, "write percentages with %")

    def _report(self, key: str | tuple[str | int, ...], expected: str, found: str, fix: str) -> None:
        self.document.report((*self.loc, *((key,) if isinstance(key, str) else key)), expected, found, fix)

    def _questions(self, model: Any, key: str, seed: int = 0) -> Questions:
        try:
            return make_questions(model, self.shape, seed)
        except HarnessError as error:
            self.document.problem(
                (*self.loc, key, "where") if isinstance(model, SampleModel) else (*self.loc, key), error
            )
            return QuestionList(())

    def _least(self, needed_at: Callable[[float], float], sample: Sample | PairSample, key: str = "questions") -> None:
        """Refuse a sample too small to settle the claim with any result; `needed_at` maps the error to the least n."""
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

    def _loss_bounds(self, model: LossBounds) -> None:
        if model.loss_below is not None and model.loss_above is not None and model.loss_above >= model.loss_below:
            found = f"{model.loss_above} and {model.loss_below}"
            self._report(("expect", "loss_above"), "loss_above less than loss_below", found, "swap them")

    def _comparable(self, claim: Comparable, only_here: bool) -> None:
        if only_here and not claim.siblings:
            expected = f"other heads or steps that could make the same {self.shape.task.nouns.tokens} fail or follow"
            self._report(("expect", "only_here"), expected, f"none beside {claim.target}", "remove only_here")

    def _settled(
        self, comparisons: int, high: float | None, low: float | None, sample: Sample | PairSample,
        key: str = "questions", loss: Callable[[float], float] = lambda error: 1,
    ) -> None:  # fmt: skip
        """Refuse a sample too small to show that a rate is above `high`, or below `low`, or what it says of the loss.

        `loss` is that of :meth:`_least_n_of_loss`.
        """
        self._least(
            lambda error: max(loss(error), least_n(comparisons, fail_rate=high, intact_rate=low, error=error)),
            sample, key,
        )  # fmt: skip

    def _least_n_of_loss(self, claim: Claim, below: float | None, above: float | None) -> Callable[[float], float]:
        """Return the function from the error to the least n that settles the bounds of a sample's capped mean loss.

        A bound that no capped loss can exceed is refused.
        """
        cap = claim.loss_cap
        said = {key: bound for key, bound in (("loss_below", below), ("loss_above", above)) if bound is not None}
        if cap is None or not said:
            return lambda error: 1
        for key, bound in said.items():
            if bound >= cap:
                expected = (
                    f"less than ln({self.shape.task.d_vocab}) = {cap:.4g} nats, where the losses of a sample are capped"
                )
                self._report(("expect", key), expected, f"{bound:g}", "lower it, or ask a census")
        if max(said.values()) >= cap:
            return lambda error: 1
        return lambda error: least_n_of_betting(claim.comparisons, above, below, highest=cap, error=error)

    def group_of(self, names: str | list[str] | None, key: str) -> tuple[str, ...]:
        """Return the fixtures that match the names or globs; the file's fixture if `names` is None."""
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
                    task = recipe_of(FixtureRef(other, self.fixtures, self.shape.asks)).task
                except HarnessError as error:
                    self.document.problem((*self.loc, *place), error)
                    continue
                if task.kind != self.shape.task.kind:
                    self._report(place, f"fixtures for {self.shape.task.kind}", f"{other}, of {task.kind}", "drop it")
            found += matching
        return tuple(dict.fromkeys(found))


def _xfail(model: XfailModel | None) -> Xfail | None:
    return None if model is None else Xfail(model.reason, model.verdict, ranges_of(model.observed))


def as_tuple(names: str | list[str]) -> tuple[str, ...]:
    """Return one text or a list of texts as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def as_text(names: str | list[str] | None) -> str:
    """Return the names joined with commas; empty for None."""
    return "" if names is None else ", ".join(as_tuple(names))
