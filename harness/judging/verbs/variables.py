"""Which variable? What the outcome of an interchange says of other variables than the claim's.

The pairs are those of the controls, and nothing further is run. For each variable that the task calls near, the causal
model says what the claimed tokens become if the node carries *that* one. Where both variables predict the same on all
pairs, these cannot tell them apart. Else the outcome follows one of them, or neither, on each pair where they differ.

Pairs in which the claim's variable agrees count too: there it predicts no change, and the other may predict one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.intervals import exact_interval
from harness.judging.verdict import Comparison, Finding, unmeasured
from harness.tasks.batch import joined
from harness.tasks.contract import AnyVariable
from harness.tasks.pairs import Claimed

if TYPE_CHECKING:
    from harness.judging.answers import Interchanged
    from harness.specs.verbs.patch import Patch
    from harness.tasks.batch import Batch

TRIED, SEED = 20_000, 9009  # pairs of prompts on which two variables are the same if they never differ, and their seed
MOST = 0.5  # told apart if the outcome follows the claim's variable on more of the pairs where the two differ


def variables_near(claim: Patch) -> tuple[AnyVariable, ...]:
    """Return the variables near the claim's that can change all of the claim's tokens too."""
    task = claim.shape.task
    return tuple(other for other in task.variables_near(claim.variable)
                 if set(claim.tokens) <= set(other.answer_tokens(task)))  # fmt: skip


def mutant_variables(claim: Patch) -> Iterator[AnyVariable]:
    """Yield those of them that are another claim: of some prompts the causal model says other tokens with them.

    The others would survive as mutants by definition, as the sum of a column does where only its carry is claimed.
    """
    task, generator = claim.shape.task, torch.Generator().manual_seed(SEED)
    if not (near := variables_near(claim)):
        return
    sources, bases = (task.varied(TRIED, generator) for _ in range(2))
    own = Claimed(claim.variable, claim.tokens, task)
    mine = own.overwritten(sources, bases)
    for other in near:
        theirs = Claimed(other, claim.tokens, task).overwritten(sources, bases)
        if bool((mine != theirs)[:, own.places].any()):
            yield other


def compare_variables(claim: Patch, found: Interchanged) -> tuple[Comparison, ...]:
    """Return a row for each variable near the claim's: on how many pairs that tell the two apart which is followed.

    Only pairs whose two questions the clean model answers wholly right count. Where an answer has several right
    tokens, only the one that the causal model names is taken as following it.
    """
    sources, bases, out = _pairs(found)
    own = Claimed(claim.variable, claim.tokens, found.fixture.task)
    mine, out = own.overwritten(sources, bases)[:, own.places], out[:, own.places]
    return tuple(_compare(claim, other, found, sources, bases, mine, out) for other in variables_near(claim))


def _pairs(found: Interchanged) -> tuple[Batch, Batch, Int[Tensor, "pair answer"]]:
    """Return sources, bases and outcomes, of the differing pairs and then of the agreeing ones."""
    drawn = found.drawn
    base_right = drawn.bases.right.contains(found.base.predicted).all(1)
    source_right = drawn.sources.right.contains(found.source.predicted).all(1)

    def counted(donors: Int[Tensor, " pair"]) -> Int[Tensor, " row"]:
        right: Bool[Tensor, " pair"] = (donors >= 0) & base_right & source_right[donors.clamp(min=0)]
        return right.nonzero().squeeze(1)

    kinds = [(drawn.differing, found.differing[0].predicted), (drawn.agreeing, found.agreeing.predicted)]
    rows = [counted(donors) for donors, _ in kinds]
    sources = joined([drawn.sources[donors[at]] for (donors, _), at in zip(kinds, rows, strict=True)])
    bases = joined([drawn.bases[at] for at in rows])
    return sources, bases, torch.cat([out[at] for (_, out), at in zip(kinds, rows, strict=True)])


def _compare(
    claim: Patch, other: AnyVariable, found: Interchanged, sources: Batch, bases: Batch,
    mine: Int[Tensor, "pair token"], out: Int[Tensor, "pair token"],
) -> Comparison:  # fmt: skip
    try:
        rival = Claimed(other, claim.tokens, found.fixture.task)
        theirs = rival.overwritten(sources, bases)[:, rival.places]
    except HarnessError as error:
        return unmeasured(str(other), "follows", "apart", error)
    differ = (mine != theirs).any(1)
    n, k, r = (int(pairs.sum()) for pairs in (differ, differ & (out == mine).all(1), differ & (out == theirs).all(1)))
    low, high = (None, None) if claim.questions.census or not n else exact_interval(k, n, claim.confidence)
    return Comparison(
        subject=str(other), kind="follows", expects="apart", finding=_finding(claim, k, r, n),
        value=k / n if n else 0.0, k=k, n=n, low=low, high=high, rival=r,
    )  # fmt: skip


def _finding(claim: Patch, k: int, rival: int, n: int) -> Finding:
    """Return "holds" if the outcome follows the claim's variable, "contradicted" if the other one, else "undecided"."""
    if not n:
        return "undecided"
    if claim.questions.census:
        own, theirs = k > rival, rival > k
    else:
        own, theirs = (exact_interval(count, n, claim.confidence)[0] > MOST for count in (k, rival))
    return "holds" if own else "contradicted" if theirs else "undecided"
