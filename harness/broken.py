"""The questions that an intervention broke, and the digits of each answer that came out wrong: from a claim's record.

A measurement keeps a few questions for each digit, written as one line; here these are taken apart, to be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.records import ABLATING, Record

MOST = 12  # questions shown of one claim
PATTERNS = 8
_ASKED = re.compile(r"(?P<question>\S+)=(?P<answer>\d+) (?P<pattern>[yN]+) (?P<case>\w+)(?: by (?P<node>\S+))?")
_CARRIED = re.compile(r"(?P<question>\S+ -> \S+) = (?P<answer>\d+), not (?P<wanted>\d+)")


@dataclass(frozen=True)
class Broken:
    """One question; `digits` is the answer that was given, each digit with whether it is wrong."""

    question: str
    digits: tuple[tuple[str, bool], ...]
    wanted: str  # the right answer; empty: not known
    note: str  # its case, and what broke it

    @property
    def pattern(self) -> str:
        """Which digits are wrong, as the notebook writes it: y right, N wrong."""
        return "".join("N" if wrong else "y" for _, wrong in self.digits)


def broken_questions(record: Record) -> list[Broken]:
    """Return the first of the questions that a claim's intervention broke, or that the clean model got wrong."""
    measured = record.get("measurement") or {}
    found: dict[Broken, None] = {}
    for key, lines in measured.get("examples", {}).items():
        if not key.endswith(" right"):
            found |= dict.fromkeys(_read(lines))
    for name, answered in measured.get("by_fixture", {}).items():
        prefix = name if len(measured["by_fixture"]) > 1 else ""
        found |= dict.fromkeys(_read(answered["examples"], prefix))
    return list(found)[:MOST]


def unbroken_questions(record: Record) -> list[Broken]:
    """Return the first of the questions that stayed right although the claim says that they break."""
    if record["verb"] != "ablate" or "comparisons" not in record:
        return []
    found: dict[Broken, None] = {}
    for row in record["comparisons"]:
        if row["what"] in record["fails"] and row["finding"] in ("contradicted", "undecided"):
            found |= dict.fromkeys(_read(record["measurement"]["examples"].get(f"{row['what']} right", [])))
    return list(found)[:MOST]


def broken_patterns(record: Record) -> dict[str, int]:
    """Return the most frequent patterns of wrong digits of an intervention that cuts, and on how many questions."""
    if record["verb"] not in ABLATING:
        return {}
    patterns = (record.get("measurement") or {}).get("patterns", {})
    return dict([(name, n) for name, n in patterns.items() if "N" in name][:PATTERNS])


def _read(lines: Iterable[str], prefix: str = "") -> Iterator[Broken]:
    for line in lines:
        if match := _ASKED.fullmatch(line):
            marks, by = match["pattern"], f"by {match['node']}" if match["node"] else ""
            wanted = _sum(match["question"], len(match["answer"]))
            note = " ".join(filter(None, (prefix, match["case"], by)))
        elif match := _CARRIED.fullmatch(line):
            wanted, note = match["wanted"], prefix
            marks = "".join("y" if a == b else "N" for a, b in zip(match["answer"], wanted, strict=False))
        else:
            yield Broken(line, (), "", prefix)
            continue
        digits = tuple((digit, mark == "N") for digit, mark in zip(match["answer"], marks, strict=False))
        yield Broken(match["question"], digits, wanted, note)


def _sum(question: str, width: int) -> str:
    addends = question.split("+")
    return f"{sum(map(int, addends)):0{width}d}" if all(part.isdigit() for part in addends) else ""
