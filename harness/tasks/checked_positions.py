"""Token positions of a user's task, and how its questions are read and written, with checks. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.own_code import call, calling
from harness.base.text import is_plain, shorten, visible
from harness.tasks.positions import POSITION, STEP, AnyQuestion, Nouns, Positions
from harness.tasks.user_task import Task

LONGEST = 20  # letters of a name
_CURVES = ("step", "loss", "right")  # names of other columns of the learning curves; no answer token may use them
_NOUN = re.compile(r"(?!(?:head|layer|step|to)$)[a-z][a-z ]*")  # it also names mutants, as these words do


class CheckedPositions(Positions):
    """The attributes of a user's :class:`~harness.tasks.user_task.Task`, and the questions it reads; all checked."""

    def __init__(self, task: Task, reference: str, file: str) -> None:
        self.task, self.reference, self.file = task, reference, file
        with calling(file, f"the attributes of {reference}"):
            self._vocabulary = tuple(task.vocabulary)  # any text; a tokenizer's may repeat, or break a line
            self._names = tuple(getattr(task, "names", ())) if task.longest else tuple(task.names)
            self._answer_names = tuple(task.answer_names)
            self._positions = tuple(task.positions)
            self._counterparts = tuple(task.counterparts)
            self._cases = tuple(task.cases)
            self._texts = {name: tuple(texts) for name, texts in task.question_sets.items()}
            self._feeds = {name: tuple(tokens) for name, tokens in task.variables.items()}
            self._nouns = tuple(task.nouns)
        self._check_answer()
        self._check_names()

    def _check_answer(self) -> None:
        """Check the attributes that say which tokens are the answer, and how long a question may be."""
        task = self.task
        if self._names and task.longest:
            raise self.wrong("`names`, or `longest`", "both", "drop one: with `names`, all questions are as long")
        if self._answer_names:
            self._check_longest(len(self._names) or task.longest)
            if self._names and self.ends_with_answer and self._names[-len(self._answer_names) :] != self._answer_names:
                found = " ".join(map(shorten, self._answer_names))
                raise self.wrong("the last of `names` as `answer_names`", found, "drop `answer_names`")
            return
        if not self._names:
            found = "`longest` alone" if task.longest else "neither"
            raise self.wrong("`names`, or `longest` and `answer_names`", found, "say what the steps are called")
        if not self.ends_with_answer:
            raise self.wrong("`answer_names` beside answer_places", "none", "say what the answer's tokens are called")
        n_answer = getattr(task, "n_answer", None)
        if not isinstance(n_answer, int) or isinstance(n_answer, bool) or not 0 < n_answer < len(self._names):
            raise self.wrong(f"`n_answer` from 1 to {len(self._names) - 1}", shorten(n_answer), "correct it")
        self._answer_names = self._names[len(self._names) - n_answer :]

    def _check_longest(self, longest: object) -> None:
        least = len(self._answer_names) + 1
        if not isinstance(longest, int) or isinstance(longest, bool) or longest < least:
            raise self.wrong(f"`longest` of at least {least}", shorten(longest), "count the answer in")

    def _check_names(self) -> None:
        if other := [word for word in self._vocabulary if not isinstance(word, str)]:
            raise self.wrong("text in `vocabulary`", shorten(other[0]), "correct it")
        self._vocabulary = tuple(map(visible, self._vocabulary))
        groups: list[tuple[str, Sequence[object]]] = [
            ("names", self._names), ("answer_names", self._answer_names),
            ("positions", self._positions), ("counterparts", self._counterparts), ("cases", self._cases),
            ("question_sets", tuple(self._texts)), ("variables", tuple(self._feeds)),
        ]  # fmt: skip
        for what, words in groups:
            seen = set()
            for word in words:
                if not isinstance(word, str) or not word or not is_plain(word):
                    raise self.wrong(f"printable text in `{what}`", shorten(word), "correct it")
                if len(word) > LONGEST or any(map(str.isspace, word)):
                    raise self.wrong(
                        f"at most {LONGEST} letters, none of them blank, in `{what}`", shorten(word), "shorten it"
                    )
                if word in seen:
                    raise self.wrong(f"each of `{what}` once", f"{shorten(word)} again", "give one another name")
                seen.add(word)
        self._check_meanings()

    def _check_meanings(self) -> None:
        """Check that names do not mean two things, and that variables and nouns are what they must be."""
        for step, name in enumerate(self._names):
            if STEP.fullmatch(name) and name != f"S{step}":
                raise self.wrong(f"no other step's name at S{step}", shorten(name), "call it otherwise")
        for name in self.answer_tokens:
            if not name.isidentifier() or name in _CURVES:
                raise self.wrong("answer names of letters, digits and _", shorten(name), "call it otherwise")
        for name in self._positions:
            if not re.fullmatch(POSITION, name) or STEP.fullmatch(name) or name in self._names:
                expected = "names of positions like END or S1+1, which are no step and no token"
                raise self.wrong(expected, shorten(name), "call it otherwise")
        for name, tokens in self._feeds.items():
            if not tokens or not set(tokens) <= set(self.answer_tokens):
                wrong = next((shorten(token) for token in tokens if token not in self.answer_tokens), "none")
                raise self.wrong(f"answer names that depend on {name}", wrong, "correct `variables`")
        if len(self._nouns) != 2 or not all(isinstance(n, str) and _NOUN.fullmatch(n) for n in self._nouns):
            expected = "two words of small letters in `nouns`, for a prompt and for a token,"
            raise self.wrong(expected, shorten(self._nouns), "correct it")

    def wrong(self, expected: str, found: str, fix: str) -> FixtureError:
        """Return the error for a mistake in the user's task."""
        return FixtureError(Problem(f"{expected} of {self.reference}", found, fix, self.file))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the token at each step."""
        return self._names

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token, without what a terminal or a table would act on."""
        return self._vocabulary

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        """The names of the answer's tokens."""
        return self._answer_names

    @property
    def nouns(self) -> Nouns:
        """The task's own words."""
        return Nouns(*self._nouns)

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of positions that may be elsewhere in each question."""
        return self._positions

    @property
    def n_ctx(self) -> int:
        """Number of tokens in a question with its answer; of the longest, if they differ."""
        return len(self._names) or self.task.longest

    @property
    def answer_steps(self) -> tuple[int, ...]:
        """The step at which each answer token stands, where all questions are alike and end with it."""
        return super().answer_steps if self.ends_with_answer else ()

    @property
    def ends_with_answer(self) -> bool:
        """Whether the answer follows the question."""
        return type(self.task).answer_places is Task.answer_places

    @property
    def question_length(self) -> int:
        """The number of tokens of a question, without an answer that follows it; of the longest, if they differ."""
        return self.n_ctx - (self.n_answer if self.ends_with_answer else 0)

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
        most = self.question_length
        if len(tokens) != most and (self._names or not 0 < len(tokens) < most):
            fix = f"write {most}" if self._names else f"write 1 to {most}"
            raise HarnessError.of(expected, f"{len(tokens)} tokens in {shorten(text)}", fix)
        if not all(0 <= token < self.d_vocab for token in tokens):
            raise self.wrong("tokens of the vocabulary from read_question", shorten(tokens), "correct it")
        return tokens

    def write_question(self, question: AnyQuestion) -> str:
        """Return the text of a question."""
        return visible(str(call(self.file, "write_question", self.task.write_question, question)))
