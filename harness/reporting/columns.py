"""The columns of the tables of claims: in the terminal, in Markdown and on the page."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from harness.judging.records import Record
from harness.reporting.summary import remarks, shown_verdict, tokens_seen, verdict_and_remarks
from harness.reporting.words import nouns_of


@dataclass(frozen=True)
class Column:
    """One column: its heading, and the text of a claim's cell."""

    heading: str
    text: Callable[[Record], str]
    width: int | None = None  # widest in the terminal, in letters; None: as wide as its texts
    markdown: Callable[[Record, str | None], str] | None = None  # where it differs; given where specs begin
    css: str = "wide"  # the class of its cells on the page, where a narrow screen leaves out those that are `wide`


def linked(text: str, record: Record, specs: str | None) -> str:
    """Return `text` as a Markdown link to the claim's line in its spec; as code if `specs` is None."""
    if specs is None:
        return f"`{text}`"
    path = posixpath.normpath(posixpath.join(specs, record["path"]))
    return f"[{text}]({quote(path)}#L{record['line']})"


PROMPTS = "prompts"  # the heading that is the task's own word, where all claims are of one task


def headings(columns: Sequence[Column], records: Sequence[Record]) -> list[str]:
    """Return the headings of a table of claims."""
    prompts = nouns_of(*records).prompts
    return [prompts if column.heading == PROMPTS else column.heading for column in columns]


COLUMNS: dict[str, Column] = {
    "verdict": Column(
        "verdict",
        verdict_and_remarks,
        40,
        lambda r, _: " ".join([f"**{shown_verdict(r)}**", *map("({})".format, remarks(r))]),
        "c-verdict",
    ),
    "claim": Column(
        "claim", lambda r: str(r["id"]), 34, lambda r, specs: f"{linked(r['id'], r, specs)}: {r['claim']}", "c-claim"
    ),
    "model": Column("model", lambda r: str(r["fixture"])),
    "about": Column("about", lambda r: str(r["target"]), 22, lambda r, _: f"`{r['target']}`", "wide clamped"),
    "how": Column("how", lambda r: str(r["how"]), css="wide c-how"),
    "questions": Column(PROMPTS, lambda r: str(r["questions"]), 30),
    "expected": Column("expected", lambda r: str(r["expected"]), 24),
    "observed": Column("observed", tokens_seen, 44, css="c-observed"),
    "source": Column("source", lambda r: str(r["source"])),
}
TERMINAL = ("verdict", "claim", "about", "how", "questions", "expected", "observed")
MARKDOWN = (*TERMINAL, "source")
PAGE = ("verdict", "claim", "model", "about", "how", "expected", "observed")
