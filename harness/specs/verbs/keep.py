"""``keep``, the claim that some nodes are sufficient: its spec keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from pydantic import Field

from harness.base.validation import Strict
from harness.specs.keys import (
    AnswerToken,
    NodeNames,
    Rate,
    RunsModel,
)
from harness.specs.metrics import MetricsModel
from harness.specs.node_sets import whole_model
from harness.specs.nodes import Node, read_nodes
from harness.specs.parsing import (
    INTACT_RATE,
    as_text,
    as_tuple,
)
from harness.specs.siblings import Nodes
from harness.specs.verbs.ablating import AblatingModel, AblatingParser, Expect, Hypothesis


class KeepModel(Strict):
    """What is left of the model, by kind: of a kind that is named, everything else is ablated."""

    heads: NodeNames | None = Field(None, description="the heads that stay; all other heads are ablated")
    mlps: NodeNames | None = Field(None, description="the MLPs that stay; all other MLPs are ablated")
    tokens: list[AnswerToken] = Field(
        [], alias="digits", description="the tokens that stay right; all of them unless named"
    )


class KeptModel(RunsModel, MetricsModel):
    """How right the tokens stay; or what becomes of metrics."""

    intact_rate: Rate | None = Field(None, description="each fails at less than this rate (sample: 0.01)")
    only_here: bool = Field(False, description="each node is needed: without it, some token does not stay right")


class KeepClaimModel(AblatingModel):
    """A sufficiency claim: these nodes are enough."""

    keep: KeepModel = Field(description="what is left")
    expect: KeptModel = Field(KeptModel(), description="how right the tokens stay")


@dataclass(frozen=True, kw_only=True)
class Keep(Hypothesis):
    """A sufficiency claim: these tokens stay right although all other nodes of the same kind are ablated."""

    verb: ClassVar[str] = "keep"
    tokens: tuple[str, ...]  # the tokens that stay right; all others may fail
    kept: Nodes

    @property
    def named(self) -> Nodes:
        """The kept nodes."""
        return self.kept

    @property
    def acting(self) -> Nodes:
        """The kept nodes: all of them together suffice."""
        return self.kept

    @property
    def target(self) -> str:
        """The kept nodes, and how many nodes are kept and ablated."""
        return f"only {', '.join(self.ablate)} ({len(self.kept)} kept, {len(self.nodes)} cut)"

    @property
    def telling(self) -> tuple[str, ...]:
        """The tokens that are measured to see if a kept node is needed: all of them staying right means it is not."""
        return self.tokens

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """For each kept node, by its name: the set that is ablated if this node is ablated as well."""
        return {str(node): tuple(sorted((*self.nodes, node))) for node in self.kept}

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A4 fails < 1%``."""
        whole = self.tokens == self.shape.task.answer_tokens
        rate = "never fail" if self.expect.intact_rate is None else f"fail < {100 * self.expect.intact_rate:g}%"
        counted = f"{f'all {self.shape.task.nouns.tokens}' if whole else ', '.join(self.tokens)} {rate}"
        parts = [counted] if self.expect.counts else []
        each = ["each is needed"] if self.expect.only_here else []
        return "; ".join([*parts, *(bound.expected for bound in self.expect.metrics), *each])


class KeepParser(AblatingParser):
    """Parses ``keep``."""

    model = KeepClaimModel

    def read(self, model: KeepClaimModel) -> Keep:
        """Return the claim for one validated spec entry."""
        task = self.shape.task
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
            elif not task.names and not all(node.everywhere for node in those):
                expected = f"{key} at every position, for all others are cut, wherever they are"
                named_so = ", ".join(as_tuple(named))
                self._report(("keep", key), expected, named_so, f"write {min(those).component}, without a position")
            kept |= those
            cut |= {node for node in whole_model(self.shape) if node.kind == kind} - those
        if not texts:
            self._report("keep", "heads or mlps to keep", "neither", "name the nodes that suffice")
        elif not cut:
            self._report("keep", "fewer nodes than there are", "all of them", "drop some")
        tokens = tuple(d for d in task.answer_tokens if d in model.keep.tokens) or task.answer_tokens
        rate, metrics = model.expect.intact_rate, self.metrics_of(model.expect)
        counts = bool(model.keep.tokens) or rate is not None or not metrics
        may_fail = tuple(d for d in task.answer_tokens if d not in tokens or not counts)
        least = rate if rate is not None or shared["questions"].census else INTACT_RATE
        if model.expect.only_here and not counts:
            expected = f"{task.nouns.tokens} that stay right, for only_here"
            self._report(("expect", "only_here"), expected, "metrics alone", "drop it")
        expect = Expect((), may_fail, None, least, None, None, model.expect.only_here, metrics, counts)
        claim = Keep(
            **shared, ablate=tuple(texts), nodes=tuple(sorted(cut)), one_at_a_time=False, expect=expect,
            tokens=tokens, kept=tuple(sorted(kept)),
        )  # fmt: skip
        self._possible(claim)
        self._decidable(claim)
        return claim

    def about(self, model: KeepClaimModel) -> str:
        """Return the kept nodes, in the spec's words."""
        return "only " + ", ".join(as_text(part) for part in (model.keep.heads, model.keep.mlps) if part)
