"""Measure the accuracy of the clean model: per kind of question, teacher-forced and free-running."""

from __future__ import annotations

import torch

from harness.engines.engine import engine_for, free_running
from harness.engines.interventions import CLEAN
from harness.models.fixtures import Fixture
from harness.specs.fixtures.pins import Accuracy
from harness.tasks.batch import Batch
from harness.tasks.questions import Sample

SEED = 314159


def measure_accuracy(fixture: Fixture, n: int = 1000) -> list[Accuracy]:
    """Return the accuracy on `n` random prompts, and on `n` of each stratum that the task knows."""
    task = fixture.task
    samples = [("uniform", Sample(n, SEED))]
    for stratify in task.spreads:
        for stratum in task.strata(stratify=stratify):
            samples.append((stratum.name, Sample(n, SEED, (stratum,))))
    return [_measure(fixture, name, task.batch_for(sample)) for name, sample in samples]


def _measure(fixture: Fixture, name: str, prompts: Batch) -> Accuracy:
    engine, _ = engine_for(fixture)
    outcome = engine.run(fixture, prompts, [CLEAN])[0].check(fixture.name)
    right = prompts.right.contains(outcome.predicted)
    free = prompts.right.contains(free_running(engine, fixture, prompts, outcome.predicted))
    return Accuracy(
        questions=name,
        n=len(prompts),
        right=int(right.all(1).sum()),
        right_teacher_forced=right.sum(0).tolist(),
        right_free_running=free.sum(0).tolist(),
        loss=float(torch.mean(outcome.loss)),
    )
