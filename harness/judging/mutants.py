"""Mutants: small changes of a claim after which it should no longer hold. A mutant that is supported survives.

A survivor means that the claim says less than it seems to, or that the mutant is really true of the model. A claim
about several runs is changed in the same way in each run, at the nodes that its roles have there. Such a mutant
survives if it holds in as many runs as the claim needs.

Source: mutation testing of programs, DeMillo, Lipton and Sayward 1978, "Hints on test data selection".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.base.errors import HarnessError
from harness.judging.across import share_of
from harness.judging.bench import Workbench, ablation_of
from harness.judging.evaluation import experiment
from harness.judging.records import seen
from harness.judging.verdict import Verdict
from harness.specs.across import AcrossRuns
from harness.specs.claim import Claim
from harness.specs.nodes import Node, all_nodes, reach
from harness.specs.parsing import FAIL_RATE
from harness.specs.siblings import Nodes, moved, write_nodes
from harness.specs.verbs.ablate import Hypothesis
from harness.specs.verbs.attend import Attend
from harness.specs.verbs.keep import Keep
from harness.specs.verbs.learn import Learn
from harness.specs.verbs.patch import Patch
from harness.tasks.questions import PairSample, Sample

MOVES = [(what, by) for what in ("head", "layer", "step") for by in (-1, 1)]


@dataclass(frozen=True)
class Mutant:
    """A changed claim and the name of the change, like ``head+1`` or ``drop A4``."""

    kind: str
    claim: Claim


@dataclass(frozen=True)
class Survivor:
    """A mutant that is supported like the claim, what was seen, and the reason in the spec, if there is one."""

    kind: str
    reason: str | None
    about: str
    expected: str
    observed: str


@dataclass(frozen=True)
class Mutation:
    """The results of a claim's mutants."""

    killed: tuple[str, ...]  # kinds
    survivors: tuple[Survivor, ...]
    stale: tuple[str, ...]  # kinds that have a reason in the spec but did not survive

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        survivors = [vars(survivor) for survivor in self.survivors]
        return {"killed": list(self.killed), "survivors": survivors, "stale": list(self.stale)}


def judge_mutants(claim: Claim, bench: Workbench, others: Sequence[str]) -> Mutation:
    """Return which mutants of a claim are killed and which survive.

    `others` are other fixtures of the same shape; the last one gives the weights of the mutant ``weights``. Mutants
    that the model's shape settles, or that cannot be measured, are left out.
    """
    killed, survivors, reasons = [], [], dict(claim.survivors)
    for mutant in mutants_of(claim, others):
        verdict, observed = _outcome(mutant.claim, bench)
        if verdict == "supported":
            m = mutant.claim
            about = f"{m.target} of {m.fixture}" if m.fixture != claim.fixture else m.target
            survivors.append(Survivor(mutant.kind, reasons.get(mutant.kind), about, m.expected, observed))
        elif verdict in ("refuted", "inconclusive"):
            killed.append(mutant.kind)
    stale = sorted(set(reasons) - {survivor.kind for survivor in survivors})
    return Mutation(tuple(killed), tuple(survivors), tuple(stale))


def _outcome(claim: Claim, bench: Workbench) -> tuple[Verdict | None, str]:
    """Return the verdict on a changed claim (None if it cannot be measured) and what was seen."""
    if isinstance(claim, AcrossRuns):
        return _outcome_of_runs(claim, bench)
    if isinstance(claim.questions, Sample | PairSample):  # the same number that settled the claim
        claim = replace(claim, questions=replace(claim.questions, auto=False))
    try:
        anywhere = _anywhere(claim)
        found = experiment(anywhere, bench, details=False)
        # A mutant that is refuted anyway needs no measurement of siblings.
        if found.verdict == "supported" and anywhere != claim:
            found = experiment(claim, bench, details=False)
    except HarnessError:  # for example no pairs, or another model that is not accurate enough
        return None, ""
    return found.verdict, seen(claim.verb, [vars(row) for row in found.comparisons])


