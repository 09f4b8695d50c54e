"""Results → records: what came of each claim as plain JSON values, and in a line. What people read is made of these.

Being plain, a record can travel between processes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, NotImportedError
from harness.hypothesis import Claim, Hypothesis
from harness.intervals import ERROR
from harness.selection import PairSample, Sample

if TYPE_CHECKING:
    from harness.evaluate import Result

Record = dict[str, Any]
FIXTURES_SHOWN = 3
_ORDER = ("error", "skipped", "refuted", "inconclusive", "supported", "by construction")
_NOT_JUDGED = ("error", "skipped")
ABLATING = ("ablate", "keep")  # the verbs whose comparisons count what went wrong


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
    """Return about how large a sample would settle an inconclusive claim, if what was seen stays what it is."""
    asked = result.hypothesis.questions
    if result.verdict != "inconclusive" or not isinstance(asked, Sample | PairSample):
        return None
    from harness.verdict import settling_n  # it brings torch, which whoever only shows records does without

    return settling_n(result.hypothesis, result.comparisons, asked.n)


def _plain_controls(controls: Record) -> Record:
    if "siblings" not in controls:  # of several runs, each of which has its own
        return controls
    return {**controls, "siblings": [{**row, **_finite_ends(row)} for row in controls["siblings"]]}


def _finite_ends(row: Record) -> dict[str, float | None]:
    """Return an interval's ends as JSON has them: null for one that is infinite."""
    return {end: None if row[end] is None or math.isinf(row[end]) else row[end] for end in ("low", "high")}


def judged(records: Iterable[Record]) -> list[Record]:
    """Return the records of the claims that have a verdict."""
    return [record for record in records if record["verdict"] not in _NOT_JUDGED]


def skipped_record(hypothesis: Claim, error: NotImportedError) -> Record:
    """Return the record of a hypothesis about weights that are not here."""
    problems = [str(problem) for problem in error.problems]
    return {**_identity(hypothesis), "verdict": "skipped", "status": "skipped", "problems": problems}


def error_record(hypothesis: Claim, error: Exception) -> Record:
    """Return the record of a hypothesis that could not be judged."""
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
    """Return the records in the order of the spec files, whatever order they were made in."""
    return sorted(records, key=lambda r: (r["path"], r["index"]))


def counts(records: Sequence[Record]) -> dict[str, int]:
    """Return how many claims have each verdict."""
    found = Counter(record["verdict"] for record in records)
    return {verdict: found[verdict] for verdict in _ORDER if found[verdict]}


def summary_line(records: Sequence[Record]) -> str:
    """Return one line: how many claims, how many of each verdict, how many of these were expected."""
    evaluated = judged(records)
    line = f"{len(evaluated)} claim{'' if len(evaluated) == 1 else 's'} evaluated"
    if evaluated:
        line += ": " + ", ".join(f"{n} {verdict}" for verdict, n in counts(evaluated).items())
    if recorded := sum(map(is_recorded, evaluated)):
        line += f", of these {recorded} recorded, not predicted"
    if any(record.get("controls") for record in evaluated):
        line += f", {sum(map(not_specific, evaluated))} of the supported not specific"
    if known := sum(record["status"] == "xfailed" for record in records):
        line += f" ({known} refuted or inconclusive as their specs say)"
    if wrong := sum(record["status"] in ("failed", "xpassed") for record in records):
        line += f"; {wrong} not as their specs say"
    if errors := sum(record["verdict"] == "error" for record in records):
        line += f"; {errors} could not be judged"
    if skipped := sum(record["verdict"] == "skipped" for record in records):
        line += f"; {skipped} skipped, their weights are not here"
    return line


def false_verdicts_line(records: Sequence[Record]) -> str:
    """Return how many false verdicts are to be expected by chance alone, at the most; empty: none."""
    decided = [record for record in judged(records) if record["verdict"] in ("supported", "refuted")]
    sampled = [record for record in decided if any(row["low"] is not None for row in record["comparisons"])]
    if not sampled:
        return ""
    expected = len(sampled) * ERROR
    return f"by chance, at most {expected:.2g} of the {len(sampled)} verdicts on samples are expected to be false"


def is_recorded(record: Record) -> bool:
    """Return whether a claim writes down what was seen; reports from before there was such a thing have none."""
    return bool(record.get("recorded"))


