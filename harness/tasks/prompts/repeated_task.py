"""The task of a prompts file about random tokens that are repeated. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.base.errors import HarnessError
from harness.base.text import shorten, visible
from harness.tasks.contract import Success
from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.definition import Repeated
from harness.tasks.prompts.task import EXAMPLES, GATE, SEED, PromptsTask

if TYPE_CHECKING:
    import torch

    from harness.tasks.batch import Batch


class RepeatedTask(PromptsTask):
    """Random tokens that are repeated. A question is its tokens."""

    definition: Repeated
    repeats = True

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        """All tokens of the last repeat but its first."""
        return tuple(f"T{i}" for i in range(1, self.definition.length))

    @property
    def success(self) -> Success:
        """Each token by itself."""
        return Success("each", GATE)

    @property
    def cases(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def sets(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def n_ctx(self) -> int:
        """The number of tokens of each prompt."""
        return self.definition.length * self.definition.times + 1

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Refuse: there are none."""
        self.check_set(name)
        return ()

    def write_question(self, question: AnyQuestion) -> str:
        """Return the tokens with bars between them."""
        return visible(self.tokens.shown(question))

    def read_question(self, text: object) -> AnyQuestion:
        """Refuse all: prompts are drawn."""
        raise HarnessError.of(f"a sample, for prompts of {self.title} are random", shorten(text), "write {n: 200}")

    def encode(self, questions: Iterable[AnyQuestion]) -> Batch:
        """Return the batch of `questions`."""
        from harness.tasks.prompts.repeated import encoded

        return encoded(self, list(questions))

    def drawn(self, n: int, generator: torch.Generator, templates: Iterable[str] = ()) -> Batch:
        """Return `n` random prompts."""
        from harness.tasks.prompts.repeated import draw

        return draw(self, n, generator)

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return a few prompts."""
        import torch

        from harness.tasks.prompts.repeated import questions_in

        return {"": tuple(questions_in(self, self.drawn(EXAMPLES, torch.Generator().manual_seed(SEED))))}

    def texts_of(self, batch: Batch) -> list[str]:
        """Return the tokens of each prompt, with bars between them."""
        from harness.tasks.prompts.repeated import questions_in

        return [self.write_question(question) for question in questions_in(self, batch)]

    def cases_of(self, batch: Batch) -> list[str]:
        """Return nothing for each prompt."""
        return [""] * len(batch)

    def counterparts_of(self, batch: Batch, name: str, seed: int) -> Batch:
        """Return each prompt with other tokens in all repeats but the last: what it is asked seldom stood before."""
        from harness.tasks.prompts.repeated import unrepeated

        self.check_counterpart(name)
        return unrepeated(self, batch, seed)
