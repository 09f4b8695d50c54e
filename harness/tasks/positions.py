"""Names and positions of a task's tokens: all that nodes, claims and engines need from a task. Imports no torch.

The answer stands at the end of the question. Its tokens are always called the *answer digits*, even if they are not
digits. Each one is *predicted* one step before its own step.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean, shorten

STEP = re.compile(r"S(0|[1-9][0-9]*)")
AnyQuestion = tuple[int, ...]  # a parsed question; each task defines what the numbers mean


def spell(tokens: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Return the text of tokens: joined, or separated by spaces if the vocabulary has entries longer than a letter."""
    return ("" if all(len(token) == 1 for token in vocabulary) else " ").join(vocabulary[token] for token in tokens)


class Positions(ABC):
    """The names of a task's tokens, the vocabulary, and which tokens are the answer."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token of the vocabulary."""

    @property
    @abstractmethod
    def answer_digits(self) -> tuple[str, ...]:
        """The names of the answer's tokens, in the order of their positions: the last ones of `names`."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of the task, in a word or two."""

    @property
    @abstractmethod
    def description(self) -> str:
        """A description of the task, for a model card."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """A name that models share if the same claims can be asked of them."""

    @abstractmethod
    def read_question(self, text: object) -> AnyQuestion:
        """Return the question that `text` writes.

        Raises:
            HarnessError: the text is not a question.
        """

    @abstractmethod
    def write_question(self, question: AnyQuestion) -> str:
        """Return the text of a question."""

    def write_answer(self, tokens: Iterable[int]) -> str:
        """Return the text of answer digits."""
        return spell(tokens, self.vocabulary)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose sub-tasks the learning curves show; empty if the task has none."""
        return ()

    @property
    def nameable(self) -> tuple[str, ...]:
        """The token names that may be used in place of their steps."""
        return self.names

    @property
    def n_ctx(self) -> int:
        """Number of tokens in a question with its answer."""
        return len(self.names)

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def n_answer(self) -> int:
        """Number of answer digits."""
        return len(self.answer_digits)

    @property
    def answer_start(self) -> int:
        """Step of the first answer digit."""
        return self.n_ctx - self.n_answer

    def step_of(self, name: object) -> int:
        """Return the step called `name`: ``S11``, or the name of a token there, like ``D4``, ``D'4`` or ``A5``.

        Raises:
            HarnessError: no such step or token.
        """
        if isinstance(name, str) and (match := STEP.fullmatch(name)):
            step = int(match[1])
            if step < self.n_ctx:
                return step
        elif isinstance(name, str) and name in self.nameable:
            return self.names.index(name)
        raise HarnessError.of(
            f"a step S0 to S{self.n_ctx - 1} or a token {self.names[0]} to {self.names[-1]}",
            shorten(name), "name a step or token of the layout",
        )  # fmt: skip

    def check_answer_digit(self, name: object) -> None:
        """Refuse a `name` that is not an answer digit.

        Raises:
            HarnessError: it is not one; the error says which names are.
        """
        if name not in self.answer_digits:
            digits = self.answer_digits
            fix = did_you_mean(name, digits) if isinstance(name, str) else "write a digit's name"
            raise HarnessError.of(f"an answer digit {digits[0]} to {digits[-1]}", shorten(name), fix)

    def predicted_at(self, digit: str) -> int:
        """Return the step whose output predicts the answer digit `digit`."""
        return self.answer_start - 1 + self.answer_digits.index(digit)

    def predicted_from(self, step: int) -> tuple[str, ...]:
        """Return the answer digits predicted at `step` or later, in order."""
        return tuple(digit for digit in self.answer_digits if self.predicted_at(digit) >= step)
