"""Addition as a task of the harness. Imports no torch.

:class:`Addition` is a layout with the functions of ``arithmetic.py``, ``sampling.py``, ``causal.py`` and the other
modules of this folder. Those that need tensors are imported only when they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.validation import Strict
from harness.tasks.addition.layout import Layout
from harness.tasks.addition.question_sets import NAMES, named_set
from harness.tasks.addition.roles import role_queries
from harness.tasks.addition.series import series_of
from harness.tasks.addition.strata import CASES, Stratum, make_strata
from harness.tasks.addition.variables import Variable, read_variable, variables_near
from harness.tasks.addition.where import Where
from harness.tasks.contract import AnyTask, AnyVariable, LossSeries, RoleQuery
from harness.tasks.positions import AnyQuestion
from harness.tasks.questions import Questions
from harness.tasks.where import as_list

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

    from harness.tasks.batch import Batch


@dataclass(frozen=True)
class Addition(Layout, AnyTask):
    """Addition of two numbers of ``n_digits`` digits."""

    sets = NAMES
    cases = CASES
    where_keys = Where
    spreads = ("case", "cascade")
    swept = ("varied", "ba", "uc1", "simple_us9", "cascade_us9")

    @cached_property
    def roles(self) -> tuple[RoleQuery, ...]:
        """Who adds a column, who brings the carry, and who hands it on."""
        return tuple(role_queries(self.n_digits))

    @cached_property
    def series(self) -> LossSeries:
        """The losses of each sub-task."""
        return series_of(self)

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return those questions of one of the notebook's sets that fit the layout."""
        return named_set(name, self)

    def strata(self, where: Strict | None = None, stratify: str | None = None) -> tuple[Stratum, ...]:
        """Return the strata of a description."""
        keys = where if isinstance(where, Where) else Where()
        known = [case for name in as_list(keys.case) for case in CASES if case == name]
        lengths = [length for length in as_list(keys.cascade) if isinstance(length, int)]
        return make_strata(self, cases=known, cascades=lengths, columns=keys.columns, stratify=stratify)

    def read_variable(self, text: str) -> Variable:
        """Return the variable of a column that `text` names."""
        return read_variable(text, self)

    def variables_near(self, variable: AnyVariable) -> tuple[Variable, ...]:
        """Return the same of the next columns, and the others of the column."""
        assert isinstance(variable, Variable)
        return variables_near(variable, self)

    def encode(self, questions: Iterable[AnyQuestion]) -> Batch:
        """Return the batch of pairs of addends."""
        from harness.tasks.addition.arithmetic import encode

        return self.batch_of(encode(questions, self))

    def batch_of(self, tokens: Int[Tensor, "question pos"]) -> Batch:
        """Return the batch of questions whose tokens are given with their true answers."""
        from harness.tasks.batch import ending_with_answers

        return ending_with_answers(self, tokens, self.n_answer)

    def batch_for(self, questions: Questions) -> Batch:
        """Return the questions that a spec asks for."""
        from harness.tasks.addition.sampling import tokens_for

        return self.batch_of(tokens_for(questions, self))

    def training_batch(self, n: int, generator: torch.Generator, shares: Mapping[str, float]) -> Batch:
        """Return uniform questions, enriched as `shares` say (those of :func:`sampling.sample_uniform`)."""
        from harness.tasks.addition.sampling import sample_uniform

        return self.batch_of(sample_uniform(self, n, generator, **shares))

    def varied(self, n: int, generator: torch.Generator) -> Batch:
        """Return questions; half of them are enriched with columns that sum to 9."""
        from harness.tasks.addition.sampling import ENRICHED, sample_uniform

        return self.batch_of(sample_uniform(self, n, generator, sum9_question_share=ENRICHED))

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return three questions of each class that the layout has: BA, UC1 and US9."""
        from harness.tasks.addition.sampling import example_questions

        return dict(example_questions(self))

    def texts_of(self, batch: Batch) -> list[str]:
        """Return the questions as text like ``15508+14500``."""
        from harness.tasks.addition.arithmetic import decode

        return [self.write_question(question) for question in decode(batch.tokens, self)]

    def cases_of(self, batch: Batch) -> list[str]:
        """Return the notebook's case of each question."""
        from harness.tasks.addition.arithmetic import cases_of

        return list(cases_of(batch.tokens, self))

    def value_of(self, variable: AnyVariable, batch: Batch) -> Int[Tensor, " question"]:
        """Return the value of a column's variable on each question."""
        from harness.tasks.addition.causal import value_of

        assert isinstance(variable, Variable)
        return value_of(variable, self._sums(batch))

    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], batch: Batch
    ) -> Int[Tensor, "question digit"]:
        """Return the digits of the answers when a column's variable is overwritten with `values`."""
        from harness.tasks.addition.causal import answers_with

        assert isinstance(variable, Variable)
        return answers_with(variable, values, self._sums(batch))

    def divided(
        self, tokens: Int[Tensor, "step question pos"], losses: Float[Tensor, "step question digit"]
    ) -> tuple[Float[Tensor, "step series"], Float[Tensor, "step series"]]:
        """Return the loss and the number of cases of each sub-task."""
        from harness.tasks.addition.series import divided

        return divided(tokens, losses, self)

    def _sums(self, batch: Batch) -> Int[Tensor, "question column"]:
        from harness.tasks.addition.arithmetic import addends

        x, y = addends(batch.tokens, self)
        return x + y
