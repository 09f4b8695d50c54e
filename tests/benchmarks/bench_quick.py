"""The fast route: how long until a model adds, over ten seeds, and whether it does: a million questions each."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from asking import answers
from notebook_training import NotebookTraining
from tabulate import tabulate

from harness.engines.transformer import answer_logits, sizes_of
from harness.specs.fixtures.files import FixtureRef, recipe_of
from harness.tasks.addition.sampling import sample_strata, sample_uniform
from harness.tasks.addition.strata import make_strata
from harness.training.loop import Training

FIXTURES = Path(__file__).parents[2] / "fixtures"
CPU = torch.device("cpu")
SEEDS = range(10)
UNIFORM, OF_A_CASCADE = 1_000_000, 50_000
MOST_WRONG, LEAST_RIGHT = 10, 0.9999


@torch.inference_mode()
def wrong_of(weights, tokens, recipe):
    """Return how many of the questions in `tokens` are answered wrong, teacher-forced."""
    wrong = 0
    for batch in tokens.split(512):  # more does not fit the cache
        predicted = answer_logits(weights, batch, sizes_of(recipe)).argmax(-1)
        wrong += int((predicted != answers(batch, recipe.task)).any(1).sum())
    return wrong


def check(weights, recipe):
    """Return how many of a million uniform questions are wrong, and of each cascade length from 1 on."""
    generator = torch.Generator().manual_seed(20261125)
    uniform = wrong_of(weights, sample_uniform(recipe.task, UNIFORM, generator), recipe)
    strata = make_strata(recipe.task, stratify="cascade")[1:]
    cascades = [
        wrong_of(weights, sample_strata(recipe.task, [stratum], OF_A_CASCADE, generator), recipe) for stratum in strata
    ]
    return uniform, cascades


def test_seconds_to_an_accurate_adder(add, record_table):
    quick, rows = recipe_of(FixtureRef("quick_d5_l2", FIXTURES)), []
    for seed in SEEDS:
        recipe = replace(quick, training=quick.run.model_copy(update={"seed": seed}))
        training = Training(recipe, CPU)
        start = time.perf_counter()
        while training.step < recipe.run.steps:
            training.advance()
        training.curves()
        trained = time.perf_counter()
        weights = {name: weight.detach() for name, weight in training.weights.items()}
        uniform, cascades = check(weights, recipe)
        good = uniform <= MOST_WRONG and all(wrong <= (1 - LEAST_RIGHT) * OF_A_CASCADE for wrong in cascades)
        rows.append((seed, trained - start, time.perf_counter() - trained, uniform, cascades, good))

    def notebook_steps(steps=5):
        recipe = recipe_of(FixtureRef("add_d5_l2_h3", FIXTURES))
        questions = Training(recipe, CPU)
        notebook = NotebookTraining(recipe, {key: weight.detach().clone() for key, weight in questions.weights.items()})
        notebook.step(questions.draw_batch().tokens)
        start = time.perf_counter()
        for _ in range(steps):
            notebook.step(questions.draw_batch().tokens)
        return (time.perf_counter() - start) / steps * recipe.run.steps

    seconds = [row[1] for row in rows]
    whole = notebook_steps()
    add(statistics.median(seconds), whole, f"{whole / statistics.median(seconds):.0f} × faster", "≤ 60 s",
        f"median of {len(rows)} seeds; the notebook's 20,000 steps, five of them timed")  # fmt: skip
    add(max(seconds), None, "", "≤ 60 s", "the worst seed")
    record_table(
        tabulate(
            [(seed, f"{t:.1f}", f"{c:.0f}", wrong, " ".join(map(str, cascades)), "yes" if good else "NO")
             for seed, t, c, wrong, cascades, good in rows],
            ["seed", "training, s", "check, s", f"wrong of {UNIFORM:,}", f"wrong of {OF_A_CASCADE:,} of cascade 1 2 3 4",
             "accurate"], disable_numparse=True,
        )
    )  # fmt: skip
    assert all(row[-1] for row in rows)
