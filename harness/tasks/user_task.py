"""The base class of a user's own task, for a small Python file. See docs/own-model.md. Imports no torch.

A question is a row of token numbers (indices into the vocabulary). Its answer is the row that follows: the last
``n_answer`` tokens. Cases, variables and question sets are optional. Claims that need one of these are refused if the
task lacks it; all other claims can be made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.tasks.positions import spell

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor


class Task(ABC):
    """The token positions, the questions and the true answers of a task.

    Tensors are int64, on the CPU. Everything random comes from the generator that is passed.
    """

    name: str = ""  # name of the task in reports; by default, the recipe's reference
    vocabulary: Sequence[str]  # the text of each token
    names: Sequence[str]  # the name of the token at each step, all different: D1 D0 - D'1 D'0 = A1 A0
    n_answer: int  # the number of answer tokens: the last of `names`
    cases: Sequence[str] = ()  # kinds of questions, for `where: {case: …}` and `stratify: case`
    question_sets: Mapping[str, Sequence[str]] = {}  # name → questions, as text
    variables: Mapping[str, Sequence[str]] = {}  # of the causal model: name → the answer's tokens that depend on it

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, case: str | None = None) -> Int[Tensor, "n question_pos"]:
        """Return `n` random questions without their answers; of one case, if `case` is given."""

    @abstractmethod
    def answer(self, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, "n answer_pos"]:
        """Return the true answers."""

    def training_batch(self, n: int, generator: torch.Generator) -> Int[Tensor, "n question_pos"]:
        """Return `n` questions to train on and to draw pairs from; rare kinds may be more frequent, if that helps."""
        return self.sample(n, generator)

    def cases_of(self, questions: Int[Tensor, "n question_pos"]) -> Sequence[str]:
        """Return the case of each question; a task with cases must define this."""
        raise NotImplementedError("the task has `cases`, and no `cases_of`")

    def read_question(self, text: str) -> Sequence[int]:
        """Return the tokens of `text`, which writes them with spaces between them or directly one after the other.

        Raises:
            ValueError: the text is not a question; the spec's error message ends with this message.
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
        """Return the text of a question, in the form that :meth:`read_question` reads."""
        return spell(question, self.vocabulary)

    def value_of(self, variable: str, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, " n"]:
        """Return the value of a variable of the causal model on each question."""
        raise NotImplementedError("the task has `variables`, and no `value_of`")

    def answers_with(
        self, variable: str, values: Int[Tensor, " n"], questions: Int[Tensor, "n question_pos"]
    ) -> Int[Tensor, "n answer_pos"]:
        """Return the answers when `variable` is overwritten with `values`."""
        raise NotImplementedError("the task has `variables`, and no `answers_with`")

    def _token(self, written: str) -> int:
        if written not in self.vocabulary:
            raise ValueError(f"{written!r} is not in the vocabulary")
        return list(self.vocabulary).index(written)
