"""Example questions from a claim's record, for example those that an intervention broke, with wrong digits marked.

A measurement keeps a few questions for each digit, each as one line of text. This module parses the lines for display.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.judging.records import ABLATING, Record

MOST = 12  # largest number of questions shown for one claim
PATTERNS = 8
# An answer is digits without spaces, or words with spaces between them. The case is optional: a task may have none.
_ASKED = re.compile(
    r"(?P<question>.+)=(?P<answer>.*\S) (?P<pattern>[yN]+)(?: (?P<case>(?!by )\S+))?(?: by (?P<node>\S+))?"
)
_CARRIED = re.compile(r"(?P<question>.+ -> .+) = (?P<answer>.+), not (?P<wanted>.+)")


@dataclass(frozen=True)
class ExampleQuestion:
    """One question; `digits` is the model's answer, each digit with whether it is wrong."""

    question: str
    digits: tuple[tuple[str, bool], ...]
    wanted: str  # the right answer; empty: unknown
    note: str  # fixture (if several), case, and the node that broke it

    @property
    def pattern(self) -> str:
        """The digits in the notebook's notation: y right, N wrong."""
        return "".join("N" if wrong else "y" for _, wrong in self.digits)


def broken_questions(record: Record) -> list[ExampleQuestion]:
    """Return the first questions that the claim's intervention broke; for ``answer``, that the model got wrong."""
    measured = record.get("measurement") or {}
    found: dict[ExampleQuestion, None] = {}
    for key, lines in measured.get("examples", {}).items():
        if not key.endswith(" right"):
            found |= dict.fromkeys(_read(lines, record.get("adds", True)))
    for name, answered in measured.get("by_fixture", {}).items():
        prefix = name if len(measured["by_fixture"]) > 1 else ""
        found |= dict.fromkeys(_read(answered["examples"], record.get("adds", True), prefix))
    return list(found)[:MOST]


def unbroken_questions(record: Record) -> list[ExampleQuestion]:
    """Return the first questions that stayed right, of digits that the claim says fail."""
    if record["verb"] != "ablate" or "comparisons" not in record:
        return []
    found: dict[ExampleQuestion, None] = {}
    for row in record["comparisons"]:
        if row["what"] in record["fails"] and row["finding"] in ("contradicted", "undecided"):
            found |= dict.fromkeys(
                _read(record["measurement"]["examples"].get(f"{row['what']} right", []), record.get("adds", True))
            )
    return list(found)[:MOST]


def broken_patterns(record: Record) -> dict[str, int]:
    """Return the most frequent patterns of wrong digits under an ablation, each with its number of questions."""
    if record["verb"] not in ABLATING:
        return {}
    patterns = (record.get("measurement") or {}).get("patterns", {})
    return dict([(name, n) for name, n in patterns.items() if "N" in name][:PATTERNS])


def _digits(answer: str) -> list[str]:
    return answer.split() if " " in answer else list(answer)


def _read(lines: Iterable[str], sums: bool, prefix: str = "") -> Iterator[ExampleQuestion]:
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
            yield ExampleQuestion(line, (), "", prefix)
            continue
        digits = tuple((digit, mark == "N") for digit, mark in zip(_digits(match["answer"]), marks, strict=False))
        yield ExampleQuestion(match["question"], digits, wanted, note)


def _sum(question: str, width: int) -> str:
    addends = question.split("+")
    return f"{sum(map(int, addends)):0{width}d}" if all(part.isdigit() for part in addends) else ""
