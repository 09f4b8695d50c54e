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
# An answer is digits side by side or, of a vocabulary of words, these set apart; a task need have no cases.
_ASKED = re.compile(
    r"(?P<question>.+)=(?P<answer>.*\S) (?P<pattern>[yN]+)(?: (?P<case>(?!by )\S+))?(?: by (?P<node>\S+))?"
)
_CARRIED = re.compile(r"(?P<question>.+ -> .+) = (?P<answer>.+), not (?P<wanted>.+)")


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
            found |= dict.fromkeys(_read(lines, record.get("adds", True)))
    for name, answered in measured.get("by_fixture", {}).items():
        prefix = name if len(measured["by_fixture"]) > 1 else ""
        found |= dict.fromkeys(_read(answered["examples"], record.get("adds", True), prefix))
    return list(found)[:MOST]


def unbroken_questions(record: Record) -> list[Broken]:
    """Return the first of the questions that stayed right although the claim says that they break."""
    if record["verb"] != "ablate" or "comparisons" not in record:
        return []
    found: dict[Broken, None] = {}
    for row in record["comparisons"]:
        if row["what"] in record["fails"] and row["finding"] in ("contradicted", "undecided"):
            found |= dict.fromkeys(
                _read(record["measurement"]["examples"].get(f"{row['what']} right", []), record.get("adds", True))
            )
    return list(found)[:MOST]


def broken_patterns(record: Record) -> dict[str, int]:
    """Return the most frequent patterns of wrong digits of an intervention that cuts, and on how many questions."""
    if record["verb"] not in ABLATING:
        return {}
    patterns = (record.get("measurement") or {}).get("patterns", {})
    return dict([(name, n) for name, n in patterns.items() if "N" in name][:PATTERNS])


def _digits(answer: str) -> list[str]:
    return answer.split() if " " in answer else list(answer)


def _read(lines: Iterable[str], sums: bool, prefix: str = "") -> Iterator[Broken]:
    for line in lines:
        if match := _ASKED.fullmatch(line):
            marks, by = match["pattern"], f"by {match['node']}" if match["node"] else ""
            wanted = _sum(match["question"], len(match["answer"])) if sums else ""
            note = " ".join(filter(None, (prefix, match["case"], by)))
        elif match := _CARRIED.fullmatch(line):
            wanted, note = match["wanted"], prefix
            both = zip(_digits(match["answer"]), _digits(wanted), strict=False)
            marks = "".join("y" if a == b else "N" for a, b in both)
        else:
            yield Broken(line, (), "", prefix)
            continue
        digits = tuple((digit, mark == "N") for digit, mark in zip(_digits(match["answer"]), marks, strict=False))
        yield Broken(match["question"], digits, wanted, note)


def _sum(question: str, width: int) -> str:
    addends = question.split("+")
    return f"{sum(map(int, addends)):0{width}d}" if all(part.isdigit() for part in addends) else ""
