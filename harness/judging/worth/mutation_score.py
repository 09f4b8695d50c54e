"""Judging of mutants: which changed claims hold as well?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.base.errors import HarnessError
from harness.judging.across import runs_row, share_of
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, gather
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, Verdict
from harness.judging.worth.controls import not_tried
from harness.judging.worth.mutants import Mutation, Survivor, mutants_of
from harness.specs.claim import AcrossRuns, Claim
from harness.tasks.questions import PairSample, Sample

Rows = tuple[Comparison, ...]
INEXCUSABLE = {"no-op", "keep nothing"}  # a claim that holds where nothing is done says nothing, whatever the reason


def judge_mutants(claim: Claim, bench: Workbench, others: Sequence[str]) -> Mutation:
    """Return which mutants of a claim are supported like it; `others` are fixtures of its shape, the last is asked.

    A mutant that the model's shape settles, or that cannot be asked, is left out.
    """
    killed, survivors, reasons = [], [], dict(claim.survivors)
    for mutant in mutants_of(claim, others):
        verdict, rows = _outcome(mutant.claim, bench)
        if verdict == "supported":
            m = mutant.claim
            about = f"{m.target} of {m.fixture}" if m.fixture != claim.fixture else m.target
            reason = None if mutant.kind in INEXCUSABLE else reasons.get(mutant.kind)
            survivors.append(Survivor(mutant.kind, reason, about, m.expected, rows))
        elif verdict in ("refuted", "inconclusive"):
            killed.append(mutant.kind)
    stale = sorted(set(reasons) - {survivor.kind for survivor in survivors})
    return Mutation(tuple(killed), tuple(survivors), tuple(stale), max(map(not_tried, claim.parts), default=0))


def gather_mutants(claim: Claim, bench: Workbench, others: Sequence[str]) -> None:
    """Tell the bench what the mutants of a claim ask first, so that it is run together."""
    gather(_asked_first(claim, others), bench, mutants=True)


def _asked_first(claim: Claim, others: Sequence[str]) -> Iterator[Claim]:
    known = dict(claim.survivors)
    for mutant in mutants_of(claim, others):
        parts = mutant.claim.parts
        if mutant.claim.across is not None and mutant.kind not in known:
            parts = parts[:1]  # the first run refutes most of them, and the others are not asked
        yield from (_anywhere(_settled(part)) for part in parts)


def _anywhere(claim: Claim) -> Claim:
    """Return the claim without its condition that it is so only here; if that is refuted, the claim is too."""
    anywhere: Claim = verb_named(claim.verb).without_siblings(claim)
    return anywhere


def _settled(claim: Claim) -> Claim:
    """Return the claim asked of as many questions as settled it, and of no more."""
    if isinstance(claim.questions, Sample | PairSample):
        return replace(claim, questions=replace(claim.questions, auto=False))
    return claim


def _outcome(claim: Claim, bench: Workbench) -> tuple[Verdict | None, Rows]:
    """Return the verdict on a changed claim, or None if it cannot be asked; and what was seen."""
    if (across := claim.across) is not None:
        return _outcome_of_runs(across, bench)
    claim = _settled(claim)
    try:
        anywhere = _anywhere(claim)
        found = experiment(anywhere, bench, mutant=True)
        # A claim that is refuted anyway needs no siblings.
        if found.verdict == "supported" and anywhere != claim:
            found = experiment(claim, bench, mutant=True)
    except HarnessError:  # no pairs, or another model that is not accurate enough
        return None, ()
    return found.verdict, found.comparisons


def _outcome_of_runs(claim: AcrossRuns, bench: Workbench) -> tuple[Verdict | None, Rows]:
    """Return the verdict on a claim that was changed in each run; runs that cannot change it are not asked."""
    verdicts: dict[str, Verdict] = {}
    left = [member.fixture for member in claim.members]
    for member in claim.members:
        left.remove(member.fixture)
        verdict, _ = _outcome(member, bench)
        if verdict is not None:
            verdicts[member.fixture] = verdict
        at_best = share_of(claim, {**verdicts, **dict.fromkeys(left, "supported")})
        if at_best.verdict in ("refuted", "inconclusive"):
            return at_best.verdict, ()
    share = share_of(claim, verdicts)
    return (share.verdict if verdicts else None), (runs_row(share),)
