"""The high-level causal model of addition: what the answer becomes when one of its variables is overwritten.

The exact sum of column n is ``S = T1 + c``: the column's own digits and the incoming carry. It gives the
answer digit ``S % 10`` and the carry ``S // 10`` to the next column up. A variable is a part of that::

    Dn.base_add   T1 % 10                 the digit before any carry
    Dn.carry      T1 >= 10                the column makes a carry by itself
    Dn.sum9       T1 == 9                 the column passes an incoming carry on
    Dn.tricase    <9, =9 or >9            ``carry`` and ``sum9`` together
    Dn.T1         T1                      the sum of the column's own digits
    Dn.Tk         T1 and the carry that the k-1 columns below make by themselves; with k = n + 1 it is S
    Dn.carry_in   c                       the incoming carry

Overwriting ``base_add`` leaves the carries unchanged. Overwriting ``carry``, ``sum9`` or ``tricase`` leaves the
column's digit unchanged. The others change both. A carry from further down, outside the variable, still comes in.

Source of the names: "Accurate 5-Digit Addition in Transformers" (T1 to T5), arXiv 2402.02619 (tri-case).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from harness.tasks.addition.arithmetic import label_columns
from harness.tasks.addition.variables import Variable


def value_of(variable: Variable, sums: Int[Tensor, "prompt column"]) -> Int[Tensor, " prompt"]:
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


def carries(sums: Int[Tensor, "prompt column"]) -> Int[Tensor, "prompt column+1"]:
    """Return the carry out of the highest column, then the carry that comes into each column, highest first."""
    labels = label_columns(sums)
    return torch.cat([labels.make_carry[:, :1], labels.use_carry], dim=1).long()


def answers_with(
    variable: Variable, values: Int[Tensor, " prompt"], sums: Int[Tensor, "prompt column"]
) -> Int[Tensor, "prompt answer"]:
    """Return the digits of the answers, highest first, when `variable` is overwritten with `values`."""
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
            else:  # a sum: the carry that is not part of it still comes in; no column sums to more than 19
                whole = (own + values if kind == "carry_in" else whole - before + values).clamp(max=19)
                digit, out = whole % 10, whole // 10
        digits.append(digit)
        carry = out
    return torch.stack([carry, *reversed(digits)], dim=1)
