"""Wraps a user's Task and validates everything it returns. Imports no torch.

Every call checks shapes, tokens and names of cases. One first check tests that the task draws from its generator alone
and reads the questions that it writes. So a wrong task gives a one-line error, and never a wrong verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.own_code import call, load_object
from harness.base.text import did_you_mean, shorten
from harness.tasks.checked_positions import CheckedPositions
from harness.tasks.contract import AnyTask, AnyVariable
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import CaseStratum, NamedSet, QuestionList, Questions, Stratify, Stratum, TriCase, shares
from harness.tasks.user_task import Task

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor

EXAMPLES, SEED = 3, 13  # example questions of a case, and the seed that draws them
SWEPT = 200  # questions of each kind that a sweep asks by default
TRIED = 4  # questions drawn to try out a task


@dataclass(frozen=True)
class CheckedVariable(AnyVariable):
    """A variable that a user's task names."""

    name: str
    feeds: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def digits(self, layout: Positions) -> tuple[str, ...]:
        """Return the answer digits that depend on the variable, in order."""
        return self.feeds


class CheckedTask(CheckedPositions, AnyTask):
    """A user's :class:`~harness.tasks.user_task.Task`; everything that it returns is checked."""

    _tried = False

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of its question sets."""
        return tuple(self._texts)

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of its cases."""
        return self._cases

    @property
    def spreads(self) -> tuple[Stratify, ...]:
        """``case`` if the task has cases, otherwise empty."""
        return ("case",) if self._cases else ()

    @property
    def swept(self) -> tuple[str, ...]:
        """A sample of all questions, and a sample of each case."""
        kinds = tuple(f"{{n: {SWEPT}, where: {{case: {json.dumps(case)}}}}}" for case in self._cases)
        return (f"{{n: {SWEPT}{self.spread_key}}}", *kinds)

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of its sets."""
        self.check_set(name)
        return tuple(self.read_question(text) for text in self._texts[name])

    def strata(
        self,
        *,
        cases: Sequence[str] = (),
        cascades: Sequence[int] = (),
        columns: Mapping[str, TriCase] | None = None,
        stratify: Stratify | None = None,
    ) -> tuple[Stratum | CaseStratum, ...]:
        """Return a stratum for each named case; if none is named, one for every case with `stratify`, else none."""
        for unknown, found in (
            (cascades, "cascade"),
            (columns, "columns"),
            (stratify == "cascade", "stratify: cascade"),
        ):
            if unknown:
                raise HarnessError.of(f"a condition that {self.title} knows", found, self._instead())
        if stratify == "case" and not self._cases:
            raise HarnessError.of(f"a condition that {self.title} knows", "stratify: case", self._instead())
        chosen = dict.fromkeys(cases) or (dict.fromkeys(self._cases) if stratify else {})
        if cases and not stratify and len(chosen) > 1:
            fix = "add stratify: case, for as many of each"
            raise HarnessError.of(f"one case, or several with stratify, of {self.title}", " or ".join(chosen), fix)
        return tuple(CaseStratum(case) for case in chosen)

    def _instead(self) -> str:
        return f"name a case: {', '.join(self._cases)}" if self._cases else "it has no cases: ask {n: 1000}"

    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of that name."""
        if text not in self._feeds:
            expected = f"a variable of {self.title}"
            fix = did_you_mean(text, self._feeds) if self._feeds else "it has none: give it `variables`"
            raise HarnessError.of(expected, shorten(text), fix)
        return CheckedVariable(text, tuple(d for d in self.answer_digits if d in self._feeds[text]))

    def encode(self, questions: Iterable[AnyQuestion]) -> Int[Tensor, "question pos"]:
        """Return the tokens of `questions` with their answers."""
        import torch

        rows = torch.tensor([list(question) for question in questions], dtype=torch.int64)
        return self._answered(rows.reshape(-1, self.answer_start))

    def texts(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the questions as text."""
        return [self.write_question(tuple(row)) for row in tokens[:, : self.answer_start].tolist()]

    def cases_of(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return each question's case; empty text if the task has no cases."""
        if not self._cases:
            return [""] * len(tokens)
        found = call(self.file, "cases_of", lambda: list(self.task.cases_of(self._asked(tokens).cpu())))
        if len(found) != len(tokens):
            raise self.wrong(f"{len(tokens)} cases from cases_of", str(len(found)), "give one for each question")
        if unknown := [case for case in found if not isinstance(case, str) or case not in self._cases]:
            raise self.wrong("cases that `cases` lists from cases_of", shorten(min(map(str, unknown))), "list it")
        return found

    def tokens_for(self, questions: Questions) -> Int[Tensor, "question pos"]:
        """Return the tokens of the questions that a spec asks for."""
        import torch

        if isinstance(questions, NamedSet):
            return self.encode(self.question_set(questions.name))
        if isinstance(questions, QuestionList):
            return self.encode(questions.questions)
        generator = torch.Generator().manual_seed(questions.seed)
        if not questions.strata:
            return self._drawn(questions.n, generator)
        sizes = shares(questions.n, len(questions.strata))
        parts = zip(sizes, questions.strata, strict=True)
        return torch.cat([self._drawn(size, generator, stratum.name) for size, stratum in parts])

    def training_batch(
        self, n: int, generator: torch.Generator, enrichment: Mapping[str, float]
    ) -> Int[Tensor, "question pos"]:
        """Return questions to train on."""
        self._try_out()
        return self._answered(call(self.file, "training_batch", self.task.training_batch, n, generator), n)

    def varied(self, n: int, generator: torch.Generator) -> Int[Tensor, "question pos"]:
        """Return questions to draw pairs from: a training batch."""
        return self.training_batch(n, generator, {})

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return three questions of each case; three random questions if the task has no cases."""
        import torch

        found = {}
        for case in self._cases or ("",):
            tokens = self._drawn(EXAMPLES, torch.Generator().manual_seed(SEED), case or None)
            found[case] = tuple(tuple(row) for row in tokens[:, : self.answer_start].tolist())
        return found

    def value_of(self, variable: AnyVariable, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, " question"]:
        """Return the value of a variable on each question."""
        return self._whole(
            call(self.file, f"value_of {variable}", self.task.value_of, str(variable), self._asked(tokens)),
            f"value_of {variable}", (len(tokens),), None,
        )  # fmt: skip

    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], tokens: Int[Tensor, "question pos"]
    ) -> Int[Tensor, "question digit"]:
        """Return the answers when a variable is overwritten with `values`; own values must give true answers."""
        own, truth = self.value_of(variable, tokens), tokens[:, self.answer_start :]
        if not bool((self._overwritten(variable, own, tokens) == truth).all()):
            expected = f"the true answers from answers_with, where {variable} keeps its own value,"
            raise self.wrong(expected, "others", "correct the causal model")
        return self._overwritten(variable, values, tokens)

    def _overwritten(self, variable: AnyVariable, values: Tensor, tokens: Tensor) -> Tensor:
        what = f"answers_with {variable}"
        found = call(self.file, what, self.task.answers_with, str(variable), values.clone(), self._asked(tokens))
        return self._whole(found, what, (len(tokens), self.n_answer))

    def _asked(self, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, "question question_pos"]:
        """Return a copy of the questions without their answers, which the user's code may change."""
        return tokens[:, : self.answer_start].clone()

    def _drawn(self, n: int, generator: torch.Generator, case: str | None = None) -> Int[Tensor, "question pos"]:
        self._try_out()
        if not n:
            return self.encode([])
        arguments = (n, generator) if case is None else (n, generator, case)
        tokens = self._answered(call(self.file, "sample", self.task.sample, *arguments), n)
        if case is not None and (other := set(self.cases_of(tokens)) - {case}):
            raise self.wrong(f"questions of the case {case} from sample", f"some of {min(other)}", "correct it")
        return tokens

    def _answered(self, asked: Any, n: int | None = None) -> Int[Tensor, "question pos"]:
        """Return questions with their answers; both are checked."""
        import torch

        rows = self._whole(asked, "sample", (len(asked) if n is None else n, self.answer_start))
        if not len(rows):
            return rows.new_empty(0, self.n_ctx)
        found = call(self.file, "answer", self.task.answer, rows.clone())
        return torch.cat([rows, self._whole(found, "answer", (len(rows), self.n_answer))], dim=1)

    def _whole(self, found: Any, what: str, shape: tuple[int, ...], most: int | None = -1) -> Tensor:
        """Return `found` if it is an int64 tensor of this shape, of vocabulary tokens unless `most` is None."""
        import torch

        expected = f"an int64 tensor of shape {shape} from {what}"
        if not isinstance(found, torch.Tensor):
            raise self.wrong(expected, type(found).__name__, "return one")
        if tuple(found.shape) != shape or found.dtype != torch.int64:
            raise self.wrong(expected, f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}", "correct it")
        if most is not None and found.numel() and not 0 <= int(found.min()) <= int(found.max()) < self.d_vocab:
            seen = f"{int(found.min())} to {int(found.max())}"
            raise self.wrong(f"tokens 0 to {self.d_vocab - 1} from {what}", seen, "correct it, or the vocabulary")
        return found

    def _try_out(self) -> None:
        """Check once that the task draws from its generator alone, and reads its written questions back."""
        if self._tried:
            return
        import torch

        for what, draw in (("sample", self.task.sample), ("training_batch", self.task.training_batch)):
            first, again = (call(self.file, what, draw, TRIED, torch.Generator().manual_seed(SEED)) for _ in range(2))
            if not torch.equal(self._answered(first, TRIED), self._answered(again, TRIED)):
                raise self.wrong(f"the same questions again from {what}, of a generator with the same seed,",
                                  "others", "draw from the generator alone")  # fmt: skip
            for row in first.tolist():
                text = self.write_question(tuple(row))
                if self.read_question(text) != tuple(row):
                    raise self.wrong(f"read_question to read {shorten(text)}, which write_question wrote,",
                                      "another question", "correct one of them")  # fmt: skip
        self._tried = True


def load_task(reference: str, directory: Path) -> CheckedTask:
    """Return the task that the recipe in `directory` refers to; the same object while its file is unchanged.

    Raises:
        FixtureError: code is not allowed, the file cannot be imported, or the object is not a Task.
    """
    found, file = load_object("task", reference, directory)
    if not isinstance(found, Task):
        seen = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        fix = "make one: name = MyTask()"
        raise FixtureError(Problem(f"{reference} to be a harness.Task", seen, fix, file))
    return _checked(_Same(found), reference, file)


class _Same:
    """Compares a task by identity, as a cache key: a dataclass with its own equality has no hash."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.task is self.task

    def __hash__(self) -> int:
        return id(self.task)


@lru_cache(maxsize=64)
def _checked(same: _Same, reference: str, file: str) -> CheckedTask:
    return CheckedTask(same.task, reference, file)
