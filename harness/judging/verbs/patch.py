"""``patch``: interchange interventions. A node's value is carried from a source question into a base question.

If the node carries the claim's variable, the claim's tokens become what the causal model computes with the source's
value in place of the base's, and all others stay. Where the variable agrees, nothing changes at all.

Source: Geiger et al. 2021, "Causal Abstractions of Neural Networks" (interchange interventions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jaxtyping import Bool
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.intervals import exact_interval
from harness.judging.answers import Interchanged
from harness.judging.requests import Ablation, Interchange, Request
from harness.judging.untested import Untested, unmoved
from harness.judging.verb import Mutant, Verb
from harness.judging.verbs.pair_counts import Patched, counted
from harness.judging.verbs.variables import compare_variables, mutant_variables
from harness.judging.verdict import (
    Comparison,
    Controls,
    opposite,
    straddled,
    unmeasured,
    within_bounds,
)
from harness.judging.worth.controls import CONTROL_N, CONTROL_SEED, left_out_rows, not_tried, to_run
from harness.judging.worth.mutants import moves, other_tokens, without_each
from harness.specs.siblings import Nodes, write_nodes
from harness.specs.verbs.patch import Patch
from harness.tasks.questions import PairSample, Sample

if TYPE_CHECKING:
    from harness.judging.bench import Workbench


class PatchVerb(Verb[Patch]):
    """``patch``: a node carries a variable of the task."""

    def requests(self, claim: Patch) -> Sequence[Request]:
        """Return the interchange of the claim's nodes, and of its siblings for a claim with `only_here`."""
        return [interchange_of(claim, claim.siblings.values() if claim.only_here else ())]

    def compare(self, claim: Patch, answers: Sequence[Interchanged]) -> tuple[Patched, tuple[Comparison, ...]]:
        """Return the counts, and the comparisons: each token, the tokens jointly, agreeing pairs, and siblings."""
        measured, others = counted(claim, answers[0])
        names = claim.siblings if claim.only_here else ()
        beside = [compare_sibling(claim, name, right) for name, right in zip(names, others, strict=True)]
        return measured, (*_rows(claim, measured), *beside)

    def untested(self, claim: Patch, answers: Sequence[Interchanged], bench: Workbench) -> Iterator[Untested]:
        """Yield why nothing was tested: no value moved, or the tokens have no other way than the nodes."""
        if answers[0].decided >= {*claim.tokens, *claim.intact}:
            yield Untested("only way", claim.tokens)
        yield from unmoved(answers[0].moves)

    def without_siblings(self, claim: Patch) -> Patch:
        """Return the claim without its condition that it is so only here."""
        return replace(claim, only_here=False)

    def control_requests(self, claim: Patch) -> Sequence[Request]:
        """Return the ablation that puts values back, and the interchange of the nodes and of all siblings."""
        asked = Sample(CONTROL_N, CONTROL_SEED)
        back = Ablation(claim.ref, claim.nodes, "itself", asked, asked, details=False)
        beside = (*claim.siblings.values(), *to_run(claim, claim.tokens).values())
        return [back, interchange_of(_controlled(claim), beside)]

    def controls(self, claim: Patch, put_back: int, answers: Sequence[Interchanged | HarnessError]) -> Controls:
        """Return what the controls showed."""
        claim, (found,) = _controlled(claim), answers
        if isinstance(found, HarnessError):
            rows = tuple(unmeasured(n, "follows", "unlike", found) for n in claim.siblings)
            return Controls(put_back, None, rows, {}, self.left_out(claim, answers), not_tried(claim))
        own, others = counted(claim, found)
        rows = tuple(compare_sibling(claim, name, right) for name, right in zip(claim.siblings, others, strict=False))
        return Controls(
            put_back, compare_sibling(claim, "", own.as_expected).value if rows else None, rows, {},
            _left_out(claim, others[len(rows) :]), not_tried(claim), compare_variables(claim, found),
        )  # fmt: skip

    def left_out_requests(self, claim: Patch) -> Sequence[Request]:
        """Return the interchange of the others for each node that may be spare; none where no node may be."""
        sets = to_run(claim, claim.tokens)
        return [interchange_of(_controlled(claim), sets.values())] if sets else []

    def left_out(self, claim: Patch, answers: Sequence[Interchanged | HarnessError]) -> tuple[Comparison, ...]:
        """Return for each node whether the others alone carry the variable."""
        claim, found = _controlled(claim), next(iter(answers), None)
        if isinstance(found, HarnessError):
            lost = {name: unmeasured(name, "follows", "needed", found) for name in to_run(claim, claim.tokens)}
            return left_out_rows(claim, "follows", lost)
        return _left_out(claim, [] if found is None else counted(claim, found)[1])

    def mutants(self, claim: Patch) -> Iterator[Mutant]:
        """Yield the claim with other nodes, with one less or none, with another variable, and with other tokens."""
        tokens = claim.shape.task.answer_tokens

        def possible(changed: Patch) -> bool:
            can = changed.reach & set(changed.variable.answer_tokens(claim.shape.task))
            return bool(changed.tokens) and set(changed.tokens) <= can

        for kind, nodes in (*moves(claim.nodes, claim.shape), *without_each(claim.nodes)):
            there = replace(claim, nodes=nodes, node_text=write_nodes(nodes))
            if possible(there):
                yield Mutant(kind, there)
        yield Mutant("no-op", replace(claim, nodes=(), node_text="nothing"))
        for variable in mutant_variables(claim):
            if possible(renamed := replace(claim, variable=variable)):
                yield Mutant(f"variable {variable}", renamed)
        for kind, named in other_tokens(claim.tokens, claim.shape.task):
            may = tuple(token for token in claim.may_change if token not in named)
            changed = replace(claim, tokens=tuple(token for token in tokens if token in named), may_change=may)
            if possible(changed):
                yield Mutant(kind, changed)


