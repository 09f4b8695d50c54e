"""What can go wrong, one line each: where, what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import category, name


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, ready to be shown: ``path:line:col: expected …, found …; fix``.

    Lines and columns count from 1; they are None where the trouble is with a whole file or an argument.
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
        # One problem is one line, whatever a file or an argument had in it.
        return " ".join((f"{place}: {text}" if place else text).splitlines())


class HarnessError(Exception):
    """Trouble that is not a verdict; holds every problem found, and its text is one line for each.

    Also what the torch-free grammars raise: they know what was expected but not where it stood, and
    :meth:`at` adds the place.
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
    """A spec or a recipe that cannot be read as one, or asks what cannot be asked."""


class FixtureError(HarnessError):
    """Weights, or the files around them, that are missing, broken, or not what was pinned."""


class NotImportedError(FixtureError):
    """Weights that somebody published and that are not here: nothing is wrong, and nothing can be measured."""


class MeasurementError(HarnessError):
    """A measurement that means nothing: nan, no questions, a hook that did not fire, an untrained model."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest of `known`, or a list of all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(words)}"


def is_plain(text: str) -> bool:
    """Return whether `text` is one line without control characters, which a terminal or a table would act on."""
    return not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def in_ascii(text: object) -> str:
    """Return what to do about the first letter of `text` that is not of ASCII, if there is one: it may look as if."""
    for letter in text if isinstance(text, str) else "":
        if not letter.isascii():
            return f"write it in ASCII: {shorten(letter)} is U+{ord(letter):04X}, {name(letter, 'unnamed')}"
    return ""


def shorten(value: object, limit: int = 60) -> str:
    """Return `value` as a person would have typed it, cut to `limit` characters, control characters escaped."""
    if isinstance(value, (dict, list)):
        return f"{'a' if value else 'an empty'} {'mapping' if isinstance(value, dict) else 'list'}"
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = repr(text) if not text or not text.isprintable() or text != text.strip() else text
    return text if len(text) <= limit else text[: limit - 1] + "…"
