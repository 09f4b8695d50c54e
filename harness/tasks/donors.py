"""A donor for each prompt: another prompt, whose values replace its own.

Donors are drawn independently for each prompt, from the population of a sampled reference, or with replacement from a
listed one. A donor that asks the same as its prompt is drawn again.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

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
    if not isinstance(reference, Sample):
        _require_other(prompts, task.batch_for(reference), task)
    found, left, round_ = prompts, torch.arange(len(prompts)), 0
    while len(left):
        if round_ == ROUNDS and isinstance(reference, Sample):
            raise _no_other(task)
        drawn = _drawn(len(left), reference, seed_for("donors", seed, round_), task)
        rows = torch.arange(len(prompts))
        rows[left] = len(prompts) + torch.arange(len(left))
        found = joined([found, drawn])[rows]
        left, round_ = _same(prompts, found).nonzero().squeeze(1), round_ + 1
    return found


def _same(prompts: Batch, others: Batch) -> Bool[Tensor, " prompt"]:
    """Return whether each prompt asks the same as the other one of its row."""
    both = joined([prompts, others]).asked
    return (both[: len(prompts)] == both[len(prompts) :]).all(1)


def _require_other(prompts: Batch, listed: Batch, task: AnyTask) -> None:
    first = listed[torch.zeros(len(listed), dtype=torch.int64)]
    if bool(_same(listed, first).all()):  # all are one prompt
        asked = listed[torch.zeros(len(prompts), dtype=torch.int64)]
        if bool(_same(prompts, asked).any()):
            raise _no_other(task)


def _no_other(task: AnyTask) -> MeasurementError:
    expected = f"a donor other than the {task.nouns.prompt} itself"
    return MeasurementError(Problem(expected, "none in the reference", "name a larger reference"))


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
