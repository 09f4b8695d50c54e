"""The outcome of a run, clean or under an intervention: what the model answered. Shared by all engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.base.errors import MeasurementError, Problem
from harness.engines.groups import in_order_of
from harness.tasks.answers import set_loss
from harness.tasks.batch import PAD, TokenSets


@dataclass(frozen=True)
class Outcome:
    """The teacher-forced answers of the model: what metrics need of the logits that predict them, and no more."""

    predicted: Int[Tensor, "prompt answer"]  # the token with the largest logit
    right_logits: Float[Tensor, "prompt answer token"]  # of each right token; -inf where a set is filled up
    wrong_logits: Float[Tensor, "prompt answer token"]  # of each wrong token; none where the task names none
    log_normaliser: Float[Tensor, "prompt answer"]  # float64: a logit less this is the log of a probability
    loss: Float[Tensor, "prompt answer"]  # of the right tokens, nats, float64; nan where a logit is not finite
    kl: Float[Tensor, "prompt answer"] | None = None  # from the clean run to this one, nats, where it was asked for
    seconds: float = 0.0  # time taken; on a GPU only the launch: nothing waits for it

    @property
    def right_logit(self) -> Float[Tensor, "prompt answer"]:
        """The largest logit of a right token."""
        return self.right_logits.amax(-1)

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
    predicted, right_logits, wrong_logits, log_normaliser, loss = always
    return Outcome(predicted, right_logits, wrong_logits, log_normaliser, loss, kl, seconds)


ALWAYS = ("predicted", "right_logits", "wrong_logits", "log_normaliser", "loss")  # fields that every outcome has


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
        kl,
    )


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
