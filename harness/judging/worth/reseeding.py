"""Fresh seeds: a claim about a sample is asked again of other prompts, pairs, donors and references.

A claim that is supported on its own seed and seldom on others is lucky. How often it is supported on fresh seeds stands
beside its verdict; it changes no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.base.errors import HarnessError
from harness.base.seeds import seed_for
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.specs.claim import AcrossRuns, Claim
from harness.specs.methods import EVERY_METHOD
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import PairSample, Sample


@dataclass(frozen=True)
class Reseeds:
    """The verdict, or "error", on each fresh seed."""

    verdicts: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdicts as JSON values."""
        return {"asked": len(self.verdicts), "supported": self.verdicts.count("supported"),
                "verdicts": list(self.verdicts)}  # fmt: skip


def reseeded(claim: Claim, number: int) -> Claim | None:
    """Return the claim with fresh seeds, those of this `number` from 1 on; None if it has nothing that is drawn."""
    if isinstance(claim, AcrossRuns):
        members = [reseeded(member, number) for member in claim.members]
        if not any(members):
            return None
        kept = (new or old for new, old in zip(members, claim.members, strict=True))
        return replace(claim, members=tuple(kept))
    changes: dict[str, Any] = {}
    if isinstance(claim.questions, Sample | PairSample):
        changes["questions"] = replace(claim.questions, seed=seed_for("reseed", claim.questions.seed, number))
    if isinstance(claim, Hypothesis):
        if isinstance(claim.reference, Sample) and claim.replaced_by is not None:
            changes["reference"] = replace(claim.reference, seed=seed_for("reseed", claim.reference.seed, number))
        if EVERY_METHOD[claim.method].needs_seed:
            changes["seed"] = seed_for("reseed", claim.seed, number)
    return replace(claim, **changes) if changes else None


def all_reseeded(claim: Claim, times: int) -> Iterator[Claim]:
    """Yield the claim with fresh seeds, as often as asked; nothing for a claim that has nothing drawn."""
    found = (reseeded(claim, number) for number in range(1, times + 1))
    yield from (one for one in found if one is not None)


def judge_reseeded(claim: Claim, bench: Workbench, times: int) -> Reseeds | None:
    """Return the verdicts on fresh seeds; None for a claim that has nothing drawn."""
    verdicts = tuple(_verdict(one, bench) for one in all_reseeded(claim, times))
    return Reseeds(verdicts) if verdicts else None


def _verdict(claim: Claim, bench: Workbench) -> str:
    try:
        return judge(claim, bench).verdict
    except HarnessError:  # too few prompts of these are right, say
        return "error"
