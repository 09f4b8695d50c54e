"""Draws the questions of filled templates, and their counterparts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.batch import Batch, joined
from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.definition import OTHER, Filled, Template
from harness.tasks.prompts.filled import encoded, place_of, questions_in, wrong_file
from harness.tasks.prompts.filled_text import FilledText
from harness.tasks.questions import shares

ROUNDS = 200  # draws for prompts that must have different values, before it is said that there are none


def draw(task: FilledText, n: int, generator: torch.Generator, templates: Sequence[str]) -> Batch:
    """Return `n` random prompts: of all templates, or equally many of each that is named.

    Raises:
        HarnessError: no values meet the conditions.
    """
    names = list(task.cases)
    if not templates:
        which = torch.randint(len(names), (n,), generator=generator)
        return encoded(task, _drawn(task, which, generator))
    sizes = shares(n, len(templates))
    parts = [
        encoded(task, _drawn(task, torch.full((size,), names.index(name)), generator))
        for size, name in zip(sizes, templates, strict=True)
    ]
    return joined(parts)


def _drawn(task: FilledText, which: Int[Tensor, " prompt"], generator: torch.Generator) -> list[AnyQuestion]:
    """Return a random question for each of these templates; the values of a slot are drawn alike."""
    d, allowed = task.definition, _allowed(task)
    slots = list(d.values)
    chosen = torch.zeros(len(which), len(slots), dtype=torch.int64)
    left = torch.arange(len(which))
    for _ in range(ROUNDS):
        if d.joint:  # all slots are columns of one row
            row = torch.randint(next(iter(d.drawn.values())), (len(left), 1), generator=generator)
            chosen[left] = row.expand(-1, len(slots))
        else:
            for i, slot in enumerate(slots):
                values = allowed[slot]
                chosen[left, i] = values[torch.randint(len(values), (len(left),), generator=generator)]
        left = left[_collide(d, slots, chosen[left])]
        if not len(left):
            break
    else:
        raise HarnessError.of("values that differ, as `distinct` asks", "none found", f"add values to {d.path}")
    rows = chosen.tolist()
    found = []
    for t, row in zip(which.tolist(), rows, strict=True):
        there = d.templates[t].places
        found.append((t, *(row[slots.index(d.slot_at[place])] if place in there else -1 for place in d.places)))
    return found


def _collide(d: Filled, slots: Sequence[str], chosen: Int[Tensor, "prompt slot"]) -> Tensor:
    """Return which prompts have the same text in two slots that must differ."""
    bad = torch.zeros(len(chosen), dtype=torch.bool)
    for group in d.distinct:
        for i, one in enumerate(group):
            for other in group[i + 1 :]:
                a, b = chosen[:, slots.index(one)], chosen[:, slots.index(other)]
                if d.list_of[one] == d.list_of[other]:
                    bad |= a == b
                else:
                    texts = zip(a.tolist(), b.tolist(), strict=True)
                    bad |= torch.tensor([d.values[one][x] == d.values[other][y] for x, y in texts])
    return bad


@lru_cache(maxsize=64)
def _allowed(task: FilledText) -> dict[str, Int[Tensor, " value"]]:
    """Return the values of each slot that are drawn: of a list under `one_token`, those that are one token."""
    found = {}
    for slot, values in task.definition.values.items():
        numbers = list(range(task.definition.drawn[slot]))
        if task.definition.list_of[slot] in task.definition.one_token:
            sizes = _sizes(task, slot)
            numbers = [number for number in numbers if sizes[number] == 1]
        if not numbers:
            raise wrong_file(task, f"values of {slot} of one token", f"none of {len(values)}", "name others")
        found[slot] = torch.tensor(numbers)
    return found


@lru_cache(maxsize=256)
def _sizes(task: FilledText, slot: str) -> list[int]:
    """Return how many tokens each value of a slot has."""
    return [len(split.ids) for split in task.tokens.split(task.definition.values[slot])]


def kept_values(task: FilledText) -> dict[str, tuple[int, int]]:
    """Return for each list under `one_token` how many of its values are drawn, and how many it has."""
    d = task.definition
    slots = {d.list_of[slot]: slot for slot in d.values if d.list_of[slot] in d.one_token}
    return {name: (len(_allowed(task)[slot]), d.drawn[slot]) for name, slot in slots.items()}


def counterparts(task: FilledText, batch: Batch, name: str, seed: int) -> Batch:
    """Return the counterpart of each prompt, with every position where it was.

    Raises:
        FixtureError: a counterpart has another length, or a position elsewhere, or is the prompt itself.
    """
    generator = torch.Generator().manual_seed(seed)
    made = [_counterpart(task, name, question, generator) for question in questions_in(batch)]
    found = encoded(task, made)
    same = found.lengths == batch.lengths
    for at in task.positions:
        same &= (found.positions[at] == batch.positions[at]).all(1)
    for row in (~same).nonzero().squeeze(1).tolist():
        one, other = (task.tokens.shown(b.tokens[row, : int(b.lengths[row]) - 1].tolist()) for b in (batch, found))
        expected = f"a counterpart {name} of as many tokens, with the same positions"
        raise wrong_file(task, expected, f"{other} for {one}", "use values of equal length")
    return found


def _counterpart(task: FilledText, name: str, question: AnyQuestion, generator: torch.Generator) -> AnyQuestion:
    d = task.definition
    rules, template = d.counterparts[name], d.templates[question[0]]
    if not rules:
        return _another_row(task, template, question, generator)
    found = list(question)
    taken = {task.value_at(question, place) for place in template.places}
    for place, rule in rules.items():
        if place not in template.places:
            continue
        slot, column = d.slot_at[place], 1 + d.places.index(place)
        if rule == OTHER:
            size = _sizes(task, slot)[question[column]]
            free = [
                v
                for v in _allowed(task)[slot].tolist()
                if d.values[slot][v] not in taken and _sizes(task, slot)[v] == size
            ]
            if not free:
                raise wrong_file(task, f"another value of {slot} for counterpart {name}", "none as long", "add values")
            found[column] = free[int(torch.randint(len(free), (1,), generator=generator))]
            taken.add(d.values[slot][found[column]])
        else:
            text = task.value_at(question, place_of(d, question, rule)) if rule in d.values else rule
            found[column] = d.values[slot].index(text)
    if tuple(found) == question:
        text = shorten(task.write_question(question), 80)
        raise wrong_file(task, f"another prompt as counterpart {name}", f"{text} itself", "change a slot that differs")
    return tuple(found)


def _another_row(
    task: FilledText, template: Template, question: AnyQuestion, generator: torch.Generator
) -> AnyQuestion:
    d = task.definition
    slots = {d.slot_at[place] for place in template.places}
    own = question[1 + d.places.index(template.places[0])]
    size = next(iter(d.drawn.values()))
    alike = [r for r in range(size) if r != own and all(_sizes(task, s)[r] == _sizes(task, s)[own] for s in slots)]
    if not alike:
        text = shorten(task.write_question(question), 80)
        raise wrong_file(task, "another row of as many tokens", f"none for {text}", "add rows, or drop this one")
    row = alike[int(torch.randint(len(alike), (1,), generator=generator))]
    return (question[0], *(row if place in template.places else -1 for place in d.places))
