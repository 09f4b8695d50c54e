"""Builds the batches of a user's task, and checks all that its code returns for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from harness.base.own_code import call
from harness.tasks.batch import PAD, Batch, TokenSets, Writer
from harness.tasks.checked_positions import CheckedPositions
from harness.tasks.user_task import Task


class BatchMaker:
    """Makes the batches of one task, as the user's code describes them."""

    def __init__(self, positions: CheckedPositions, writer: Writer) -> None:
        self.positions, self.writer = positions, writer
        self.own, self.file, self.wrong = positions.task, positions.file, positions.wrong
        self.n_answer = positions.n_answer
        self._before: dict[str, int] = {}  # what must be the same of every batch, or they could not be joined

    def batch_of(self, questions: Any, n: int | None = None, what: str = "sample") -> Batch:
        """Return the batch of questions that a call of the user's code, `what`, returned.

        Raises:
            FixtureError: the questions, or what the user's code says of them, are wrong.
        """
        rows = self._questions(questions, what, n)
        if not len(rows):
            return self._empty()
        answers = self.whole(
            call(self.file, "answer", self.own.answer, rows.clone()), "answer", (len(rows), self.n_answer)
        )
        tokens, places = self._placed(rows, answers)
        right, wrong = self._right(rows, answers), self._wrong(rows)
        if wrong is not None and _share_tokens(wrong.ids, right.ids):
            raise self.wrong("other tokens from wrong_tokens than from right_tokens", "the same", "correct one of them")
        return Batch(self.writer, tokens, places, right, wrong, self._positions_of(rows, tokens))

    def _empty(self) -> Batch:
        none = torch.empty(0, self.n_answer, dtype=torch.int64)
        positions = {name: none.new_empty(0, 1) for name in self.positions.positions}
        return Batch(
            self.writer, none.new_empty(0, self.positions.n_ctx), none, TokenSets(none.unsqueeze(-1)), None, positions
        )

    def _questions(self, found: Any, what: str, n: int | None) -> Int[Tensor, "prompt question_pos"]:
        """Return rows of tokens; where questions may differ in length, shorter ones end with PAD."""
        size = (len(found) if n is None else n, self.positions.question_length)
        if self.positions.names:
            return self.whole(found, what, size)
        if isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] < size[1]:
            found = torch.nn.functional.pad(found, (0, size[1] - found.shape[1]), value=PAD)
        rows = self.whole(found, what, size, least=PAD)
        there = rows != PAD
        if len(rows) and not bool(there[:, 0].all() and (there[:, :-1] | ~there[:, 1:]).all()):
            raise self.wrong(f"questions of one token or more, then -1, from {what}", "others", "correct it")
        return rows

    def _placed(self, rows: Tensor, answers: Tensor) -> tuple[Tensor, Int[Tensor, "prompt answer"]]:
        """Return the questions with their answers, and where these stand."""
        if not self.positions.ends_with_answer:
            lengths = (rows != PAD).sum(1, keepdim=True)
            found = call(self.file, "answer_places", self.own.answer_places, rows.clone())
            places = self.whole(found, "answer_places", tuple(answers.shape), None)
            if not bool(((places > 0) & (places < lengths)).all() and (places.diff(dim=1) > 0).all()):
                expected = "answer_places behind the first token of each question, in ascending order,"
                raise self.wrong(expected, "others", "correct it")
            if not torch.equal(rows.gather(1, places), answers):
                raise self.wrong("the answers at their places", "other tokens", "correct answer or answer_places")
            return rows, places
        if self.positions.names:
            start = torch.full((len(rows), 1), rows.shape[1])
            return torch.cat([rows, answers], dim=1), start + torch.arange(self.n_answer)
        places = (rows != PAD).sum(1, keepdim=True) + torch.arange(self.n_answer)
        room = torch.full((len(rows), self.n_answer), PAD)
        return torch.cat([rows, room], dim=1).scatter(1, places, answers), places

    def _right(self, rows: Tensor, answers: Tensor) -> TokenSets:
        """Return the sets of right tokens, each with the one of `answers` first."""
        if type(self.own).right_tokens is Task.right_tokens:
            return TokenSets(answers.unsqueeze(-1))
        found: Any = call(self.file, "right_tokens", self.own.right_tokens, rows.clone())
        if isinstance(found, tuple) and len(found) != 2:
            raise self.wrong("tokens, or tokens and weights, from right_tokens", f"{len(found)} values", "return two")
        ids, weights = found if isinstance(found, tuple) else (found, None)
        ids = self._sets(ids, "right_tokens", answers.shape)
        first = (ids == answers.unsqueeze(-1)).long().argmax(-1, keepdim=True)
        if not torch.equal(ids.gather(-1, first).squeeze(-1), answers):
            raise self.wrong("the tokens of answer among those of right_tokens", "others", "correct one of them")
        in_order = ids.sort(-1).values
        if bool(((in_order.diff(dim=-1) == 0) & (in_order[..., 1:] != PAD)).any()):
            raise self.wrong("each token once from right_tokens", "one twice", "correct it")
        order = torch.arange(ids.shape[-1]).expand_as(ids).clone()
        order.scatter_(-1, first, 0)
        order[..., :1] = first
        if weights is not None:
            if not isinstance(weights, Tensor) or weights.shape != ids.shape or not weights.is_floating_point():
                raise self.wrong("a weight for each token from right_tokens", "others", "correct them")
            if not bool((torch.isfinite(weights) & (weights > 0))[ids != PAD].all()):
                raise self.wrong("weights above 0 from right_tokens", "others", "correct them")
            weights = weights.gather(-1, order)
        return TokenSets(ids.gather(-1, order), weights)

    def _wrong(self, rows: Tensor) -> TokenSets | None:
        found = call(self.file, "wrong_tokens", self.own.wrong_tokens, rows.clone())
        self._as_before("wrong tokens from wrong_tokens always or never", int(found is not None))
        if found is None:
            return None
        return TokenSets(self._sets(found, "wrong_tokens", torch.Size((len(rows), self.n_answer))))

    def _sets(self, found: object, what: str, size: torch.Size) -> Int[Tensor, "prompt answer token"]:
        most = found.shape[-1] if isinstance(found, Tensor) and found.ndim == 3 else 1
        ids = self.whole(found, what, (*size, most), least=PAD)
        if not bool((ids != PAD).any(-1).all()):
            raise self.wrong(f"a token for each answer from {what}", "none", "correct it")
        return ids

    def _positions_of(self, rows: Tensor, tokens: Tensor) -> Mapping[str, Int[Tensor, "prompt index"]]:
        if not self.positions.positions:
            return {}
        found = call(self.file, "positions_of", lambda: dict(self.own.positions_of(rows.clone())))
        if set(found) != set(self.positions.positions):
            told = ", ".join(sorted(map(str, set(found) ^ set(self.positions.positions))))
            raise self.wrong("the names in `positions` from positions_of", told, "give those, each once")
        lengths, named = (tokens != PAD).sum(1, keepdim=True), {}
        for name in self.positions.positions:
            at = found[name]
            at = at.unsqueeze(-1) if isinstance(at, Tensor) and at.ndim == 1 else at
            most = at.shape[-1] if isinstance(at, Tensor) and at.ndim == 2 else 1
            at = self.whole(at, f"positions_of, {name},", (len(rows), most), None)
            self._as_before(f"as many positions of {name} from every call of positions_of", most)
            if not bool(((at >= 0) & (at < lengths)).all()):
                raise self.wrong(f"positions of {name} inside of each question", "others", "correct positions_of")
            named[name] = at
        return named

    def _as_before(self, expected: str, what: int) -> None:
        if self._before.setdefault(expected, what) != what:
            raise self.wrong(expected, "another answer than before", "correct it")

    def whole(
        self, found: object, what: str, shape: tuple[int, ...], most: int | None = -1, *, least: int = 0
    ) -> Tensor:
        """Return `found` if it is an int64 tensor of this shape, of vocabulary tokens unless `most` is None."""
        expected, size = f"an int64 tensor of shape {shape} from {what}", self.positions.d_vocab
        if not isinstance(found, Tensor):
            raise self.wrong(expected, type(found).__name__, "return one")
        if tuple(found.shape) != shape or found.dtype != torch.int64:
            raise self.wrong(expected, f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}", "correct it")
        if most is not None and found.numel() and not least <= int(found.min()) <= int(found.max()) < size:
            seen = f"{int(found.min())} to {int(found.max())}"
            raise self.wrong(f"tokens 0 to {size - 1} from {what}", seen, "correct it, or the vocabulary")
        return found


def _share_tokens(some: Int[Tensor, "prompt answer token"], others: Int[Tensor, "prompt answer other"]) -> bool:
    """Return whether a token is in both sets of an answer."""
    same = (some.unsqueeze(-1) == others.unsqueeze(-2)) & (some != PAD).unsqueeze(-1)
    return bool(same.any())
