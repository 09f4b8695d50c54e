"""Controls for a claim with an intervention, whatever its verdict.

There are three controls:

- Put back: each node gets its own clean value. Nothing may change, or the intervention itself breaks something.
- Siblings: the claim's nodes are ranked among similar sets of nodes. If a sibling shows the same effect, the claim is
  not specific. A claim can be supported and not specific.
- Methods: mean, zero and resample ablation give their verdicts side by side.

What cannot be measured of siblings or methods, because there is no donor say, is told in their place: controls change
no verdict. Only a value that was put back and changed something is an error of the claim.

Each sibling is measured on :data:`CONTROL_N` questions that fit the claim's description; all claims with the same
description share them. A census is measured whole. Siblings of `keep` get the claim's own questions, because
:data:`CONTROL_N` questions are too few to show that a node can be spared. The methods are compared on the claim's own
questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import MeasurementError, Problem
from harness.judging.measurement import Measurement
from harness.judging.verb import verb_named
from harness.judging.verdict import Controls, placed_at
from harness.specs.claim import Claim

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
