"""Records and maps → the report page: one HTML file that loads nothing, for reading a run claim by claim.

The template, its style and its script are in ``harness/data``; what is inlined there is named in ``LICENSES.txt``.
Everything that comes from a spec or a measurement is escaped by the template engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.broken import Broken, broken_patterns, broken_questions, unbroken_questions
from harness.drawing import STEPS, TICKS, along, draw
from harness.excerpt import excerpt
from harness.failure import about_line, controls_line, interval_text, run_controls
from harness.mapdrawing import draw_map
from harness.records import (
    ABLATING,
    Record,
    counts,
    digits_seen,
    hashes_of,
    is_count,
    judged,
    percent,
    skipped_lines,
    summary_line,
)  # fmt: skip
from harness.report import more_lines, shown_verdict

if TYPE_CHECKING:
    from harness.coverage import Coverage
    from harness.nodemap import NodeMap

DATA = Path(__file__).parent / "data"
SCRIPTS = ("jquery.slim.min.js", "dataTables.min.js", "floating-ui.core.umd.min.js", "floating-ui.dom.umd.min.js",
           "page.js")  # fmt: skip
WORST_FIRST = ("error", "refuted", "inconclusive", "supported", "by construction", "skipped")
MARKS = {"error": "!", "refuted": "✗", "inconclusive": "?", "supported": "✓", "by construction": "≡", "skipped": "–"}
LIBRARIES = ("torch", "transformer_lens")


@dataclass(frozen=True)
class Section:
    """One claim as the page shows it."""

    anchor: str
    record: Record
    spec: str  # the claim's lines in its file; empty: they are not there any more
    broken: Sequence[Broken]
    unbroken: Sequence[Broken]
    patterns: Mapping[str, int]

    @property
    def judged(self) -> bool:
        """Whether there is anything measured to show."""
        return bool(judged([self.record]))

    @property
    def own(self) -> list[Record]:
        """The comparisons of the claim's own nodes."""
        return [row for row in self.record["comparisons"] if not row["sibling"]]

    @property
    def others(self) -> list[Record]:
        """The comparisons of nodes that it is to be true of too, or not."""
        return [row for row in self.record["comparisons"] if row["sibling"]]

    @property
    def largest(self) -> float:
        """The largest value that was seen, by which the table is sorted; claims without any come first."""
        return max((row["value"] for row in self.own), default=-1.0) if self.judged else -1.0


def render(
    records: Sequence[Record],
    maps: Sequence[NodeMap] = (),
    *,
    command: str = "",
    coverage: Sequence[Coverage] = (),
    spec_errors: Sequence[str] = (),
    notes: Sequence[str] = (),
    root: Path | None = None,
) -> str:
    """Return the page of a run; `root` is the directory that the records' paths are relative to.

    `notes` say what is missing, a map that could not be made, say.
    """
    root, anchors = root or Path(), _anchors(records)
    sections = [
        Section(anchors[r["key"]], r, excerpt(root / r["path"], r["line"]), broken_questions(r),
                unbroken_questions(r), broken_patterns(r))
        for r in records
    ]  # fmt: skip
    by_file: dict[str, list[Section]] = {}
    for section in sections:
        by_file.setdefault(section.record["path"], []).append(section)
    shown = judged(records)
    text = _environment().get_template("page.html.jinja").render(
        sections=sections, by_file=by_file, maps=[draw_map(found, records) for found in maps],
        summary=summary_line(records), counts=counts(records), more=more_lines(records, coverage),
        skipped=skipped_lines(records), command=command, spec_errors=spec_errors, notes=notes, versions=_versions(),
        runs=sorted({(r["engine"], r["device"]) for r in shown}), seconds=sum(r["seconds"] for r in shown),
        weights=hashes_of(shown, "weights"), code=hashes_of(shown, "code"),
    )  # fmt: skip
    return f"{text.strip()}\n"


def _anchors(records: Sequence[Record]) -> dict[str, str]:
    """Return a name within the page for each claim's key; the same claim has the same name in every run."""
    found: dict[str, str] = {}
    for record in records:
        base = "claim-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", record["key"].removeprefix("hypotheses/"))
        alike = (f"{base}~{n}" for n in count(2))
        found[record["key"]] = base if base not in found.values() else next(n for n in alike if n not in found.values())
    return found


def _versions() -> dict[str, str]:
    """Return what was run with, without importing it."""
    found = {"harness": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(DATA), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.globals.update(
        style=_inlined("page.css", "style"), scripts=[_inlined(name, "script") for name in SCRIPTS],
        licences=(DATA / "LICENSES.txt").read_text("utf-8"), marks=MARKS, worst_first=WORST_FIRST, ticks=TICKS,
        steps=STEPS, ablating=ABLATING, draw=draw, along=along, about_line=about_line,
        controls_line=controls_line, interval_text=interval_text, digits_seen=digits_seen,
        shown_verdict=shown_verdict, run_controls=run_controls,
    )  # fmt: skip
    env.filters["percent"] = percent
    env.tests["count"] = is_count
    return env


def _inlined(name: str, element: str) -> Markup:
    """Return a file of ours for use inside <style> or <script>, which it must not end."""
    text = (DATA / name).read_text("utf-8")
    if f"</{element}" in text.lower():
        raise ValueError(f"{name} cannot stand in a {element} element")
    return Markup(text)  # our own files, not a spec's words
