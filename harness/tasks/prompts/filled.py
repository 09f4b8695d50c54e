"""Makes batches of the questions of filled templates: tokens, positions and answers, all checked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from harness.base.errors import FixtureError, Problem
from harness.base.text import shorten, visible
from harness.tasks.batch import PAD, Batch, TokenSets
from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.definition import Filled, Place
from harness.tasks.prompts.filled_text import FilledText
from harness.tasks.prompts.keys import SetOfValues
from harness.tasks.prompts.tokens import Split


def questions_in(batch: Batch) -> list[AnyQuestion]:
    """Return the questions of a batch."""
    assert batch.written is not None  # every batch of such a task has them
    return [tuple(row) for row in batch.written.tolist()]


class _Row(NamedTuple):
    """One prompt as numbers."""

    tokens: list[int]
    right: list[int]
    wrong: list[int]
    positions: dict[str, int]


def encoded(task: FilledText, questions: Sequence[AnyQuestion]) -> Batch:
    """Return the batch of these questions, each with its answer behind it.

    Raises:
        FixtureError: a slot, a position or an answer is not the tokens that the file claims; the split is shown.
    """
    d, before = task.definition, task.tokens.before
    texts = [task.text_of(question) for question in questions]
    splits = task.tokens.split(texts)
    rows = [_row(task, *one) for one in zip(questions, texts, splits, strict=True)]
    _check_answers(task, texts, splits, rows)
    longest = max((len(row.tokens) for row in rows), default=0) + 1
    tokens = torch.full((len(rows), longest), PAD)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens) + 1] = torch.tensor([*row.tokens, row.right[0]])
    places = torch.tensor([[len(row.tokens)] for row in rows], dtype=torch.int64).reshape(-1, 1)
    assert len(before) <= 1
    return Batch(
        task, tokens, places, _sets([row.right for row in rows]),
        None if d.wrong is None else _sets([row.wrong for row in rows]),
        {name: _column([row.positions[name] for row in rows]) for name in d.positions},
        torch.tensor([list(question) for question in questions], dtype=torch.int64).reshape(-1, len(d.places) + 1),
    )  # fmt: skip


def _column(numbers: Sequence[int]) -> Int[Tensor, "prompt 1"]:
    return torch.tensor(numbers, dtype=torch.int64).reshape(-1, 1)


def _sets(rows: Sequence[Sequence[int]]) -> TokenSets:
    most = max(map(len, rows), default=1)
    return TokenSets(
        torch.tensor([[*row, *[PAD] * (most - len(row))] for row in rows], dtype=torch.int64).reshape(-1, 1, most)
    )


def _row(task: FilledText, question: AnyQuestion, text: str, split: Split) -> _Row:
    d, before = task.definition, task.tokens.before
    spans = _spans(task, question, text, split)
    positions = {name: len(before) + _position(task, name, place, spans, split) for name, place in d.positions.items()}
    right = _answer_tokens(task, d.answer, question)
    wrong = [] if d.wrong is None else _answer_tokens(task, d.wrong, question)
    if not right or (d.wrong is not None and not wrong):
        what = "wrong" if right else "right"
        raise wrong_file(
            task, f"a {what} answer for each prompt", f"none of {shorten(visible(text), 80)}", "correct it"
        )
    if shared := set(right) & set(wrong):
        found = f"{shorten(task.tokens.texts[min(shared)])} in both for {shorten(visible(text), 80)}"
        raise wrong_file(task, "answers that are right or wrong, not both", found, "make slots `distinct`")
    return _Row([*before, *split.ids], right, wrong, positions)


def _spans(task: FilledText, question: AnyQuestion, text: str, split: Split) -> dict[str, tuple[int, int]]:
    """Return the first and last token of each place of a question."""
    found, at = {}, 0
    for literal, place in task.parts(question):
        at += len(literal)
        if not place:
            continue
        start, end = at, at + len(task.value_at(question, place))
        at = end
        inside = [i for i, (first, last) in enumerate(split.spans) if first < end and last > start]
        if not inside or split.spans[inside[0]][0] < start or split.spans[inside[-1]][1] > end:
            seen = f"{visible(text[start:end])!r} in {task.tokens.shown(split.ids)}"
            fix = "let values begin with their space, and end before signs"
            raise wrong_file(task, f"tokens of {place} alone", seen, fix)
        found[place] = (inside[0], inside[-1])
    return found


def _position(task: FilledText, name: str, place: Place, spans: dict[str, tuple[int, int]], split: Split) -> int:
    if not place.slot:
        at = len(split.ids) - 1
    else:
        first, last = spans[place.slot]
        if not place.edge and first != last:
            seen = f"{last - first + 1} in {task.tokens.shown(split.ids)}"
            fix = f"write {place.slot}.first or {place.slot}.last, or put its list under `one_token`"
            raise wrong_file(task, f"one token of {place.slot}, where {name} is", seen, fix)
        at = first if place.edge == "first" else last
    if not 0 <= at + place.offset < len(split.ids):
        raise wrong_file(task, f"{name} inside of each prompt", f"not in {task.tokens.shown(split.ids)}", "correct it")
    return at + place.offset


def _answer_tokens(task: FilledText, answer: str | SetOfValues, question: AnyQuestion) -> list[int]:
    """Return the tokens of the answer; the first one stands for a set in texts."""
    d = task.definition
    if isinstance(answer, str):
        return [_one_token(task, d.values[answer][_value(d, question, answer)])]
    assert answer.relation is not None  # the file was checked
    relation, slot = answer.relation
    own = d.values[slot][_value(d, question, slot)]
    values = d.lists[answer.of]
    if d.joint and relation == "other_than":  # the value of the row in that column
        own = d.lists[answer.of][question[1 + d.places.index(place_of(d, question, slot))]]

    def stands(value: str) -> bool:
        if relation == "other_than":
            return value != own
        return int(value) > int(own) if relation == "above" else int(value) <= int(own)

    return list(dict.fromkeys(_one_token(task, value) for value in values if stands(value)))


def _value(d: Filled, question: AnyQuestion, slot: str) -> int:
    """Return the number of a slot's value in a question; a column that no template has is that of the row."""
    return question[1 + d.places.index(place_of(d, question, slot))]


