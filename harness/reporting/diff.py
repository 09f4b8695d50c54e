"""``harness diff OLD.json NEW.json``: compares two reports, for example after retraining. Imports no torch.

Claims are matched by their key (path and id), comparisons by their subject. A rate or a mean has moved if its two
intervals do not overlap. A census has no interval: its value has moved if it differs at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.text import percent
from harness.base.validation import newer
from harness.judging.records import Record, judged
from harness.reporting.report import VERSION
from harness.reporting.words import AMOUNTS, expected, move_line, observed, subject

_KEYS = frozenset({"key", "id", "verdict", "verb", "target", "fixture", "named", "path"})  # read of every claim


@dataclass(frozen=True)
class Difference:
    """The differences between two reports."""

    lost: tuple[str, ...]  # claims that were supported, and now are not, or are missing
    verdicts: tuple[str, ...]  # other verdicts that changed
    moved: tuple[str, ...]  # rates and means that moved, in claims with an unchanged verdict
    nodes: tuple[str, ...]  # roles that moved to other nodes
    others: tuple[str, ...]  # claims in only one of the reports; changed weights or code

    def lines(self) -> Iterator[str]:
        """Yield the lines to print: a heading and its entries for each kind of difference found."""
        headings = {
            "lost": "No longer supported", "verdicts": "Other verdicts that changed",
            "moved": "Moved beyond its interval", "nodes": "Roles that moved", "others": "Also different",
        }  # fmt: skip
        for name, heading in headings.items():
            if found := getattr(self, name):
                yield from (f"{heading} ({len(found)})", *(f"  {line}" for line in found), "")
        if not any(getattr(self, name) for name in headings):
            yield "No difference: the same verdicts, and nothing moved beyond its interval."


def read_report(path: Path) -> dict[str, Record]:
    """Return the claims of a JSON report, by key.

    Raises:
        HarnessError: the file cannot be read, or is not a usable report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise HarnessError.of("a readable file", error.strerror or str(error), "name a JSON report", path) from None
    except ValueError as error:  # also raised for text that is not UTF-8
        raise HarnessError.of(
            "a JSON report", str(error).splitlines()[0], "write one: pytest hypotheses/", path
        ) from None
    version = report.get("version") if isinstance(report, dict) else None
    if new := newer(version, VERSION):
        raise HarnessError.of(*new, path)
    if version != VERSION or not isinstance(report.get("claims"), list):
        due, found = f"a JSON report of version {VERSION}", f"version {version}"
        raise HarnessError.of(due, found, "write it anew: pytest hypotheses/", path)
    if not all(isinstance(record, dict) and record.keys() >= _KEYS for record in report["claims"]):
        keys = f"claims with {', '.join(sorted(_KEYS))}"
        raise HarnessError.of(keys, "another", "write it anew: pytest hypotheses/", path)
    if not judged(report["claims"]):
        raise HarnessError.of("claims that were judged", "none", "write it anew: pytest hypotheses/", path)
    return {record["key"]: record for record in report["claims"]}


def compare_reports(old: dict[str, Record], new: dict[str, Record]) -> Difference:
    """Return the differences of `new` from `old`."""
    lost: list[str] = []
    verdicts: list[str] = []
    moved: list[str] = []
    nodes: list[str] = []
    others: list[str] = []
    for key, before in old.items():
        if key not in new:
            gone = f"{before['id']}: {before['verdict']} before, and not asked any more ({key})"
            (lost if before["verdict"] == "supported" else others).append(gone)
            continue
        after = new[key]
        changes = list(_moves(before, after))
        if before["verdict"] != after["verdict"]:
            line = f"{after['id']}: {before['verdict']} → {after['verdict']} ({'; '.join(changes) or after['target']})"
            (lost if before["verdict"] == "supported" else verdicts).append(line)
        elif changes:
            moved.append(f"{after['id']}: {'; '.join(changes)}")
        if after.get("xfail_moves") and not before.get("xfail_moves"):
            seen = "; ".join(move_line(move) for move in after["xfail_moves"])
            others.append(f"{after['id']}: not as its xfail expects any more ({seen})")
        nodes += [f"{after['id']}: {line}" for line in _other_nodes(before, after)]
    others += [
        f"{record['id']}: {record['verdict']}, not asked before ({key})"
        for key, record in new.items()
        if key not in old
    ]
    others += [line for what in ("weights", "code") for line in _other_hashes(what, old, new)]
    return Difference(*(tuple(lines) for lines in (lost, verdicts, moved, nodes, others)))


def _moves(before: Record, after: Record) -> Iterator[str]:
    """Yield the comparisons whose finding changed, or whose value moved beyond its interval."""
    earlier = {subject(row): row for row in before.get("comparisons", []) if not row["sibling"]}
    for row in after.get("comparisons", []):
        was = earlier.get(subject(row))
        if was is None or row["sibling"]:
            continue
        uncounted = was["low"] is None and was["k"] is None and row["k"] is None
        of_a_run = uncounted or after["verb"] == "across"
        changed = was["finding"] != row["finding"] if of_a_run else _apart(was, row)
        if changed:
            yield f"{subject(row)} {_shown(was, before)} → {_shown(row, after)}"


def _apart(was: Record, row: Record) -> bool:
    if was["low"] is None or row["low"] is None:  # a census, or an infinite interval
        return bool(was["value"] != row["value"])
    high_before, high = (1.0 if end is None else end for end in (was["high"], row["high"]))
    return bool(high < was["low"] or high_before < row["low"])


def _shown(row: Record, record: Record) -> str:
    interval = ""
    if row["low"] is not None and row["high"] is not None and row["kind"] not in AMOUNTS:
        interval = f" [{percent(row['low'])}, {percent(row['high'])}]"
    return f"{observed(row, record)}{interval}"


def _other_nodes(before: Record, after: Record) -> Iterator[str]:
    """Yield the old and new nodes of a claim whose text is unchanged but whose role moved to other nodes."""
    if before["target"] != after["target"]:
        return
    if before["verb"] == after["verb"] == "across":
        earlier = {row["subject"]: expected(row) for row in before.get("comparisons", [])[:-1]}
        for row in after.get("comparisons", [])[:-1]:
            was = earlier.get(row["subject"])
            if was is not None and was != expected(row):
                yield f"{row['subject']} {was} → {expected(row)}"
    elif before["named"] != after["named"]:
        yield f"{after['fixture']} {'+'.join(before['named'])} → {'+'.join(after['named'])}"


def _other_hashes(what: str, old: dict[str, Record], new: dict[str, Record]) -> Iterator[str]:
    """Yield the fixtures whose ``weights`` hash changed, or the files whose ``code`` hash changed."""
    hashes = [
        {name: sha for record in claims.values() for name, sha in record.get(what, {}).items()} for claims in (old, new)
    ]
    for name in sorted(set(hashes[0]) & set(hashes[1])):
        if hashes[0][name] != hashes[1][name]:
            yield f"{name}: {what} {hashes[0][name][:12]} → {hashes[1][name][:12]}"
