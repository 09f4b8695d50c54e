"""The attention patterns of every head at every step, for single questions or as a mean (Part 13).

A pattern here has all its rows, even those that no answer token depends on. The cone engine never computes these rows,
so the patterns come from the reference engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.text import visible
from harness.engines.engine import reference_engine
from harness.engines.predictions import batches
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.batch import Batch
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import Questions

CHUNK = 512  # questions whose patterns are held in memory at a time, when only the mean is needed


@dataclass(frozen=True)
class AttentionMap:
    """The attention pattern of every head on one question, or its mean over several; each row sums to 1."""

    title: str
    labels: tuple[str, ...]  # one per step: name=token, or the name alone in a mean over prompts
    pattern: Float[Tensor, "layer head query key"]  # float32, on the CPU
    predicting: Mapping[str, int]  # answer token → the step that predicts it
    layers: Sequence[int]  # which the pattern has


def attention_maps(
    fixture: Fixture,
    questions: Sequence[AnyQuestion | str],
    titles: Sequence[str] = (),
    layers: Sequence[int] | None = None,
) -> list[AttentionMap]:
    """Return the attention patterns of each question, teacher-forced; each of `titles` is put before its question.

    Of all layers unless some are named.

        >>> attention_maps(load_fixture("add_d5_l2_h3"), ["15508+14500"])[0].pattern.shape  # doctest: +SKIP
        torch.Size([2, 3, 18, 18])

    Raises:
        HarnessError: a text is not a question.
        MeasurementError: there are no questions, or a logit is not finite.
    """
    task, layers = fixture.task, range(fixture.shape.n_layers) if layers is None else layers
    asked = [task.read_question(q) if isinstance(q, str) else q for q in questions]
    prompts = task.encode(asked)
    cases, maps = prompts.cases(), []
    for i, (name, question) in enumerate(zip(titles or [""] * len(asked), asked, strict=True)):
        one = prompts[i : i + 1]
        predicted, patterns = _patterns(fixture, one, layers)
        of_case = f" ({cases[i]})" if cases[i] else ""
        answer, said = task.write_answer(one.answers[0].tolist()), task.write_answer(predicted[0].tolist())
        title = f"{name + ': ' if name else ''}{task.write_question(question)}={answer}{of_case}"
        wrong = "" if bool(one.right.contains(predicted).all()) else f", which the model answers {said}"
        written = one.tokens[0, : int(one.lengths[0])].tolist()
        shown = patterns[0], _predicting(task, one), layers
        maps.append(AttentionMap(title + wrong, _labels(task, written), *shown))
    return maps


def mean_map(fixture: Fixture, questions: Questions) -> AttentionMap:
    """Return the mean attention patterns over a question set, teacher-forced.

    The sum is kept in float64, so that the mean does not depend on how the questions are split into chunks.

    Raises:
        HarnessError: prompts differ in length.
        MeasurementError: there are no questions, or a logit is not finite.
    """
    task = fixture.task
    if not task.names:
        fix = f"ask for single {task.nouns.prompts}"
        raise HarnessError.of(f"{task.nouns.prompts} of one length, to take a mean of", "others", fix)
    prompts = task.batch_for(questions)
    layers = range(fixture.shape.n_layers)
    total, right = torch.zeros(1, dtype=torch.float64), 0
    for chunk in batches(len(prompts), CHUNK):
        predicted, patterns = _patterns(fixture, prompts[chunk], layers)
        total = total + patterns.sum(0, dtype=torch.float64)
        right += int(prompts[chunk].right.contains(predicted).all(1).sum())
    title = f"mean over {questions} ({right} of {len(prompts)} answered right)"
    return AttentionMap(title, task.names, (total / len(prompts)).float(), _predicting(task, prompts), layers)


def _heads(fixture: Fixture, steps: int, layers: Sequence[int]) -> list[Node]:
    """Return every head of these layers at every step, ordered by layer, then head, then step."""
    places = ((layer, head) for layer in layers for head in range(fixture.shape.n_heads))
    return [Node(step, layer, "head", head) for layer, head in places for step in range(steps)]


def _patterns(
    fixture: Fixture, prompts: Batch, layers: Sequence[int]
) -> tuple[Int[Tensor, "prompt answer"], Float[Tensor, "prompt layer head query key"]]:
    """Return the model's predicted answers, and the attention patterns of all heads, on prompts of one length."""
    steps = int(prompts.lengths[0])
    heads = _heads(fixture, steps, layers)
    outcome, found = reference_engine().attention(fixture, prompts, heads)
    outcome.check(fixture.name)
    stacked = torch.cat([found[node][..., :steps] for node in heads], dim=1)
    return outcome.predicted, stacked.reshape(-1, len(layers), fixture.shape.n_heads, steps, steps)


def _predicting(task: Positions, prompts: Batch) -> dict[str, int]:
    """Return the step that predicts each answer token, in the first of the prompts."""
    return dict(zip(task.answer_tokens, (prompts.places[0] - 1).tolist(), strict=True))


def _labels(task: Positions, tokens: Sequence[int]) -> tuple[str, ...]:
    """Return a label per step: its name with its token, or the name alone if the step always holds the same token.

    Where steps have no names: the tokens.
    """
    if not task.names:
        return tuple(visible(task.vocabulary[token]) for token in tokens)
    return tuple(
        f"{name}={task.vocabulary[token]}" if name in task.nameable and task.vocabulary[token] != name else name
        for name, token in zip(task.names, tokens, strict=True)
    )
