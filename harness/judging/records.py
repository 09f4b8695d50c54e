"""Records: the result of each claim as plain JSON values, and its summary in one line. Reports are made from them.

A record holds only plain values, so it can be sent between processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from harness.base.errors import HarnessError, NotImportedError
from harness.judging.verdict import Result, row_of, settling_n
from harness.specs.claim import AcrossRuns, Claim
from harness.tasks.questions import PairList, PairSample, QuestionList, Sample

Record = dict[str, Any]
NOT_JUDGED = ("error", "skipped")


def record_of(result: Result) -> Record:
    """Return `result` as plain values."""
    return {
        **_identity(result.hypothesis),
        "verdict": result.verdict,
        "status": result.status,
        "comparisons": [row_of(row) for row in result.comparisons],
        "measurement": result.measurement.as_dict(),
        "weights": result.weights,
        "code": result.code,
        "device": result.device,
        "engine": result.engine,
        "seconds": round(result.seconds, 3),
        "settled_by": _settled_by(result),
        "untested": [reason.as_dict() for reason in result.untested],
        "controls": None if result.controls is None else result.controls.as_dict(),
        "credited": None if result.credited is None else list(result.credited),
        "xfail_moves": [move.as_dict() for move in result.moves],
    }


def _settled_by(result: Result) -> int | None:
    """Return about how large a sample would settle an inconclusive claim if the observed values stay, or None."""
    asked = result.hypothesis.questions
    if result.verdict != "inconclusive" or not isinstance(asked, Sample | PairSample):
        return None
    return settling_n(result.hypothesis, result.comparisons, asked.n)


def judged(records: Iterable[Record]) -> list[Record]:
    """Return the records of the claims that have a verdict."""
    return [record for record in records if record["verdict"] not in NOT_JUDGED]


def skipped_record(hypothesis: Claim, error: NotImportedError) -> Record:
    """Return the record of a claim about weights that are not imported."""
    problems = [str(problem) for problem in error.problems]
    return {**_identity(hypothesis), "verdict": "skipped", "status": "skipped", "problems": problems}


def error_record(hypothesis: Claim, error: Exception) -> Record:
    """Return the record of a claim that could not be judged."""
    if isinstance(error, HarnessError):
        problems = [str(problem) for problem in error.problems]
    else:
        problems = [f"{type(error).__name__}: {error}".splitlines()[0]]
    return {
        **_identity(hypothesis),
        "verdict": "error",
        "status": "error",
        "problems": problems,
    }


def _identity(claim: Claim) -> Record:
    census = None if claim.questions is None else claim.questions.census
    return {
        "key": claim.key, "id": claim.id, "path": claim.path, "line": claim.line, "index": claim.index,
        "fixture": claim.fixture, "fixtures": list(claim.models), "claim": claim.claim, "source": claim.source,
        "verb": claim.verb, "target": claim.target, "how": claim.how,
        "reference": None if claim.replaced_by is None else str(claim.replaced_by),
        "questions": "" if claim.questions is None else str(claim.questions), "census": census,
        "expected": claim.expected, "fails": list(claim.fails),
        "may_fail": list(claim.may_fail), "xfail": claim.xfail and claim.xfail.reason,
        "xfail_expects": claim.xfail and claim.xfail.as_dict(), "left_out": list(claim.left_out),
        "without_evidence": {role: list(names) for role, names in claim.without_evidence.items()},
        "asks": asks_of(claim), "repeats": None,
        "nouns": vars(claim.shape.task.nouns),
        "tags": list(claim.tags), "recorded": claim.recorded, "named": [str(node) for node in claim.named],
        "unread": [str(node) for node in claim.unread],
    }  # fmt: skip


# The fields of a claim that change nothing of what is asked and expected; nodes, groups and steps are there as data.
_WORDS = frozenset({
    "id", "claim", "source", "tags", "recorded", "xfail", "survivors", "path", "line", "index", "key", "unproven",
    "ablate", "node_text", "to", "about", "group_text", "than_text", "shape",
})  # fmt: skip


def asks_of(claim: Claim) -> str:
    """Return a sha256 of what a claim asks and expects: the same for claims that differ in their words alone."""
    return hashlib.sha256(_asked(claim).encode()).hexdigest()


def _asked(value: object, name: str = "") -> str:
    if isinstance(value, AcrossRuns) and not value.members:
        return value.key  # its roles have no nodes in any run, so nothing is asked that could be the same
    if isinstance(value, Claim):
        known = [field.name for field in fields(value) if field.name not in _WORDS]
        # Of a claim about a group, the fixture of its file says no more than how its nodes are called.
        known = [one for one in known if one != "fixture" or "group" not in known]
        return f"{value.verb} {[(one, _asked(getattr(value, one), one)) for one in known]}"
    if isinstance(value, QuestionList | PairList):
        value = value.questions if isinstance(value, QuestionList) else value.pairs
    if isinstance(value, tuple):  # the order of nodes, tokens, fixtures and listed prompts says nothing
        return str(sorted(map(_asked, value)))
    return str(value) if name == "variable" else repr(value)


def ordered(records: Iterable[Record]) -> list[Record]:
    """Return the records in the order of the spec files; one that asks the same as an earlier one names that."""
    found = sorted(records, key=lambda r: (r["path"], r["index"]))
    first: dict[str, str] = {}
    repeated = [first.setdefault(str(record.get("asks", record["key"])), record["key"]) for record in found]
    return [
        {**record, "repeats": key if key != record["key"] else None}
        for record, key in zip(found, repeated, strict=True)
    ]


def named_nodes(records: Iterable[Record], *, alone: bool = False) -> dict[str, set[str]]:
    """Return the nodes that get credit from supported claims, by fixture; with `alone`, from claims of a single node.

    Only fixtures with a claim that names nodes. A claim whose credit was not measured gives none.
    """
    found: dict[str, set[str]] = {}
    for record in records:
        for one, held in runs_of(record):
            if one["named"]:
                counts = held and not (alone and len(one["named"]) > 1)
                found.setdefault(one["fixture"], set()).update(one.get("credited") or () if counts else ())
    return found


def runs_of(record: Record) -> list[tuple[Record, bool]]:
    """Return a claim's records of single fixtures, each with True if both it and the whole claim are supported."""
    if not judged([record]):
        return []
    supported = record["verdict"] == "supported"
    runs = record["measurement"]["by_run"].values() if record["verb"] == "across" else [record]
    return [(one, supported and one["verdict"] == "supported") for one in runs]
