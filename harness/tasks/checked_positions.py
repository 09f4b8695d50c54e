"""Token positions of a user's task, and how its questions are read and written, with checks. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.own_code import call, calling
from harness.base.text import is_plain, shorten
from harness.tasks.positions import STEP, AnyQuestion, Positions
from harness.tasks.user_task import Task

LONGEST = 20  # letters of a name
_CURVES = ("step", "loss", "right")  # names of other columns of the learning curves; no answer token may use them


class CheckedPositions(Positions):
    """The attributes of a user's :class:`~harness.tasks.user_task.Task`, and the questions it reads; all checked."""

    def __init__(self, task: Task, reference: str, file: str) -> None:
        self.task, self.reference, self.file = task, reference, file
        with calling(file, f"the attributes of {reference}"):
            self._vocabulary = tuple(task.vocabulary)
            self._names = tuple(task.names)
            self._cases = tuple(task.cases)
            self._texts = {name: tuple(texts) for name, texts in task.question_sets.items()}
            self._feeds = {name: tuple(digits) for name, digits in task.variables.items()}
        self._check()

    def _check(self) -> None:
        n_answer = getattr(self.task, "n_answer", None)
        if not isinstance(n_answer, int) or isinstance(n_answer, bool) or not 0 < n_answer < len(self._names):
            raise self.wrong(f"`n_answer` from 1 to {len(self._names) - 1}", shorten(n_answer), "correct it")
        groups: list[tuple[str, Sequence[object]]] = [
            ("vocabulary", self._vocabulary), ("names", self._names), ("cases", self._cases),
            ("question_sets", tuple(self._texts)), ("variables", tuple(self._feeds)),
        ]  # fmt: skip
        for what, words in groups:
            seen = set()
            for word in words:
                if not isinstance(word, str) or not word or not is_plain(word):
                    raise self.wrong(f"printable text in `{what}`", shorten(word), "correct it")
                if what != "vocabulary" and (len(word) > LONGEST or any(map(str.isspace, word))):
                    raise self.wrong(
                        f"at most {LONGEST} letters, none of them blank, in `{what}`", shorten(word), "shorten it"
                    )
                if word in seen:
                    raise self.wrong(f"each of `{what}` once", f"{shorten(word)} again", "give one another name")
                seen.add(word)
        for step, name in enumerate(self._names):
            if STEP.fullmatch(name) and name != f"S{step}":
                raise self.wrong(f"no other step's name at S{step}", shorten(name), "call it otherwise")
        for name in self.answer_digits:
            if not name.isidentifier() or name in _CURVES:
                raise self.wrong("answer names of letters, digits and _", shorten(name), "call it otherwise")
        for name, digits in self._feeds.items():
            if not digits or not set(digits) <= set(self.answer_digits):
                wrong = next((shorten(digit) for digit in digits if digit not in self.answer_digits), "none")
                raise self.wrong(f"answer names that depend on {name}", wrong, "correct `variables`")

    def wrong(self, expected: str, found: str, fix: str) -> FixtureError:
        """Return the error for a mistake in the user's task."""
        return FixtureError(Problem(f"{expected} of {self.reference}", found, fix, self.file))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step."""
        return self._names

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token."""
        return self._vocabulary

    @cached_property
    def answer_digits(self) -> tuple[str, ...]:
        """The names of the answer's tokens."""
        return self._names[len(self._names) - self.task.n_answer :]

    @property
    def title(self) -> str:
        """The task's own name, or else the recipe's reference to it."""
        return self.task.name or self.reference

    @property
    def kind(self) -> str:
        """The recipe's reference to the task."""
        return self.reference

    @property
    def description(self) -> str:
        """The task's name, where it is defined, and the size of its vocabulary."""
        return f"{self.title}, which `{self.reference}` defines, vocabulary of {self.d_vocab}"

    def read_question(self, text: object) -> AnyQuestion:
        """Return the tokens of a question's text.

        Raises:
            HarnessError: the text is not a question.
            FixtureError: the user's `read_question` is wrong.
        """
        expected = f"a question of {self.title}"
        if not isinstance(text, str):
            raise HarnessError.of(expected, shorten(text), "quote it")
        try:
            tokens = tuple(int(token) for token in self.task.read_question(text))
        except ValueError as error:
            raise HarnessError.of(expected, shorten(text), shorten(error, 200)) from None
        except Exception:
            with calling(self.file, f"read_question of {shorten(text)}"):
                raise
        if len(tokens) != self.answer_start:
            raise HarnessError.of(expected, f"{len(tokens)} tokens in {shorten(text)}", f"write {self.answer_start}")
        if not all(0 <= token < self.d_vocab for token in tokens):
            raise self.wrong("tokens of the vocabulary from read_question", shorten(tokens), "correct it")
        return tokens

    def write_question(self, question: AnyQuestion) -> str:
        """Return the text of a question."""
        return str(call(self.file, "write_question", self.task.write_question, question))