def place_of(d: Filled, question: AnyQuestion, slot: str) -> str:
    """Return the first place in a question where a slot stands."""
    there = d.templates[question[0]].places
    places = [place for place in there if d.slot_at[place] == slot]
    if not places and d.joint:
        return there[0]
    return places[0]


@lru_cache(maxsize=100_000)
def _one_token(task: FilledText, value: str) -> int:
    token = task.tokens.single(value)
    if token is None:
        split = task.tokens.shown(task.tokens.split([value])[0].ids)
        raise wrong_file(
            task, f"an answer of one token, {visible(value)!r}", f"{split}", "name others, or filter: `one_token`"
        )
    return token


def _check_answers(task: FilledText, texts: Sequence[str], splits: Sequence[Split], rows: Sequence[_Row]) -> None:
    """Refuse an answer that, behind its prompt, is other tokens than alone."""
    answers = [row.right[0] for row in rows]
    written = [text + _raw(task, answer) for text, answer in zip(texts, answers, strict=True)]
    for text, whole, split, answer in zip(texts, task.tokens.split(written), splits, answers, strict=True):
        if whole.ids != (*split.ids, answer):
            found = f"{task.tokens.shown(whole.ids)}, not {task.tokens.shown(split.ids)} and one more"
            raise wrong_file(
                task, f"one token behind {shorten(visible(text[-40:]))}", found, "put the space into the answer"
            )


@lru_cache(maxsize=100_000)
def _raw(task: FilledText, token: int) -> str:
    return str(task.tokens.tokenizer.decode([token], skip_special_tokens=False))


def wrong_file(task: FilledText, expected: str, found: str, fix: str) -> FixtureError:
    """Return the error for something that the file claims of its prompts."""
    return FixtureError(Problem(expected, shorten(found, 200), fix, task.definition.path))
