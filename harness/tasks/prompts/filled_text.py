"""Filled templates as text. Imports no torch.

A question is the number of a template, and the number of a value for each place; -1 where the template lacks the
place. ``harness/tasks/prompts/filled.py`` draws questions and makes batches of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.errors import HarnessError
from harness.base.text import shorten, visible
from harness.tasks.contract import Success
from harness.tasks.positions import AnyQuestion
from harness.tasks.prompts.definition import Filled
from harness.tasks.prompts.task import GATE, PromptsTask

if TYPE_CHECKING:
    pass

ALL = "all"  # the set of all rows


class FilledText(PromptsTask):
    """Templates that are filled in, as text: what needs no tokenizer."""

    definition: Filled

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        """One token."""
        return ("answer",)

    @property
    def has_wrong(self) -> bool:
        """Whether the file says what is wrong."""
        return self.definition.wrong is not None

    @property
    def success(self) -> Success:
        """The right answer above the wrong ones; without any, the answer itself."""
        return Success("prefers" if self.has_wrong else "whole", GATE)

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of the templates."""
        return tuple(template.name for template in self.definition.templates)

    @property
    def sets(self) -> tuple[str, ...]:
        """All rows, if the file lists rows."""
        return (ALL,) if self.definition.joint else ()

    @property
    def n_ctx(self) -> int:
        """More tokens than any prompt has: a token is a letter at least."""
        longest = {slot: max(map(len, values), default=1) for slot, values in self.definition.values.items()}
        sizes = (
            sum(len(text) + (longest[self.definition.slot_at[place]] if place else 0) for text, place in template.parts)
            for template in self.definition.templates
        )
        return max(sizes) + 2

    def question_set(self, name: str) -> tuple[AnyQuestion, ...]:
        """Return every row in every template."""
        self.check_set(name)
        d, (size,) = self.definition, set(self.definition.drawn.values())
        return tuple(
            (t, *(row if place in template.places else -1 for place in d.places))
            for t, template in enumerate(d.templates)
            for row in range(size)
        )

    def text_of(self, question: AnyQuestion) -> str:
        """Return the text of a question, without its answer."""
        return "".join(text + (self.value_at(question, place) if place else "") for text, place in self.parts(question))

    def parts(self, question: AnyQuestion) -> tuple[tuple[str, str], ...]:
        """Return the parts of a question's template."""
        return self.definition.templates[question[0]].parts

    def value_at(self, question: AnyQuestion, place: str) -> str:
        """Return the text that stands at a place of a question."""
        d = self.definition
        return d.values[d.slot_at[place]][question[1 + d.places.index(place)]]

    def write_question(self, question: AnyQuestion) -> str:
        """Return the text of a question."""
        return visible(self.text_of(question))

    def read_question(self, text: object) -> AnyQuestion:
        """Return the question that `text` writes: one of the templates, filled with values of the file."""
        if isinstance(text, str):
            for t, pattern in enumerate(self._patterns):
                if match := pattern.fullmatch(text):
                    found = self._question_of(t, match.groupdict())
                    if found is not None:
                        return found
        first = self.definition.templates[0]
        expected = f"a prompt of {self.title}, like {first.name} filled with its values"
        raise HarnessError.of(expected, shorten(text, 80), f"see harness prompts {self.title}")

    def _question_of(self, t: int, said: Mapping[str, str]) -> AnyQuestion | None:
        """Return the question in which the places have these texts; None if a slot has two values."""
        d, chosen, numbers = self.definition, dict[str, int](), []
        if d.joint:  # rows may share the values of some columns
            for row in range(min(d.drawn.values())):
                if all(d.values[d.slot_at[place]][row] == text for place, text in said.items()):
                    return (t, *(row if place in said else -1 for place in d.places))
            return None
        for place in d.places:
            if place not in said:
                numbers.append(-1)
                continue
            slot = d.slot_at[place]
            number = d.values[slot].index(said[place])
            if chosen.setdefault(slot, number) != number:
                return None
            numbers.append(number)
        return (t, *numbers)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        d, found = self.definition, []
        for template in d.templates:
            pattern = ""
            for text, place in template.parts:
                pattern += re.escape(text)
                if place:
                    values = sorted(d.values[d.slot_at[place]], key=len, reverse=True)
                    pattern += f"(?P<{place}>{'|'.join(map(re.escape, values))})"
            found.append(re.compile(pattern))
        return found
