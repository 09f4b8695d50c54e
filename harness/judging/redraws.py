"""Draws of the reference: a verdict counts only if it does not depend on which prompts the reference happens to hold.

What replaces the nodes' values may itself be a sample: the mean over 1,000 random prompts, say. A claim is about the
median draw of such a reference. It is supported only if its own draw and all of several others support it. It is
refuted only if that comparison which its own draw contradicts most clearly is contradicted by all the others, too. Else
it is inconclusive, and the report gives the range of the draws.

All draws are asked the same prompts, so that they share a clean run. A claim that is false of the median draw is false
of each draw with a chance of at least a half, independently of the others and of the prompts. It passes only if none of
the draws is one of these, or if the first that is one passes by a mistake of its interval.
:func:`harness.base.intervals.draws_for` says how many draws make that less than the error that the claim may have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.base.errors import HarnessError
from harness.base.intervals import draws_for
from harness.judging.bench import Workbench
from harness.judging.requests import Request, brief
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, verdict_of
from harness.specs.claim import Claim
from harness.specs.methods import EVERY_METHOD
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import Counterparts, Sample

Rows = tuple[Comparison, ...]


def confirmed_by_draws(claim: Claim, rows: Rows, bench: Workbench, *, refuting: bool = True) -> Rows:
    """Return the comparisons of a claim after as many draws of its reference as its verdict needs.

    `rows` are those of the first draw. Without `refuting`, the first draw suffices to refute it.

    Raises:
        MeasurementError: another draw of the reference cannot be measured.
    """
    needed = draws_needed(claim, rows, refuting=refuting)
    if needed == 1 or not isinstance(claim, Hypothesis) or not _differ(claim, bench):
        return rows
    for other, refuting_too in bench.take_alike(claim.ref, claim.questions):
        _gather_draws(other, bench, refuting=refuting_too)
    bench.gather(_requests(claim, needed))
    draws, verdict = [rows], verdict_of(claim, rows)
    refuting_row = _clearest(rows) if verdict == "refuted" else None
    for draw in range(1, needed):
        draws.append(_rows(claim.redrawn(draw), bench))
        if refuting_row is not None and draws[-1][refuting_row].finding != "contradicted":
            return _without_refutation(_merged(draws))
        if refuting_row is None and verdict_of(claim, _merged(draws)) != verdict:
            break
    return _merged(draws)


def _clearest(rows: Rows) -> int:
    """Return which comparison is contradicted most clearly: the farthest beyond its bound, as a share of its interval.

    It is chosen by the first draw alone, so that the others, which do not know of the choice, confirm one comparison.
    """

    def beyond(row: Comparison) -> float:
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        under = row.at_least - high if row.at_least is not None else 0.0
        over = low - row.at_most if row.at_most is not None else 0.0
        return max(under, over) / max(high - low, 1e-9)

    return max((i for i, row in enumerate(rows) if row.finding == "contradicted"), key=lambda i: beyond(rows[i]))


def _without_refutation(rows: Rows) -> Rows:
    """Return the comparisons with none contradicted: what the draws were to confirm, they did not."""
    return tuple(replace(row, finding="undecided") if row.finding == "contradicted" else row for row in rows)


def first_draws(claim: Claim) -> Iterator[Request]:
    """Yield what the draws ask that a supported claim needs: most are, and so share the clean run of its own draw.

    A claim that is asked more and more prompts will be asked its draws at the end. So will one of several runs, since
    of these many are refuted, for which one draw suffices at first.
    """
    if not isinstance(claim, Hypothesis) or not claim.is_drawn or claim.drawing_errors[1] is None:
        return
    if not (isinstance(claim.questions, Sample) and claim.questions.auto) and not EVERY_METHOD[claim.method].captures:
        yield from _requests(claim, draws_for(claim.drawing_errors[0]))


def draws_needed(claim: Claim, rows: Rows, *, refuting: bool = True) -> int:
    """Return how many draws of the reference a claim needs, given the comparisons of the first."""
    if not isinstance(claim, Hypothesis) or not claim.is_drawn:
        return 1
    verdict, (to_support, to_refute) = verdict_of(claim, rows), claim.drawing_errors
    if verdict == "refuted" and refuting and to_refute is not None:
        could = [row for row in rows if row.finding in ("holds", "contradicted", "undecided")]
        return draws_for(to_refute) + (len(could) > 1)  # the first chooses which comparison is to be confirmed
    return draws_for(to_support) if verdict == "supported" else 1


def _differ(claim: Hypothesis, bench: Workbench) -> bool:
    """Return whether draws can differ: a task's counterparts need not be drawn."""
    of = [one.replaced_by for one in (claim, claim.redrawn(1))]
    if not isinstance(of[0], Counterparts):
        return True
    first, second = (bench.prompts(claim.ref, source) for source in of if source is not None)
    return first.tokens.shape != second.tokens.shape or bool((first.tokens != second.tokens).any())


def _rows(claim: Hypothesis, bench: Workbench) -> Rows:
    verb = verb_named(claim.verb)
    compared: tuple[object, Rows] = verb.compare(claim, bench.answer(brief(verb.requests(claim))))
    return compared[1]


def _requests(claim: Hypothesis, needed: int) -> Iterator[Request]:
    for draw in range(1, needed):
        yield from brief(verb_named(claim.verb).requests(claim.redrawn(draw)))


def _gather_draws(claim: Hypothesis, bench: Workbench, *, refuting: bool) -> None:
    """Tell the bench what the further draws of a claim ask, if its first leaves that to be asked."""
    try:
        needed = draws_needed(claim, _rows(claim, bench), refuting=refuting)
    except HarnessError:  # it will be told when that claim is judged
        return
    bench.gather(_requests(claim, needed))


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
