"""The variables of the high-level causal model of addition, by name. Imports no torch; values: ``causal.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean, shorten
from harness.tasks.addition.layout import Layout
from harness.tasks.positions import Positions

KINDS = ("base_add", "carry", "sum9", "tricase", "carry_in")
_NAME = re.compile(r"D(0|[1-9][0-9]*)\.([A-Za-z0-9_]+)")
_SUM = re.compile(r"T([1-9][0-9]*)")


@dataclass(frozen=True)
class Variable:
    """A variable of one column, counted from the units: ``D2.tricase``, ``D4.T1``."""

    column: int
    kind: str  # one of KINDS, or "T"
    level: int = 0  # of a T: how many columns it includes

    def __str__(self) -> str:
        return f"D{self.column}.{self.kind}{self.level or ''}"

    def answer_tokens(self, task: Positions) -> tuple[str, ...]:
        """Return the answer digits that depend on the variable, highest first."""
        if self.kind == "base_add":
            return (f"A{self.column}",)
        lowest = self.column + (self.kind in ("carry", "sum9", "tricase"))
        return tuple(digit for digit in task.answer_tokens if int(digit[1:]) >= lowest)


def read_variable(text: object, layout: Layout) -> Variable:
    """Return the variable that `text` names.

    Raises:
        HarnessError: there is no such column or kind, or the variable always has the same value.
    """
    found = _NAME.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise HarnessError.of("a variable like D2.tricase or D4.T1", shorten(text), "name a column and a variable")
    column, kind = int(found[1]), found[2]
    if column >= layout.n_digits:
        raise HarnessError.of(f"a column D0 to D{layout.n_digits - 1}", f"D{column}", "name a column of the question")
    if of_sum := _SUM.fullmatch(kind):
        level = int(of_sum[1])
        if level > column + 1:
            fix = f"write T{column + 1}, which has seen all columns below"
            raise HarnessError.of(f"T1 to T{column + 1} of D{column}", kind, fix)
        return Variable(column, "T", level)
    if kind not in KINDS:
        sums = [f"T{level}" for level in range(1, column + 2)]
        raise HarnessError.of(
            f"one of {', '.join(KINDS)}, {', '.join(sums)}", kind, did_you_mean(kind, [*KINDS, *sums])
        )
    if column == 0 and kind in ("sum9", "carry_in"):
        raise HarnessError.of("a variable that makes a difference", f"{text}: no carry comes into D0", "name another")
    return Variable(column, kind)


def variables_near(variable: Variable, layout: Layout) -> tuple[Variable, ...]:
    """Return the same variable one column up and down, and the others of its column, of sums T one level off.

    Beside a variable that is no sum, T1 stands for the sums. In column 0, into which no carry comes, ``carry`` and
    ``tricase`` are the same variable; there neither is near the other.
    """
    column, level = variable.column, variable.level
    found = [Variable(column + by, variable.kind, level) for by in (1, -1)]
    found += [Variable(column, kind) for kind in KINDS]
    found += [Variable(column, "T", other) for other in ((level - 1, level + 1) if level else (1,))]
    same = {"carry", "tricase"}
    return tuple(
        other for other in found
        if other != variable and _exists(other, layout)
        and not (column == other.column == 0 and {variable.kind, other.kind} == same)
    )  # fmt: skip


def _exists(variable: Variable, layout: Layout) -> bool:
    column, level = variable.column, variable.level
    if variable.kind == "T":
        return column < layout.n_digits and 1 <= level <= column + 1
    return column < layout.n_digits and column >= (variable.kind in ("sum9", "carry_in"))
