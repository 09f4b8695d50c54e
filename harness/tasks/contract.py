"""The interface of every task, :class:`AnyTask`, and of its variables, :class:`AnyVariable`. Imports no torch.

``harness/tasks/addition/task.py`` implements it for addition, the task that ships, and
``harness/tasks/checked_task.py`` for a user's task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import CaseStratum, Questions, Stratify, Stratum, TriCase

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor


class AnyTask(ABC):
    """Questions, tokens, answers, cases and variables of a task. Tokens include the true answer."""

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
        """The keys by which a sample can be stratified; the last one spreads questions over hard kinds."""

    @property
    @abstractmethod
    def swept(self) -> tuple[str, ...]:
        """The questions that a sweep asks by default, as a spec writes them; the first entry is also its reference."""

    @abstractmethod
    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of its sets.

        Raises:
            HarnessError: the task has no set of that name, or the set has no questions.
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
        """Return the strata of a description: questions must meet all conditions, and `stratify` splits them.

        Raises:
            HarnessError: the task does not know a condition, or no question meets it.
        """

    @abstractmethod
    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of the causal model that `text` names.

        Raises:
            HarnessError: there is no such variable.
        """

    @abstractmethod
    def encode(self, questions: Iterable[AnyQuestion]) -> Int[Tensor, "question pos"]:
        """Return the tokens of `questions`."""

    @abstractmethod
    def texts(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the questions in `tokens`, written as in a spec."""

    @abstractmethod
    def cases_of(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return each question's case."""

    @abstractmethod
    def tokens_for(self, questions: Questions) -> Int[Tensor, "question pos"]:
        """Return the tokens of the questions that a spec asks for; a sample is determined by its seed."""

    @abstractmethod
    def training_batch(
        self, n: int, generator: torch.Generator, enrichment: Mapping[str, float]
    ) -> Int[Tensor, "question pos"]:
        """Return `n` questions to train on."""

    @abstractmethod
    def varied(self, n: int, generator: torch.Generator) -> Int[Tensor, "question pos"]:
        """Return `n` questions to draw pairs from; in these, variables also take their rare values."""

    @abstractmethod
    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return a few questions of each kind; they are always the same."""

    @abstractmethod
    def value_of(self, variable: AnyVariable, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, " question"]:
        """Return the value of a variable on each question."""

    @abstractmethod
    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], tokens: Int[Tensor, "question pos"]
    ) -> Int[Tensor, "question digit"]:
        """Return the answers when a variable is overwritten with `values`."""

    def spread(self) -> tuple[Stratum | CaseStratum, ...]:
        """Return the strata that spread questions over hard kinds; empty if the task has no `spreads`."""
        return self.strata(stratify=self.spreads[-1]) if self.spreads else ()

    @property
    def spread_key(self) -> str:
        """The stratification of :meth:`spread` as a spec writes it: ``, stratify: cascade``; empty if there is none."""
        return f", stratify: {self.spreads[-1]}" if self.spreads else ""

    def check_case(self, name: object) -> None:
        """Refuse a `name` that is not one of the task's cases.

        Raises:
            HarnessError: there is no such case; the error names those that exist.
        """
        _check_one_of(name, self.cases, "no case, for this task has none", "correct `case`")

    def check_set(self, name: object) -> None:
        """Refuse a `name` that is not one of the task's question sets.

        Raises:
            HarnessError: there is no such set; the error names those that exist.
        """
        without = "a list or a sample, for this task has no named sets"
        _check_one_of(name, self.sets, without, "name a set, or write a list or a sample")


def _check_one_of(name: object, known: Sequence[str], without: str, fix: str) -> None:
    if name not in known:
        *others, last = known or (without,)
        raise HarnessError.of(f"{', '.join(others)} or {last}" if others else last, shorten(name), fix)


class AnyVariable(ABC):
    """A variable of a task's causal model; ``str()`` of it is its name."""

    @abstractmethod
    def digits(self, layout: Positions) -> tuple[str, ...]:
        """Return the answer digits that depend on the variable, in order."""
