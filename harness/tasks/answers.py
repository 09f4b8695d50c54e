"""The answer digits of any task, and their loss, as tensors. Pure functions."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.tasks.positions import Positions


def answers(tokens: Int[Tensor, "question pos"], layout: Positions) -> Int[Tensor, "question digit"]:
    """Return the true answer digits in `tokens`, in the order of their positions; works for any task."""
    return tokens[:, layout.answer_start :]


def answer_loss(
    logits: Float[Tensor, "question digit vocab"], truth: Int[Tensor, "question digit"]
) -> Float[Tensor, "question digit"]:
    """Return the cross-entropy of each answer digit in nats, computed in float64 as in the notebook."""
    log_probs = functional.log_softmax(logits.double(), dim=-1)
    return -log_probs.gather(-1, truth.unsqueeze(-1)).squeeze(-1)
