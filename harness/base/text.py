"""Text for messages: suggestions for misspelled words, hints about look-alike letters, short values, percentages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from unicodedata import category, name


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest of `known`, or a list of all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(words)}"


def is_plain(text: str) -> bool:
    """Return whether `text` is one line without control characters, which a terminal or a table would act on."""
    return not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def visible(text: str) -> str:
    """Return `text` with control characters written as in Python, ``\\n``, and ``''`` for empty text."""
    if text and is_plain(text):
        return text
    return "".join(one if is_plain(one) else repr(one)[1:-1] for one in text) or "''"


def in_ascii(text: object) -> str:
    """Return a hint about the first non-ASCII (look-alike) character of `text`; empty if there is none."""
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


def percent(rate: float) -> str:
    """Return `rate`, a fraction, as a percentage with at most one decimal; with two decimals near 0% and 100%."""
    if 0 < rate < 0.01 or 0.99 < rate < 1:
        return f"{rate:.2%}"
    return f"{rate:.0%}" if round(rate * 1000) % 10 == 0 else f"{rate:.1%}"


def markdown_table(rows: Iterable[Iterable[object]], heads: Sequence[str]) -> str:
    """Return a Markdown table; a bar inside of a cell is escaped."""
    from tabulate import tabulate  # only who writes a table pays for it

    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, heads, tablefmt="github", disable_numparse=True)
