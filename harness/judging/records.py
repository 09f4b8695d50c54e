"""Records: the result of each claim as plain JSON values, and its summary in one line. Reports are made from them.

A record holds only plain values, so it can be sent between processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError, NotImportedError
from harness.specs.claim import Claim
from harness.specs.verbs.ablate import Hypothesis
from harness.tasks.questions import PairSample, Sample

if TYPE_CHECKING:
    from harness.judging.verdict import Result
from harness.base.text import percent

Record = dict[str, Any]
FIXTURES_SHOWN = 3
_NOT_JUDGED = ("error", "skipped")
ABLATING = ("ablate", "keep")  # verbs whose comparisons count failures


def record_of(result: Result) -> Record:
    """Return `result` as plain values."""
    return {
        **_identity(result.hypothesis),
        "verdict": result.verdict,
        "status": result.status,
        "comparisons": [{**vars(row), **_finite_ends(vars(row))} for row in result.comparisons],
        "measurement": result.measurement.as_dict(),
        "weights": result.weights,
        "code": result.code,
        "device": result.device,
        "engine": result.engine,
        "seconds": round(result.seconds, 3),
        "settled_by": _settled_by(result),
        "controls": None if result.controls is None else _plain_controls(result.controls.as_dict()),
    }


def _settled_by(result: Result) -> int | None:
    """Return about how large a sample would settle an inconclusive claim if the observed values stay, or None."""
    asked = result.hypothesis.questions
    if result.verdict != "inconclusive" or not isinstance(asked, Sample | PairSample):
        return None
    from harness.judging.verdict import settling_n

    return settling_n(result.hypothesis, result.comparisons, asked.n)


def _plain_controls(controls: Record) -> Record:
    if "siblings" not in controls:  # controls of several runs; each run has its own siblings
        return controls
    return {**controls, "siblings": [{**row, **_finite_ends(row)} for row in controls["siblings"]]}


def _finite_ends(row: Record) -> dict[str, float | None]:
    """Return the ends of an interval for JSON; None for an infinite end."""
    return {end: None if row[end] is None or math.isinf(row[end]) else row[end] for end in ("low", "high")}


def judged(records: Iterable[Record]) -> list[Record]:
    """Return the records of the claims that have a verdict."""
    return [record for record in records if record["verdict"] not in _NOT_JUDGED]


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
    ablation = claim if isinstance(claim, Hypothesis) else None
    census = None if claim.questions is None else claim.questions.census
    return {
        "key": claim.key, "id": claim.id, "path": claim.path, "line": claim.line, "index": claim.index,
        "fixture": claim.fixture, "fixtures": list(claim.models), "claim": claim.claim, "source": claim.source,
        "verb": claim.verb, "target": claim.target, "how": claim.how,
        "reference": str(ablation.reference) if ablation and ablation.method != "zero" else None,
        "questions": "" if claim.questions is None else str(claim.questions), "census": census,
        "expected": claim.expected, "fails": list(ablation.expect.fails) if ablation else [],
        "may_fail": list(ablation.expect.may_fail) if ablation else [], "xfail": claim.xfail,
        "tags": list(claim.tags), "recorded": claim.recorded, "named": [str(node) for node in claim.named],
        "adds": bool(claim.shape.layout.columns),
    }  # fmt: skip


def ordered(records: Iterable[Record]) -> list[Record]:
    """Return the records in the order of the spec files."""
    return sorted(records, key=lambda r: (r["path"], r["index"]))


def named_nodes(records: Iterable[Record]) -> dict[str, set[str]]:
    """Return the nodes that supported claims name, by fixture; only fixtures with a claim that names nodes."""
    found: dict[str, set[str]] = {}
    for record in records:
        for one, held in runs_of(record):
            if one["named"]:
                found.setdefault(one["fixture"], set()).update(one["named"] if held else ())
    return found


def runs_of(record: Record) -> list[tuple[Record, bool]]:
    """Return a claim's records of single fixtures, each with True if both it and the whole claim are supported."""
    if not judged([record]):
        return []
    supported = record["verdict"] == "supported"
    runs = record["measurement"]["by_run"].values() if record["verb"] == "across" else [record]
    return [(one, supported and one["verdict"] == "supported") for one in runs]


def seen(verb: str, comparisons: Sequence[Record]) -> str:
    """Return in one line what the comparisons of a claim observed, without the siblings."""
    rows = [row for row in comparisons if not row["sibling"]]
    if verb == "across":
        others = [row["what"] for row in rows[:-1] if row["finding"] in ("contradicted", "undecided")]
        named = [*others[:FIXTURES_SHOWN], *(["…"] if len(others) > FIXTURES_SHOWN else [])]
        return f"{rows[-1]['observed']} runs" + (f", not {', '.join(named)}" if named else "")
    if verb not in ABLATING:
        if verb == "patch":  # digits that should follow, and others that changed
            rows = [row for row in rows if "follows" in row["expected"] or row["value"] > 0]
        elif len(rows) > FIXTURES_SHOWN:  # only the extremes of a large group
            ends = [pick(rows, key=lambda row: row["value"]) for pick in (min, max)]
            return f"{len(rows)}, from {' to '.join(_seen(row) for row in ends)}"
        return ", ".join(_seen(row) for row in rows)
    failing = [_seen(row) for row in rows if row["what"] != "loss" and row["value"] > 0] or ["no digit fails"]
    loss = {f"loss {row['value']:.2g}": None for row in rows if row["what"] == "loss"}  # once, even with two bounds
    return ", ".join([*failing, *loss])


def _seen(row: Record) -> str:
    rate = "/" in row["observed"]
    return f"{row['what']} {row['observed']}" + (f" ({percent(row['value'])})" if rate else "")
