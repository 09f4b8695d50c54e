"""The loss of an answer: how little probability a model gives to the tokens that are right. Pure functions."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.tasks.batch import PAD, TokenSets


def answer_loss(
    logits: Float[Tensor, "prompt answer vocab"], truth: Int[Tensor, "prompt answer"]
) -> Float[Tensor, "prompt answer"]:
    """Return the cross-entropy of each answer token in nats, computed in float64 as in the notebook."""
    log_probs = functional.log_softmax(logits.double(), dim=-1)
    return -log_probs.gather(-1, truth.unsqueeze(-1)).squeeze(-1)


def set_loss(log_probs: Float[Tensor, "... token"], sets: TokenSets) -> Float[Tensor, ...]:
    """Return, in nats, the loss of each answer: minus the log of the weighted sum of its tokens' probabilities.

    `log_probs` are those of the tokens in `sets.ids`; at a PAD they may be anything.
    """
    if sets.ids.shape[-1] == 1 and sets.weights is None:
        return -log_probs.squeeze(-1)
    shares = log_probs.masked_fill(sets.ids == PAD, -float("inf"))
    return -(shares if sets.weights is None else shares + sets.weights.double().log()).logsumexp(-1)
