"""Wraps a user's Task and validates everything it returns. Imports no torch.

Every call checks shapes, tokens and names of cases. One first check tests that the task draws from its generator alone
and reads the questions that it writes. So a wrong task gives a one-line error, and never a wrong verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.errors import HarnessError
from harness.base.own_code import call
from harness.base.text import did_you_mean, shorten
from harness.base.validation import Strict
from harness.tasks.checked_positions import CheckedPositions
from harness.tasks.contract import AnyTask, AnyVariable
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import CaseStratum, NamedSet, QuestionList, Questions, shares
from harness.tasks.where import CaseKeys, as_list

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor

    from harness.tasks.batch import Batch
    from harness.tasks.checked_batch import BatchMaker

EXAMPLES, SEED = 3, 13  # example questions of a case, and the seed that draws them
SWEPT = 200  # questions of each kind that a sweep asks by default
TRIED = 4  # questions drawn to try out a task
REDRAWN = 64  # drawn twice, to see whether they are the same again; four may be the same by chance


@dataclass(frozen=True)
class CheckedVariable:
    """A variable that a user's task names."""

    name: str
    feeds: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def answer_tokens(self, task: Positions) -> tuple[str, ...]:
        """Return the answer tokens that depend on the variable, in order."""
        return self.feeds


