"""The task of a prompts file whose templates are filled in. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.filled_text import FilledText
from harness.tasks.prompts.task import EXAMPLES, SEED

if TYPE_CHECKING:
    import torch

    from harness.tasks.batch import Batch


class FilledTask(FilledText):
    """Templates that are filled in."""

    def encode(self, questions: Iterable[AnyQuestion]) -> Batch:
        """Return the batch of `questions`."""
        from harness.tasks.prompts.filled import encoded

        return encoded(self, list(questions))

    def drawn(self, n: int, generator: torch.Generator, templates: Iterable[str] = ()) -> Batch:
        """Return `n` random prompts."""
        from harness.tasks.prompts.drawing import draw

        return draw(self, n, generator, tuple(templates))

    def kept_values(self) -> Mapping[str, tuple[int, int]]:
        """Return for each list under `one_token` how many of its values are drawn, and how many it has."""
        from harness.tasks.prompts.drawing import kept_values

        return kept_values(self)

    def examples(self) -> dict[str, tuple[AnyQuestion, ...]]:
        """Return a few questions of each template."""
        import torch

        from harness.tasks.prompts.filled import questions_in

        made = {name: self.drawn(EXAMPLES, torch.Generator().manual_seed(SEED), (name,)) for name in self.cases}
        return {name: tuple(questions_in(batch)) for name, batch in made.items()}

    def texts_of(self, batch: Batch) -> list[str]:
        """Return the prompts as text, without their answers."""
        from harness.tasks.prompts.filled import questions_in

        return [self.write_question(question) for question in questions_in(batch)]

    def cases_of(self, batch: Batch) -> list[str]:
        """Return each prompt's template."""
        from harness.tasks.prompts.filled import questions_in

        return [self.cases[question[0]] for question in questions_in(batch)]

    def counterparts_of(self, batch: Batch, name: str, seed: int) -> Batch:
        """Return the counterpart of each prompt: as long, with all positions where they were."""
        from harness.tasks.prompts.drawing import counterparts

        self.check_counterpart(name)
        return counterparts(self, batch, name, seed)
