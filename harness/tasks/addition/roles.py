"""The roles that nodes of an adding model may have. Imports no torch.

base_add.Ak    carries ``Dk.base_add`` to Ak
carry.Ak       carries ``D(k-1).tricase`` to Ak: whether the column below makes a carry, or passes one on
tricase.Dk     carries ``Dk.tricase`` up a cascade, to all of A(k+2) and the digits above
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.tasks.addition.variables import Variable
from harness.tasks.contract import RoleQuery


def role_queries(n_digits: int) -> Iterator[RoleQuery]:
    """Yield the roles to look for in a model that adds numbers of `n_digits` digits."""
    for k in range(n_digits - 1, -1, -1):
        yield RoleQuery("base_add", f"A{k}", Variable(k, "base_add"), (f"A{k}",))
    for k in range(n_digits, 0, -1):
        yield RoleQuery("carry", f"A{k}", Variable(k - 1, "tricase"), (f"A{k}",))
    for k in range(n_digits - 2, -1, -1):
        digits = tuple(f"A{digit}" for digit in range(n_digits, k + 1, -1))
        yield RoleQuery("tricase", f"D{k}", Variable(k, "tricase"), digits)
