"""Writes the reports of a run to files: Markdown, JSON and one HTML page. pytest and the command line use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.base.files import refuse_outside, write_in_turn
from harness.judging.records import Record
from harness.reporting.report import markdown, to_json

if TYPE_CHECKING:
    from harness.judging.worth.coverage import Coverage, NodeMap

REPORT = "hypotheses"  # base name of a report that is given no name
SUMMARY_BYTES = 1 << 20  # GitHub refuses the whole summary of a step above this size


class Note(NamedTuple):
    """A line at the end of a run."""

    text: str
    missing: Literal["", "coverage", "map", "verdicts"] = ""  # what the reports lack, if the note tells of that


@dataclass
class Run:
    """The results of one run, ready to be written to files."""

    command: str
    records: Sequence[Record]
    spec_errors: Sequence[str]
    coverage: Sequence[Coverage] = ()
    maps: Sequence[NodeMap] = ()
    notes: list[str] = field(default_factory=list)  # what is missing, such as a map that could not be made
    unreached: Sequence[str] = ()  # the claims left unjudged because the run was stopped

    def write(self, base: Path, here: Path, *, within: Path | None = None) -> list[str]:
        """Write ``BASE.md`` and ``BASE.json``, or both into the directory `base`; return a line for each file.

        Paths of specs are relative to `here`. If `within` is given, both files must lie inside that directory.

        Raises:
            OSError: the files cannot be written, or a link leads out of `within`.
        """
        base = base / REPORT if base.is_dir() else base
        base = base.with_suffix("") if base.suffix in (".md", ".json") else base
        places = {suffix: base.parent / (base.name + suffix) for suffix in (".md", ".json")}
        if within:
            for path in places.values():
                refuse_outside(path, within)
        base.parent.mkdir(parents=True, exist_ok=True)
        specs = Path(os.path.relpath(here, base.parent)).as_posix()
        texts = {
            ".md": markdown(self.records, self.spec_errors, self.command, self.coverage, specs, self.unreached),
            ".json": to_json(self.records, self.spec_errors, self.command, self.coverage, self.unreached),
        }
        files = {places[suffix]: text.encode() for suffix, text in texts.items()}
        write_in_turn(files)
        return [f"wrote {os.path.relpath(path, here)}" for path in files]

    def add_to_job_summary(self) -> list[str]:
        """Append the Markdown report to the job summary, if this runs in a GitHub job.

        The report is cut to the size that GitHub accepts from a step. A write error does not fail the run: the method
        returns a line about it.
        """
        if not (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
            return []
        text = markdown(self.records, self.spec_errors, self.command, self.coverage, unreached=self.unreached)
        path = Path(summary)
        try:
            there = path.stat().st_size if path.is_file() else 0
            with path.open("a", encoding="utf-8") as file:
                file.write(shortened(text, SUMMARY_BYTES - there))
        except OSError as error:
            return [f"no job summary written: {summary}: {error.strerror}"]
        return []

    def write_page(self, path: Path, here: Path) -> str:
        """Write the HTML page to `path` (``index.html`` in it, if it is a directory); return a line about it.

        Raises:
            OSError: the page cannot be written.
        """
        from harness.reporting.page import render

        text = render(
            self.records, self.maps, command=self.command, coverage=self.coverage, spec_errors=self.spec_errors,
            notes=self.notes, root=here,
        )  # fmt: skip
        path = path / "index.html" if path.is_dir() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_in_turn({path: text.encode()})
        took = f"; its maps took {sum(found.seconds for found in self.maps):.1f} s" if self.maps else ""
        return f"wrote {os.path.relpath(path, here)}{took}"


def shortened(text: str, room: int) -> str:
    """Return a Markdown report of at most `room` bytes: its first whole lines, then a line on how many are left out.

    The report is never cut inside a listing or a fold, because these would hide that last line.
    """
    if len(text.encode()) <= room:
        return text
    lines = text.splitlines(keepends=True)
    room -= len(_left_out(len(lines), len(lines)).encode())
    kept, listing, fold = 0, False, False
    for number, line in enumerate(lines, start=1):
        room -= len(line.encode())
        if room < 0:
            break
        listing ^= line.startswith("```")
        fold = line.startswith("<details>") or (fold and not line.startswith("</details>"))
        kept = kept if listing or fold else number
    return "".join(lines[:kept]) + _left_out(len(lines) - kept, len(lines)) if kept else ""


def _left_out(lines: int, of: int) -> str:
    return f"\n*Left out, as GitHub takes no more than 1 MiB from a step: the last {lines:,} of {of:,} lines.*\n"
