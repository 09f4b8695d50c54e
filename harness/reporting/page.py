"""The report page: one HTML file, made from records and maps, that loads nothing from elsewhere.

The template, its style and its scripts are in ``harness/reporting/data``; ``LICENSES.txt`` there names the inlined
libraries. The template engine escapes everything that comes from a spec or a measurement.
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
from harness.base.text import percent
from harness.judging.records import Record, judged
from harness.reporting.columns import COLUMNS, PAGE
from harness.reporting.drawing import STEPS, TICKS, along, draw
from harness.reporting.examples import ExampleQuestion, broken_patterns, broken_questions, unbroken_questions
from harness.reporting.failure import about_line, controls_line, interval_text, run_controls
from harness.reporting.map_drawing import draw_map
from harness.reporting.report import more_lines
from harness.reporting.summary import (
    counts,
    hashes_of,
    remarks,
    shown_verdict,
    skipped_lines,
    summary_line,
    tokens_seen,
)
from harness.reporting.words import (
    COUNTS_FAILURES,
    comparisons_in_short,
    expected,
    is_count,
    move_line,
    nouns_of,
    observed,
    subject,
    untested,
    xfail_text,
)

if TYPE_CHECKING:
    from harness.judging.worth.coverage import Coverage, NodeMap

DATA = Path(__file__).parent / "data"
SCRIPTS = ("jquery.slim.min.js", "dataTables.min.js", "floating-ui.core.umd.min.js", "floating-ui.dom.umd.min.js",
           "page.js")  # fmt: skip
WORST_FIRST = ("error", "refuted", "inconclusive", "vacuous", "supported", "by construction", "skipped")
MARKS = {"error": "!", "refuted": "✗", "inconclusive": "?", "vacuous": "∅", "supported": "✓", "by construction": "≡",
         "skipped": "–"}  # fmt: skip
LIBRARIES = ("torch", "transformer_lens")


@dataclass(frozen=True)
class Section:
    """One claim, with all that the page shows about it."""

    anchor: str
    record: Record
    spec: str  # the claim's lines in its file; empty: not found there
    broken: Sequence[ExampleQuestion]
    unbroken: Sequence[ExampleQuestion]
    patterns: Mapping[str, int]

    @property
    def judged(self) -> bool:
        """Whether the claim has a verdict, and so a measurement to show."""
        return bool(judged([self.record]))

    @property
    def own(self) -> list[Record]:
        """The comparisons of the claim's own nodes."""
        return [row for row in self.record["comparisons"] if not row["sibling"]]

    @property
    def others(self) -> list[Record]:
        """The comparisons of sibling nodes."""
        return [row for row in self.record["comparisons"] if row["sibling"]]

    @property
    def largest(self) -> float:
        """The largest observed value, the sort key of the table; -1 for a claim without any."""
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
    """Return the HTML page of a run; the paths in the records are relative to the directory `root`.

    `notes` say what is missing, such as a map that could not be made.
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
        nouns=nouns_of(*records), weights=hashes_of(shown, "weights"), code=hashes_of(shown, "code"),
    )  # fmt: skip
    return f"{text.strip()}\n"


def _anchors(records: Sequence[Record]) -> dict[str, str]:
    """Return an HTML anchor for each claim's key; a claim keeps its anchor from run to run."""
    found: dict[str, str] = {}
    for record in records:
        base = "claim-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", record["key"].removeprefix("hypotheses/"))
        alike = (f"{base}~{n}" for n in count(2))
        found[record["key"]] = base if base not in found.values() else next(n for n in alike if n not in found.values())
    return found


def _versions() -> dict[str, str]:
    """Return the versions of the harness and of :data:`LIBRARIES`, without importing them."""
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
        steps=STEPS, ablating=COUNTS_FAILURES, draw=draw, along=along, about_line=about_line,
        controls_line=controls_line, interval_text=interval_text, tokens_seen=tokens_seen,
        shown_verdict=shown_verdict, remarks=remarks, run_controls=run_controls,
        columns=[COLUMNS[name] for name in PAGE], expected=expected, observed=observed, subject=subject,
        comparisons_in_short=comparisons_in_short, nouns_of=nouns_of, untested=untested, xfail_text=xfail_text,
        move_line=move_line,
    )  # fmt: skip
    env.filters["percent"] = percent
    env.tests["count"] = is_count
    return env


def _inlined(name: str, element: str) -> Markup:
    """Return a file of ``data`` for use inside <style> or <script>; it must not contain the closing tag.

    Raises:
        ValueError: the file contains the closing tag.
    """
    text = (DATA / name).read_text("utf-8")
    if f"</{element}" in text.lower():
        raise ValueError(f"{name} cannot stand in a {element} element")
    return Markup(text)  # safe: a file of this package, not text from a spec


def excerpt(path: Path, line: int) -> str:
    """Return the lines of the claim at `line` of a spec file, without their indentation.

    The lines end at the next item of the list, or at the end of the list. Comments before the next item are left out.
    The result is empty if the file is missing, is not text, or has no such line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    first = next((i for i in range(min(line, len(lines)) - 1, -1, -1) if lines[i].lstrip().startswith("-")), None)
    if first is None or line > len(lines):
        return ""
    indent = len(lines[first]) - len(lines[first].lstrip())
    found = [lines[first]]
    for text in lines[first + 1 :]:
        if text.strip() and len(text) - len(text.lstrip()) <= indent:
            break
        found.append(text)
    while found and (not found[-1].strip() or found[-1].lstrip().startswith("#")):
        found.pop()
    return "\n".join(text[indent:] for text in found)
