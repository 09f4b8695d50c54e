"""``learn``: finds the order in which training runs learn, from the learning curves beside their weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.base.errors import FixtureError, MeasurementError, Problem
from harness.base.files import once_per_version
from harness.base.intervals import exact_interval
from harness.judging.requests import Request
from harness.judging.verb import Mutant, Verb
from harness.judging.verdict import Comparison, straddled, within_bounds
from harness.specs.fixtures.files import CURVES, PIN, FixtureRef, recipe_of
from harness.specs.fixtures.pins import read_pin
from harness.specs.verbs.learn import Learn
from harness.training.curves import read_curves

if TYPE_CHECKING:
    from harness.judging.bench import Workbench

WINDOW = 20  # steps to average over, because the loss of one step comes from one batch


@dataclass(frozen=True)
class Learned:
    """For each run, the step from which each series stayed below the bound; None if it never did until the end."""

    reached: dict[str, dict[str, int | None]]  # fixture → series → step

    def as_dict(self) -> dict[str, Any]:
        """Return the steps as JSON values."""
        return {"n": len(self.reached), "reached": self.reached}


class LearnVerb(Verb[Learn]):
    """``learn``: runs no model; what it needs is in the learning curves beside the weights."""

    def requests(self, claim: Learn) -> Sequence[Request]:
        """Return nothing."""
        return ()

    def compare(self, claim: Learn, answers: Sequence[Any]) -> tuple[Learned, tuple[Comparison, ...]]:
        """Return when each run learned what, and in how many runs every `first` came before every `before`.

        Raises:
            FixtureError: a fixture has no learning curves, or not for all its steps.
            MeasurementError: a series has no loss in any step.
        """
        found = measure_learning(claim)
        n = len(found.reached)
        held = sum(_in_order(claim, steps) for steps in found.reached.values())
        low, high = exact_interval(held, n, claim.confidence)
        finding = within_bounds(held / n, low, high, claim.share_above, None)
        row = Comparison(
            subject="runs", kind="order", at_least=claim.share_above, finding=finding, value=held / n, k=held, n=n,
            low=low, high=high, threshold=straddled(finding, low, high, claim.share_above),
        )  # fmt: skip
        return found, (row,)

    def engine(self, claim: Learn, bench: Workbench) -> str:
        """Return what was looked at in place of a model."""
        return "learning curves"

    def mutants(self, claim: Learn) -> Iterator[Mutant]:
        """Yield the claim the other way round."""
        yield Mutant("swapped", replace(claim, first=claim.before, before=claim.first))


VERB = LearnVerb()


def measure_learning(claim: Learn) -> Learned:
    """Return when each training run learned each of the claim's series.

    Raises:
        FixtureError: a fixture has no learning curves, or not for all its steps.
        MeasurementError: a series has no loss in any step.
    """
    found = {}
    seen: dict[str, str] = {}
    for name in claim.group:
        path, recipe = claim.fixtures / name / CURVES, recipe_of(FixtureRef(name, claim.fixtures))
        _check_curves(FixtureRef(name, claim.fixtures), path, seen)
        curves, due = _read(path, recipe.task), recipe.training.steps if recipe.training else 0
        if len(curves.values) != due:
            steps = f"{len(curves.values):,}"
            raise FixtureError(Problem(f"the curves of {due:,} steps", steps, "restore them", str(path)))
        for series in (*claim.first, *claim.before):
            if bool(curves[series].isnan().all()):  # a series without any loss cannot be judged as learned or not
                raise MeasurementError(Problem(f"losses of {series}", "none in any step", "claim another", str(path)))
        found[name] = {series: learned_at(curves[series], claim.below) for series in (*claim.first, *claim.before)}
    return Learned(found)


def _check_curves(ref: FixtureRef, path: Path, seen: dict[str, str]) -> None:
    """Refuse curves that are not those of the pinned run, or those of a run that was counted already.

    Raises:
        FixtureError: the curves are of another run.
        MeasurementError: the same run stands under two names.
    """
    if not path.exists():  # whoever reads them says so
        return
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    pin = read_pin(ref) if (ref.directory / PIN).exists() else None
    pinned = pin.trained.curves_sha256 if pin and pin.trained else None
    if pinned not in (None, digest):
        fix = "restore them from version control"
        raise FixtureError(Problem(f"learning curves of sha256 {pinned}", f"sha256 {digest}", fix, str(path)))
    if (other := seen.setdefault(digest, ref.name)) != ref.name:
        expected, fix = "each training run once", "leave one of them out"
        raise MeasurementError(
            Problem(expected, f"the curves of {other} again, as those of {ref.name}", fix, str(path))
        )


_read = once_per_version(32)(read_curves)  # several claims use the same runs


def learned_at(losses: Float[Tensor, " step"], below: float) -> int | None:
    """Return the first step from which the mean over the last 20 steps stays below `below`, or None."""
    if len(losses) < WINDOW:
        return None
    means = torch.nan_to_num(losses, nan=math.inf).unfold(0, WINDOW, 1).mean(1)
    above = (means >= below).nonzero().squeeze(1)
    first = int(above[-1]) + 1 if len(above) else 0
    return first + WINDOW - 1 if first < len(means) else None


def _in_order(claim: Learn, steps: dict[str, int | None]) -> bool:
    first = [math.inf if steps[name] is None else steps[name] for name in claim.first]
    later = [math.inf if steps[name] is None else steps[name] for name in claim.before]
    return max(first) < min(later)  # type: ignore[type-var, operator]
