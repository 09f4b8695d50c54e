"""The interface of every task, :class:`AnyTask`, and of its variables, :class:`AnyVariable`. Imports no torch.

Each family that ships implements it in a folder of its own; ``harness/tasks/checked_task.py`` implements it for a
user's task. A task need not have everything: sets, cases, strata, variables, roles, counterparts and series of the
learning curves may be empty, and claims that need them are then refused.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from harness.base.errors import HarnessError
from harness.base.text import shorten
from harness.base.validation import Strict
from harness.tasks.positions import AnyQuestion, Positions
from harness.tasks.questions import AnyStratum, Questions

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

    from harness.tasks.batch import Batch


class AnyVariable(Protocol):
    """A variable of a task's causal model; ``str()`` of it is its name."""

    def answer_tokens(self, task: Positions) -> tuple[str, ...]:
        """Return the answer tokens that depend on the variable, in order."""
        ...


@dataclass(frozen=True)
class RoleQuery:
    """A role that nodes of a model may have: the variable that they carry, and the answer tokens that follow it."""

    role: str
    place: str
    variable: AnyVariable
    tokens: tuple[str, ...]

    @property
    def name(self) -> str:
        """The role's full name, ``role.place``."""
        return f"{self.role}.{self.place}"


@dataclass(frozen=True)
class Success:
    """What counts as answering a prompt, and on what share of prompts a clean model must do so."""

    kind: Literal[
        "whole", "prefers", "each"
    ]  # all tokens right; the right one above the wrong ones; each token by itself
    gate: float


@dataclass(frozen=True)
class LossSeries:
    """How a task divides the losses of training, for the learning curves.

    Each answer token of each prompt is of one kind; so is each whole prompt. There is a series for every kind of whole
    prompts, and one for every kind of every token that is divided.
    """

    kinds: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()  # the series of whole prompts, one for each kind
    places: Mapping[str, str] = field(default_factory=dict)  # answer token → what the names of its series end with
    never: frozenset[str] = frozenset()  # series that can have no case
    labels: Mapping[str, str] = field(default_factory=dict)  # what figures call a series, where not by its name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all series, in the order of the columns of the learning curves."""
        return (*self.whole, *(f"{kind}.{place}" for kind in self.kinds for place in self.places.values()))


