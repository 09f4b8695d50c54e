"""Counts and one-line summaries of records, which the terminal and all reports share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.base.intervals import ERROR
from harness.base.text import percent
from harness.judging.records import NOT_JUDGED, Record, judged, runs_of
from harness.reporting.words import FIXTURES_SHOWN, observed_in_short

ACCURATE = 0.99  # clean accuracy from which nothing is said of it beside the verdict
_ORDER = ("error", "skipped", "refuted", "inconclusive", "vacuous", "supported", "by construction")


def counts(records: Sequence[Record]) -> dict[str, int]:
    """Return how many claims have each verdict."""
    found = Counter(record["verdict"] for record in records)
    return {verdict: found[verdict] for verdict in _ORDER if found[verdict]}


def summary_line(records: Sequence[Record]) -> str:
    """Return one line: number of claims, number with each verdict, and how many agree with their specs or do not."""
    evaluated = judged(records)
    line = f"{len(evaluated)} claim{'' if len(evaluated) == 1 else 's'} evaluated"
    if evaluated:
        line += ": " + ", ".join(f"{n} {verdict}" for verdict, n in counts(evaluated).items())
    if recorded := sum(map(is_recorded, evaluated)):
        line += f", of these {recorded} recorded, not predicted"
    if repeats := sum(bool(record.get("repeats")) for record in evaluated):
        line += f", {repeats} of them repeat{'s' if repeats == 1 else ''} another"
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
    """Return a line with the largest number of false verdicts to expect by chance; empty: no verdict on a sample."""
    decided = [record for record in judged(records) if record["verdict"] in ("supported", "refuted")]
    sampled = {r["key"] for r in decided if any(row["low"] is not None for row in r["comparisons"])}
    drawn = {r["key"] for r in decided if any(row["draws"] > 1 for one, _ in runs_of(r) for row in one["comparisons"])}
    if not sampled | drawn:
        return ""
    n = len(sampled | drawn)
    return f"by chance, at most {n * ERROR:.2g} of the {n} verdicts on samples are expected to be false"


def is_recorded(record: Record) -> bool:
    """Return whether a claim is recorded, not predicted; older reports lack the field, so the result is False."""
    return bool(record.get("recorded"))


def not_specific(record: Record) -> bool:
    """Return whether a claim is supported but its controls show that siblings have the effect too."""
    controls = record.get("controls") or {"specific": None}
    return record["verdict"] == "supported" and controls["specific"] is False


def shown_verdict(record: Record) -> str:
    """Return a claim's verdict with its remarks: xfail, not specific, fresh seeds, clean accuracy and so on."""
    suffix = {"xfailed": " (xfail)", "xpassed": " (XPASS)"}.get(record["status"], "")
    if not_specific(record):
        suffix = f", not specific{suffix}"
    if record["verdict"] == "by construction" and record["status"] == "failed":
        suffix = " (undeclared)"
    elif record.get("xfail_moves"):
        suffix += " (not as its xfail expects)"
    if is_recorded(record):
        suffix += " (recorded)"
    if reseeds := record.get("reseeds"):
        suffix += f" (supported on {reseeds['supported']} of {reseeds['asked']} fresh seeds)"
    if (accuracy := least_accuracy(record)) < ACCURATE:
        suffix += f" (clean {percent(accuracy)})"
    if ties := near_ties_line(near_ties(record)):
        suffix += f" ({ties})"
    return f"{record['verdict']}{suffix}"


def remarks(record: Record) -> list[str]:
    """Return what stands beside a verdict: runs left out, roles without evidence, the claim that this one repeats."""
    found = []
    if left_out := record.get("left_out"):
        found.append(f"left out: {_first(left_out)}")
    for role, names in record.get("without_evidence", {}).items():
        where = "" if names == record["fixtures"] else f" in {_first(names)}"
        found.append(f"role {role} without evidence{where}")
    if record.get("repeats"):
        found.append(f"repeats {record['repeats']}")
    return found


def _first(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    rest = len(names) - FIXTURES_SHOWN
    return ", ".join([*names[:FIXTURES_SHOWN], *([f"{rest} more"] if rest > 0 else [])])


def verdict_and_remarks(record: Record) -> str:
    """Return a claim's verdict as it is shown, and the remarks beside it."""
    return " ".join([shown_verdict(record), *(f"({remark})" for remark in remarks(record))])


def least_accuracy(record: Record) -> float:
    """Return the clean accuracy on what a claim asked, of several runs the lowest; 1 where none was measured."""
    measured = [one.get("measurement") or {} for one, _ in runs_of(record)]
    return min((float(found.get("clean_accuracy", 1)) for found in measured), default=1.0)


def near_ties(record: Record) -> int:
    """Return on how many answer tokens of prompts another engine might answer another token; of several runs, in all.

    Reports of versions that did not count them have none.
    """
    measured = [one.get("measurement") or {} for one, _ in runs_of(record)]
    each = [one for found in measured for one in (found, *found.get("by_fixture", {}).values())]
    return sum(int(found.get("near_ties", 0)) for found in each)


def near_ties_line(n: int) -> str:
    """Return the number of near-ties in words: ``2 near-ties``; empty if there is none."""
    return f"{n} near-tie{'' if n == 1 else 's'}" if n else ""


def skipped_lines(records: Sequence[Record]) -> list[str]:
    """Return a line per reason why claims were skipped, with the number of claims."""
    reasons = Counter(problem for record in records if record["verdict"] == "skipped" for problem in record["problems"])
    return [f"{n} claim{'' if n == 1 else 's'} skipped: {reason}" for reason, n in reasons.items()]


def hashes_of(records: Sequence[Record], what: str) -> list[tuple[str, str]]:
    """Return the (name, sha256) pairs of the judged records: ``weights`` per fixture, or ``code`` per file."""
    return sorted({pair for record in judged(records) for pair in record[what].items()})


def setting_line(records: Sequence[Record]) -> str:
    """Return a line with the engines, devices and weights of the judged claims, and the seconds of measuring."""
    runs = sorted(
        {
            f"{r['engine']} on {r['device']}, {name} sha256 {sha256[:12]}"
            for r in judged(records)
            for name, sha256 in r["weights"].items()
        }
    )
    seconds = sum(record["seconds"] for record in judged(records))
    return f"engine {'; '.join(runs)}; {seconds:.1f} s of measuring" if runs else ""


def tokens_seen(record: Record) -> str:
    """Return what was observed, in short: ``A4 171/172 (99%)``; or "not measured" for a claim without a verdict."""
    return "not measured" if record["verdict"] in NOT_JUDGED else observed_in_short(record)
