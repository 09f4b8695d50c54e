"""Controls for a claim with an intervention, whatever its verdict.

There are four controls:

- Put back: each node gets its own clean value. Nothing may change, or the intervention itself breaks something.
- Siblings: the claim's nodes are ranked among similar sets of nodes. If a sibling shows the same effect, the claim is
  not specific. A claim can be supported and not specific.
- Leave-one-out: each node of a claim by which something fails or follows is left out in its turn. If the others alone
  show the claimed effect, the node is *spare*, and the claim is not specific: it says less than it seems to. Where two
  nodes do the same work, each alone can be spared, though not both. A node that nothing reads is spare without a run;
  where the others cannot reach the claim's tokens, the node is needed by construction. A claim of more than
  :data:`MOST_LEFT_OUT` nodes is not tried, but for nodes that nothing reads. The siblings of `keep` do this already.
- Methods: mean, zero and resample ablation give their verdicts side by side.

Of `patch` the outcomes also say which other variables the pairs tell apart (``verbs/variables.py``).

What cannot be measured of siblings or methods, because there is no donor say, is told in their place: controls change
no verdict. Only a value that was put back and changed something is an error of the claim.

Coverage gives credit by leave-one-out: :func:`nodes_with_credit`.

Each sibling is measured on :data:`CONTROL_N` questions that fit the claim's description; all claims with the same
description share them. A census is measured whole. Siblings of `keep` get the claim's own questions, because
:data:`CONTROL_N` questions are too few to show that a node can be spared. The methods are compared on the claim's own
questions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from harness.base.errors import MeasurementError, Problem
from harness.judging.measurement import Measurement
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, Controls, Kind, placed_at
from harness.specs.claim import Claim
from harness.specs.siblings import MOST_LEFT_OUT, Nodes, can_matter, each_left_out

if TYPE_CHECKING:
    from harness.judging.bench import Workbench

CONTROL_N, CONTROL_SEED = 200, 4004


def measure_controls(claim: Claim, bench: Workbench) -> Controls | None:
    """Return the controls of a claim, or None for a claim that does not intervene.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a value that was put back changed something.
    """
    verb = verb_named(claim.verb)
    requests = verb.control_requests(claim)
    if not requests:
        return None
    bench.gather(requests)
    (back,) = bench.answer(requests[:1])  # first: where it fails, nothing else means anything
    put_back = require_unchanged(claim, back.measurement)
    with placed_at(claim):
        return verb.controls(claim, put_back, bench.tried(requests[1:]))


def require_unchanged(claim: Claim, back: Measurement) -> int:
    """Return on how many prompts every node got the value that it has.

    Raises:
        MeasurementError: that changed an answer.
    """
    changed = {count.token: count.wrong for count in back.tokens if count.wrong}
    if changed:
        prompts = claim.shape.task.nouns.prompts
        found = ", ".join(f"{token} on {n} {prompts}" for token, n in changed.items())
        raise MeasurementError(
            Problem(
                f"nothing to change when {claim.target} gets the values that it has", found,
                "this is a defect of the engine; please report it", claim.path, claim.line, 1,
            )
        )  # fmt: skip
    return back.n


def to_run(claim: Claim, tokens: Collection[str]) -> dict[str, Nodes]:
    """Return, for each node that may be spare, the other nodes of the claim; `tokens` are those that they change."""
    return {
        str(node): others
        for node, others in each_left_out(claim.acting).items()
        if node not in claim.unread and can_matter(others, tokens, claim.shape)
    }


def left_out_rows(claim: Claim, kind: Kind, found: Mapping[str, Comparison]) -> tuple[Comparison, ...]:
    """Return a row for each node: what was `found` without it, or what the model's shape alone says."""
    if len(claim.acting) < 2:
        return ()
    unread = {str(node) for node in claim.unread}
    rows = []
    for name in map(str, claim.unread if not_tried(claim) else claim.acting):
        if name in unread:
            row = Comparison(subject=name, kind=kind, expects="unreachable", finding="contradicted", value=0.0)
        else:
            settled = Comparison(subject=name, kind=kind, expects="needed", finding="by construction", value=0.0)
            row = found.get(name, settled)
        rows.append(row)
    return tuple(rows)


def not_tried(claim: Claim) -> int:
    """Return how many nodes are not left out in their turn because they are too many; 0 if all are."""
    return len(claim.acting) if len(claim.acting) > MOST_LEFT_OUT else 0


def nodes_with_credit(claim: Claim, bench: Workbench, controls: Controls | None = None) -> tuple[str, ...]:
    """Return the nodes that get credit from a supported claim: a single one, or those that the claim needs.

    A claim that nodes do nothing gives no credit. What `controls` measured is not measured again.

    Raises:
        FixtureError: the model cannot be loaded.
    """
    verb = verb_named(claim.verb)
    if controls is None:
        rows = verb.left_out(claim, bench.tried(verb.left_out_requests(claim)))
    else:
        rows = controls.left_out or tuple(row for row in controls.siblings if row.expects == "needed")
    if not rows and len(claim.acting) == 1 and not claim.unread:
        return tuple(map(str, claim.acting))
    return tuple(row.subject for row in rows if row.finding in ("holds", "by construction"))
