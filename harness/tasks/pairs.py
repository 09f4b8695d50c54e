"""Pairs of prompts for interchange interventions, with the answers that the causal model expects.

Sampled pairs are drawn from the task's varied prompts, in which rare values of variables occur. A pair is kept if
overwriting the variable in the base with the source's value changes every token of the claim.

Each base also gets a second source, in which the variable has the same value as in the base. Then nothing may change,
even though the two prompts differ in other ways. No source serves two bases, so pairs are independent, and how often
something happens to them is a binomial count. Only the pairs of a list may share prompts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.tasks.batch import Batch, joined
from harness.tasks.contract import AnyTask, AnyVariable
from harness.tasks.questions import PairList, Pairs, PairsError, write_pair

AT_ONCE, ROUNDS = 8192, 200  # pairs drawn in a round, and the rounds before giving up


class Drawn(NamedTuple):
    """Bases, each with a source whose value differs and one whose value agrees (rows of `sources`; -1 for none)."""

    bases: Batch
    sources: Batch
    differing: Int[Tensor, " pair"]
    agreeing: Int[Tensor, " pair"]
    expected: Int[Tensor, "pair answer"]  # the claim's tokens as the differing source makes them; others as in the base


def draw_pairs(questions: Pairs, variable: AnyVariable, tokens: tuple[str, ...], task: AnyTask) -> Drawn:
    """Return the pairs that a claim about `variable` and the answer `tokens` asks for.

    Raises:
        HarnessError: a listed pair can show nothing, or no pair changes these tokens.
    """
    claimed = Claimed(variable, tokens, task)
    if isinstance(questions, PairList):
        return _listed(questions, claimed)
    generator = torch.Generator().manual_seed(questions.seed)
    sources, bases = _differing(questions.n, claimed, generator)
    others, agreeing = _agreeing(bases, claimed, generator)
    there = agreeing.where(agreeing < 0, agreeing + len(sources))
    return Drawn(
        bases, joined([sources, others]), torch.arange(len(bases)), there, claimed.expected(sources, bases)
    )  # fmt: skip


class Claimed(NamedTuple):
    """What is claimed to be carried over, and where it is to show."""

    variable: AnyVariable
    tokens: tuple[str, ...]
    task: AnyTask

    @property
    def places(self) -> list[int]:
        """The claim's tokens among those of the answer."""
        return [self.task.answer_tokens.index(token) for token in self.tokens]

    def overwritten(self, sources: Batch, bases: Batch) -> Int[Tensor, "pair answer"]:
        """Return the answers of the bases with the sources' values of the variable."""
        return self.task.answers_with(self.variable, self.task.value_of(self.variable, sources), bases)

    def changed(self, sources: Batch, bases: Batch) -> Bool[Tensor, " pair"]:
        """Return whether all of the claim's tokens change."""
        return (self.overwritten(sources, bases) != bases.answers)[:, self.places].all(1)

    def expected(self, sources: Batch, bases: Batch) -> Int[Tensor, "pair answer"]:
        """Return the answers of the bases, in which the claim's tokens are those that the sources' values make."""
        found = bases.answers.clone()
        found[:, self.places] = self.overwritten(sources, bases)[:, self.places]
        return found


def _differing(n: int, claimed: Claimed, generator: torch.Generator) -> tuple[Batch, Batch]:
    """Return `n` sources and `n` bases; overwriting the variable with the source's value changes all the tokens."""
    parts: list[tuple[Batch, Batch]] = []
    for _ in range(ROUNDS):
        source, base = (claimed.task.varied(AT_ONCE, generator) for _ in range(2))
        keep = claimed.changed(source, base)
        parts.append((source[keep], base[keep]))
        if sum(len(part) for part, _ in parts) >= n:
            sources, bases = (joined(side)[:n] for side in zip(*parts, strict=True))
            return sources, bases
    raise PairsError.of(
        f"pairs in which {claimed.variable} changes {', '.join(claimed.tokens)}",
        f"{sum(len(part) for part, _ in parts)} of {ROUNDS * AT_ONCE:,}",
        f"name other {claimed.task.nouns.tokens}, or list pairs",
    )


def _agreeing(
    bases: Batch, claimed: Claimed, generator: torch.Generator
) -> tuple[Batch, Int[Tensor, " pair"]]:  # fmt: skip
    """Return prompts, and for each base its own of them, in which the variable has the base's value; -1 for none.

    Each is drawn alike, given that value: a base takes the first prompt with it that no other base has taken.
    """
    task, variable = claimed.task, claimed.variable
    wanted, agreeing = task.value_of(variable, bases), torch.full((len(bases),), -1)
    parts, n = [bases[:0]], 0
    for _ in range(ROUNDS):
        drawn = task.varied(AT_ONCE, generator)
        values = task.value_of(variable, drawn)
        taken = []
        for value in torch.unique(wanted[agreeing < 0]):
            rows = ((wanted == value) & (agreeing < 0)).nonzero().squeeze(1)
            found = (values == value).nonzero().squeeze(1)[: len(rows)]
            agreeing[rows[: len(found)]] = torch.arange(n, n + len(found))
            taken.append(found)
            n += len(found)
        parts.append(drawn[torch.cat(taken)])
        if bool((agreeing >= 0).all()):
            break
    return joined(parts), agreeing


def _listed(questions: PairList, claimed: Claimed) -> Drawn:
    variable, _, task = claimed
    sources = task.encode([pair.source for pair in questions.pairs])
    bases = task.encode([pair.base for pair in questions.pairs])
    agree = task.value_of(variable, sources) == task.value_of(variable, bases)
    for pair, says in zip(questions.pairs, (agree | claimed.changed(sources, bases)).tolist(), strict=True):
        if not says:
            raise PairsError.of(
                f"pairs in which {variable} agrees or changes {', '.join(claimed.tokens)}",
                write_pair(pair, task), f"list others, or name the {task.nouns.tokens} that it changes",
            )  # fmt: skip
    if bool(agree.all()):
        expected, seen = f"a pair in which {variable} differs", f"{len(agree)} in which it agrees"
        raise PairsError.of(expected, seen, "list one, or nothing could follow")
    rows = torch.arange(len(bases))
    return Drawn(bases, sources, rows.where(~agree, -1), rows.where(agree, -1), claimed.expected(sources, bases))
