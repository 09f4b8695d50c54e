"""Pairs of questions for interchange: a value is carried from the source into the base, and what should then come out.

A sampled pair is drawn from questions half of which are enriched with sum-9 columns, so that cascades of all lengths
come up, and kept if overwriting the variable in the base with the source's value changes every digit of the claim.
Each base also gets another source in which the variable is what it is in the base: then nothing may change, however
else the two questions differ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.addition import addends, answers, encode
from harness.causal import answers_with, value_of
from harness.errors import HarnessError
from harness.layout import Layout
from harness.sampling import sample_uniform
from harness.selection import PairList, Pairs
from harness.variables import Variable

ENRICHED = 0.5  # of the questions that pairs are drawn from
AT_ONCE, ROUNDS = 8192, 200  # pairs drawn at a time, and how often, before giving up


class Drawn(NamedTuple):
    """Bases, each with the source of a value that differs and of one that agrees, as rows of `sources`; -1 for none."""

    bases: Int[Tensor, "pair pos"]
    sources: Int[Tensor, "source pos"]
    differing: Int[Tensor, " pair"]
    agreeing: Int[Tensor, " pair"]
    expected: Int[Tensor, "pair digit"]  # with the differing source: the claim's digits, and the base's others


def draw_pairs(questions: Pairs, variable: Variable, digits: tuple[str, ...], layout: Layout) -> Drawn:
    """Return the pairs that a claim about `variable` and `digits` asks for.

    Raises:
        HarnessError: a listed pair that says nothing, or no pair that changes these digits.
    """
    places = [layout.answer_digits.index(digit) for digit in digits]
    if isinstance(questions, PairList):
        return _listed(questions, variable, digits, places, layout)
    generator = torch.Generator().manual_seed(questions.seed)
    sources, bases = _differing(questions.n, variable, digits, places, layout, generator)
    wanted, agreeing = value_of(variable, _sums(bases, layout)), torch.full((len(bases),), -1)
    pool = sources  # another base's source will mostly do
    for _ in range(ROUNDS):
        values = value_of(variable, _sums(pool, layout))
        for value in torch.unique(wanted[agreeing < 0]):
            rows, found = (wanted == value).nonzero().squeeze(1), (values == value).nonzero().squeeze(1)
            if len(found):
                agreeing[rows] = found[torch.randint(len(found), (len(rows),), generator=generator)]
        if bool((agreeing >= 0).all()):
            break
        pool = torch.cat([pool, sample_uniform(layout, 100, generator, sum9_question_share=ENRICHED)])
    expected = _expected(sources, bases, variable, places, layout)
    return Drawn(bases, pool, torch.arange(len(bases)), agreeing, expected)


def _differing(
    n: int, variable: Variable, digits: tuple[str, ...], places: list[int], layout: Layout, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return `n` sources and bases such that the variable's value, carried over, changes every one of the digits."""
    parts: list[tuple[Tensor, Tensor]] = []
    for _ in range(ROUNDS):
        source, base = (sample_uniform(layout, AT_ONCE, generator, sum9_question_share=ENRICHED) for _ in range(2))
        keep = _changed(source, base, variable, layout)[:, places].all(1)
        parts.append((source[keep], base[keep]))
        if sum(len(part) for part, _ in parts) >= n:
            sources, bases = (torch.cat(side)[:n] for side in zip(*parts, strict=True))
            return sources, bases
    raise HarnessError.of(
        f"pairs in which {variable} changes {', '.join(digits)}",
        f"{sum(len(part) for part, _ in parts)} of {ROUNDS * AT_ONCE:,}",
        "name other digits, or list pairs",
    )


def _listed(
    questions: PairList, variable: Variable, digits: tuple[str, ...], places: list[int], layout: Layout
) -> Drawn:
    sources = encode([pair.source for pair in questions.pairs], layout)
    bases = encode([pair.base for pair in questions.pairs], layout)
    agree = value_of(variable, _sums(sources, layout)) == value_of(variable, _sums(bases, layout))
    changed = _changed(sources, bases, variable, layout)[:, places].all(1)
    for pair, says in zip(questions.pairs, (agree | changed).tolist(), strict=True):
        if not says:
            raise HarnessError.of(
                f"pairs in which {variable} agrees or changes {', '.join(digits)}",
                "{}+{} -> {}+{}".format(*pair.source, *pair.base), "list others, or name the digits that it changes",
            )  # fmt: skip
    if bool(agree.all()):
        expected, seen = f"a pair in which {variable} differs", f"{len(agree)} in which it agrees"
        raise HarnessError.of(expected, seen, "list one, or nothing could follow")
    rows = torch.arange(len(bases))
    return Drawn(bases, sources, rows.where(~agree, -1), rows.where(agree, -1),
                 _expected(sources, bases, variable, places, layout))  # fmt: skip


def _expected(sources: Tensor, bases: Tensor, variable: Variable, places: list[int], layout: Layout) -> Tensor:
    expected = answers(bases, layout).clone()
    expected[:, places] = _overwritten(sources, bases, variable, layout)[:, places]
    return expected


def _changed(sources: Tensor, bases: Tensor, variable: Variable, layout: Layout) -> Bool[Tensor, "pair digit"]:
    return _overwritten(sources, bases, variable, layout) != answers(bases, layout)


def _overwritten(sources: Tensor, bases: Tensor, variable: Variable, layout: Layout) -> Int[Tensor, "pair digit"]:
    return answers_with(variable, value_of(variable, _sums(sources, layout)), _sums(bases, layout))


def _sums(tokens: Tensor, layout: Layout) -> Int[Tensor, "question column"]:
    x, y = addends(tokens, layout)
    return x + y
