"""The attention patterns of every head at every step, for single questions or as a mean (Part 13).

A pattern here has all its rows, even those that no answer digit depends on. The cone engine never computes these rows,
so the patterns come from the reference engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.engines.engine import reference_engine
from harness.engines.predictions import batches
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.answers import answers
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import Questions

CHUNK = 512  # questions whose patterns are held in memory at a time, when only the mean is needed


@dataclass(frozen=True)
class AttentionMap:
    """The attention pattern of every head on one question, or its mean over several; each row sums to 1."""

    title: str
    labels: tuple[str, ...]  # one per step: `D4=1`, or `D4` in a mean over questions
    pattern: Float[Tensor, "layer head query key"]  # float32, on the CPU


def attention_maps(
    fixture: Fixture, questions: Sequence[AnyQuestion | str], titles: Sequence[str] = ()
) -> list[AttentionMap]:
    """Return the attention patterns of each question, teacher-forced; each of `titles` is put before its question.

        >>> attention_maps(load_fixture("add_d5_l2_h3"), ["15508+14500"])[0].pattern.shape  # doctest: +SKIP
        torch.Size([2, 3, 18, 18])

    Raises:
        HarnessError: a text is not a question.
        MeasurementError: there are no questions, or a logit is not finite.
    """
    layout = fixture.layout
    asked = [layout.read_question(q) if isinstance(q, str) else q for q in questions]
    tokens = fixture.task.encode(asked)
    predicted, patterns = _patterns(fixture, tokens)
    names = titles or [""] * len(asked)
    rows = zip(names, asked, fixture.task.cases_of(tokens), tokens.tolist(), predicted.tolist(), patterns, strict=True)
    maps = []
    for name, question, case, written, said, pattern in rows:
        truth = written[layout.answer_start :]
        of_case = f" ({case})" if case else ""
        title = f"{name + ': ' if name else ''}{layout.write_question(question)}={layout.write_answer(truth)}{of_case}"
        wrong = "" if said == truth else f", which the model answers {layout.write_answer(said)}"
        maps.append(AttentionMap(title + wrong, _labels(layout, written), pattern))
    return maps


def mean_map(fixture: Fixture, questions: Questions) -> AttentionMap:
    """Return the mean attention patterns over a question set, teacher-forced.

    The sum is kept in float64, so that the mean does not depend on how the questions are split into chunks.

    Raises:
        MeasurementError: there are no questions, or a logit is not finite.
    """
    tokens = fixture.task.tokens_for(questions)
    total, right = torch.zeros(1, dtype=torch.float64), 0
    for chunk in batches(len(tokens), CHUNK):
        predicted, patterns = _patterns(fixture, tokens[chunk])
        total = total + patterns.sum(0, dtype=torch.float64)
        right += int((predicted == answers(tokens[chunk], fixture.layout)).all(1).sum())
    title = f"mean over {questions} ({right} of {len(tokens)} answered right)"
    return AttentionMap(title, fixture.layout.names, (total / len(tokens)).float())


def _heads(fixture: Fixture) -> list[Node]:
    """Return every head at every step, ordered by layer, then head, then step."""
    shape = fixture.shape
    places = ((layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads))
    return [Node(step, layer, "head", head) for layer, head in places for step in range(shape.layout.n_ctx)]


def _patterns(
    fixture: Fixture, tokens: Int[Tensor, "question pos"]
) -> tuple[Int[Tensor, "question digit"], Float[Tensor, "question layer head query key"]]:
    """Return the model's predicted answers, and the attention patterns of all heads."""
    heads = _heads(fixture)
    outcome, found = reference_engine().attention(fixture, tokens, heads)
    outcome.check(fixture.name)
    shape, steps = fixture.shape, fixture.layout.n_ctx
    stacked = torch.stack([found[node] for node in heads], dim=1)
    return outcome.predicted, stacked.reshape(-1, shape.n_layers, shape.n_heads, steps, steps)


def _labels(layout: Positions, tokens: Sequence[int]) -> tuple[str, ...]:
    """Return a label per step: its name with its token, or the name alone if the step always holds the same token."""
    return tuple(
        f"{name}={layout.vocabulary[token]}" if name in layout.nameable and layout.vocabulary[token] != name else name
        for name, token in zip(layout.names, tokens, strict=True)
    )
