"""Example questions of a claim's record, such as those that an intervention broke."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.judging.records import Record
from harness.reporting.words import COUNTS_FAILURES, pattern_of

MOST = 12  # largest number of questions shown for one claim
PATTERNS = 8


@dataclass(frozen=True)
class ExampleQuestion:
    """One question as the page shows it; `tokens` is the model's answer, each token with whether it is wrong."""

    question: str
    tokens: tuple[tuple[str, bool], ...]
    wanted: str  # the right or expected answer
    pattern: str  # y right, N wrong
    note: str  # fixture (if several), case, and the node that broke it


def broken_questions(record: Record) -> list[ExampleQuestion]:
    """Return the first questions that the claim's intervention broke; for ``answer``, that the model got wrong."""
    measured = record.get("measurement") or {}
    found: dict[ExampleQuestion, None] = {}
    for key, examples in measured.get("examples", {}).items():
        if not key.endswith(" right"):
            found |= _shown(examples)
    for name, answered in measured.get("by_fixture", {}).items():
        found |= _shown(answered["examples"], name if len(measured["by_fixture"]) > 1 else "")
    return list(found)[:MOST]


def unbroken_questions(record: Record) -> list[ExampleQuestion]:
    """Return the first questions that stayed right, of tokens that the claim says fail."""
    if record["verb"] != "ablate" or "comparisons" not in record:
        return []
    found: dict[ExampleQuestion, None] = {}
    for row in record["comparisons"]:
        if row["subject"] in record["fails"] and row["finding"] in ("contradicted", "undecided"):
            found |= _shown(record["measurement"]["examples"].get(f"{row['subject']} right", []))
    return list(found)[:MOST]


def broken_patterns(record: Record) -> dict[str, int]:
    """Return the most frequent patterns of wrong tokens under an ablation, each with its number of questions."""
    if record["verb"] not in COUNTS_FAILURES:
        return {}
    patterns = (record.get("measurement") or {}).get("patterns", {})
    return dict([(name, n) for name, n in patterns.items() if "N" in name][:PATTERNS])


def _shown(examples: Iterable[Record], fixture: str = "") -> dict[ExampleQuestion, None]:
    """Return examples as the page shows them, each once, in order."""
    found: dict[ExampleQuestion, None] = {}
    for one in examples:
        question = f"{one['source']} -> {one['prompt']}" if one["source"] else one["prompt"]
        by = f"by {one['node']}" if one["node"] else ""
        tokens = tuple(zip(one["tokens"], one["wrong"], strict=True))
        note = " ".join(filter(None, (fixture, one["case"], by)))
        found[ExampleQuestion(question, tokens, one["right"], pattern_of(one), note)] = None
    return found
