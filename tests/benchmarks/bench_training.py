"""Training against the notebook's own way of it: the same recipe, start, questions and machine, fp32."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import torch
from notebook_training import NotebookTraining

from harness.making import LOG_EVERY
from harness.recipe import recipe_of
from harness.training import Training

FIXTURES = Path(__file__).parents[2] / "fixtures"
STEPS = 200


def step_flops(recipe):
    """Return the FLOP of one step's matrix products with weights: forward once, backward twice as much."""
    layout, d, mlp = recipe.layout, recipe.d_model, recipe.d_mlp
    steps, answer, table = layout.n_ctx - 1, layout.n_answer, (layout.n_ctx - 1) * layout.d_vocab
    multiplied = answer * recipe.batch_size * d * layout.d_vocab
    for layer in range(recipe.n_layers):
        rows = recipe.batch_size * (answer if layer == recipe.n_layers - 1 else steps)
        multiplied += rows * (d * d + 2 * d * mlp)
        multiplied += table * 3 * d * d if layer == 0 else recipe.batch_size * steps * 2 * d * d + rows * d * d
    return 3 * 2 * multiplied


@pytest.mark.parametrize("name", ["add_d5_l2_h3", "add_d5_l1_h3"])
def test_training_step(paired, gemm_rate, name):
    recipe = recipe_of(name, FIXTURES)
    ours = Training(recipe, torch.device("cpu"))
    notebook = NotebookTraining(recipe, {key: weight.detach().clone() for key, weight in ours.weights.items()})
    questions = Training(recipe, torch.device("cpu"))  # draws what `ours` draws

    def note():
        rate = step_flops(recipe) / statistics.median(durations)
        largest = float((ours.curves()["loss"] - torch.tensor(notebook.losses, dtype=torch.float64)).abs().max())
        return f"{rate / gemm_rate:.0%} of GEMM's {gemm_rate / 1e9:.0f} GFLOP/s; losses differ by {largest:.1g} at most"

    durations = []

    def step():
        start = time.perf_counter()
        ours.advance()
        durations.append(time.perf_counter() - start)

    paired(
        step, lambda: notebook.step(questions.draw_batch()), rounds=STEPS, target="≥ 1.4", note=note, warmup=0
    )  # fmt: skip
    losses = ours.curves()["loss"]
    assert len(losses) == STEPS
    torch.testing.assert_close(losses, torch.tensor(notebook.losses, dtype=torch.float64), atol=1e-3, rtol=0)


def test_logging(benchmark, add):
    recipe = recipe_of("add_d5_l2_h3", FIXTURES)
    training = Training(recipe, torch.device("cpu"))
    tokens = training.draw_batch()
    with torch.no_grad():
        losses, right = training.losses(tokens)
    steps = []
    for _ in range(3):
        start = time.perf_counter()
        training.advance()
        steps.append(time.perf_counter() - start)

    def log():
        for _ in range(LOG_EVERY):
            training.recorder.record(tokens, losses, right)
        training.recorder.flush()

    training.recorder.flush()
    benchmark.pedantic(log, rounds=20, warmup_rounds=1)
    a_step = benchmark.stats.stats.median / LOG_EVERY
    share = a_step / statistics.median(steps)
    benchmark.extra_info["share"] = share
    add(a_step, statistics.median(steps), f"{share:.2%} of a step", "≤ 3%", "sub-task losses of every step")


def test_tiny_from_nothing(benchmark, add):
    recipe = recipe_of("tiny", FIXTURES)

    def train():
        training = Training(recipe, torch.device("cpu"))
        while training.step < recipe.steps:
            training.advance()
        return training.curves()

    curves = benchmark.pedantic(train, rounds=1)
    add(
        benchmark.stats.stats.median,
        None,
        "",
        "< 20 s",
        f"{recipe.steps:,} steps, final loss {curves.final('loss'):.2g}",
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_step_on_a_gpu(paired):
    recipe = recipe_of("add_d5_l2_h3", FIXTURES)
    device = torch.device("cuda")
    ours = Training(recipe, device)
    notebook = NotebookTraining(recipe, {key: weight.detach().clone() for key, weight in ours.weights.items()}, device)
    questions = Training(recipe, torch.device("cpu"))

    def step():
        ours.advance()
        torch.cuda.synchronize()

    paired(step, lambda: notebook.step(questions.draw_batch()), rounds=STEPS, target="≥ 3", warmup=5)
