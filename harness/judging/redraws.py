"""Draws of the reference: a verdict counts only if it does not depend on which prompts the reference happens to hold.

What replaces the nodes' values may itself be a sample: the mean over 1,000 random prompts, say. A claim is about the
median draw of such a reference. If it is false there, each independent draw supports it with a chance of at most a half
(but for the error of its interval), and all of K draws with a chance of at most ``2**-K``. So a claim is supported only
if all K draws support it. It is refuted only if one of its comparisons is contradicted by all draws, of which there are
more then, as any of the comparisons might be. Else it is inconclusive, and the report gives the range of the draws.

Draws share the clean runs: those of all gathered claims on the same prompts are measured together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.base.errors import HarnessError
from harness.base.intervals import draws_for
from harness.judging.bench import Workbench
from harness.judging.requests import brief
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, verdict_of
from harness.specs.claim import Claim
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import Counterparts

Rows = tuple[Comparison, ...]
FIRST = 2  # draws that are asked before the rest: where draws disagree, these mostly do


def confirmed_by_draws(claim: Claim, rows: Rows, bench: Workbench, *, refuting: bool = True) -> Rows:
    """Return the comparisons of a claim after as many draws of its reference as its verdict needs.

    `rows` are those of the first draw. Without `refuting`, the first draw suffices to refute it.

    Raises:
        MeasurementError: another draw of the reference cannot be measured.
    """
    needed = draws_needed(claim, rows, refuting=refuting)
    if needed == 1 or not isinstance(claim, Hypothesis) or not _differ(claim, bench):
        return rows
    verb, draws, verdict = verb_named(claim.verb), [rows], verdict_of(claim, rows)
    while len(draws) < needed:
        _gather_alike(claim, bench, len(draws), refuting=refuting)
        for draw in range(len(draws), _upto(len(draws), needed)):
            redrawn = claim.redrawn(draw)
            draws.append(verb.compare(redrawn, bench.answer(brief(verb.requests(redrawn))))[1])
            if verdict_of(claim, _merged(draws)) != verdict:
                return _merged(draws)
    return _merged(draws)


def draws_needed(claim: Claim, rows: Rows, *, refuting: bool = True) -> int:
    """Return how many draws of the reference a claim needs, given the comparisons of the first."""
    if not isinstance(claim, Hypothesis) or not claim.is_drawn:
        return 1
    verdict = verdict_of(claim, rows)
    if verdict == "refuted" and refuting:
        return claim.draws + draws_for(claim.comparisons) - draws_for(1)
    return claim.draws if verdict == "supported" else 1


def _upto(done: int, needed: int) -> int:
    return min(needed, done + FIRST) if done == 1 else needed


def _differ(claim: Hypothesis, bench: Workbench) -> bool:
    """Return whether draws can differ: a task's counterparts need not be drawn."""
    of = [one.replaced_by for one in (claim, claim.redrawn(1))]
    if not isinstance(of[0], Counterparts):
        return True
    first, second = (bench.prompts(claim.ref, source) for source in of if source is not None)
    return first.tokens.shape != second.tokens.shape or bool((first.tokens != second.tokens).any())


def _gather_alike(claim: Hypothesis, bench: Workbench, done: int, *, refuting: bool) -> None:
    """Tell the bench what the next draws ask, of a claim and of those that were gathered with it on its prompts."""
    for other, refuting_too in [(claim, refuting), *bench.take_alike(claim.ref, claim.questions, done)]:
        verb = verb_named(other.verb)
        try:
            _, rows = verb.compare(other, bench.answer(brief(verb.requests(other))))
            needed = draws_needed(other, rows, refuting=refuting_too)
        except HarnessError:  # it will be told when that claim is judged
            continue
        for draw in range(done, _upto(done, needed)):
            bench.gather(brief(verb.requests(other.redrawn(draw))))


def _merged(draws: Sequence[Rows]) -> Rows:
    """Return the comparisons of all draws together: the numbers of the first draw, and the range of all."""
    return tuple(_together(rows) for rows in zip(*draws, strict=True))


def _together(rows: Sequence[Comparison]) -> Comparison:
    first, values = rows[0], [row.value for row in rows]
    depends = len({row.finding for row in rows}) > 1
    return replace(
        first, draws=len(rows), drawn_low=min(values), drawn_high=max(values), depends=depends,
        finding="undecided" if depends else first.finding, threshold=None if depends else first.threshold,
    )  # fmt: skip