class CheckedTask(CheckedPositions, AnyTask):
    """A user's :class:`~harness.tasks.user_task.Task`; everything that it returns is checked."""

    where_keys = CaseKeys
    _tried = False

    @cached_property
    def _maker(self) -> BatchMaker:
        from harness.tasks.checked_batch import BatchMaker

        return BatchMaker(self, self)

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of its question sets."""
        return tuple(self._texts)

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of its cases."""
        return self._cases

    @property
    def spreads(self) -> tuple[str, ...]:
        """``case`` if the task has cases, otherwise empty."""
        return ("case",) if self._cases else ()

    @property
    def swept(self) -> tuple[str, ...]:
        """A sample of all questions, and a sample of each case."""
        kinds = tuple(f"{{n: {SWEPT}, where: {{case: {json.dumps(case)}}}}}" for case in self._cases)
        return (f"{{n: {SWEPT}{self.spread_key}}}", *kinds)

    @property
    def counterparts(self) -> tuple[str, ...]:
        """The names of the counterparts that each question has."""
        return self._counterparts

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of its sets."""
        self.check_set(name)
        return tuple(self.read_question(text) for text in self._texts[name])

    def strata(self, where: Strict | None = None, stratify: str | None = None) -> tuple[CaseStratum, ...]:
        """Return a stratum for each named case; if none is named, one for every case with `stratify`, else none."""
        keys = where if isinstance(where, CaseKeys) else CaseKeys()
        cases = [str(case) for case in as_list(keys.case)]
        unknown = [*(keys.model_extra or {}), *([f"stratify: {stratify}"] if stratify else [])]
        if stratify in self.spreads:
            unknown.pop()
        if unknown:
            fix = f"name a case: {', '.join(self._cases)}" if self._cases else "it has no cases: ask {n: 1000}"
            raise HarnessError.of(f"a condition that {self.title} knows", unknown[0], fix)
        chosen = dict.fromkeys(cases) or (dict.fromkeys(self._cases) if stratify else {})
        if cases and not stratify and len(chosen) > 1:
            fix = "add stratify: case, for as many of each"
            raise HarnessError.of(f"one case, or several with stratify, of {self.title}", " or ".join(chosen), fix)
        return tuple(CaseStratum(case) for case in chosen)

    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of that name."""
        if text not in self._feeds:
            expected = f"a variable of {self.title}"
            fix = did_you_mean(text, self._feeds) if self._feeds else "it has none: give it `variables`"
            raise HarnessError.of(expected, shorten(text), fix)
        return CheckedVariable(text, tuple(d for d in self.answer_tokens if d in self._feeds[text]))

    def variables_near(self, variable: AnyVariable) -> tuple[AnyVariable, ...]:
        """Return all the other variables that the task names."""
        return tuple(self.read_variable(name) for name in self._feeds if name != str(variable))

    def encode(self, questions: Iterable[AnyQuestion]) -> Batch:
        """Return the batch of `questions`."""
        import torch

        from harness.tasks.batch import PAD

        rows = [[*question, *[PAD] * (self.question_length - len(question))] for question in questions]
        return self._maker.batch_of(torch.tensor(rows, dtype=torch.int64).reshape(-1, self.question_length))

    def questions_in(self, batch: Batch) -> list[AnyQuestion]:
        """Return the questions of a batch, without answers that follow them."""
        after = self.n_answer if self.ends_with_answer else 0
        rows = zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
        return [tuple(row[: length - after]) for row, length in rows]

    def texts_of(self, batch: Batch) -> list[str]:
        """Return the questions as text."""
        return [self.write_question(question) for question in self.questions_in(batch)]

    def cases_of(self, batch: Batch) -> list[str]:
        """Return each question's case; empty text if the task has no cases."""
        if not self._cases:
            return [""] * len(batch)
        found = call(self.file, "cases_of", lambda: list(self.task.cases_of(self._asked(batch).cpu())))
        if len(found) != len(batch):
            raise self.wrong(f"{len(batch)} cases from cases_of", str(len(found)), "give one for each question")
        if unknown := [case for case in found if not isinstance(case, str) or case not in self._cases]:
            raise self.wrong("cases that `cases` lists from cases_of", shorten(min(map(str, unknown))), "list it")
        return found

    def batch_for(self, questions: Questions) -> Batch:
        """Return the questions that a spec asks for."""
        import torch

        from harness.tasks.batch import joined

        if isinstance(questions, NamedSet):
            return self.encode(self.question_set(questions.name))
        if isinstance(questions, QuestionList):
            return self.encode(questions.questions)
        generator = torch.Generator().manual_seed(questions.seed)
        if not questions.strata:
            return self._drawn(questions.n, generator)
        sizes = shares(questions.n, len(questions.strata))
        parts = zip(sizes, questions.strata, strict=True)
        return joined([self._drawn(size, generator, stratum.name) for size, stratum in parts])

    def training_batch(self, n: int, generator: torch.Generator, shares: Mapping[str, float]) -> Batch:
        """Return questions to train on."""
        self._try_out()
        return self._maker.batch_of(call(self.file, "training_batch", self.task.training_batch, n, generator), n)

    def varied(self, n: int, generator: torch.Generator) -> Batch:
        """Return questions to draw pairs from: a training batch."""
        return self.training_batch(n, generator, {})

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return three questions of each case; three random questions if the task has no cases."""
        import torch

        found: dict[str, tuple[AnyQuestion, ...]] = {}
        for case in self._cases or ("",):
            found[case] = tuple(
                self.questions_in(self._drawn(EXAMPLES, torch.Generator().manual_seed(SEED), case or None))
            )
        return found

    def value_of(self, variable: AnyVariable, batch: Batch) -> Int[Tensor, " prompt"]:
        """Return the value of a variable on each question."""
        what = f"value_of {variable}"
        found = call(self.file, what, self.task.value_of, str(variable), self._asked(batch))
        return self._maker.whole(found, what, (len(batch),), None)

    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " prompt"], batch: Batch
    ) -> Int[Tensor, "prompt answer"]:
        """Return the answers when a variable is overwritten with `values`; own values must give true answers."""
        if not bool((self._overwritten(variable, self.value_of(variable, batch), batch) == batch.answers).all()):
            expected = f"the true answers from answers_with, where {variable} keeps its own value,"
            raise self.wrong(expected, "others", "correct the causal model")
        return self._overwritten(variable, values, batch)

    def counterparts_of(self, batch: Batch, name: str, seed: int) -> Batch:
        """Return the counterpart of each question: as long, with answers and named positions at the same places."""
        import torch

        self.check_counterpart(name)
        what, generator = f"counterpart {name}", torch.Generator().manual_seed(seed)
        rows = call(self.file, what, self.task.counterpart, name, self._asked(batch), generator)
        found = self._maker.batch_of(rows, len(batch), what)
        alike = torch.equal(found.lengths, batch.lengths) and torch.equal(found.places, batch.places)
        if not alike or any(not torch.equal(found.positions[at], batch.positions[at]) for at in self.positions):
            expected = f"questions as long, with the same positions, from {what}"
            raise self.wrong(expected, "others", "let it change tokens alone")
        if bool((found.asked == batch.asked).all(1).any()):
            raise self.wrong(f"other questions from {what}", "the same", "let it change a token that is read")
        return found

    def _overwritten(self, variable: AnyVariable, values: Tensor, batch: Batch) -> Tensor:
        what = f"answers_with {variable}"
        found = call(self.file, what, self.task.answers_with, str(variable), values.clone(), self._asked(batch))
        return self._maker.whole(found, what, (len(batch), self.n_answer))

    def _asked(self, batch: Batch) -> Int[Tensor, "prompt question_pos"]:
        """Return a copy of the questions without answers that follow them, which the user's code may change."""
        rows = batch.asked if self.ends_with_answer and not self.names else batch.tokens
        return rows[:, : self.question_length].clone()

    def _drawn(self, n: int, generator: torch.Generator, case: str | None = None) -> Batch:
        self._try_out()
        if not n:
            return self.encode([])
        arguments = (n, generator) if case is None else (n, generator, case)
        batch = self._maker.batch_of(call(self.file, "sample", self.task.sample, *arguments), n)
        if case is not None and (other := set(self.cases_of(batch)) - {case}):
            raise self.wrong(f"questions of the case {case} from sample", f"some of {min(other)}", "correct it")
        return batch

    def _try_out(self) -> None:
        """Check once that the task draws from its generator alone, and reads its written questions back."""
        if self._tried:
            return
        for what, draw in (("sample", self.task.sample), ("training_batch", self.task.training_batch)):
            first = self._drawn_by(what, draw, TRIED)
            once, twice = (self._drawn_by(what, draw, REDRAWN) for _ in range(2))
            self._same_again(f"questions again from {what}", once, twice)
            for question in self.questions_in(first):
                text = self.write_question(question)
                if self.read_question(text) != question:
                    raise self.wrong(f"read_question to read {shorten(text)}, which write_question wrote,",
                                      "another question", "correct one of them")  # fmt: skip
        for name in self.counterparts:
            drawn = (self.counterparts_of(once, name, SEED) for _ in range(2))
            self._same_again(f"counterparts {name} again", *drawn)
        self._tried = True

    def _drawn_by(self, what: str, draw: Callable[..., Tensor], n: int) -> Batch:
        import torch

        return self._maker.batch_of(call(self.file, what, draw, n, torch.Generator().manual_seed(SEED)), n)

    def _same_again(self, what: str, once: Batch, twice: Batch) -> None:
        if not once.tokens.equal(twice.tokens):
            raise self.wrong(f"the same {what}, of a generator with the same seed,", "others",
                             "draw from the generator alone")  # fmt: skip
