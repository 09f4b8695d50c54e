"""``learn``: finds the order in which training runs learn, from the learning curves beside their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.base.errors import FixtureError, MeasurementError, Problem
from harness.base.intervals import exact_interval
from harness.judging.verdict import Comparison, straddled, within_bounds
from harness.specs.fixture_files import CURVES, recipe_of
from harness.specs.verbs.learn import Learn
from harness.tasks.positions import Positions
from harness.training.curves import Curves, read_curves

WINDOW = 20  # steps to average over, because the loss of one step comes from one batch


@dataclass(frozen=True)
class Learned:
    """For each run, the step from which each series stayed below the bound; None if it never did until the end."""

    reached: dict[str, dict[str, int | None]]  # fixture → series → step

    def as_dict(self) -> dict[str, Any]:
        """Return the steps as JSON values."""
        return {"n": len(self.reached), "reached": self.reached}


def measure_learning(claim: Learn) -> Learned:
    """Return when each training run learned each of the claim's series.

    Raises:
        FixtureError: a fixture has no learning curves, or not for all its steps.
        MeasurementError: a series has no loss in any step.
    """
    found = {}
    for name in claim.group:
        path, recipe = claim.fixtures / name / CURVES, recipe_of(name, claim.fixtures)
        stamp = path.stat().st_mtime_ns if path.exists() else None
        curves = _read_once(path, recipe.layout, stamp)
        if len(curves.values) != recipe.steps:
            steps = f"{len(curves.values):,}"
            raise FixtureError(Problem(f"the curves of {recipe.steps:,} steps", steps, "restore them", str(path)))
        for series in (*claim.first, *claim.before):
            if bool(curves[series].isnan().all()):  # a series without any loss cannot be judged as learned or not
                raise MeasurementError(Problem(f"losses of {series}", "none in any step", "claim another", str(path)))
        found[name] = {series: learned_at(curves[series], claim.below) for series in (*claim.first, *claim.before)}
    return Learned(found)


@lru_cache(maxsize=32)
def _read_once(path: Path, layout: Positions, stamp: object) -> Curves:
    """Return the curves at `path`, cached until `stamp` changes, because several claims use the same runs."""
    return read_curves(path, layout)


def learned_at(losses: Float[Tensor, " step"], below: float) -> int | None:
    """Return the first step from which the mean over the last 20 steps stays below `below`, or None."""
    if len(losses) < WINDOW:
        return None
    means = torch.nan_to_num(losses, nan=math.inf).unfold(0, WINDOW, 1).mean(1)
    above = (means >= below).nonzero().squeeze(1)
    first = int(above[-1]) + 1 if len(above) else 0
    return first + WINDOW - 1 if first < len(means) else None


def compare_learning(claim: Learn, found: Learned) -> tuple[Comparison, ...]:
    """Return the comparison: in how many runs every series in `first` was learned before every one in `before`."""
    n = len(found.reached)
    held = sum(_in_order(claim, steps) for steps in found.reached.values())
    low, high = exact_interval(held, n, claim.confidence)
    finding = within_bounds(held / n, low, high, claim.share_above, None)
    expected, at = claim.expected.removeprefix("in "), straddled(finding, low, high, claim.share_above)
    return (Comparison("runs", expected, f"{held}/{n}", held / n, low, high, finding, asked=n, threshold=at),)


def _in_order(claim: Learn, steps: dict[str, int | None]) -> bool:
    first = [math.inf if steps[name] is None else steps[name] for name in claim.first]
    later = [math.inf if steps[name] is None else steps[name] for name in claim.before]
    return max(first) < min(later)  # type: ignore[type-var, operator]
