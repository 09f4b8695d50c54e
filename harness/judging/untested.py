"""What a claim may hold without having been tested: then its verdict is *vacuous*, which does not pass.

Each reason is found by measuring, or follows from the model's shape; the numbers are kept, and reports make the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.judging.measurement import TokenCount
from harness.specs.nodes import Node

# The intervention moved no value; the answer is the same in all prompts; the clean model is mostly wrong; a head that
# looks everywhere alike meets the bound; the answer has no way but through the nodes; neither group can answer; the
# clean model does it already.
Why = Literal["unmoved", "constant", "unlearned", "uniform", "only way", "nothing to lose", "already"]
MOVED = 0.01  # of a node's spread: an intervention that moves every node by less than this moves nothing
LEARNED = 0.5  # share of prompts that a model must answer, or it tells nothing that nothing is lost


@dataclass(frozen=True)
class Untested:
    """A reason why nothing was tested, with what was measured."""

    why: Why
    about: tuple[str, ...] = ()  # the answer tokens
    value: float | None = None  # what was measured
    least: float | None = None  # what it had to reach

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"why": self.why, "about": list(self.about), "value": self.value, "least": self.least}


def unmoved(movement: Mapping[Node, float]) -> Iterable[Untested]:
    """Yield the reason that no node was moved; `movement` is in spreads."""
    if movement and (most := max(movement.values())) < MOVED:
        yield Untested("unmoved", value=most, least=MOVED)


def unseen(counts: Iterable[TokenCount]) -> Iterable[Untested]:
    """Yield the reasons why these tokens, which should stay right, could hardly have failed."""
    counts = [count for count in counts if count.asked]
    if not counts:
        return
    names = tuple(count.token for count in counts)
    best = max(count.asked / (count.asked + count.excluded) for count in counts)
    if best < LEARNED:
        yield Untested("unlearned", names, best, LEARNED)
    if all(count.distinct == 1 for count in counts):
        yield Untested("constant", names)
