"""Pairs of questions for interchange interventions, with the answers that the causal model expects.

Sampled pairs are drawn from varied questions. For addition, half of these are enriched with sum-9 columns, so that
cascades of all lengths occur. A pair is kept if overwriting the variable in the base with the source's value changes
every digit of the claim.

Each base also gets a second source, in which the variable has the same value as in the base. Then nothing may change,
even though the two questions differ in other ways.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.tasks.answers import answers
from harness.tasks.contract import AnyTask, AnyVariable
from harness.tasks.positions import Positions
from harness.tasks.questions import PairList, Pairs, PairsError, write_pair
from harness.tasks.registry import task_of

AT_ONCE, ROUNDS = 8192, 200  # pairs drawn in a round, and the rounds before giving up


class Drawn(NamedTuple):
    """Bases, each with a source whose value differs and one whose value agrees (rows of `sources`; -1 for none)."""

    bases: Int[Tensor, "pair pos"]
    sources: Int[Tensor, "source pos"]
    differing: Int[Tensor, " pair"]
    agreeing: Int[Tensor, " pair"]
    expected: Int[Tensor, "pair digit"]  # the claim's digits as the differing source makes them; others as in the base


def draw_pairs(questions: Pairs, variable: AnyVariable, digits: tuple[str, ...], layout: Positions) -> Drawn:
    """Return the pairs that a claim about `variable` and `digits` asks for.

    Raises:
        HarnessError: a listed pair can show nothing, or no pair changes these digits.
    """
    places, task = [layout.answer_digits.index(digit) for digit in digits], task_of(layout)
    if isinstance(questions, PairList):
        return _listed(questions, variable, digits, places, layout, task)
    generator = torch.Generator().manual_seed(questions.seed)
    sources, bases = _differing(questions.n, variable, digits, places, layout, task, generator)
    wanted, agreeing = task.value_of(variable, bases), torch.full((len(bases),), -1)
    pool = sources  # mostly, the source of another base has the value that is needed
    for _ in range(ROUNDS):
        values = task.value_of(variable, pool)
        for value in torch.unique(wanted[agreeing < 0]):
            rows, found = (wanted == value).nonzero().squeeze(1), (values == value).nonzero().squeeze(1)
            if len(found):
                agreeing[rows] = found[torch.randint(len(found), (len(rows),), generator=generator)]
        if bool((agreeing >= 0).all()):
            break
        pool = torch.cat([pool, task.varied(100, generator)])
    expected = _expected(sources, bases, variable, places, layout, task)
    return Drawn(bases, pool, torch.arange(len(bases)), agreeing, expected)


def _differing(
    n: int,
    variable: AnyVariable,
    digits: tuple[str, ...],
    places: list[int],
    layout: Positions,
    task: AnyTask,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return `n` sources and `n` bases; overwriting the variable with the source's value changes all the digits."""
    parts: list[tuple[Tensor, Tensor]] = []
    for _ in range(ROUNDS):
        source, base = (task.varied(AT_ONCE, generator) for _ in range(2))
        keep = _changed(source, base, variable, layout, task)[:, places].all(1)
        parts.append((source[keep], base[keep]))
        if sum(len(part) for part, _ in parts) >= n:
            sources, bases = (torch.cat(side)[:n] for side in zip(*parts, strict=True))
            return sources, bases
    raise PairsError.of(
        f"pairs in which {variable} changes {', '.join(digits)}",
        f"{sum(len(part) for part, _ in parts)} of {ROUNDS * AT_ONCE:,}",
        "name other digits, or list pairs",
    )


def _listed(
    questions: PairList,
    variable: AnyVariable,
    digits: tuple[str, ...],
    places: list[int],
    layout: Positions,
    task: AnyTask,
) -> Drawn:
    sources = task.encode([pair.source for pair in questions.pairs])
    bases = task.encode([pair.base for pair in questions.pairs])
    agree = task.value_of(variable, sources) == task.value_of(variable, bases)
    changed = _changed(sources, bases, variable, layout, task)[:, places].all(1)
    for pair, says in zip(questions.pairs, (agree | changed).tolist(), strict=True):
        if not says:
            raise PairsError.of(
                f"pairs in which {variable} agrees or changes {', '.join(digits)}",
                write_pair(pair, layout), "list others, or name the digits that it changes",
            )  # fmt: skip
    if bool(agree.all()):
        expected, seen = f"a pair in which {variable} differs", f"{len(agree)} in which it agrees"
        raise PairsError.of(expected, seen, "list one, or nothing could follow")
    rows = torch.arange(len(bases))
    return Drawn(bases, sources, rows.where(~agree, -1), rows.where(agree, -1),
                 _expected(sources, bases, variable, places, layout, task))  # fmt: skip


def _expected(
    sources: Tensor, bases: Tensor, variable: AnyVariable, places: list[int], layout: Positions, task: AnyTask
) -> Tensor:
    expected = answers(bases, layout).clone()
    expected[:, places] = _overwritten(sources, bases, variable, task)[:, places]
    return expected


def _changed(
    sources: Tensor, bases: Tensor, variable: AnyVariable, layout: Positions, task: AnyTask
) -> Bool[Tensor, "pair digit"]:
    return _overwritten(sources, bases, variable, task) != answers(bases, layout)


def _overwritten(sources: Tensor, bases: Tensor, variable: AnyVariable, task: AnyTask) -> Int[Tensor, "pair digit"]:
    return task.answers_with(variable, task.value_of(variable, sources), bases)
