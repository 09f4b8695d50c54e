"""Addition over tensors: tokens, answers, sub-task labels, cases. Pure functions.

Columns, like answer digits, are written highest first: index 0 is ``D(n-1)``, index -1 the units ``D0``.
Labels follow the notebook's generator (Part 3). Cases follow the notebook's ``get_question_case`` (Part 11), which
looks at column sums without the incoming carry. The two differ; both are facts about a question.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.tasks.addition.layout import PLUS, Layout, Question
from harness.tasks.addition.strata import CASES, Case
from harness.tasks.positions import AnyQuestion


class Labels(NamedTuple):
    """What each column of a question needs, as the notebook's generator defines it."""

    base_add: Int[Tensor, "prompt column"]  # BA: the column's sum modulo 10, no carry
    make_carry: Bool[Tensor, "prompt column"]  # MC1: the column, with the incoming carry, makes a carry
    sum9: Bool[Tensor, "prompt column"]  # MS9: the column sums to 9, no carry
    use_carry: Bool[Tensor, "prompt column"]  # UC1: a carry comes in
    use_sum9: Bool[Tensor, "prompt column"]  # US9: a carry comes in and the column sums to 9


def encode(questions: Iterable[AnyQuestion], layout: Layout) -> Int[Tensor, "prompt pos"]:
    """Return the tokens of `questions` with their true answers.

    Raises:
        HarnessError: an addend has more digits than the layout.
    """
    n = layout.n_digits
    questions = list(questions)
    for question in questions:
        if max(question) >= 10**n:
            raise HarnessError.of(f"addends of at most {n} digits", "{}+{}".format(*question), "use a longer layout")
    rows = [[int(digit) for addend in q for digit in f"{addend:0{n}d}"] for q in questions]
    digits = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2, n)
    return tokens_of(digits[:, 0], digits[:, 1], layout)


def tokens_of(
    x: Int[Tensor, "prompt column"], y: Int[Tensor, "prompt column"], layout: Layout
) -> Int[Tensor, "prompt pos"]:
    """Return the tokens of the questions ``x + y`` (digits, highest first) with their true answers."""
    n = layout.n_digits
    tokens = torch.empty(len(x), layout.n_ctx, dtype=torch.int64)
    tokens[:, :n] = x
    tokens[:, n] = PLUS
    tokens[:, n + 1 : 2 * n + 1] = y
    tokens[:, 2 * n + 1 : layout.answer_start] = torch.tensor(layout.equals_tokens)
    tokens[:, layout.answer_start :] = add(x, y)
    return tokens


def add(x: Int[Tensor, "prompt column"], y: Int[Tensor, "prompt column"]) -> Int[Tensor, "prompt answer"]:
    """Return the digits of ``x + y``, one more than the addends have, highest first."""
    labels = label_columns(x + y)
    digits = (labels.base_add + labels.use_carry) % 10
    return torch.cat([labels.make_carry[:, :1].long(), digits], dim=1)


def addends(
    tokens: Int[Tensor, "prompt pos"], layout: Layout
) -> tuple[Int[Tensor, "prompt column"], Int[Tensor, "prompt column"]]:
    """Return the digits of both addends."""
    n = layout.n_digits
    return tokens[:, :n], tokens[:, n + 1 : 2 * n + 1]


def decode(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> list[Question]:
    """Return the questions in `tokens`."""
    x, y = addends(tokens.cpu(), layout)
    return [
        Question(int("".join(map(str, a))), int("".join(map(str, b))))
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]


def label_columns(sums: Int[Tensor, "prompt column"]) -> Labels:
    """Return the labels of questions, given their column sums ``Dn + D'n`` (0 to 18)."""
    carry = torch.zeros(len(sums), dtype=torch.bool)
    make, use = torch.empty_like(sums, dtype=torch.bool), torch.empty_like(sums, dtype=torch.bool)
    for column in range(sums.shape[1] - 1, -1, -1):
        use[:, column] = carry
        carry = sums[:, column] + carry >= 10
        make[:, column] = carry
    nine = sums == 9
    return Labels(base_add=sums % 10, make_carry=make, sum9=nine, use_carry=use, use_sum9=use & nine)


def label(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> Labels:
    """Return the sub-task labels of every column of `tokens`."""
    x, y = addends(tokens, layout)
    return label_columns(x + y)


def longest_cascade(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> Int[Tensor, " prompt"]:
    """Return how many sum-9 columns the farthest carry runs through; -1 where no column makes a carry.

    A carry is made where the column's own digits sum to 10 or more; it runs through the sum-9 columns
    right above. 0 is a carry that stops at once; n_digits - 1 is the longest possible.
    """
    x, y = addends(tokens, layout)
    sums = x + y
    longest = torch.full((len(sums),), -1)
    run = torch.full((len(sums),), -1)  # -1: no carry is running
    for column in range(sums.shape[1] - 1, -1, -1):
        run = torch.where((sums[:, column] == 9) & (run >= 0), run + 1, -1)
        run = torch.where(sums[:, column] >= 10, 0, run)
        longest = torch.maximum(longest, run)
    return longest


def cascade_length(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> Int[Tensor, " prompt"]:
    """Return the length of each question's longest cascade, 0 where there is none."""
    return longest_cascade(tokens, layout).clamp(min=0)


def cases_of(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> list[Case]:
    """Return the notebook's case of each question."""
    index = (longest_cascade(tokens, layout) + 1).clamp(max=len(CASES) - 1)
    return [CASES[i] for i in index.tolist()]
