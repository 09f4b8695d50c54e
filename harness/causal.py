"""The high-level causal model of addition: what the answer becomes when one of its variables is overwritten.

The exact sum of column n is ``S = T1 + c``: the column's own digits and the carry that comes in. It gives the
answer digit ``S % 10`` and the carry ``S // 10`` to the next column up. A variable is a part of that::

    Dn.base_add   T1 % 10                 the digit before any carry
    Dn.carry      T1 >= 10                the column makes a carry by itself
    Dn.sum9       T1 == 9                 the column hands a carry on
    Dn.tricase    <9, =9 or >9            both of these
    Dn.T1         T1                      all that the column's own digits say
    Dn.Tk         T1 and the carry that the k-1 columns below make by themselves; with k = n + 1 it is S
    Dn.carry_in   c                       the carry that comes in

Overwriting ``base_add`` leaves the carries as they were, and the three that say what the column hands up leave its
digit as it was; the others change both. What is left of a carry from further down still comes in.

Source of the names: "Accurate 5-Digit Addition in Transformers" (T1 to T5), arXiv 2402.02619 (tri-case).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from harness.addition import label_columns
from harness.variables import Variable


def value_of(variable: Variable, sums: Int[Tensor, "question column"]) -> Int[Tensor, " question"]:
    """Return the value of a variable on questions with these column sums ``Dn + D'n``, highest column first."""
    column, kind = sums.shape[1] - 1 - variable.column, variable.kind
    own = sums[:, column]
    if kind == "base_add":
        return own % 10
    if kind == "carry":
        return (own >= 10).long()
    if kind == "sum9":
        return (own == 9).long()
    if kind == "tricase":
        return (own >= 9).long() + (own >= 10).long()
    if kind == "carry_in":
        return carries(sums)[:, column + 1]
    return own + carries(sums[:, column + 1 : column + variable.level])[:, 0] if variable.level > 1 else own


def carries(sums: Int[Tensor, "question column"]) -> Int[Tensor, "question column+1"]:
    """Return the carry out of the highest column, then the carry that comes into each column, highest first."""
    labels = label_columns(sums)
    return torch.cat([labels.make_carry[:, :1], labels.use_carry], dim=1).long()


def answers_with(
    variable: Variable, values: Int[Tensor, " question"], sums: Int[Tensor, "question column"]
) -> Int[Tensor, "question digit"]:
    """Return the digits of the answers, highest first, when `variable` has these `values` in place of its own."""
    last = sums.shape[1] - 1
    before = value_of(variable, sums)
    carry = torch.zeros(len(sums), dtype=torch.int64)
    digits = []
    for column in range(last, -1, -1):
        own = sums[:, column]
        whole = own + carry
        digit, out = whole % 10, whole // 10
        if column == last - variable.column:
            kind = variable.kind
            if kind == "base_add":
                digit = (values + carry) % 10
            elif kind == "carry":
                out = values | ((own == 9) & (carry == 1)).long()
            elif kind == "sum9":
                out = (own >= 10).long() | (values & carry)
            elif kind == "tricase":
                out = (values == 2).long() | ((values == 1).long() & carry)
            else:  # a sum: what it has not seen of the carry still comes in, but no column sums to more than 19
                whole = (own + values if kind == "carry_in" else whole - before + values).clamp(max=19)
                digit, out = whole % 10, whole // 10
        digits.append(digit)
        carry = out
    return torch.stack([carry, *reversed(digits)], dim=1)
