"""What the harness asks of a task, whichever it is; and which task stands behind a layout. Imports no torch.

:class:`Addition` answers for the task that ships, by the functions of ``addition.py``, ``sampling.py`` and
``causal.py``, which are imported when tensors are wanted; a task that somebody brought answers in ``brought.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import HarnessError, shorten
from harness.layout import Layout
from harness.positions import AnyQuestion, Positions
from harness.question_sets import NAMES, named_set
from harness.selection import (
    CASES,
    CaseStratum,
    Questions,
    Stratify,
    Stratum,
    TriCase,
    make_strata,
)  # fmt: skip
from harness.variables import AnyVariable, Variable, read_variable

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor


class AnyTask(ABC):
    """Questions, tokens, answers, cases and variables of a task. Tokens are whole: the true answer is in them."""

    @property
    @abstractmethod
    def sets(self) -> tuple[str, ...]:
        """The names of its question sets."""

    @property
    @abstractmethod
    def cases(self) -> tuple[str, ...]:
        """The names of its cases, in order."""

    @property
    @abstractmethod
    def spreads(self) -> tuple[Stratify, ...]:
        """By what a sample can be stratified; the last one spreads questions over what is hard."""

    @property
    @abstractmethod
    def swept(self) -> tuple[str, ...]:
        """The questions that a sweep asks unless told, as a spec writes them; the first are its reference too."""

    @abstractmethod
    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of its sets.

        Raises:
            HarnessError: it has none of that name, or none with questions.
        """

    @abstractmethod
    def strata(
        self,
        *,
        cases: Sequence[str] = (),
        cascades: Sequence[int] = (),
        columns: dict[str, TriCase] | None = None,
        stratify: Stratify | None = None,
    ) -> tuple[Stratum | CaseStratum, ...]:
        """Return the strata of a description: all conditions hold together, `stratify` splits what is left.

        Raises:
            HarnessError: a condition that the task does not know, or that no question meets.
        """

    @abstractmethod
    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of the causal model that `text` names.

        Raises:
            HarnessError: there is none.
        """

    @abstractmethod
    def encode(self, questions: Iterable[AnyQuestion]) -> Int[Tensor, "question pos"]:
        """Return the tokens of `questions`."""

    @abstractmethod
    def texts(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the questions that `tokens` ask, written as in a spec."""

    @abstractmethod
    def cases_of(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return each question's case."""

    @abstractmethod
    def tokens_for(self, questions: Questions) -> Int[Tensor, "question pos"]:
        """Return the tokens of the questions that a spec asks for; a sample depends on nothing but its seed."""

    @abstractmethod
    def training_batch(
        self, n: int, generator: torch.Generator, enrichment: Mapping[str, float]
    ) -> Int[Tensor, "question pos"]:
        """Return `n` questions to train on."""

    @abstractmethod
    def varied(self, n: int, generator: torch.Generator) -> Int[Tensor, "question pos"]:
        """Return `n` questions to draw pairs from, in which variables take their rare values too."""

    @abstractmethod
    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return a few questions of each kind there is, always the same."""

    @abstractmethod
    def value_of(self, variable: AnyVariable, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, " question"]:
        """Return the value of a variable on each question."""

    @abstractmethod
    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], tokens: Int[Tensor, "question pos"]
    ) -> Int[Tensor, "question digit"]:
        """Return the answers when a variable has these `values` in place of its own."""

    def spread(self) -> tuple[Stratum | CaseStratum, ...]:
        """Return the strata that spread questions over what is hard; none where the task has no kinds."""
        return self.strata(stratify=self.spreads[-1]) if self.spreads else ()

    @property
    def spread_key(self) -> str:
        """That, as a sample of a spec says it: ``, stratify: cascade``; empty for none."""
        return f", stratify: {self.spreads[-1]}" if self.spreads else ""

    def check_case(self, name: object) -> None:
        """Refuse what is none of its cases.

        Raises:
            HarnessError: what it should have been.
        """
        _check_one_of(name, self.cases, "no case, for this task has none", "correct `case`")

    def check_set(self, name: object) -> None:
        """Refuse what is none of its question sets.

        Raises:
            HarnessError: what it should have been.
        """
        without = "a list or a sample, for this task has no named sets"
        _check_one_of(name, self.sets, without, "name a set, or write a list or a sample")


def _check_one_of(name: object, known: Sequence[str], without: str, fix: str) -> None:
    if name not in known:
        *others, last = known or (without,)
        raise HarnessError.of(f"{', '.join(others)} or {last}" if others else last, shorten(name), fix)


class Addition(AnyTask):
    """The task that ships."""

    sets = NAMES
    cases = CASES
    spreads: tuple[Stratify, ...] = ("case", "cascade")
    swept = ("varied", "ba", "uc1", "simple_us9", "cascade_us9")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of the notebook's sets that exist for the layout."""
        return named_set(name, self.layout)

    def strata(
        self,
        *,
        cases: Sequence[str] = (),
        cascades: Sequence[int] = (),
        columns: dict[str, TriCase] | None = None,
        stratify: Stratify | None = None,
    ) -> tuple[Stratum | CaseStratum, ...]:
        """Return the strata of a description."""
        known = [case for name in cases for case in CASES if case == name]
        return make_strata(self.layout, cases=known, cascades=cascades, columns=columns, stratify=stratify)

    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of a column that `text` names."""
        return read_variable(text, self.layout)

    def encode(self, questions: Iterable[AnyQuestion]) -> Int[Tensor, "question pos"]:
        """Return the tokens of pairs of addends."""
        from harness.addition import encode

        return encode(questions, self.layout)

    def texts(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the questions, ``15508+14500``."""
        from harness.addition import decode

        return [self.layout.write_question(question) for question in decode(tokens, self.layout)]

    def cases_of(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the notebook's case of each question."""
        from harness.addition import cases_of

        return list(cases_of(tokens, self.layout))

    def tokens_for(self, questions: Questions) -> Int[Tensor, "question pos"]:
        """Return the tokens of the questions that a spec asks for."""
        from harness.sampling import tokens_for

        return tokens_for(questions, self.layout)

    def training_batch(
        self, n: int, generator: torch.Generator, enrichment: Mapping[str, float]
    ) -> Int[Tensor, "question pos"]:
        """Return uniform questions, some of them enriched with columns that sum to 9."""
        from harness.sampling import sample_uniform

        return sample_uniform(self.layout, n, generator, **enrichment)

    def varied(self, n: int, generator: torch.Generator) -> Int[Tensor, "question pos"]:
        """Return questions half of which are enriched with columns that sum to 9."""
        from harness.sampling import ENRICHED, sample_uniform

        return sample_uniform(self.layout, n, generator, sum9_question_share=ENRICHED)

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return three questions of each class that the layout has: BA, UC1 and US9."""
        from harness.sampling import example_questions

        return dict(example_questions(self.layout))

    def value_of(self, variable: AnyVariable, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, " question"]:
        """Return the value of a column's variable on each question."""
        from harness.causal import value_of

        assert isinstance(variable, Variable)
        return value_of(variable, self._sums(tokens))

    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], tokens: Int[Tensor, "question pos"]
    ) -> Int[Tensor, "question digit"]:
        """Return the digits of the answers when a column's variable has these `values`."""
        from harness.causal import answers_with

        assert isinstance(variable, Variable)
        return answers_with(variable, values, self._sums(tokens))

    def _sums(self, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, "question column"]:
        from harness.addition import addends

        x, y = addends(tokens, self.layout)
        return x + y


def task_of(positions: Positions) -> AnyTask:
    """Return the task whose tokens stand so: the one place that tells addition from a task that somebody brought."""
    if isinstance(positions, AnyTask):
        return positions
    assert isinstance(positions, Layout)
    return Addition(positions)
