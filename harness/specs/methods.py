"""The methods of ablation by name. Imports no torch.

To add one, write the function that makes its replacement values, and name it in `METHODS`; commands, controls and
reports list the methods of this table. `corrupt` and `noise` stand beside it, for they need a counterpart's name, or
how much noise there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple


class MethodEntry(NamedTuple):
    """What a spec and the bench need to know of a method."""

    maker: str  # `package:function`, see :mod:`harness.judging.methods`
    needs_reference: bool = True  # values come from reference questions
    captures: bool = False  # they are captured one by one, not as a mean
    needs_seed: bool = False  # of the donors


METHODS: dict[str, MethodEntry] = {
    "mean": MethodEntry("harness.judging.methods:mean"),
    "zero": MethodEntry("harness.judging.methods:zero", needs_reference=False),
    "resample": MethodEntry("harness.judging.methods:prompted", captures=True, needs_seed=True),
}
CORRUPT, NOISE = "corrupt", "noise"
CORRUPTING = MethodEntry("harness.judging.methods:prompted", needs_reference=False, captures=True, needs_seed=True)
NOISY = MethodEntry("harness.judging.movement:noise", needs_reference=False, captures=True, needs_seed=True)
EVERY_METHOD = {**METHODS, CORRUPT: CORRUPTING, NOISE: NOISY}
if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]