def _outcome_of_runs(claim: AcrossRuns, bench: Workbench) -> tuple[Verdict | None, str]:
    """Return the verdict on a claim changed in each run and a summary; stops once it cannot be supported."""
    verdicts: dict[str, Verdict] = {}
    left = [member.fixture for member in claim.members]
    for member in claim.members:
        left.remove(member.fixture)
        verdict, _ = _outcome(member, bench)
        if verdict is not None:
            verdicts[member.fixture] = verdict
        at_best = share_of(claim, {**verdicts, **dict.fromkeys(left, "supported")})
        if at_best.verdict in ("refuted", "inconclusive"):
            return at_best.verdict, ""
    share = share_of(claim, verdicts)
    return (share.verdict if verdicts else None), f"{share.holds}/{share.runs} runs"


def _anywhere(claim: Claim) -> Claim:
    """Return the claim without `only_here`; if that weaker claim is refuted, the full claim is refuted too."""
    if isinstance(claim, Hypothesis):
        return replace(claim, expect=replace(claim.expect, only_here=False))
    return replace(claim, only_here=False) if isinstance(claim, Patch) else claim


def plan_mutants(claim: Claim, bench: Workbench, others: Sequence[str]) -> None:
    """Register the mutants of a claim that will be judged, so that they share clean runs and captured values."""
    known = dict(claim.survivors)
    for mutant in mutants_of(claim, others):
        if not isinstance(mutant.claim, AcrossRuns):
            _plan(mutant.claim, bench)
            continue
        # The first run refutes most mutants, so the other runs are not needed. Known survivors need all runs.
        for member in mutant.claim.members[: None if mutant.kind in known else 1]:
            _plan(member, bench)


def _plan(claim: Claim, bench: Workbench) -> None:
    if isinstance(claim, Hypothesis):
        bench.plan([ablation_of(claim)], details=False)
    elif isinstance(claim, Attend):
        bench.plan_attention(claim.fixture, claim.fixtures, claim.questions, claim.nodes)


def mutants_of(claim: Claim, others: Sequence[str] = ()) -> Iterator[Mutant]:
    """Yield the mutants of a claim; all differ from each other and from the claim."""
    if isinstance(claim, AcrossRuns):
        yield from _of_runs(claim)
    elif isinstance(claim, Keep):
        yield from _of_keep(claim)
    elif isinstance(claim, Hypothesis):
        yield from _of_ablation(claim)
    elif isinstance(claim, Patch):
        yield from _of_patch(claim)
    elif isinstance(claim, Attend):
        yield from _of_attention(claim)
    elif isinstance(claim, Learn):
        yield Mutant("swapped", replace(claim, first=claim.before, before=claim.first))
    if others and isinstance(claim, Hypothesis | Patch | Attend):
        yield Mutant("weights", replace(claim, fixture=others[-1]))


def _of_runs(claim: AcrossRuns) -> Iterator[Mutant]:
    """Yield a mutant for each change that is possible in some run, changed in every run where it is possible."""
    changed: dict[str, list[Claim]] = {}
    for member in claim.members:
        for mutant in mutants_of(member):
            changed.setdefault(mutant.kind, []).append(mutant.claim)
    # Test the nodes of one run in the weights of the next run. Runs with the same nodes are left out: the claim
    # already tests them there.
    following = [*claim.members[1:], *claim.members[:1]]
    elsewhere = [
        replace(member, fixture=other.fixture)
        for member, other in zip(claim.members, following, strict=True)
        if member.named != other.named and member.shape == other.shape
    ]
    if elsewhere:
        changed["weights"] = elsewhere
    for kind, members in changed.items():
        yield Mutant(kind, replace(claim, members=tuple(members), about=_about(kind, members)))


def _about(kind: str, members: Sequence[Claim]) -> str:
    """Return the text of what a changed claim is about; if runs differ, the nodes of the first run stand for all."""
    about = members[0].target
    if len({member.target for member in members}) > 1:
        about += f" (in {members[0].fixture}, and alike in {len(members) - 1} more)"
    return f"{about}, each in the next run's weights" if kind == "weights" else about


def _moves(claim: Hypothesis | Patch | Attend, nodes: Nodes) -> Iterator[tuple[str, Nodes]]:
    for what, by in MOVES:
        there = moved(nodes, claim.shape, **{what: by})
        if there and there != nodes:
            yield f"{what}{by:+d}", there


