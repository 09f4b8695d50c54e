"""Measure the accuracy of the clean model: per kind of question, teacher-forced and free-running."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from harness.engines.engine import engine_for, free_running
from harness.engines.interventions import CLEAN
from harness.models.fixtures import Fixture
from harness.specs.pins import Accuracy
from harness.tasks.answers import answers
from harness.tasks.questions import Sample

SEED = 314159


def measure_accuracy(fixture: Fixture, n: int = 1000) -> list[Accuracy]:
    """Return the accuracy on `n` random questions, and on `n` of each kind (for addition: case, cascade length)."""
    task = fixture.task
    samples = [("uniform", Sample(n, SEED))]
    for stratify in task.spreads:
        for stratum in task.strata(stratify=stratify):
            samples.append((stratum.name, Sample(n, SEED, (stratum,))))
    return [_measure(fixture, name, task.tokens_for(sample)) for name, sample in samples]


def _measure(fixture: Fixture, name: str, tokens: Int[Tensor, "question pos"]) -> Accuracy:
    truth = answers(tokens, fixture.layout)
    engine, _ = engine_for(fixture)
    outcome = engine.run(fixture, tokens, [CLEAN])[0].check(fixture.name)
    right = outcome.predicted == truth
    free = free_running(engine, fixture, tokens, outcome.predicted) == truth
    return Accuracy(
        questions=name,
        n=len(tokens),
        right=int(right.all(1).sum()),
        digits_right_teacher_forced=right.sum(0).tolist(),
        digits_right_free_running=free.sum(0).tolist(),
        loss=float(torch.mean(outcome.loss)),
    )
