"""How well the clean model adds: per case and per cascade length, teacher-forced and free-running."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from harness.addition import answers
from harness.engines import engine_for, free_running
from harness.fixtures import Fixture
from harness.interventions import CLEAN
from harness.pins import Accuracy
from harness.sampling import tokens_for
from harness.selection import Sample, make_strata

SEED = 314159


def measure_accuracy(fixture: Fixture, n: int = 1000) -> list[Accuracy]:
    """Return the accuracy on `n` uniform questions, `n` of each case, and `n` of each cascade length."""
    layout = fixture.layout
    samples = [("uniform", Sample(n, SEED))]
    for stratify in ("case", "cascade"):
        for stratum in make_strata(layout, stratify=stratify):
            samples.append((stratum.name, Sample(n, SEED, (stratum,))))
    return [_measure(fixture, name, tokens_for(sample, layout)) for name, sample in samples]


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
