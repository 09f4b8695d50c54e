"""Names of a task's tokens and positions: all that nodes and claims need from a task. Imports no torch.

An answer may stand anywhere in a prompt; each of its tokens is *predicted* one step before its own. Where all prompts
of a task are alike, a step has a name, and it is known which step predicts which answer token. Where they are not, a
position goes by a name, and only the prompt itself says where that is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean, shorten, visible

STEP = re.compile(r"S(0|[1-9][0-9]*)")
POSITION = r"[A-Za-z][A-Za-z0-9_.+'-]{0,19}"  # the name of a position: END, S1+1
AnyQuestion = tuple[int, ...]  # a parsed question; each task defines what the numbers mean


@dataclass(frozen=True)
class Nouns:
    """What a task calls a prompt and a token of its answer; reports use these words."""

    prompt: str = "prompt"
    token: str = "token"

    @property
    def prompts(self) -> str:
        """Several prompts."""
        return f"{self.prompt}s"

    @property
    def tokens(self) -> str:
        """Several tokens of an answer."""
        return f"{self.token}s"


def spell(tokens: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Return the text of tokens: joined, or separated by spaces if the vocabulary has entries longer than a letter.

    What a terminal or a table would act on is escaped.
    """
    join = "" if all(len(token) == 1 for token in vocabulary) else " "
    return join.join(visible(vocabulary[token]) for token in tokens)


class Positions(ABC):
    """The names of a task's tokens and positions, the vocabulary, and which tokens are the answer."""

    @property
    def nouns(self) -> Nouns:
        """What reports call a prompt and a token of its answer."""
        return Nouns()

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step; empty if prompts differ in length."""

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token of the vocabulary."""

    @property
    @abstractmethod
    def answer_tokens(self) -> tuple[str, ...]:
        """The names of the answer's tokens, in the order of their positions."""

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
        """Return the text of an answer's tokens."""
        return spell(tokens, self.vocabulary)

    @property
    def nameable(self) -> tuple[str, ...]:
        """The token names that may be used in place of their steps."""
        return self.names

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of positions that may be elsewhere in each prompt."""
        return ()

    @property
    def n_ctx(self) -> int:
        """Number of tokens in a prompt with its answer; of the longest, if prompts differ."""
        return len(self.names)

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def n_answer(self) -> int:
        """Number of an answer's tokens."""
        return len(self.answer_tokens)

    @property
    def answer_steps(self) -> tuple[int, ...]:
        """The step at which each answer token stands; empty if that differs between prompts."""
        return tuple(range(self.n_ctx - self.n_answer, self.n_ctx)) if self.names else ()

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
        steps, fix = f"a step S0 to S{self.n_ctx - 1}", "name a step or token of the layout"
        if not self.names:
            also = f" or a position {', '.join(self.positions)}" if self.positions else ""
            raise HarnessError.of(f"{steps}{also}", shorten(name), "name one")
        raise HarnessError.of(f"{steps} or a token {self.names[0]} to {self.names[-1]}", shorten(name), fix)

    def check_answer_token(self, name: object) -> None:
        """Refuse a `name` that is not a token of the answer.

        Raises:
            HarnessError: it is not one; the error says which names are.
        """
        if name not in self.answer_tokens:
            tokens, noun = self.answer_tokens, self.nouns.token
            fix = did_you_mean(name, tokens) if isinstance(name, str) else f"write a {noun}'s name"
            raise HarnessError.of(f"an answer {noun} {tokens[0]} to {tokens[-1]}", shorten(name), fix)

    def predicted_at(self, token: str) -> int | None:
        """Return the step whose output predicts the answer token `token`; None if that differs between prompts."""
        return self.answer_steps[self.answer_tokens.index(token)] - 1 if self.answer_steps else None

    def predicted_from(self, step: int) -> tuple[str, ...]:
        """Return the answer tokens that may be predicted at `step` or later, in order."""
        return tuple(t for t in self.answer_tokens if (at := self.predicted_at(t)) is None or at >= step)