VERB = PatchVerb()


def interchange_of(claim: Patch, siblings: Iterable[Nodes] = ()) -> Interchange:
    """Return the interchange that a claim asks for, of its nodes and of others."""
    return Interchange(claim.ref, claim.questions, claim.variable, claim.tokens, (claim.nodes, *siblings))


def _left_out(claim: Patch, others: Sequence[Bool[Tensor, "pair answer"]]) -> tuple[Comparison, ...]:
    """Return the rows of the claim's nodes; `others` are the outcomes without each of those that may be spare."""
    found = zip(to_run(claim, claim.tokens), others, strict=True)
    rows = {name: replace(compare_sibling(claim, name, right), expects="needed") for name, right in found}
    return left_out_rows(claim, "follows", rows)


def _controlled(claim: Patch) -> Patch:
    questions = PairSample(CONTROL_N, CONTROL_SEED) if isinstance(claim.questions, PairSample) else claim.questions
    return replace(claim, gate=0.0, questions=questions)


def compare_sibling(claim: Patch, name: str, as_expected: Bool[Tensor, "pair answer"]) -> Comparison:
    """Return the row of a sibling: how often all the claim's tokens follow it. If they do, it is contradicted."""
    right = as_expected[:, [claim.shape.task.answer_tokens.index(token) for token in claim.tokens]].all(1)
    row = _follows(claim, name, right)
    return replace(row, expects="unlike", at_least=None, finding=opposite(row.finding))


def _rows(claim: Patch, found: Patched) -> Iterator[Comparison]:
    tokens = claim.shape.task.answer_tokens
    for i, token in enumerate(tokens):
        right = found.as_expected[:, i]
        if token in claim.tokens:
            yield _follows(claim, token, right)
        elif token in claim.may_change:
            k, n = int((~right).sum()), len(right)
            yield Comparison(subject=token, kind="changes", expects="free", finding="not compared",
                             value=_share(k, n), k=k, n=n)  # fmt: skip
        else:
            yield _stays(claim, token, right)
    if len(claim.tokens) > 1:
        places = [tokens.index(token) for token in claim.tokens]
        yield _follows(claim, "jointly", found.as_expected[:, places].all(1))
    yield _stays(claim, "agreeing", found.unchanged)


def _follows(claim: Patch, subject: str, right: Bool[Tensor, " pair"]) -> Comparison:
    k, n, least = int(right.sum()), len(right), claim.follow_rate
    low, high = _interval(claim, k, n)
    finding = within_bounds(_share(k, n), low, high, 1.0 if least is None else least, None) if n else "undecided"
    return Comparison(
        subject=subject, kind="follows", expects="all" if least is None else "bounds", at_least=least, finding=finding,
        value=_share(k, n), k=k, n=n, low=low, high=high, threshold=straddled(finding, low, high, least),
    )  # fmt: skip


def _stays(claim: Patch, subject: str, right: Bool[Tensor, " pair"]) -> Comparison:
    k, n, most = int((~right).sum()), len(right), claim.intact_rate
    if subject != "agreeing" and subject not in claim.reach:
        return Comparison(subject=subject, kind="changes", expects="unreachable", finding="by construction",
                          value=_share(k, n), k=k, n=n)  # fmt: skip
    low, high = _interval(claim, k, n)
    finding = within_bounds(_share(k, n), low, high, None, 0.0 if most is None else most) if n else "undecided"
    if not n and claim.questions.census:  # a list without pairs of this kind tells nothing about them
        finding = "not compared"
    return Comparison(
        subject=subject, kind="changes", expects="none" if most is None else "bounds", at_most=most, finding=finding,
        value=_share(k, n), k=k, n=n, low=low, high=high, threshold=straddled(finding, low, high, most),
    )  # fmt: skip


def _share(k: int, n: int) -> float:
    return k / n if n else 0.0


def _interval(claim: Patch, k: int, n: int) -> tuple[float | None, float | None]:
    if claim.questions.census or not n:
        return None, None
    return exact_interval(k, n, claim.confidence)
