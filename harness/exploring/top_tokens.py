"""``harness ask`` of a language model: the tokens that are likeliest after a prompt, clean and with nodes cut."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from harness.base.text import percent, visible
from harness.engines import hooks
from harness.engines.interventions import CLEAN
from harness.engines.predictions import outcome_of
from harness.judging.bench import Workbench
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.judging.verbs.metrics import value_of
from harness.tasks.batch import Batch
from harness.tasks.contract import AnyTask

SHOWN = 5  # tokens of each run


def ask_top(ablation: Ablation, bench: Workbench) -> Iterator[str]:
    """Yield, for each prompt, a line of its text and one of each run: its likeliest tokens, and the logit difference.

    Of a prompt with several answers, the last is told.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: a hook that did not fire, or a logit that is not finite.
    """
    ref = ablation.model
    fixture, prompts = bench.fixture(ref), bench.prompts(ref, ablation.questions)
    changes = [CLEAN, *([replacement(ablation, bench, prompts)(ablation.nodes)] if ablation.nodes else [])]
    found = hooks.log_probs(fixture, prompts, changes)
    outcomes = [outcome_of(one, prompts.right, prompts.wrong).check(ref.name) for one in found]
    names = ["clean", ablation.method][: len(changes)]
    task, width = fixture.task, max(map(len, names))
    diffs = [value_of("logit_diff", outcome, prompts).tolist() for outcome in outcomes] if task.has_wrong else []
    for row, text in enumerate(prompts.texts()):
        right = " or ".join(_shown(task, token) for token in _right(prompts, row)[:SHOWN])
        yield f"{text} (right: {right})"
        for i, (name, log_probs) in enumerate(zip(names, found, strict=True)):
            told = f"   logit_diff {diffs[i][row]:.3g}" if diffs else ""
            yield f"  {name:<{width}}  {_top(task, log_probs[row, -1])}{told}"


def _right(prompts: Batch, row: int) -> list[int]:
    return [token for token in prompts.right.ids[row, -1].tolist() if token >= 0]


def _top(task: AnyTask, log_probs: Float[Tensor, " vocab"]) -> str:
    best = log_probs.topk(SHOWN)
    chances = zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
    return ", ".join(f"{_shown(task, token)} {percent(chance)}" for token, chance in chances)


def _shown(task: AnyTask, token: int) -> str:
    return f'"{visible(task.vocabulary[token])}"'