def not_specific(record: Record) -> bool:
    """Return whether the controls of a supported claim show that others do it too."""
    controls = record.get("controls") or {"specific": None}
    return record["verdict"] == "supported" and controls["specific"] is False


def named_nodes(records: Iterable[Record]) -> dict[str, set[str]]:
    """Return the fixtures that claims look inside of, each with the nodes that its supported claims name."""
    found: dict[str, set[str]] = {}
    for record in records:
        for one, held in runs_of(record):
            if one["named"]:
                found.setdefault(one["fixture"], set()).update(one["named"] if held else ())
    return found


def runs_of(record: Record) -> list[tuple[Record, bool]]:
    """Return the records of the single fixtures that a claim is about, each with whether it is supported there."""
    if not judged([record]):
        return []
    supported = record["verdict"] == "supported"
    runs = record["measurement"]["by_run"].values() if record["verb"] == "across" else [record]
    return [(one, supported and one["verdict"] == "supported") for one in runs]


def skipped_lines(records: Sequence[Record]) -> list[str]:
    """Return why claims were skipped, a line for each reason."""
    reasons = Counter(problem for record in records if record["verdict"] == "skipped" for problem in record["problems"])
    return [f"{n} claim{'' if n == 1 else 's'} skipped: {reason}" for reason, n in reasons.items()]


def hashes_of(records: Sequence[Record], what: str) -> list[tuple[str, str]]:
    """Return the sha256 of the ``weights`` of each fixture, or of the ``code`` in each file, that were judged with."""
    return sorted({pair for record in judged(records) for pair in record[what].items()})


def setting_line(records: Sequence[Record]) -> str:
    """Return what the claims were judged with: engine, device, weights."""
    runs = sorted(
        {
            f"{r['engine']} on {r['device']}, {name} sha256 {sha256[:12]}"
            for r in judged(records)
            for name, sha256 in r["weights"].items()
        }
    )
    seconds = sum(record["seconds"] for record in judged(records))
    return f"engine {'; '.join(runs)}; {seconds:.1f} s of measuring" if runs else ""


def digits_seen(record: Record) -> str:
    """Return what failed, in short: ``A4 171/172 (99%)``; or why nothing is known."""
    return "not measured" if record["verdict"] in _NOT_JUDGED else seen(record["verb"], record["comparisons"])


def seen(verb: str, comparisons: Sequence[Record]) -> str:
    """Return what the comparisons of a claim observed, in short; those with siblings are left out."""
    rows = [row for row in comparisons if not row["sibling"]]
    if verb == "across":
        others = [row["what"] for row in rows[:-1] if row["finding"] in ("contradicted", "undecided")]
        named = [*others[:FIXTURES_SHOWN], *(["…"] if len(others) > FIXTURES_SHOWN else [])]
        return f"{rows[-1]['observed']} runs" + (f", not {', '.join(named)}" if named else "")
    if verb not in ABLATING:
        if verb == "patch":  # what followed, and what else moved
            rows = [row for row in rows if "follows" in row["expected"] or row["value"] > 0]
        elif len(rows) > FIXTURES_SHOWN:  # of a large group, its ends
            ends = [pick(rows, key=lambda row: row["value"]) for pick in (min, max)]
            return f"{len(rows)}, from {' to '.join(_seen(row) for row in ends)}"
        return ", ".join(_seen(row) for row in rows)
    failing = [_seen(row) for row in rows if row["what"] != "loss" and row["value"] > 0] or ["no digit fails"]
    loss = {f"loss {row['value']:.2g}": None for row in rows if row["what"] == "loss"}  # once, of two bounds
    return ", ".join([*failing, *loss])


def _seen(row: Record) -> str:
    rate = "/" in row["observed"]
    return f"{row['what']} {row['observed']}" + (f" ({percent(row['value'])})" if rate else "")


def is_count(observed: str) -> bool:
    """Return whether what a comparison observed is a count, ``171/172``, whose rate can be shown; no text of a run."""
    return re.fullmatch(r"[0-9]+/[0-9]+", observed) is not None


def percent(rate: float) -> str:
    """Return a rate, a fraction, as a percentage; two digits more near the ends."""
    if 0 < rate < 0.01 or 0.99 < rate < 1:
        return f"{rate:.2%}"
    return f"{rate:.0%}" if round(rate * 1000) % 10 == 0 else f"{rate:.1%}"
