"""Where every head looks, at every step: the whole attention patterns of questions, or their mean (Part 13).

All rows of a pattern are wanted, also those that no answer digit depends on, which the cone engine never computes. So
these patterns come from the reference engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness import hooked
from harness.addition import answers
from harness.fixtures import Fixture
from harness.nodes import Node
from harness.outcome import batches
from harness.positions import AnyQuestion, Positions
from harness.selection import Questions

CHUNK = 512  # questions whose patterns are in memory at a time, where only their mean is wanted


@dataclass(frozen=True)
class AttentionMap:
    """Every head's attention pattern on one question, or its mean over several; a row of a head sums to 1."""

    title: str
    labels: tuple[str, ...]  # of the steps: `D4=1`, or `D4` where questions differ
    pattern: Float[Tensor, "layer head query key"]  # float32, on the CPU


def attention_maps(
    fixture: Fixture, questions: Sequence[AnyQuestion | str], titles: Sequence[str] = ()
) -> list[AttentionMap]:
    """Return the attention patterns of each question, teacher-forced; `titles`, one each, go before the question.

        >>> attention_maps(load_fixture("add_d5_l2_h3"), ["15508+14500"])[0].pattern.shape  # doctest: +SKIP
        torch.Size([2, 3, 18, 18])

    Raises:
        HarnessError: a text that is no question.
        MeasurementError: no questions, or a logit that is not finite.
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

    Sums are kept in float64, so that the mean does not depend on how questions fall into chunks.

    Raises:
        MeasurementError: no questions, or a logit that is not finite.
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
    """Return every head at every step: layer by layer, head by head."""
    shape = fixture.shape
    places = ((layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads))
    return [Node(step, layer, "head", head) for layer, head in places for step in range(shape.layout.n_ctx)]


def _patterns(
    fixture: Fixture, tokens: Int[Tensor, "question pos"]
) -> tuple[Int[Tensor, "question digit"], Float[Tensor, "question layer head query key"]]:
    """Return what the model answers, and all of its attention patterns."""
    heads = _heads(fixture)
    outcome, found = hooked.attention(fixture, tokens, heads)
    outcome.check(fixture.name)
    shape, steps = fixture.shape, fixture.layout.n_ctx
    stacked = torch.stack([found[node] for node in heads], dim=1)
    return outcome.predicted, stacked.reshape(-1, shape.n_layers, shape.n_heads, steps, steps)


def _labels(layout: Positions, tokens: Sequence[int]) -> tuple[str, ...]:
    """Return the name of each step with its token; what is always the same token is its own name."""
    return tuple(
        f"{name}={layout.vocabulary[token]}" if name in layout.nameable and layout.vocabulary[token] != name else name
        for name, token in zip(layout.names, tokens, strict=True)
    )
