"""A batch of prompts, as tensors: what a task gives, and what engines run.

Prompts may differ in length, in where their answers stand, and in where a named position is. So each of these is a
number for every prompt, and nothing here says "the last tokens" or "step 11".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.positions import Nouns

PAD = -1  # fills a row of tokens or of a set on the right; no token of any vocabulary has this number


@dataclass(frozen=True)
class TokenSets:
    """A set of tokens for each answer of each prompt, by number; smaller sets are filled up with :data:`PAD`."""

    ids: Int[Tensor, "prompt answer token"]
    # How much each token's probability counts where the set's is summed; None: each counts once.
    weights: Float[Tensor, "prompt answer token"] | None = None

    def __getitem__(self, rows: slice | Tensor) -> TokenSets:
        return TokenSets(self.ids[rows], None if self.weights is None else self.weights[rows])

    def to(self, device: torch.device) -> TokenSets:
        """Return the sets on another device."""
        return TokenSets(self.ids.to(device), None if self.weights is None else self.weights.to(device))

    def contains(self, tokens: Int[Tensor, "prompt answer"]) -> Bool[Tensor, "prompt answer"]:
        """Return whether each token is in its set."""
        if self.ids.shape[-1] == 1:
            return tokens == self.ids[..., 0]
        return (tokens.unsqueeze(-1) == self.ids).any(-1)


class Writer(Protocol):
    """What a batch asks the task that made it."""

    @property
    def nouns(self) -> Nouns:
        """What reports call a prompt and a token of its answer."""
        ...

    def texts_of(self, batch: Batch) -> list[str]:
        """Return the prompts as a spec writes them."""
        ...

    def cases_of(self, batch: Batch) -> list[str]:
        """Return each prompt's case; empty text where there is none."""
        ...

    def counterparts_of(self, batch: Batch, name: str, seed: int) -> Batch:
        """Return the counterpart of each prompt that is called so."""
        ...


@dataclass(frozen=True)
class Batch:
    """Prompts with their answers. The tokens include the answers, as a teacher-forced model reads them."""

    task: Writer = field(repr=False, compare=False)
    tokens: Int[Tensor, "prompt pos"]  # filled up with PAD on the right
    places: Int[Tensor, "prompt answer"]  # where each answer stands, or would stand; it is predicted one before
    right: TokenSets  # the first token of each set is the one that the text of the answer shows
    wrong: TokenSets | None = None
    # Named positions, one or several a prompt; of two names with several, the positions are paired by index.
    positions: Mapping[str, Int[Tensor, "prompt index"]] = field(default_factory=dict)
    # What each prompt was made of, where tokens do not tell: the numbers of a question; only the task knows them.
    written: Int[Tensor, "prompt number"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Return some of the prompts, in this order."""
        return replace(
            self, tokens=self.tokens[rows], places=self.places[rows], right=self.right[rows],
            wrong=None if self.wrong is None else self.wrong[rows],
            positions={name: at[rows] for name, at in self.positions.items()},
            written=None if self.written is None else self.written[rows],
        )  # fmt: skip

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return replace(
            self, tokens=self.tokens.to(device), places=self.places.to(device), right=self.right.to(device),
            wrong=None if self.wrong is None else self.wrong.to(device),
            positions={name: at.to(device) for name, at in self.positions.items()},
        )  # fmt: skip

    @property
    def answers(self) -> Int[Tensor, "prompt answer"]:
        """The right answer that the text of an answer shows."""
        return self.right.ids[..., 0]

    @cached_property
    def lengths(self) -> Int[Tensor, " prompt"]:
        """The number of tokens of each prompt, with its answer."""
        return (self.tokens != PAD).sum(1)

    @cached_property
    def asked(self) -> Int[Tensor, "prompt pos"]:
        """The tokens with PAD in place of the answers: two prompts ask the same if these are equal."""
        asked = torch.nn.functional.pad(self.tokens, (0, 1), value=PAD)  # an answer may stand just behind the end
        return asked.scatter(1, self.places, PAD)[:, :-1]

    def texts(self) -> list[str]:
        """Return the prompts as a spec writes them."""
        return self.task.texts_of(self)

    def cases(self) -> list[str]:
        """Return each prompt's case; empty text where there is none."""
        return self.task.cases_of(self)

    def counterparts(self, name: str, seed: int = 0) -> Batch:
        """Return the counterpart of each prompt that is called so; one that is drawn is determined by `seed`.

        Raises:
            HarnessError: the task has no counterpart of this name.
        """
        return self.task.counterparts_of(self, name, seed)

    def toward(self, others: Batch) -> Batch:
        """Return these prompts with the answers of `others` as the right ones, and their own as the wrong ones.

        Raises:
            HarnessError: an answer is right for both.
        """
        same = (self.right.ids.unsqueeze(-1) == others.right.ids.unsqueeze(-2)) & (self.right.ids != PAD).unsqueeze(-1)
        shared = same.flatten(1).any(1)
        if bool(shared.any()):
            (text,) = self[shared.nonzero()[:1, 0]].texts()
            found = f"{int(shared.sum())} that may be answered alike: {shorten(text)}"
            expected = f"counterparts that have another answer than each of the {self.task.nouns.prompts}"
            raise HarnessError.of(expected, found, "carry over from a counterpart with another answer")
        return replace(self, right=others.right, wrong=self.right)


def ending_with_answers(task: Writer, tokens: Int[Tensor, "prompt pos"], n_answer: int) -> Batch:
    """Return the batch of prompts of one length that end with their answers, one right token each."""
    start = tokens.shape[1] - n_answer
    places = torch.arange(start, tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
    return Batch(task, tokens, places, TokenSets(tokens[:, start:].unsqueeze(-1)))


def joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch of all the prompts; the batches are of one task."""
    batches = [batch for batch in batches if len(batch)] or batches[:1]
    first, *others = batches
    if not others:
        return first
    wrong = [batch.wrong for batch in batches if batch.wrong is not None]
    return replace(
        first, tokens=_stacked([batch.tokens for batch in batches]), places=torch.cat([b.places for b in batches]),
        right=_joined_sets([batch.right for batch in batches]), wrong=_joined_sets(wrong) if wrong else None,
        positions={name: torch.cat([batch.positions[name] for batch in batches]) for name in first.positions},
        written=None if first.written is None else torch.cat([b.written for b in batches if b.written is not None]),
    )  # fmt: skip


def _joined_sets(sets: Sequence[TokenSets]) -> TokenSets:
    weights = [one.weights for one in sets if one.weights is not None]
    return TokenSets(_stacked([one.ids for one in sets]), _stacked(weights, 0) if weights else None)


def _stacked(parts: Sequence[Tensor], fill: int = PAD) -> Tensor:
    """Return the rows of all parts; where they are of unequal width, filled up on the right."""
    widest = max(part.shape[-1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, widest - part.shape[-1]), value=fill) for part in parts])
