"""The errors of the harness. Each problem is one line: where, what was expected, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, ready to be shown: ``path:line:col: expected …, found …; fix``.

    Lines and columns count from 1; they are None for a problem with a whole file or an argument.
    """

    expected: str
    found: str
    fix: str
    where: str = ""
    line: int | None = None
    col: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.where, self.line, self.col) if part not in (None, ""))
        text = f"expected {self.expected}, found {self.found}; {self.fix}"
        # One problem is one line, even if the text from a file or an argument has line breaks.
        return " ".join((f"{place}: {text}" if place else text).splitlines())


class HarnessError(Exception):
    """An error that is not a verdict. It holds every problem found; its text has one line for each.

    The torch-free parsers raise it without a position, because they do not know it.
    :meth:`harness.base.yamlfile.Document.problem` adds the position.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    @classmethod
    def of(
        cls,
        expected: str,
        found: str,
        fix: str,
        where: object = "",
        line: int | None = None,
        col: int | None = None,
    ) -> HarnessError:
        """Return the error for a single problem."""
        return cls(Problem(expected, found, fix, str(where), line, col))


class SpecError(HarnessError):
    """A spec or a recipe that cannot be parsed, or that asks for something impossible."""


class FixtureError(HarnessError):
    """Weights, or the files around them, that are missing, broken, or not what was pinned."""


class NotImportedError(FixtureError):
    """Published weights that have not been imported: nothing is broken, but nothing can be measured."""


class MeasurementError(HarnessError):
    """A measurement without meaning: nan, no questions, a hook that did not fire, an untrained model."""
