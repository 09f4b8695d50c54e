"""Draws of the reference: a verdict counts only if it does not depend on which prompts the reference happens to hold.

What replaces the nodes' values may itself be a sample: the mean over 1,000 random prompts, say. A claim is about the
median draw of such a reference. It is supported only if its own draw and all of several others support it, and refuted
only if one comparison is contradicted by all. Else it is inconclusive, and the report gives the range of the draws.

Each further draw asks prompts of its own: first a part (:data:`SHARE`) of as many as the claim, then, if these leave it
undecided, as many. So a claim that is false of the median draw is false of each draw with a chance of at least a half,
and passes one with a chance of at most ``(1 + DRAW_ERROR) / 2``, independently of the others.
:func:`harness.base.intervals.draws_for` says how many draws make that less than the error that the claim may have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from harness.base.errors import HarnessError
from harness.base.intervals import DRAW_ERROR, draws_for
from harness.base.seeds import seed_for
from harness.judging.bench import Workbench
from harness.judging.requests import brief
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, Verdict, verdict_of
from harness.specs.claim import Claim
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import Counterparts, Sample

Rows = tuple[Comparison, ...]
SHARE = 0.4  # of a claim's prompts that a draw asks first


def confirmed_by_draws(claim: Claim, rows: Rows, bench: Workbench, *, refuting: bool = True) -> Rows:
    """Return the comparisons of a claim after as many draws of its reference as its verdict needs.

    `rows` are those of the first draw. Without `refuting`, the first draw suffices to refute it.

    Raises:
        MeasurementError: another draw of the reference cannot be measured.
    """
    needed = draws_needed(claim, rows, refuting=refuting)
    if needed == 1 or not isinstance(claim, Hypothesis) or not _differ(claim, bench):
        return rows
    draws, verdict = [rows], verdict_of(claim, rows)
    for draw in range(1, needed):
        for other, refuting_too in bench.take_alike(claim.ref, claim.questions, draw):
            _gather_next(other, draw, bench, refuting=refuting_too)
        draws.append(_of_draw(claim, draw, verdict, bench))
        if verdict_of(claim, _merged(draws)) != verdict:
            break
    return _merged(draws)


def draws_needed(claim: Claim, rows: Rows, *, refuting: bool = True) -> int:
    """Return how many draws of the reference a claim needs, given the comparisons of the first."""
    if not isinstance(claim, Hypothesis) or not claim.is_drawn:
        return 1
    verdict, (to_support, to_refute) = verdict_of(claim, rows), claim.drawing_errors
    if verdict == "refuted" and refuting:
        return draws_for(to_refute, claim.comparisons)
    return draws_for(to_support) if verdict == "supported" else 1


def _differ(claim: Hypothesis, bench: Workbench) -> bool:
    """Return whether draws can differ: a task's counterparts need not be drawn."""
    of = [one.replaced_by for one in (claim, claim.redrawn(1))]
    if not isinstance(of[0], Counterparts):
        return True
    first, second = (bench.prompts(claim.ref, source) for source in of if source is not None)
    return first.tokens.shape != second.tokens.shape or bool((first.tokens != second.tokens).any())


def _asked(claim: Hypothesis, draw: int, *, whole: bool = False) -> Hypothesis:
    """Return the claim with another draw of its reference, asked of prompts that belong to that draw alone."""
    redrawn = claim.redrawn(draw)
    if not isinstance(claim.questions, Sample):
        return redrawn
    n, seed = claim.questions.n, seed_for("prompts of a draw", claim.questions.seed, draw, whole)
    asked = replace(claim.questions, n=n if whole else math.ceil(SHARE * n), seed=seed)
    # Each look may err in half of the draw's error, at one end. No comparison shares that with others: a claim that is
    # false in one of them passes only if that one does.
    return replace(redrawn, questions=asked, error=DRAW_ERROR * claim.comparisons)


def _of_draw(claim: Hypothesis, draw: int, verdict: Verdict, bench: Workbench) -> Rows:
    """Return the comparisons of one draw, by as many prompts as settle it."""
    rows = _rows(_asked(claim, draw), bench)
    if isinstance(claim.questions, Sample) and verdict_of(claim, rows) != verdict:
        return _rows(_asked(claim, draw, whole=True), bench)
    return rows


def _rows(claim: Hypothesis, bench: Workbench) -> Rows:
    verb = verb_named(claim.verb)
    compared: tuple[object, Rows] = verb.compare(claim, bench.answer(brief(verb.requests(claim))))
    return compared[1]


def _gather_next(claim: Hypothesis, draw: int, bench: Workbench, *, refuting: bool) -> None:
    """Tell the bench what a draw of a claim asks first, if the draws before it leave that to be asked."""
    try:
        draws = [_rows(claim if earlier == 0 else _asked(claim, earlier), bench) for earlier in range(draw)]
    except HarnessError:  # it will be told when that claim is judged
        return
    agreed = verdict_of(claim, _merged(draws)) == verdict_of(claim, draws[0])
    if agreed and draws_needed(claim, draws[0], refuting=refuting) > draw:
        bench.gather(brief(verb_named(claim.verb).requests(_asked(claim, draw))))


def _merged(draws: Sequence[Rows]) -> Rows:
    """Return the comparisons of all draws together: the numbers of the first draw, and the range of all."""
    return tuple(_together(rows) for rows in zip(*draws, strict=True))


def _together(rows: Sequence[Comparison]) -> Comparison:
    first, values, findings = rows[0], [row.value for row in rows], {row.finding for row in rows}
    together = replace(first, draws=len(rows), drawn_low=min(values), drawn_high=max(values))
    if len(findings) == 1:
        return together
    depends = {"holds", "contradicted"} <= findings
    threshold = None if depends else next((row.threshold for row in rows if row.threshold is not None), None)
    return replace(together, finding="undecided", depends=depends, threshold=threshold)
