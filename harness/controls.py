"""Controls: what a sceptic asks of a claim that intervenes, whatever its verdict.

Does the intervention as such break anything: does each node, given the value that it has, change nothing? Is the
effect these nodes' own: how do they rank among their siblings, and does one of these do it too? Does it hang on the
method: what do mean, zero and resample ablation say, side by side? A claim can be supported and not specific.

Siblings are asked :data:`CONTROL_N` questions of the claim's description, which all claims share that have it; of a
census, all; and those of `keep` the claim's own, since so few could not show that a node can be spared. The methods are
compared on the claim's own questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import MeasurementError, Problem
from harness.hypothesis import Claim, Hypothesis, Keep, Patch
from harness.patching import joint_follow, measure_patch
from harness.selection import PairSample, Questions, Sample
from harness.spec_model import METHODS
from harness.variants import Nodes
from harness.verdict import Comparison, Verdict, compare_sibling, decide
from harness.workbench import Ablation, Workbench, ablation_of

CONTROL_N, CONTROL_SEED = 200, 4004


@dataclass(frozen=True)
class Controls:
    """What the controls of one claim showed."""

    put_back: int  # questions on which every node got the value that it has, and nothing changed
    own: float | None  # what the siblings are ranked by, of these nodes: a rate of failing (the least) or following
    siblings: tuple[Comparison, ...]  # "contradicted": it does it too
    methods: dict[str, Verdict]

    @property
    def rank(self) -> int | None:
        """The place of the claim's nodes among all, 1 the strongest; None where there is nothing to rank."""
        return None if self.own is None else 1 + sum(row.value > self.own for row in self.siblings)

    @property
    def specific(self) -> bool | None:
        """Whether no sibling does it too; None where there are none, or it is open of one and none is known to."""
        if self.same:
            return False
        return True if self.siblings and all(row.finding == "holds" for row in self.siblings) else None

    @property
    def same(self) -> tuple[Comparison, ...]:
        """The siblings that do it too; of `keep`, the nodes that can be spared."""
        return tuple(row for row in self.siblings if row.finding == "contradicted")

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "put_back": self.put_back, "own": self.own, "rank": self.rank, "specific": self.specific,
            "siblings": [vars(row) for row in self.siblings], "methods": self.methods,
        }  # fmt: skip


def measure_controls(claim: Claim, bench: Workbench) -> Controls | None:
    """Return what the controls of a claim show, or None of one that does not intervene.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a value that was put back changed something, or what was measured means nothing.
    """
    if isinstance(claim, Hypothesis):
        return _of_ablation(claim, bench)
    return _of_patch(claim, bench) if isinstance(claim, Patch) else None


def ablations_of(claim: Claim) -> Iterator[Ablation]:
    """Yield what the controls of a claim will ask of its model, to be planned."""
    if isinstance(claim, Hypothesis | Patch):
        yield _put_back(claim)
    if isinstance(claim, Hypothesis):
        yield from (_ablation(claim, nodes) for nodes in (claim.nodes, *claim.siblings.values()) if claim.siblings)
        yield from (ablation_of(claim, method=method) for method in METHODS)


def _questions(h: Hypothesis) -> Questions:
    """Return what controls ask of a claim."""
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
    """Put every value back, and return on how many questions that changed nothing."""
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
    rows = tuple(joint_follow(claim, name, as_expected) for name, as_expected in others.items())
    return Controls(put_back, joint_follow(claim, "", own.as_expected).value if rows else None, rows, {})
