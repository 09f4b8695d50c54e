"""What ``ablate`` and ``keep`` share, whose nodes are ablated: keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import Field

from harness.base.intervals import ERROR
from harness.base.seeds import seed_for
from harness.specs.claim import Claim, How, loss_in_words
from harness.specs.keys import (
    REFERENCE_SEED,
    ClaimModel,
    MethodKey,
    QuestionsModel,
    Rate,
    Seed,
)
from harness.specs.methods import CORRUPT, EVERY_METHOD, METHODS, NOISE
from harness.specs.metrics import MetricBound
from harness.specs.nodes import Node, reach
from harness.specs.parsing import DEFAULT_REFERENCE, ClaimParser
from harness.specs.siblings import Nodes, named_siblings
from harness.tasks.questions import Counterparts, Donors, Questions, Sample, Source

LEAST_REFERENCE = 100  # of a mean: its standard error is then a tenth of the spread of what it averages


class AblatingModel(ClaimModel):
    """What claims share whose nodes are ablated."""

    method: MethodKey = Field(
        "mean", description="what replaces a value; {corrupt: NAME}: its counterpart's; {noise: σ}"
    )
    reference: QuestionsModel | None = Field(
        None, description="whose activations replace the nodes' own; draws of a sample must agree"
    )
    seed: Seed | None = Field(None, description="of donors, counterparts or noise that are drawn")
    questions: QuestionsModel = Field(description="what is asked: a named set, a list, or a sample")
    gate: Rate | None = Field(None, description="least clean accuracy on these questions; the task's own unless said")
    by_construction: bool = Field(False, description="known to be true by the model's shape alone")


@dataclass(frozen=True)
class Expect:
    """What an ablation claim expects.

    In a census a rate may be None: then `fails` fail at least once, and the other tokens never fail.
    """

    fails: tuple[str, ...]
    may_fail: tuple[str, ...]
    fail_rate: float | None
    intact_rate: float | None
    loss_below: float | None = None
    loss_above: float | None = None
    only_here: bool = False  # no sibling makes all of `fails` fail too
    metrics: tuple[MetricBound, ...] = ()
    counts: bool = True  # whether anything is said of tokens that fail or stay

    @property
    def says_loss(self) -> bool:
        """Whether the claim bounds the mean loss."""
        return self.loss_below is not None or self.loss_above is not None


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Claim):
    """An ablation claim: these tokens fail if these nodes are ablated."""

    verb: ClassVar[str] = "ablate"
    questions: Questions
    ablate: tuple[str, ...]
    nodes: tuple[Node, ...]
    one_at_a_time: bool
    method: How
    counterpart: str = ""  # of method `corrupt`: which one
    sigma: float = 0.0  # of method `noise`: how much, in standard deviations of the value itself
    reference: Questions
    seed: int
    expect: Expect
    # Chances to be falsely supported, and refuted, by the draws of a drawn reference. None: the first draw suffices to
    # refute it, as the claim about several runs has the runs confirmed that its verdict needs.
    drawing_errors: tuple[float, float | None] = (ERROR, ERROR)

    @property
    def is_drawn(self) -> bool:
        """Whether what replaces the values is a draw whose error no count of the prompts includes.

        That is so of the mean over a sample, and of donors and counterparts of listed prompts. Where both a prompt and
        its donor are drawn, the count is over pairs of them.
        """
        if self.method not in EVERY_METHOD:  # "itself"
            return False
        method = EVERY_METHOD[self.method]
        if method.captures:
            return self.questions.census
        return method.needs_reference and isinstance(self.reference, Sample)

    def redrawn(self, draw: int) -> Self:
        """Return the claim with draw number `draw` of what replaces the values; number 0 is its own."""
        if draw == 0:
            return self
        if EVERY_METHOD[self.method].captures or not isinstance(self.reference, Sample):
            return replace(self, seed=seed_for("draw", self.seed, draw))
        seed = seed_for("reference", self.reference.seed, draw)
        return replace(self, reference=replace(self.reference, seed=seed))

    @cached_property
    def reach(self) -> frozenset[str]:
        """The answer tokens that the intervention could change; all others stay by construction."""
        return reach(self.nodes, self.shape)

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """The answer tokens whose failure counts are compared, in order: reachable and not in `may_fail`."""
        tokens = self.shape.task.answer_tokens
        return tuple(d for d in tokens if d in self.reach and d not in self.expect.may_fail)

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence; with `only_here`, each sibling adds one per token in `telling`."""
        own = len(self.compared) + (self.expect.says_loss + len(self.expect.metrics)) * bool(self.reach)
        return own + (len(self.siblings) * len(self.telling) if self.expect.only_here else 0)

    @property
    def observable(self) -> tuple[str, ...]:
        """The answer tokens that the nodes reach, the loss, and the siblings that it is compared with."""
        beside = self.siblings if self.expect.only_here else ()
        counted = sorted(self.reach) if self.expect.counts else ()
        metrics = (bound.subject for bound in self.expect.metrics)
        return (*counted, *["loss"][: self.expect.says_loss], *metrics, *beside)

    @property
    def true_by_construction(self) -> bool:
        """Whether the model's shape alone settles the claim."""
        return self.comparisons == 0

    @property
    def telling(self) -> tuple[str, ...]:
        """The tokens that are measured to compare a sibling with these nodes."""
        return self.expect.fails

    @cached_property
    def siblings(self) -> dict[str, Nodes]:
        """Other sets of nodes for which the claim could hold too, by name; empty if no token is to fail."""
        return named_siblings(self.nodes, self.telling, self.shape) if self.telling else {}

    @property
    def named(self) -> Nodes:
        """The ablated nodes."""
        return self.nodes

    @property
    def acting(self) -> Nodes:
        """The ablated nodes, if the claim says that something fails or the loss is high."""
        return self.nodes if self.acts else ()

    @property
    def acts(self) -> bool:
        """Whether the claim says that something fails, that the loss is high, or that a metric moves."""
        return bool(self.fails) or self.expect.loss_above is not None or any(one.acts for one in self.expect.metrics)

    @property
    def fails(self) -> tuple[str, ...]:
        """The answer tokens that fail."""
        return self.expect.fails

    @property
    def may_fail(self) -> tuple[str, ...]:
        """The answer tokens that may fail or not."""
        return self.expect.may_fail

    @property
    def replaced_by(self) -> Source | None:
        """The prompts whose activations replace those of the nodes; None for zero ablation."""
        if self.method == CORRUPT:
            return Counterparts(self.questions, self.counterpart, self.seed)
        if self.method == NOISE:
            return None
        method = EVERY_METHOD.get(self.method)
        if method and method.captures:
            return Donors(self.questions, self.reference, self.seed)
        return None if method and not method.needs_reference else self.reference

    @property
    def target(self) -> str:
        """The nodes, as written in the spec."""
        return ", ".join(self.ablate) + (" (one at a time)" if self.one_at_a_time else "")

    @property
    def how(self) -> str:
        """The ablation method, and which counterpart it takes values from, or how much noise there is."""
        return " ".join(filter(None, [self.method, self.counterpart, f"{self.sigma:g}" if self.sigma else ""]))

    @property
    def expected(self) -> str:
        """What is expected, in short: ``A5, A4 fail > 5%; A3 may; others < 1%; loss < 0.02``."""
        expect, noun = self.expect, self.shape.task.nouns.token
        fails, may, parts = ", ".join(expect.fails), ", ".join(expect.may_fail), []
        others = len(expect.fails) + len(expect.may_fail) < self.shape.task.n_answer
        if fails:
            rate = "" if expect.fail_rate is None else f" > {100 * expect.fail_rate:g}%"
            parts.append(f"{fails} {'fail' if len(expect.fails) > 1 else 'fails'}{rate}")
        if may:
            parts.append(f"{may} may" if fails else f"only {may} may fail" if others else f"any {noun} may fail")
        if others and expect.intact_rate is not None:
            parts.append(f"{'others' if parts else f'every {noun} fails'} < {100 * expect.intact_rate:g}%")
        elif not parts:
            parts.append("nothing fails")
        loss = loss_in_words(self, expect.loss_below, expect.loss_above)
        parts = parts if expect.counts else []
        return "; ".join([*parts, *["only here"] * expect.only_here, *loss, *(one.expected for one in expect.metrics)])


