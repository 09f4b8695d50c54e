"""The outcome of a run, clean or under an intervention: what the model answered. Shared by all engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import MeasurementError, Problem
from harness.tasks.answers import answer_loss


@dataclass(frozen=True)
class Outcome:
    """The teacher-forced answers of the model, at the steps that predict answer digits (highest digit first)."""

    predicted: Int[Tensor, "question digit"]
    true_logit: Float[Tensor, "question digit"]
    loss: Float[Tensor, "question digit"]  # nats, float64; nan where a logit is not finite
    seconds: float = 0.0  # time taken; on a GPU only the launch: nothing waits for it

    def at(self, questions: slice | Int[Tensor, " row"]) -> Outcome:
        """Return the outcome of some of the questions."""
        return Outcome(self.predicted[questions], self.true_logit[questions], self.loss[questions])

    def check(self, where: str) -> Outcome:
        """Return this outcome if all its logits are finite.

        Raises:
            MeasurementError: a logit is not finite.
        """
        if not bool(torch.isfinite(self.loss).all()):
            raise MeasurementError(Problem("finite logits", "nan or infinity", f"check the weights of {where}", where))
        return self


def outcome_of(logits: Float[Tensor, "question digit vocab"], truth: Int[Tensor, "question digit"]) -> Outcome:
    """Return the outcome for these logits, on the device of the logits."""
    true_logit = logits.gather(-1, truth.unsqueeze(-1)).squeeze(-1)
    loss = answer_loss(logits, truth)
    return Outcome(logits.argmax(-1), true_logit, loss.where(torch.isfinite(logits).all(-1), torch.nan))


def join(parts: Sequence[Outcome]) -> Outcome:
    """Return one outcome with the questions of all parts, on the CPU."""
    return Outcome(
        torch.cat([part.predicted for part in parts]).cpu(),
        torch.cat([part.true_logit for part in parts]).cpu(),
        torch.cat([part.loss for part in parts]).cpu(),
        sum(part.seconds for part in parts),
    )


def batches(n: int, size: int) -> Iterator[slice]:
    """Return slices of at most `size` questions that cover `n` questions.

    Raises:
        MeasurementError: `n` is 0.
    """
    if n == 0:
        raise MeasurementError(Problem("at least one question", "none", "ask some"))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
