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

from harness.judging.verb import Mutant, verb_named
from harness.judging.verdict import Comparison, row_of
from harness.specs.claim import AcrossRuns, Claim
from harness.specs.nodes import Shape
from harness.specs.siblings import Nodes, each_left_out, moved
from harness.tasks.positions import Positions

MOVES = [(what, by) for what in ("head", "layer", "step") for by in (-1, 1)]


@dataclass(frozen=True)
class Survivor:
    """A mutant that is supported like the claim, what was seen, and the reason in the spec, if there is one."""

    kind: str
    reason: str | None
    about: str
    expected: str
    comparisons: tuple[Comparison, ...]  # what was seen of it


@dataclass(frozen=True)
class Mutation:
    """The results of a claim's mutants."""

    killed: tuple[str, ...]  # kinds
    survivors: tuple[Survivor, ...]
    stale: tuple[str, ...]  # kinds that have a reason in the spec but did not survive
    not_tried: int = 0  # nodes of the claim, if they are too many to be left out in their turn

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        survivors = [{**vars(one), "comparisons": [row_of(row) for row in one.comparisons]} for one in self.survivors]
        return {"killed": list(self.killed), "survivors": survivors, "stale": list(self.stale),
                "not_tried": self.not_tried}  # fmt: skip


def mutants_of(claim: Claim, others: Sequence[str] = ()) -> Iterator[Mutant]:
    """Yield the mutants of a claim, all different, and none of them the claim itself."""
    if (across := claim.across) is not None:
        yield from _of_runs(across)
        return
    yield from verb_named(claim.verb).mutants(claim)
    if others and claim.named:
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


def moves(nodes: Nodes, shape: Shape) -> Iterator[tuple[str, Nodes]]:
    """Yield the nodes with their head, layer or step moved by one, each with the name of the mutant."""
    for what, by in MOVES:
        there = moved(nodes, shape, **{what: by})
        if there and there != nodes:
            yield f"{what}{by:+d}", there


def without_each(nodes: Nodes) -> Iterator[tuple[str, Nodes]]:
    """Yield the nodes without each of them in its turn, each with the name of the mutant; not of too many nodes."""
    for node, others in each_left_out(nodes).items():
        yield f"without {node}", others


def other_tokens(named: Sequence[str], task: Positions) -> Iterator[tuple[str, list[str]]]:
    """Yield the changed lists of answer tokens for mutants: all moved by one, one dropped, one added."""
    tokens = task.answer_tokens
    for by in (1, -1) if named else ():
        places = [tokens.index(token) - by for token in named]
        if min(places) >= 0 and max(places) < len(tokens):
            yield f"{task.nouns.token}{by:+d}", [tokens[place] for place in places]
    for token in tokens:
        if token in named:
            yield f"drop {token}", [other for other in named if other != token]
        else:
            yield f"add {token}", [*named, token]
