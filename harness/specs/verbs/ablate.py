"""``ablate``, the claim that some answer tokens fail if some nodes are ablated: its own keys, and their parser."""

from __future__ import annotations

from pydantic import Field

from harness.specs.keys import (
    AnswerToken,
    LossBound,
    NodeNames,
    Rate,
    RunsModel,
)
from harness.specs.metrics import METRICS, MetricsModel
from harness.specs.nodes import read_nodes
from harness.specs.parsing import FAIL_RATE, INTACT_RATE, as_text, as_tuple
from harness.specs.verbs.ablating import AblatingModel, AblatingParser, Expect, Hypothesis


class ExpectModel(RunsModel, MetricsModel):
    """Which answer tokens fail, every token not named must stay right; or what becomes of metrics."""

    fails: list[AnswerToken] | None = Field(None, description="these tokens fail; [] when nothing may")
    may_fail: list[AnswerToken] = Field([], description="these tokens may fail or not")
    fail_rate: Rate | None = Field(None, description="`fails` fail at more than this rate (sample: 0.05)")
    intact_rate: Rate | None = Field(None, description="the others fail at less than this rate (sample: 0.01)")
    loss_below: LossBound = None
    loss_above: LossBound = None
    only_here: bool = Field(False, description="no other head there, and no other step, makes all of `fails` fail too")


class HypothesisModel(AblatingModel):
    """An ablation claim: an intervention, the questions, what is expected."""

    ablate: NodeNames = Field(description="the nodes to ablate: S11L0H2, S12L0H0+H1, S0-S7, or a list")
    one_at_a_time: bool = Field(
        False, description="each node on its own; a token fails on a question if any one node breaks it"
    )
    expect: ExpectModel = Field(description="what happens to the tokens")


class AblateParser(AblatingParser):
    """Parses ``ablate``."""

    model = HypothesisModel

    def read(self, model: HypothesisModel) -> Hypothesis:
        """Return the claim for one validated spec entry."""
        texts = as_tuple(model.ablate)
        shared = self._ablating(model)
        hypothesis = Hypothesis(
            **shared, ablate=texts, nodes=read_nodes(texts, self.shape), one_at_a_time=model.one_at_a_time,
            expect=self._expect(model.expect, shared["questions"].census),
        )  # fmt: skip
        self._possible(hypothesis)
        self._decidable(hypothesis)
        return hypothesis

    def about(self, model: HypothesisModel) -> str:
        """Return the ablated nodes, in the spec's words."""
        return as_text(model.ablate) + (" (one at a time)" if model.one_at_a_time else "")

    def _expect(self, model: ExpectModel, census: bool) -> Expect:
        tokens, nouns = self.shape.task.answer_tokens, self.shape.task.nouns
        metrics = self.metrics_of(model)
        fails = model.fails or []
        counts = model.fails is not None or bool(model.may_fail) or not metrics
        says = (model.fails, model.loss_below, model.loss_above, *(getattr(model, metric) for metric in METRICS))
        if all(value is None for value in says):
            self._report("expect", f"{nouns.tokens} in `fails`, or a metric", "neither", "write fails: [], say")
        if not counts and (model.fail_rate is not None or model.intact_rate is not None):
            self._report("expect", "rates of `fails`", "no `fails`", "add it, or drop the rates")
        seen: set[str] = set()
        for key, names in (("fails", fails), ("may_fail", model.may_fail)):
            for i, name in enumerate(names):
                if name in seen:
                    self._report(("expect", key, i), f"each {nouns.token} once", f"{name} again", "keep one of them")
                seen.add(name)
        if set(tokens) <= set(model.may_fail) and model.loss_below is None and model.loss_above is None and not metrics:
            self._report("expect", "something that could fail", f"every {nouns.token} in may_fail", "claim something")
        self._loss_bounds(model)
        if model.fail_rate is not None and not fails and counts:
            about = f"{nouns.tokens} in `fails` that the rate is about"
            self._report(("expect", "fail_rate"), about, "none", "remove fail_rate")
        return Expect(
            tuple(d for d in tokens if d in fails),
            tuple(d for d in tokens if d in model.may_fail or not counts),
            model.fail_rate if model.fail_rate is not None or census else FAIL_RATE,
            model.intact_rate if model.intact_rate is not None or census else INTACT_RATE,
            model.loss_below, model.loss_above, model.only_here, metrics, counts,
        )  # fmt: skip
