"""A task of one's own: what a user subclasses in a small Python file. See docs/own-model.md. Imports no torch.

A question is a row of token numbers, the vocabulary's, and its answer the row that follows: the last ``n_answer``
tokens. What a task does not offer (cases, variables, sets) cannot be claimed of it, and everything else can.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.positions import spell

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor


class Task(ABC):
    """Where tokens stand, which questions there are, and what the true answers are.

    Tensors are int64, on the CPU. Everything random comes from the generator that is passed.
    """

    name: str = ""  # what reports call the task; unless given, what the recipe calls it
    vocabulary: Sequence[str]  # what each token is written as
    names: Sequence[str]  # the name of the token at each step, each once: D1 D0 - D'1 D'0 = A1 A0
    n_answer: int  # how many of these, the last ones, are the answer
    cases: Sequence[str] = ()  # kinds of questions, for `where: {case: …}` and `stratify: case`
    question_sets: Mapping[str, Sequence[str]] = {}  # name → questions, as text
    variables: Mapping[str, Sequence[str]] = {}  # of the causal model: name → the answer's tokens that depend on it

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, case: str | None = None) -> Int[Tensor, "n question_pos"]:
        """Return `n` random questions, of one case if it is named, without their answers."""

    @abstractmethod
    def answer(self, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, "n answer_pos"]:
        """Return the true answers."""

    def training_batch(self, n: int, generator: torch.Generator) -> Int[Tensor, "n question_pos"]:
        """Return `n` questions to train on, and to draw pairs from: with more of what is rare, where that helps."""
        return self.sample(n, generator)

    def cases_of(self, questions: Int[Tensor, "n question_pos"]) -> Sequence[str]:
        """Return the case of each question; a task that has cases says them."""
        raise NotImplementedError("the task has `cases`, and no `cases_of`")

    def read_question(self, text: str) -> Sequence[int]:
        """Return the tokens that `text` writes: of the vocabulary, set apart by spaces or one after the other.

        Raises:
            ValueError: saying what is wrong; the refusal of the spec ends in it.
        """
        if any(letter.isspace() for letter in text.strip()):
            return [self._token(word) for word in text.split()]
        rest, tokens = text, []
        while rest:
            longest = max((token for token in self.vocabulary if rest.startswith(token)), key=len, default=rest)
            tokens.append(self._token(longest))
            rest = rest[len(longest) :]
        return tokens

    def write_question(self, question: Sequence[int]) -> str:
        """Return the text of a question, which :meth:`read_question` reads."""
        return spell(question, self.vocabulary)

    def value_of(self, variable: str, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, " n"]:
        """Return the value of a variable of the causal model on each question."""
        raise NotImplementedError("the task has `variables`, and no `value_of`")

    def answers_with(
        self, variable: str, values: Int[Tensor, " n"], questions: Int[Tensor, "n question_pos"]
    ) -> Int[Tensor, "n answer_pos"]:
        """Return the answers when `variable` has these `values` in place of its own."""
        raise NotImplementedError("the task has `variables`, and no `answers_with`")

    def _token(self, written: str) -> int:
        if written not in self.vocabulary:
            raise ValueError(f"{written!r} is not in the vocabulary")
        return list(self.vocabulary).index(written)