class AblatingParser(ClaimParser):
    """Base of the parsers of ``ablate`` and ``keep``, which both ablate nodes."""

    def _ablating(self, model: AblatingModel) -> dict[str, Any]:
        """Return the fields that ``ablate`` and ``keep`` share, as keyword arguments."""
        corrupt, sigma = getattr(model.method, "corrupt", ""), getattr(model.method, "noise", 0.0)
        method = CORRUPT if corrupt else NOISE if sigma else str(model.method)
        self._unused(model, method)
        reference: Questions = DEFAULT_REFERENCE
        if model.reference is not None:
            reference = self._questions(model.reference, "reference", REFERENCE_SEED)
        if isinstance(reference, Sample) and reference.auto:
            self._report(("reference", "n"), "a number (a reference settles nothing)", "auto", "write n: 1000")
        averages = method in METHODS and METHODS[method].needs_reference and not METHODS[method].captures
        if isinstance(reference, Sample) and averages and reference.n < LEAST_REFERENCE:
            expected = f"n of at least {LEAST_REFERENCE}, or the mean is of a few {self.shape.task.nouns.prompts} alone"
            fix = f"write n: {LEAST_REFERENCE} or more, list them, or choose resample"
            self._report(("reference", "n"), expected, str(reference.n), fix)
        questions = self._questions(model.questions, "questions")
        return self.common(model) | {
            "questions": questions, "method": method, "counterpart": corrupt, "sigma": sigma,
            "reference": reference, "seed": model.seed or 0,
            "gate": self.gate_of(model.gate, questions),
            "by_construction": model.by_construction,
        }  # fmt: skip

    def _unused(self, model: AblatingModel, method: str) -> None:
        needs = EVERY_METHOD[method]
        if not needs.needs_reference and model.reference is not None:
            others = " or ".join(name for name, entry in METHODS.items() if entry.needs_reference)
            self._report("reference", f"no reference with method {method}", "one", f"remove it, or choose {others}")
        if not needs.needs_seed and model.seed is not None:
            seeded = " or ".join(name for name, entry in METHODS.items() if entry.needs_seed)
            self._report("seed", f"a seed only with method {seeded}", f"method {method}", "remove it")

    def _possible(self, h: Hypothesis) -> None:
        """Refuse a claim that no model of this shape could satisfy, or that is wrongly called true by construction."""
        task, nouns = self.shape.task, self.shape.task.nouns
        for token in h.expect.fails:
            if token not in h.reach:
                reached = ", ".join(d for d in task.answer_tokens if d in h.reach)
                reachable = f"only {reached}" if reached else f"no {nouns.token}"
                self._report(
                    ("expect", "fails"), f"{nouns.tokens} that {h.target} can reach ({reachable})", token,
                    f"{token} is predicted at S{task.predicted_at(token)}; claim a {nouns.token} it can reach",
                )  # fmt: skip
        if not h.reach and h.expect.loss_above is not None:
            found = f"{h.target}, which reaches no {nouns.token}"
            self._report(("expect", "loss_above"), "a loss that the nodes can change", found, "remove it")
        if h.true_by_construction and h.xfail is not None:
            expected = "no xfail on what the model's shape settles"
            self._report("xfail", expected, "one", "remove it, and say by_construction")
        self._comparable(h, h.expect.only_here)
        if h.method == "resample" and (wide := [node for node in h.nodes if node.everywhere]):
            expected = f"a position, as donors differ in length from the {nouns.prompts}"
            self._report(h.verb, expected, f"{wide[0]} at every position", "write method: {corrupt: NAME}, or mean")
        if h.one_at_a_time and h.expect.says_loss:
            self._report("expect", "no loss with one_at_a_time (whose would it be?)", "a bound", "remove it")
        if h.one_at_a_time and h.expect.metrics:
            found = h.expect.metrics[0].subject
            self._report("expect", "no metrics with one_at_a_time (whose would they be?)", found, "write a claim each")
        if h.by_construction and not h.true_by_construction:
            found = f"{h.target}, which can change {', '.join(h.compared) or 'the loss'}"
            self._report("by_construction", "a claim that the model's shape settles", found, "remove by_construction")

    def _decidable(self, h: Hypothesis) -> None:
        loss = self._least_n_of_loss(h, h.expect.loss_below, h.expect.loss_above)
        if h.true_by_construction:
            return
        intact = [token for token in h.compared if token not in h.expect.fails]
        fail_rate = h.expect.fail_rate if h.expect.fails else None
        intact_rate = h.expect.intact_rate if intact else None
        if not isinstance(h.questions, Sample):
            for key, rate, impossible in (("fail_rate", fail_rate, 1), ("intact_rate", intact_rate, 0)):
                if rate == impossible:
                    side = "above" if impossible else "below"
                    noun = self.shape.task.nouns.token
                    fix = f"leave it out: then a {noun} in `fails` fails at least once, the others never"
                    self._report(("expect", key), f"a rate that a count can be {side}", f"{rate:g}", fix)
            return
        self._settled(h.comparisons, fail_rate, intact_rate, h.questions, loss=loss)
        self.settled_metrics(h.expect.metrics, h.comparisons, h.questions)
