"""A donor for each prompt: another prompt, whose values replace its own.

Donors are drawn independently for each prompt, from the population of a sampled reference, or with replacement from a
listed one. A donor that asks the same as its prompt is drawn again.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.base.errors import MeasurementError, Problem
from harness.base.seeds import seed_for
from harness.tasks.batch import Batch, joined
from harness.tasks.contract import AnyTask
from harness.tasks.questions import Questions, Sample

ROUNDS = 50  # draws for the same prompt before it is said that there is no donor for it


def draw_donors(prompts: Batch, reference: Questions, seed: int, task: AnyTask) -> Batch:
    """Return a donor for each prompt, in their order.

    Raises:
        MeasurementError: for some prompt, every prompt of the reference is that prompt itself.
    """
    left = torch.arange(len(prompts))
    found: Batch | None = None
    for round_ in range(ROUNDS):
        drawn = _drawn(len(left), reference, seed_for("donors", seed, round_), task)
        if found is None:
            found, rows = drawn, left
        else:
            rows = torch.arange(len(prompts))
            rows[left] = len(prompts) + torch.arange(len(left))
            found = joined([found, drawn])[rows]
        both = joined([prompts, found]).asked
        left = (both[: len(prompts)] == both[len(prompts) :]).all(1).nonzero().squeeze(1)
        if not len(left):
            return found
    nouns = task.nouns
    expected = f"a donor other than the {nouns.prompt} itself"
    raise MeasurementError(Problem(expected, "none in the reference", "name a larger reference"))


def _drawn(n: int, reference: Questions, seed: int, task: AnyTask) -> Batch:
    """Return `n` prompts of the reference, each drawn alike."""
    generator = torch.Generator().manual_seed(seed)
    if not isinstance(reference, Sample):
        listed = task.batch_for(reference)
        return listed[torch.randint(len(listed), (n,), generator=generator)]
    # Strata come one after the other and in equal parts: of a whole number of rounds, in random order, take the first.
    parts = max(1, len(reference.strata))
    drawn = task.batch_for(replace(reference, n=parts * -(-n // parts), seed=seed))
    return drawn[torch.randperm(len(drawn), generator=generator)[:n]]
