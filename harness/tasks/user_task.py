"""The base class of a user's own task, for a small Python file. See docs/own-model.md. Imports no torch.

A question is a row of token numbers (indices into the vocabulary). Its answer is the row that follows, ``n_answer``
tokens; or it stands inside the question, where ``answer_places`` says. Everything else is optional, and claims that
need what a task does not have are refused; all other claims can be made. Questions may differ in length; then rows are
filled up with -1 on the right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.text import visible
from harness.tasks.positions import spell

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor


class Task(ABC):
    """The token positions, the questions and the right answers of a task.

    Tensors are int64, on the CPU. Everything random comes from the generator that is passed.
    """

    name: str = ""  # name of the task in reports; by default, the recipe's reference
    nouns: tuple[str, str] = ("prompt", "token")  # what reports call a question, and a token of the answer
    vocabulary: Sequence[str]  # the text of each token; where two have the same, a question's text means the first
    names: Sequence[str]  # the name of the token at each step, all different: D1 D0 - D'1 D'0 = A1 A0
    n_answer: int  # the number of answer tokens: the last of `names`
    # Of questions that differ in length, in place of `names`: the most tokens of one with its answer, and the names of
    # the answer's tokens. Of others too, where the answer is not at the end.
    longest: int = 0
    answer_names: Sequence[str] = ()
    positions: Sequence[str] = ()  # names of positions that may be elsewhere in each question; see `positions_of`
    counterparts: Sequence[str] = ()  # names of the counterparts that each question has; see `counterpart`
    cases: Sequence[str] = ()  # kinds of questions, for `where: {case: …}` and `stratify: case`
    question_sets: Mapping[str, Sequence[str]] = {}  # name → questions, as text
    variables: Mapping[str, Sequence[str]] = {}  # of the causal model: name → the answer's tokens that depend on it

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, case: str | None = None) -> Int[Tensor, "n question_pos"]:
        """Return `n` random questions without their answers; of one case, if `case` is given."""

    @abstractmethod
    def answer(self, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, "n answer_pos"]:
        """Return the right answers; where several tokens are right, the one that stands for them in texts."""

    def right_tokens(
        self, questions: Int[Tensor, "n question_pos"]
    ) -> Int[Tensor, "n answer_pos token"] | tuple[Tensor, Float[Tensor, "n answer_pos token"]]:
        """Return the tokens that are right, filled up with -1, each once.

        With weights above 0, each probability counts so much in the sum of the loss.

        By default, only those of :meth:`answer`.
        """
        return self.answer(questions).unsqueeze(-1)

    def wrong_tokens(self, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, "n answer_pos token"] | None:
        """Return the tokens that the right ones are measured against, filled up with -1; None: there are none.

        Their logits are recorded with each run; no verb compares them yet.
        """
        return None

    def answer_places(self, questions: Int[Tensor, "n question_pos"]) -> Int[Tensor, "n answer_pos"] | None:
        """Return where the answers stand, if the questions hold them; None: they follow the questions."""
        return None

    def positions_of(
        self, questions: Int[Tensor, "n question_pos"]
    ) -> Mapping[str, Int[Tensor, " n"] | Int[Tensor, "n index"]]:
        """Return where the named positions are; a task with `positions` must define this.

        A name may stand for as many positions in every question, as long as all have the same number of them.
        """
        return {}

    def counterpart(
        self, name: str, questions: Int[Tensor, "n question_pos"], generator: torch.Generator
    ) -> Int[Tensor, "n question_pos"]:
        """Return the counterpart of each question: another one, of the same length, with all positions where they were.

        A task with `counterparts` must define this.
        """
        raise NotImplementedError("the task has `counterparts`, and no `counterpart`")

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
            longest = max((text for text in self.__numbers if rest.startswith(text)), key=len, default=rest)
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
        if written not in self.__numbers:
            raise ValueError(f"{written!r} is not in the vocabulary")
        return self.__numbers[written]

    @cached_property
    def __numbers(self) -> dict[str, int]:  # two underscores: a user's class may have such a name of its own
        """Text of a token → its number; the first one, where several have the same text."""
        return {text: i for i, text in reversed(list(enumerate(map(visible, self.vocabulary))))}
