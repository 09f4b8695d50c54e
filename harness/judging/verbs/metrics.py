"""Metrics of an answer, on each prompt; their names and meanings are in ``harness/specs/metrics.py``."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from harness.engines.predictions import Outcome
from harness.tasks.batch import Batch
from harness.tasks.contract import AnyTask

Values = Float[Tensor, " prompt"]


class Measured(NamedTuple):
    """A metric of each prompt, in the clean run and under the intervention; float64."""

    clean: Values
    after: Values

    def as_dict(self) -> dict[str, float]:
        """Return the means and medians as JSON values."""
        return {
            "clean_mean": float(self.clean.mean()), "mean": float(self.after.mean()),
            "clean_median": float(self.clean.median()), "median": float(self.after.median()),
        }  # fmt: skip


def value_of(metric: str, outcome: Outcome, batch: Batch) -> Values:
    """Return a metric of each prompt; of several answer tokens, the mean over them."""
    if metric == "right":
        found = batch.right.contains(outcome.predicted).double()
    elif metric == "prefers":
        found = (outcome.right_logit > outcome.wrong_logits.amax(-1)).double()
    elif metric == "logit_diff":
        found = outcome.right_logit.double() - outcome.wrong_logits.amax(-1).double()
    elif metric == "prob":
        found = _probability(outcome.right_logits, outcome)
    elif metric == "prob_diff":
        found = _probability(outcome.right_logits, outcome) - _probability(outcome.wrong_logits, outcome)
    elif metric == "loss":
        found = outcome.loss
    else:
        assert outcome.kl is not None  # the metric kl: whoever asks for it has asked the engine
        found = outcome.kl
    return found.double().mean(1)


def success_rate(clean: Outcome, batch: Batch, task: AnyTask) -> float:
    """Return how often a clean run does what the task calls success: what the gate of a claim is compared with."""
    kind = task.success.kind
    if kind == "prefers":
        return float(value_of("prefers", clean, batch).mean())
    right = batch.right.contains(clean.predicted)
    return float((right if kind == "each" else right.all(1)).double().mean())


def _probability(logits: Tensor, outcome: Outcome) -> Float[Tensor, "prompt answer"]:
    return (logits.double() - outcome.log_normaliser.unsqueeze(-1)).exp().sum(-1)
