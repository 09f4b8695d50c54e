"""The outcome of a run, clean or under an intervention: what the model answered. Shared by all engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from harness.base.errors import MeasurementError, Problem
from harness.engines.groups import in_order_of
from harness.tasks.answers import set_loss
from harness.tasks.batch import PAD, TokenSets

# How closely the engines' logits agree on small models. Where the two largest logits are closer than this, another
# engine or another machine may answer with the other token.
NEAR_TIE = 1e-4
FEW_TOKENS = 64  # up to this many in a vocabulary, a pass over them all finds the two largest faster than `topk`


@dataclass(frozen=True)
class Outcome:
    """The teacher-forced answers of the model: what metrics need of the logits that predict them, and no more."""

    predicted: Int[Tensor, "prompt answer"]  # the token with the largest logit
    right_logits: Float[Tensor, "prompt answer token"]  # of each right token; -inf where a set is filled up
    wrong_logits: Float[Tensor, "prompt answer token"]  # of each wrong token; none where the task names none
    log_normaliser: Float[Tensor, "prompt answer"]  # float64: a logit less this is the log of a probability
    loss: Float[Tensor, "prompt answer"]  # of the right tokens, nats, float64; nan where a logit is not finite
    margin: Float[Tensor, "prompt answer"]  # the largest logit less the second largest
    kl: Float[Tensor, "prompt answer"] | None = None  # from the clean run to this one, nats, where it was asked for
    seconds: float = 0.0  # time taken; on a GPU only the launch: nothing waits for it

    @property
    def right_logit(self) -> Float[Tensor, "prompt answer"]:
        """The largest logit of a right token."""
        return self.right_logits.amax(-1)

    @property
    def near_tie(self) -> Bool[Tensor, "prompt answer"]:
        """Whether the two largest logits are closer than :data:`NEAR_TIE`."""
        return self.margin < NEAR_TIE

    def at(self, rows: slice | Int[Tensor, " prompt"]) -> Outcome:
        """Return the outcome of some of the prompts."""
        kl = None if self.kl is None else self.kl[rows]
        return outcome_from([getattr(self, name)[rows] for name in ALWAYS], kl)

    def check(self, where: str) -> Outcome:
        """Return this outcome if all its logits are finite.

        Raises:
            MeasurementError: a logit is not finite.
        """
        if not bool(torch.isfinite(self.loss).all()):
            raise MeasurementError(Problem("finite logits", "nan or infinity", f"check the weights of {where}", where))
        return self


def outcome_from(always: Sequence[Tensor], kl: Tensor | None = None, seconds: float = 0.0) -> Outcome:
    """Return the outcome of these values of the fields :data:`ALWAYS`, in their order."""
    predicted, right_logits, wrong_logits, log_normaliser, loss, margin = always
    return Outcome(predicted, right_logits, wrong_logits, log_normaliser, loss, margin, kl, seconds)


ALWAYS = (  # fields that every outcome has
    "predicted", "right_logits", "wrong_logits", "log_normaliser", "loss", "margin",
)  # fmt: skip


def outcome_of(
    logits: Float[Tensor, "... answer vocab"],
    right: TokenSets,
    wrong: TokenSets | None,
    clean_log_probs: Float[Tensor, "... answer vocab"] | None = None,
) -> Outcome:
    """Return the outcome for these logits, on their device; with `clean_log_probs`, also the divergence from those."""
    log_probs = functional.log_softmax(logits.double(), dim=-1)
    right_logits = _of_sets(logits, right)
    of_right = log_probs.gather(-1, right.ids if right.ids.shape[-1] == 1 else right.ids.clamp(min=0))
    loss = set_loss(of_right, right)
    kl = None if clean_log_probs is None else (clean_log_probs.exp() * (clean_log_probs - log_probs)).sum(-1)
    return Outcome(
        logits.argmax(-1),
        right_logits,
        logits.new_empty(*logits.shape[:-1], 0) if wrong is None else _of_sets(logits, wrong),
        right_logits[..., 0].double() - of_right[..., 0],
        loss.where(torch.isfinite(logits).all(-1), torch.nan),
        margin_of(logits),
        kl,
    )


def margin_of(logits: Float[Tensor, "... vocab"]) -> Float[Tensor, ...]:
    """Return the largest logit less the second largest; infinity if there is only one."""
    if logits.shape[-1] == 1:
        return torch.full_like(logits[..., 0], torch.inf)
    if logits.shape[-1] > FEW_TOKENS or logits.device.type != "cpu":
        largest, second = logits.topk(2, dim=-1).values.unbind(-1)
        return largest - second
    one, other, *rest = logits.movedim(-1, 0).contiguous()
    largest, second = torch.maximum(one, other), torch.minimum(one, other)
    for logit in rest:
        second = torch.maximum(second, torch.minimum(largest, logit))
        largest = torch.maximum(largest, logit)
    return largest - second


def _of_sets(logits: Tensor, sets: TokenSets) -> Float[Tensor, "... answer token"]:
    if sets.ids.shape[-1] == 1:  # one token a set: nothing is filled up
        return logits.gather(-1, sets.ids)
    return logits.gather(-1, sets.ids.clamp(min=0)).masked_fill(sets.ids == PAD, -torch.inf)


def join(parts: Sequence[Outcome], rows: Int[Tensor, " prompt"] | None = None) -> Outcome:
    """Return one outcome with the prompts of all parts, on the CPU; `rows` says which prompt of it each one is."""
    kl = [part.kl for part in parts if part.kl is not None]
    always = [in_order_of([getattr(part, name) for part in parts], rows).cpu() for name in ALWAYS]
    return outcome_from(always, in_order_of(kl, rows).cpu() if kl else None, sum(part.seconds for part in parts))


def log_probs_of(logits: Float[Tensor, "... vocab"]) -> Float[Tensor, "... vocab"]:
    """Return the log of each probability, float64."""
    return functional.log_softmax(logits.double(), dim=-1)


def batches(n: int, size: int) -> Iterator[slice]:
    """Return slices of at most `size` prompts that cover `n` prompts.

    Raises:
        MeasurementError: `n` is 0.
    """
    if n == 0:
        raise MeasurementError(Problem("at least one prompt", "none", "ask some"))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
