"""Addition, the task that ships, as a task of the harness. Imports no torch.

:class:`Addition` calls the functions of ``arithmetic.py``, ``sampling.py`` and ``causal.py`` in
``harness/tasks/addition/``. These modules are imported only when tensors are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.tasks.addition.layout import Layout
from harness.tasks.addition.question_sets import NAMES, named_set
from harness.tasks.addition.strata import CASES, make_strata
from harness.tasks.addition.variables import Variable, read_variable
from harness.tasks.contract import AnyVariable
from harness.tasks.positions import AnyQuestion
from harness.tasks.questions import CaseStratum, Questions, Stratify, Stratum, TriCase

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor
from harness.tasks.contract import AnyTask


class Addition(AnyTask):
    """Addition, the task that ships with the harness."""

    sets = NAMES
    cases = CASES
    spreads: tuple[Stratify, ...] = ("case", "cascade")
    swept = ("varied", "ba", "uc1", "simple_us9", "cascade_us9")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return those questions of one of the notebook's sets that fit the layout."""
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
        """Return the tokens of pairs of addends, with their true answers."""
        from harness.tasks.addition.arithmetic import encode

        return encode(questions, self.layout)

    def texts(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the questions as text like ``15508+14500``."""
        from harness.tasks.addition.arithmetic import decode

        return [self.layout.write_question(question) for question in decode(tokens, self.layout)]

    def cases_of(self, tokens: Int[Tensor, "question pos"]) -> list[str]:
        """Return the notebook's case of each question."""
        from harness.tasks.addition.arithmetic import cases_of

        return list(cases_of(tokens, self.layout))

    def tokens_for(self, questions: Questions) -> Int[Tensor, "question pos"]:
        """Return the tokens of the questions that a spec asks for."""
        from harness.tasks.addition.sampling import tokens_for

        return tokens_for(questions, self.layout)

    def training_batch(
        self, n: int, generator: torch.Generator, enrichment: Mapping[str, float]
    ) -> Int[Tensor, "question pos"]:
        """Return uniform questions, enriched as `enrichment` says (shares of :func:`sampling.sample_uniform`)."""
        from harness.tasks.addition.sampling import sample_uniform

        return sample_uniform(self.layout, n, generator, **enrichment)

    def varied(self, n: int, generator: torch.Generator) -> Int[Tensor, "question pos"]:
        """Return questions; half of them are enriched with columns that sum to 9."""
        from harness.tasks.addition.sampling import ENRICHED, sample_uniform

        return sample_uniform(self.layout, n, generator, sum9_question_share=ENRICHED)

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return three questions of each class that the layout has: BA, UC1 and US9."""
        from harness.tasks.addition.sampling import example_questions

        return dict(example_questions(self.layout))

    def value_of(self, variable: AnyVariable, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, " question"]:
        """Return the value of a column's variable on each question."""
        from harness.tasks.addition.causal import value_of

        assert isinstance(variable, Variable)
        return value_of(variable, self._sums(tokens))

    def answers_with(
        self, variable: AnyVariable, values: Int[Tensor, " question"], tokens: Int[Tensor, "question pos"]
    ) -> Int[Tensor, "question digit"]:
        """Return the digits of the answers when a column's variable is overwritten with `values`."""
        from harness.tasks.addition.causal import answers_with

        assert isinstance(variable, Variable)
        return answers_with(variable, values, self._sums(tokens))

    def _sums(self, tokens: Int[Tensor, "question pos"]) -> Int[Tensor, "question column"]:
        from harness.tasks.addition.arithmetic import addends

        x, y = addends(tokens, self.layout)
        return x + y
