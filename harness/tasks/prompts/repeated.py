"""Random tokens that are repeated: drawn, with positions as lists that are paired by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.tasks.batch import Batch, TokenSets
from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.definition import Repeated
from harness.tasks.prompts.task import PromptsTask


def _defined(task: PromptsTask) -> Repeated:
    assert isinstance(task.definition, Repeated)  # only such a task asks for this
    return task.definition


def questions_in(task: PromptsTask, batch: Batch) -> list[AnyQuestion]:
    """Return the questions of a batch: their tokens, without what is put before."""
    return [tuple(row) for row in batch.tokens[:, len(task.tokens.before) :].tolist()]


def draw(task: PromptsTask, n: int, generator: torch.Generator) -> Batch:
    """Return `n` prompts; the tokens of a repeat are all different."""
    return encoded(task, _repeats(task, n, generator).tolist())


def _repeats(task: PromptsTask, n: int, generator: torch.Generator) -> Int[Tensor, "prompt pos"]:
    ordinary = torch.tensor(task.tokens.ordinary)
    if len(ordinary) < _defined(task).length:
        found = f"{len(ordinary)} in its vocabulary"
        fix = "shorten `length`"
        raise HarnessError.of(f"at least {_defined(task).length} ordinary tokens, for {task.title}", found, fix)
    weights = torch.ones(len(ordinary), dtype=torch.float64)
    once = [torch.multinomial(weights, _defined(task).length, generator=generator) for _ in range(n)]
    if not once:
        return torch.zeros(0, _defined(task).length * _defined(task).times, dtype=torch.int64)
    return ordinary[torch.stack(once)].repeat(1, _defined(task).times)


def encoded(task: PromptsTask, questions: Sequence[Sequence[int]]) -> Batch:
    """Return the batch of these prompts. All of the last repeat but its first token is to be predicted."""
    d, before = _defined(task), len(task.tokens.before)
    width = d.length * d.times
    rows = torch.tensor([list(question) for question in questions], dtype=torch.int64).reshape(-1, width)
    put = torch.tensor(task.tokens.before, dtype=torch.int64).expand(len(rows), -1)
    tokens = torch.cat([put, rows], dim=1)
    places = torch.arange(before + width - d.length + 1, before + width).expand(len(rows), -1)
    positions = {}
    for name, (repeat, offset) in d.positions.items():
        first = before + repeat * d.length + offset
        positions[name] = torch.arange(first, first + d.length - 1).expand(len(rows), -1)
    return Batch(task, tokens, places, TokenSets(tokens.gather(1, places).unsqueeze(-1)), None, positions)


def unrepeated(task: PromptsTask, batch: Batch, seed: int) -> Batch:
    """Return each prompt with other tokens in all repeats but the last one."""
    d, before = _defined(task), len(task.tokens.before)
    generator = torch.Generator().manual_seed(seed)
    last = before + d.length * (d.times - 1)
    others = _repeats(task, len(batch), generator)[:, : last - before]
    tokens = torch.cat([batch.tokens[:, :before], others, batch.tokens[:, last:]], dim=1)
    return replace(batch, tokens=tokens)
