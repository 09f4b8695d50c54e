"""Controls for a claim with an intervention, whatever its verdict.

There are three controls:

- Put back: each node gets its own clean value. Nothing may change, or the intervention itself breaks something.
- Siblings: the claim's nodes are ranked among similar sets of nodes. If a sibling shows the same effect, the claim is
  not specific. A claim can be supported and not specific.
- Methods: mean, zero and resample ablation give their verdicts side by side.

Each sibling is measured on :data:`CONTROL_N` questions that fit the claim's description; all claims with the same
description share them. A census is measured whole. Siblings of `keep` get the claim's own questions, because
:data:`CONTROL_N` questions are too few to show that a node can be spared. The methods are compared on the claim's own
questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.base.errors import MeasurementError, Problem
from harness.judging.bench import Ablation, Workbench, ablation_of
from harness.judging.verbs.ablate import compare_sibling, decide
from harness.judging.verbs.patch import compare_patch_sibling, measure_patch
from harness.judging.verdict import Comparison, Verdict
from harness.specs.claim import Claim
from harness.specs.keys import METHODS
from harness.specs.siblings import Nodes
from harness.specs.verbs.ablate import Hypothesis
from harness.specs.verbs.keep import Keep
from harness.specs.verbs.patch import Patch
from harness.tasks.questions import PairSample, Questions, Sample

CONTROL_N, CONTROL_SEED = 200, 4004


@dataclass(frozen=True)
class Controls:
    """The results of the controls of one claim."""

    put_back: int  # questions on which every node got its own clean value, and nothing changed
    own: float | None  # the rank value of the claim's nodes: the lowest failure rate of its digits, or a follow rate
    siblings: tuple[Comparison, ...]  # "contradicted": the sibling shows the same effect
    methods: dict[str, Verdict]

    @property
    def rank(self) -> int | None:
        """The rank of the claim's nodes among all siblings, 1 is the strongest; None if there is nothing to rank."""
        return None if self.own is None else 1 + sum(row.value > self.own for row in self.siblings)

    @property
    def specific(self) -> bool | None:
        """Whether no sibling shows the same effect; None without siblings, or if none does but one is undecided."""
        if self.same:
            return False
        return True if self.siblings and all(row.finding == "holds" for row in self.siblings) else None

    @property
    def same(self) -> tuple[Comparison, ...]:
        """The siblings that show the same effect; for `keep`, the nodes that can be spared."""
        return tuple(row for row in self.siblings if row.finding == "contradicted")

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {
            "put_back": self.put_back, "own": self.own, "rank": self.rank, "specific": self.specific,
            "siblings": [vars(row) for row in self.siblings], "methods": self.methods,
        }  # fmt: skip


def measure_controls(claim: Claim, bench: Workbench) -> Controls | None:
    """Return the results of the controls of a claim, or None for a claim without an intervention.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a value that was put back changed something, or the measurement is invalid.
    """
    if isinstance(claim, Hypothesis):
        return _of_ablation(claim, bench)
    return _of_patch(claim, bench) if isinstance(claim, Patch) else None


def ablations_of(claim: Claim) -> Iterator[Ablation]:
    """Yield the ablations that the controls of a claim will measure, so that they can be planned."""
    if isinstance(claim, Hypothesis | Patch):
        yield _put_back(claim)
    if isinstance(claim, Hypothesis):
        yield from (_ablation(claim, nodes) for nodes in (claim.nodes, *claim.siblings.values()) if claim.siblings)
        yield from (ablation_of(claim, method=method) for method in METHODS)


def _questions(h: Hypothesis) -> Questions:
    """Return the questions that the controls of a claim use."""
    asked = h.questions
    if not isinstance(asked, Sample):
        return asked
    asked = replace(asked, auto=False)
    return asked if isinstance(h, Keep) else replace(asked, n=CONTROL_N, seed=CONTROL_SEED)


def _ablation(h: Hypothesis, nodes: Nodes) -> Ablation:
    return ablation_of(h, nodes=nodes, questions=_questions(h))


def _put_back(claim: Hypothesis | Patch) -> Ablation:
    asked: Questions = Sample(CONTROL_N, CONTROL_SEED)
    if isinstance(claim, Hypothesis):
        asked = _questions(claim)
    return Ablation(claim.fixture, claim.fixtures, claim.nodes, "itself", asked, asked)


def _require_unchanged(claim: Hypothesis | Patch, bench: Workbench) -> int:
    """Return the number of questions, after checking that putting back every value changes no answer digit."""
    measured = bench.measure(_put_back(claim), details=False).measurement
    changed = {count.digit: count.wrong for count in measured.digits if count.wrong}
    if changed:
        found = ", ".join(f"{digit} on {n} questions" for digit, n in changed.items())
        raise MeasurementError(
            Problem(
                f"nothing to change when {claim.target} gets the values that it has", found,
                "this is a defect of the engine; please report it", claim.path, claim.line, 1,
            )
        )  # fmt: skip
    return measured.n


def _of_ablation(h: Hypothesis, bench: Workbench) -> Controls:
    put_back = _require_unchanged(h, bench)
    asked = replace(h, questions=_questions(h))

    def row(nodes: Nodes, name: str) -> Comparison:
        return compare_sibling(asked, name, bench.measure(_ablation(h, nodes), details=False).measurement.digits)

    rows = tuple(row(nodes, name) for name, nodes in h.siblings.items())
    ranked = h.siblings and not isinstance(h, Keep)
    methods: dict[str, Verdict] = {}
    for method in METHODS:
        measured = bench.measure(ablation_of(h, method=method), details=False).measurement
        methods[method] = decide(replace(h, method=method, expect=replace(h.expect, only_here=False)), measured)[0]
    return Controls(put_back, row(h.nodes, "").value if ranked else None, rows, methods)


def _of_patch(claim: Patch, bench: Workbench) -> Controls:
    put_back = _require_unchanged(claim, bench)
    claim = replace(claim, gate=0.0)
    if isinstance(claim.questions, PairSample):
        claim = replace(claim, questions=PairSample(CONTROL_N, CONTROL_SEED))
    own, others = measure_patch(claim, bench, claim.siblings)
    rows = tuple(compare_patch_sibling(claim, name, as_expected) for name, as_expected in others.items())
    return Controls(put_back, compare_patch_sibling(claim, "", own.as_expected).value if rows else None, rows, {})
