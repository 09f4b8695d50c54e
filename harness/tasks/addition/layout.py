"""Names and positions of the tokens of an addition question. Imports no torch.

For five digits (`n_ctx` 18), with the notebook's names::

    step   S0 S1 S2 S3 S4  S5  S6  S7  S8  S9  S10  S11  S12 S13 S14 S15 S16 S17
    token  D4 D3 D2 D1 D0   +  D'4 D'3 D'2 D'1 D'0   =   A5  A4  A3  A2  A1  A0

An answer digit is *predicted* one step before its own step: A5 at S11, A0 at S16.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.positions import AnyQuestion, Nouns, Positions

MAX_DIGITS = 20
PLUS, MINUS, EQUALS = 10, 11, 12
# The notebook gave Q and U the same index, 14, and left 15 unused; here each letter has its own.
WORD_EQUALS = {"e": 13, "q": 14, "u": 15, "a": 16, "l": 17, "s": 18}
EqualsStyle = Literal["=", "equals"]
_QUESTION = re.compile(r"([0-9]+)\+([0-9]+)")


class Question(NamedTuple):
    """Two addends."""

    x: int
    y: int


@dataclass(frozen=True)
class Layout(Positions):
    """The token positions of ``n_digits``-digit addition, ended by ``=`` or by the word ``equals``."""

    n_digits: int
    equals: EqualsStyle = "="

    def __post_init__(self) -> None:
        if not 1 <= self.n_digits <= MAX_DIGITS:
            raise HarnessError.of(f"n_digits from 1 to {MAX_DIGITS}", str(self.n_digits), "choose one in that range")

    @property
    def nouns(self) -> Nouns:
        """A question, and the digits of its answer."""
        return Nouns("question", "digit")

    @property
    def answer_start(self) -> int:
        """Step of the first answer digit."""
        return self.n_ctx - self.n_answer

    @property
    def equals_tokens(self) -> tuple[int, ...]:
        """Tokens between the question and the answer."""
        return (EQUALS,) if self.equals == "=" else tuple(WORD_EQUALS[letter] for letter in self.equals)

    @property
    def title(self) -> str:
        """The task in two words."""
        return f"{self.n_digits}-digit addition"

    @property
    def description(self) -> str:
        """The task as a phrase, for a model card."""
        return f"addition of two {self.n_digits}-digit numbers, ended by `{self.equals}`"

    @property
    def kind(self) -> str:
        """``5 digits``; it does not depend on how the question ends."""
        return f"{self.n_digits} digits"

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token of the vocabulary."""
        return (*"0123456789+-=", *(WORD_EQUALS if self.equals == "equals" else ()))

    @cached_property
    def answer_tokens(self) -> tuple[str, ...]:
        """``A5 … A0``, highest first; one digit more than an addend has, for the final carry."""
        return tuple(f"A{k}" for k in range(self.n_digits, -1, -1))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step: ``D4 … D0 + D'4 … D'0 = A5 … A0``."""
        places = range(self.n_digits - 1, -1, -1)
        return (
            *(f"D{k}" for k in places), "+", *(f"D'{k}" for k in places), *self.equals, *self.answer_tokens,
        )  # fmt: skip

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """``D4 … D0``; each has its own sub-tasks."""
        return self.names[: self.n_digits]

    @cached_property
    def nameable(self) -> tuple[str, ...]:
        """The digits, ``D4 … D0``, ``D'4 … D'0`` and ``A5 … A0``; the tokens between them cannot be named."""
        return tuple(name for name in self.names if name[0] in "DA")

    def read_question(self, text: object) -> Question:
        """Return the addends of ``15508+14500``; ``15+45`` stands for ``00015+00045``.

        Raises:
            HarnessError: not two numbers joined by ``+``, or a number that is too long.
        """
        expected = f"a question of two numbers of at most {self.n_digits} digits, like 15+45"
        match = _QUESTION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise HarnessError.of(
                expected, shorten(text), "write digits, one +, digits, and quote it if it is a number"
            )
        longest = max(len(match[1]), len(match[2]))
        if longest > self.n_digits:
            raise HarnessError.of(
                expected,
                f"{longest} digits in {shorten(text)}",
                "shorten it or name a fixture for more digits",
            )
        return Question(int(match[1]), int(match[2]))

    def write_question(self, question: AnyQuestion) -> str:
        """Return ``15508+14500``, padded with zeros to the layout's digits."""
        x, y = question
        return f"{x:0{self.n_digits}d}+{y:0{self.n_digits}d}"