def _other_digits(named: Sequence[str], digits: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the changed lists of digits for mutants: all moved by one, one dropped, one added."""
    for by in (1, -1) if named else ():
        places = [digits.index(digit) - by for digit in named]
        if min(places) >= 0 and max(places) < len(digits):
            yield f"digit{by:+d}", [digits[place] for place in places]
    for digit in digits:
        if digit in named:
            yield f"drop {digit}", [other for other in named if other != digit]
        else:
            yield f"add {digit}", [*named, digit]


def _of_ablation(h: Hypothesis) -> Iterator[Mutant]:
    expect, digits = h.expect, h.shape.layout.answer_digits

    def expecting(kind: str, fails: Sequence[str]) -> Iterator[Mutant]:
        if set(fails) <= h.reach:
            may = tuple(digit for digit in expect.may_fail if digit not in fails)
            rate = expect.fail_rate
            if rate is None and not h.questions.census:
                rate = FAIL_RATE
            changed = replace(expect, fails=tuple(d for d in digits if d in fails), may_fail=may, fail_rate=rate)
            yield Mutant(kind, replace(h, expect=changed))

    if expect.fails or expect.loss_above is not None:
        for kind, nodes in _moves(h, h.nodes):
            if set(expect.fails) <= reach(nodes, h.shape):
                yield Mutant(kind, replace(h, nodes=nodes, ablate=(write_nodes(nodes),)))
        yield Mutant("no-op", replace(h, method="itself"))
    else:
        wide = tuple(sorted({*h.nodes, *_wider(h)}))
        yield Mutant("wider", replace(h, nodes=wide, ablate=(write_nodes(wide),)))
    for kind, named in _other_digits(expect.fails, digits):
        yield from expecting(kind, named)


def _wider(h: Hypothesis) -> Iterator[Node]:
    """Yield more nodes to ablate: the residual stream at each node; for a residual stream, the one at the next step."""
    for node in h.nodes:
        if node.kind != "resid":
            yield Node(node.step, node.layer, "resid")
        elif node.step + 1 < h.shape.layout.n_ctx:
            yield Node(node.step + 1, node.layer, "resid")


def _of_keep(claim: Keep) -> Iterator[Mutant]:
    kinds, digits = {node.kind for node in claim.kept}, claim.shape.layout.answer_digits
    every = [node for node in all_nodes(claim.shape) if node.kind in kinds]

    def keeping(kind: str, kept: Nodes) -> Mutant:
        cut = tuple(node for node in every if node not in kept)
        return Mutant(kind, replace(claim, kept=kept, nodes=cut, ablate=(write_nodes(kept) or "nothing",)))

    yield from (keeping(kind, nodes) for kind, nodes in _moves(claim, claim.kept))
    yield keeping("keep nothing", ())
    for digit in digits:
        if digit not in claim.digits:
            named = tuple(d for d in digits if d in (*claim.digits, digit))
            expect = replace(claim.expect, may_fail=tuple(d for d in digits if d not in named))
            yield Mutant(f"add {digit}", replace(claim, digits=named, expect=expect))


def _of_patch(claim: Patch) -> Iterator[Mutant]:
    digits = claim.shape.layout.answer_digits

    def possible(changed: Patch) -> bool:
        can = changed.reach & set(claim.variable.digits(claim.shape.layout))
        return bool(changed.digits) and set(changed.digits) <= can

    def following(kind: str, named: Sequence[str]) -> Iterator[Mutant]:
        may = tuple(d for d in claim.may_change if d not in named)
        changed = replace(claim, digits=tuple(d for d in digits if d in named), may_change=may)
        if possible(changed):
            yield Mutant(kind, changed)

    for kind, nodes in _moves(claim, claim.nodes):
        there = replace(claim, nodes=nodes, node_text=write_nodes(nodes))
        if possible(there):
            yield Mutant(kind, there)
    yield Mutant("no-op", replace(claim, nodes=(), node_text="nothing"))
    for kind, named in _other_digits(claim.digits, digits):
        yield from following(kind, named)


def _of_attention(claim: Attend) -> Iterator[Mutant]:
    if claim.at_least is None:
        return
    for kind, there in _moves(claim, claim.nodes):
        if reach(there, claim.shape) and max(claim.steps) <= there[0].step:
            yield Mutant(kind, replace(claim, nodes=there, node_text=write_nodes(there)))
    for by in (-1, 1):
        steps = tuple(step + by for step in claim.steps)
        if min(steps) >= 0 and max(steps) <= claim.nodes[0].step:
            yield Mutant(f"to{by:+d}", replace(claim, steps=steps, to=tuple(f"S{step}" for step in steps)))
