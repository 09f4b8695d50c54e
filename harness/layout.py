"""Where everything stands in an addition question, by name. The one source of positions; imports no torch.

For five digits (`n_ctx` 18), with the notebook's names::

    step   S0 S1 S2 S3 S4  S5  S6  S7  S8  S9  S10  S11  S12 S13 S14 S15 S16 S17
    token  D4 D3 D2 D1 D0   +  D'4 D'3 D'2 D'1 D'0   =   A5  A4  A3  A2  A1  A0

An answer digit is *predicted* one step before it stands: A5 at S11, A0 at S16.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from harness.errors import HarnessError, did_you_mean, shorten

MAX_DIGITS = 20

PLUS, MINUS, EQUALS = 10, 11, 12
# The notebook gave Q and U the same index, 14, and left 15 unused; here each letter has its own.
WORD_EQUALS = {"e": 13, "q": 14, "u": 15, "a": 16, "l": 17, "s": 18}
EqualsStyle = Literal["=", "equals"]

_QUESTION = re.compile(r"([0-9]+)\+([0-9]+)")
_STEP = re.compile(r"S(0|[1-9][0-9]*)")


class Question(NamedTuple):
    """Two addends."""

    x: int
    y: int


@dataclass(frozen=True)
class Layout:
    """The token positions of ``n_digits``-digit addition, ended by ``=`` or by the word ``equals``."""

    n_digits: int
    equals: EqualsStyle = "="

    def __post_init__(self) -> None:
        if not 1 <= self.n_digits <= MAX_DIGITS:
            raise HarnessError.of(f"n_digits from 1 to {MAX_DIGITS}", str(self.n_digits), "choose one in that range")

    @property
    def equals_tokens(self) -> tuple[int, ...]:
        """Tokens between the question and the answer."""
        return (EQUALS,) if self.equals == "=" else tuple(WORD_EQUALS[letter] for letter in self.equals)

    @property
    def n_ctx(self) -> int:
        """Tokens in a question with its answer."""
        return 3 * self.n_digits + 2 + len(self.equals)

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary: 13, or 19 with the letters of ``equals``."""
        return EQUALS + 1 + (len(WORD_EQUALS) if self.equals == "equals" else 0)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What each token of the vocabulary is written as."""
        return (*"0123456789+-=", *(WORD_EQUALS if self.equals == "equals" else ()))

    @property
    def n_answer(self) -> int:
        """Answer digits: one more than a question digit, for the final carry."""
        return self.n_digits + 1

    @property
    def answer_start(self) -> int:
        """Step at which the highest answer digit stands."""
        return self.n_ctx - self.n_answer

    @cached_property
    def answer_digits(self) -> tuple[str, ...]:
        """``A5 … A0``, highest first, as everywhere in this project."""
        return tuple(f"A{k}" for k in range(self.n_digits, -1, -1))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step: ``D4 … D0 + D'4 … D'0 = A5 … A0``."""
        places = range(self.n_digits - 1, -1, -1)
        return (
            *(f"D{k}" for k in places), "+", *(f"D'{k}" for k in places), *self.equals, *self.answer_digits,
        )  # fmt: skip

    def step_of(self, name: object) -> int:
        """Return the step called `name`: ``S11``, ``D4``, ``D'4`` or ``A5``.

        Raises:
            HarnessError: no such step or token.
        """
        if isinstance(name, str) and (match := _STEP.fullmatch(name)):
            step = int(match[1])
            if step < self.n_ctx:
                return step
        elif isinstance(name, str) and name[:1] in ("D", "A") and name in self.names:
            return self.names.index(name)
        raise HarnessError.of(
            f"a step S0 to S{self.n_ctx - 1} or a token D{self.n_digits - 1} to A0",
            shorten(name), "name a step or token of the layout",
        )  # fmt: skip

    def check_answer_digit(self, name: object) -> None:
        """Refuse what is not an answer digit of this layout.

        Raises:
            HarnessError: what it should have been.
        """
        if name not in self.answer_digits:
            digits = self.answer_digits
            fix = did_you_mean(name, digits) if isinstance(name, str) else "write a digit's name"
            raise HarnessError.of(f"an answer digit {digits[0]} to {digits[-1]}", shorten(name), fix)

    def predicted_at(self, digit: str) -> int:
        """Return the step whose output predicts the answer digit `digit`."""
        return self.answer_start - 1 + self.answer_digits.index(digit)

    def predicted_from(self, step: int) -> tuple[str, ...]:
        """Return the answer digits predicted at `step` or later, highest first."""
        return tuple(digit for digit in self.answer_digits if self.predicted_at(digit) >= step)

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

    def write_question(self, question: Question) -> str:
        """Return ``15508+14500``, padded with zeros to the layout's digits."""
        return f"{question.x:0{self.n_digits}d}+{question.y:0{self.n_digits}d}"
