"""What is counted over the pairs of a ``patch``: which tokens follow, which stay, and examples of those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.judging.answers import Interchanged
from harness.judging.measurement import EXAMPLES, Example, example_of
from harness.judging.verdict import (
    require_accuracy,
)
from harness.specs.verbs.patch import Patch
from harness.tasks.pairs import Drawn
from harness.tasks.positions import Positions


@dataclass(frozen=True)
class Patched:
    """Counts over the pairs whose two questions the clean model answers wholly right."""

    n: int  # bases
    excluded: int  # pairs, of both kinds, one of whose questions the clean model gets wrong
    clean_accuracy: float  # of all questions in the pairs
    near_ties: int  # answer tokens of pairs of both kinds: of a clean run, or compared under the intervention
    as_expected: Bool[Tensor, "pair answer"]  # of pairs that differ
    unchanged: Bool[Tensor, " pair"]  # of pairs that agree: no token changed
    examples: dict[str, tuple[Example, ...]]  # token, or "agreeing" → pairs that did not do what was expected

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "n": self.n, "excluded": self.excluded, "clean_accuracy": self.clean_accuracy,
            "near_ties": self.near_ties,
            "differing": len(self.as_expected), "as_expected": self.as_expected.sum(0).tolist(),
            "agreeing": len(self.unchanged), "unchanged": int(self.unchanged.sum()),
            "examples": {key: [asdict(example) for example in rows] for key, rows in self.examples.items()},
        }  # fmt: skip


def counted(claim: Patch, found: Interchanged) -> tuple[Patched, list[Bool[Tensor, "pair answer"]]]:
    """Return the counts of the claim's nodes; and of each further set of nodes which tokens came out as expected.

    Raises:
        MeasurementError: the clean model is not accurate enough.
    """
    drawn, task = found.drawn, found.fixture.task
    truth = drawn.bases.answers
    source_right = drawn.sources.right.contains(found.source.predicted).all(1)
    base_right = drawn.bases.right.contains(found.base.predicted).all(1)
    accuracy = float(torch.cat([source_right, base_right]).double().mean())
    require_accuracy(claim, accuracy)

    rows = (drawn.differing, drawn.agreeing)
    asked = [donors >= 0 for donors in rows]
    both = [a & base_right & source_right[donors.clamp(min=0)] for a, donors in zip(asked, rows, strict=True)]
    excluded = sum(int((a & ~c).sum()) for a, c in zip(asked, both, strict=True))
    differing, *others = (outcome.predicted for outcome in found.differing)
    agreeing = found.agreeing.predicted
    as_expected, unchanged = came_out_as_expected(claim, drawn, differing), drawn.bases.right.contains(agreeing).all(1)
    examples = {
        token: _examples(drawn, drawn.differing, differing, drawn.expected, both[0] & ~as_expected[:, i], task)
        for i, token in enumerate(task.answer_tokens)
    }
    examples["agreeing"] = _examples(drawn, drawn.agreeing, agreeing, truth, both[1] & ~unchanged, task)
    ties = _near_ties(claim, found, asked)
    own = Patched(len(drawn.bases), excluded, accuracy, ties, as_expected[both[0]], unchanged[both[1]], examples)
    return own, [came_out_as_expected(claim, drawn, other)[both[0]] for other in others]


def _near_ties(claim: Patch, found: Interchanged, asked: Sequence[Bool[Tensor, " pair"]]) -> int:
    """Return on how many answer tokens of the pairs another engine might disagree, so that a pair counts otherwise.

    In the clean runs any token matters, for only pairs that are wholly right count. Under the intervention, the tokens
    matter that are compared: of agreeing pairs all.
    """
    tokens = claim.shape.task.answer_tokens
    compared = torch.tensor([token in (*claim.tokens, *claim.intact) for token in tokens])
    kinds = (
        (found.drawn.differing, found.differing[0].near_tie & compared),
        (found.drawn.agreeing, found.agreeing.near_tie),
    )
    ties = [
        (found.base.near_tie | found.source.near_tie[donors.clamp(min=0)] | changed)[pairs]
        for (donors, changed), pairs in zip(kinds, asked, strict=True)
    ]
    return sum(int(where.sum()) for where in ties)


def came_out_as_expected(
    claim: Patch, drawn: Drawn, predicted: Int[Tensor, "pair answer"]
) -> Bool[Tensor, "pair answer"]:
    """Return which tokens came out as expected: those of the claim follow the source, all others are right in the base.

    Where the source's own answer is expected, each token that is right there follows, unless it is right in the base.
    """
    in_source, right_before = drawn.sources.right[drawn.differing.clamp(min=0)], drawn.bases.right.contains(predicted)
    like_source = (in_source.ids[..., 0] == drawn.expected) & in_source.contains(predicted) & ~right_before
    follows = (predicted == drawn.expected) | like_source
    claimed = torch.tensor([token in claim.tokens for token in claim.shape.task.answer_tokens])
    return follows.where(claimed, right_before)


def _examples(
    drawn: Drawn,
    donors: Int[Tensor, " pair"],
    predicted: Int[Tensor, "pair answer"],
    wanted: Int[Tensor, "pair answer"],
    rows: Bool[Tensor, " pair"],
    task: Positions,
) -> tuple[Example, ...]:
    """Return the first few of these pairs, with what came out and what was expected."""
    chosen = rows.nonzero().squeeze(1)[:EXAMPLES]
    asked = (prompts.texts() for prompts in (drawn.sources[donors[chosen]], drawn.bases[chosen]))
    shown = zip(
        *asked, predicted[chosen].tolist(), (predicted != wanted)[chosen].tolist(), wanted[chosen].tolist(), strict=True
    )
    return tuple(
        example_of(base, found, wrong, right, task, source=source) for source, base, found, wrong, right in shown
    )