class AnyTask(Positions):
    """The prompts of a task, with their answers, cases and variables. A batch's tokens include the right answers."""

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
    def where_keys(self) -> type[Strict]:
        """The keys of `where`, which describe prompts."""

    @property
    @abstractmethod
    def spreads(self) -> tuple[str, ...]:
        """The keys by which a sample can be stratified; the last one spreads prompts over hard kinds."""

    @property
    @abstractmethod
    def swept(self) -> tuple[str, ...]:
        """The prompts that a sweep asks by default, as a spec writes them; the first entry is also its reference."""

    @property
    def counterparts(self) -> tuple[str, ...]:
        """The names of the counterparts that each prompt has."""
        return ()

    @property
    def has_wrong(self) -> bool:
        """Whether prompts name wrong answers, which the right ones are measured against."""
        return False

    @property
    def success(self) -> Success:
        """When a clean run answers a prompt: what the gate of a claim counts, and how often it must be so."""
        return Success("whole", 0.99)

    @property
    def roles(self) -> tuple[RoleQuery, ...]:
        """The roles to look for in a model of this task."""
        return ()

    @property
    def series(self) -> LossSeries:
        """How learning curves divide the losses."""
        return LossSeries()

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The names of the learning curves that hold losses: over all, of each answer token, of each series."""
        return ("loss", *self.answer_tokens, *self.series.names)

    @property
    def curve_columns(self) -> tuple[str, ...]:
        """The columns of the learning curves after ``step``; each series also has its number of cases."""
        overall, *parts = self.loss_names
        return (overall, "right", *parts, *(f"{name}.cases" for name in self.series.names))

    @abstractmethod
    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return the questions of one of its sets.

        Raises:
            HarnessError: the task has no set of that name, or the set has no questions.
        """

    @abstractmethod
    def strata(self, where: Strict | None = None, stratify: str | None = None) -> tuple[AnyStratum, ...]:
        """Return the strata of a description: prompts meet all conditions of `where`, and `stratify` splits them.

        `where` is of the class :attr:`where_keys`.

        Raises:
            HarnessError: the task does not know a condition, or no prompt meets it.
        """

    @abstractmethod
    def read_variable(self, text: str) -> AnyVariable:
        """Return the variable of the causal model that `text` names.

        Raises:
            HarnessError: there is no such variable.
        """

    def variables_near(self, variable: AnyVariable) -> tuple[AnyVariable, ...]:
        """Return other variables that a node could carry in place of this one, to see if the data tell them apart."""
        return ()

    @abstractmethod
    def encode(self, questions: Iterable[AnyQuestion]) -> Batch:
        """Return the batch of `questions`."""

    @abstractmethod
    def batch_for(self, questions: Questions) -> Batch:
        """Return the prompts that a spec asks for; a sample is determined by its seed."""

    @abstractmethod
    def training_batch(self, n: int, generator: torch.Generator, shares: Mapping[str, float]) -> Batch:
        """Return `n` prompts to train on; `shares` say how much of each kind the recipe adds."""

    @abstractmethod
    def varied(self, n: int, generator: torch.Generator) -> Batch:
        """Return `n` prompts to draw pairs from; in these, variables also take their rare values."""

    @abstractmethod
    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return a few questions of each kind; they are always the same."""

    @abstractmethod
    def texts_of(self, batch: Batch) -> list[str]:
        """Return the prompts as a spec writes them."""

    @abstractmethod
    def cases_of(self, batch: Batch) -> list[str]:
        """Return each prompt's case; empty text if the task has none."""

    @abstractmethod
    def value_of(self, variable: AnyVariable, batch: Batch) -> Int[Tensor, " prompt"]:
        """Return the value of a variable on each prompt."""

    @abstractmethod
    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " prompt"], batch: Batch
    ) -> Int[Tensor, "prompt answer"]:
        """Return the answers when a variable is overwritten with `values`."""

    def counterparts_of(self, batch: Batch, name: str, seed: int) -> Batch:
        """Return the counterpart of each prompt that is called `name`.

        Raises:
            HarnessError: the task has no counterpart of this name.
        """
        self.check_counterpart(name)
        raise NotImplementedError(f"{self.title} names the counterpart {name}, and makes none")

    def divided(
        self, tokens: Int[Tensor, "step prompt pos"], losses: Float[Tensor, "step prompt answer"]
    ) -> tuple[Float[Tensor, "step series"], Float[Tensor, "step series"]]:
        """Return the mean loss of each of the :attr:`series` (nan where there is no case), and its number of cases."""
        raise NotImplementedError(f"{self.title} names series of learning curves, and divides nothing")

    def spread(self) -> tuple[AnyStratum, ...]:
        """Return the strata that spread prompts over hard kinds; empty if the task has no `spreads`."""
        return self.strata(stratify=self.spreads[-1]) if self.spreads else ()

    @property
    def spread_key(self) -> str:
        """The stratification of :meth:`spread` as a spec writes it: ``, stratify: case``; empty if there is none."""
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

    def check_counterpart(self, name: object) -> None:
        """Refuse a `name` that is not one of the task's counterparts.

        Raises:
            HarnessError: there is no such counterpart; the error names those that exist.
        """
        without = f"another method, for {self.nouns.prompts} of {self.title} have no counterparts"
        _check_one_of(name, self.counterparts, without, "name a counterpart of the task")


def _check_one_of(name: object, known: Sequence[str], without: str, fix: str) -> None:
    if name not in known:
        *others, last = known or (without,)
        raise HarnessError.of(f"{', '.join(others)} or {last}" if others else last, shorten(name), fix)
