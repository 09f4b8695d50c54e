"""``harness xfail REPORT.json``: writes what a report saw into the ``xfail`` of the claims that it names.

Each ``xfail`` that names no ranges gets the verdict and, of each comparison that is contradicted or undecided, the
range of its value. That is the measured interval, rounded outwards; of a census, and of a count of training runs, the
value itself. The text of the spec stays as it is otherwise. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.yaml_insert import Insertion, insert_keys
from harness.base.yaml_text import flow
from harness.base.yamlfile import Document, Loc, parse_yaml, read_yaml
from harness.judging.records import Record
from harness.specs.spec_files import claims_in
from harness.specs.templates import expand

LOSS_DIFFERS = 1e-4  # nats, by which engines and machines may differ at the most
Ends = tuple[str, str]  # of a range, as text; equal: one value
_CHANGED = "is not the claim that the report tells of; judge it anew"


@dataclass
class Filled:
    """What becomes of one spec file."""

    path: Path
    text: str
    keys: list[str] = field(default_factory=list)  # the claims whose `xfail` says now what is expected
    left: dict[str, str] = field(default_factory=dict)  # other claims with `xfail`: why they are left as they are


def fill(path: Path, records: Iterable[Record], fixtures: Path) -> Filled:
    """Return the text of a spec file with what its `records` saw in each ``xfail`` that names no ranges.

    Raises:
        SpecError: the file cannot be read as a spec.
    """
    document = read_yaml(path)
    claims_in(document, fixtures)
    text = path.read_bytes().decode("utf-8")  # with the ends of lines that it has
    by_index = {record["index"]: record for record in records}
    filled, insertions, index = Filled(path, text), [], 0
    for i, raw in enumerate(document.data["hypotheses"]):
        rows = expand(Document(str(path)), ("hypotheses", i), raw)
        found = [by_index.get(index + j) for j in range(len(rows))]
        index += len(rows)
        if not isinstance(known := raw.get("xfail"), dict) or known.get("observed"):
            continue
        ids = [row["id"] for _, row in rows]
        if why := _unfit(found, ids):
            filled.left |= {f"{path}::{name}": why for name in ids}
            continue
        try:
            insertions += _insertions(("hypotheses", i), raw, [record for record in found if record])
        except ValueError as error:
            filled.left |= {f"{path}::{name}": str(error) for name in ids}
            continue
        filled.keys += [f"{path}::{name}" for name in ids]
    filled.text = insert_keys(text, insertions)
    claims_in(parse_yaml(filled.text, str(path)), fixtures)  # what was written can be read
    return filled


def _unfit(found: Sequence[Record | None], ids: Sequence[str]) -> str:
    """Return why the records do not fill a claim; empty if they do."""
    for record, name in zip(found, ids, strict=True):
        if record is None or record["id"] != name:
            return "not in the report" if record is None else _CHANGED
        if record["status"] != "xfailed":
            return f"{record['verdict']} in the report, {record['status']}"
    return ""


def _insertions(loc: Loc, raw: Mapping[str, Any], found: Sequence[Record]) -> list[Insertion]:
    """Return what is put into one claim: into its `xfail`, and where its rows differ, into the rows of its table.

    Raises:
        ValueError: what differs from row to row cannot be written into a table.
    """
    seen = [ranges(record) for record in found]
    if not all(seen):
        raise ValueError("no comparison that is contradicted or undecided has an interval that ends")
    columns: list[dict[str, str]] = [{} for _ in found]

    def said(name: str, values: Sequence[str]) -> str:
        """Return one text for all rows; a placeholder if they differ, and the rows get a column."""
        if len(set(values)) == 1:
            return values[0]
        while any(name in row for row in raw["each"]):
            name = f"{name}_seen"
        for column, value in zip(columns, values, strict=True):
            column[name] = value
        return f"{{{name}}}"

    subjects = list(dict.fromkeys(name for one in seen for name in one))
    observed: dict[str, list[Ends]] = {}
    if all(set(one) == set(subjects) for one in seen):
        observed = {name: [one[name] for one in seen] for name in subjects}
    elif all(len(one) == 1 for one in seen):
        observed = {said("row", [flow(next(iter(one))) for one in seen]): [next(iter(one.values())) for one in seen]}
    else:
        raise ValueError("each row of its table contradicts other comparisons; write the ranges yourself")
    verdict = said("verdict", [record["verdict"] for record in found])
    parts = []
    for name, ends in observed.items():
        if len(set(ends)) == 1:
            value = _range(ends[0])
        else:
            place = "range" if len(observed) == 1 else "range_" + re.sub(r"\W", "_", name)
            value = said(place, [" to ".join(dict.fromkeys(both)) for both in ends])
        parts.append(f"{_key(name)}: {_quoted(value)}")
    told = {} if raw["xfail"].get("verdict") else {"verdict": _quoted(verdict)}
    insertions = [Insertion((*loc, "xfail"), {**told, "observed": f"{{{', '.join(parts)}}}"})]
    insertions += [Insertion((*loc, "each", j), column, first=False) for j, column in enumerate(columns) if column]
    return insertions


def _quoted(text: str) -> str:
    """Return a text in quotes if it is a placeholder, which YAML would take for a mapping."""
    return f'"{text}"' if text.startswith("{") else text


def _key(name: str) -> str:
    return _quoted(name) if name.startswith("{") else flow(name)


def _range(ends: Ends) -> str:
    return ends[0] if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"


def ranges(record: Record) -> dict[str, Ends]:
    """Return the range of each comparison of a claim that is contradicted or undecided; of several runs, of all runs.

    A comparison whose interval has no end is left out.
    """
    rows = record["comparisons"]
    if record["verb"] == "across":
        *runs, every = rows
        # What was measured and is undecided could come out either way; a role that is not placed stays so.
        could = every["k"] + sum(row["finding"] == "undecided" and not row["absent"] for row in runs)
        return {every["subject"]: (f"{every['k']}/{every['n']}", f"{could}/{every['n']}")}
    found = {}
    for row in rows:
        if row["finding"] in ("contradicted", "undecided") and not row["absent"] and (ends := _measured(row)):
            found[f"{row['fixture']} {row['subject']}".strip()] = ends
    return found


def _measured(row: Record) -> Ends | None:
    """Return the range of one comparison's value; None if its interval has no end."""
    exact = row["low"] is None and row["high"] is None
    if exact or row["kind"] == "order":  # a census; the order of losses in training runs that are there
        if row["k"] is not None:
            return (f"{row['k']}/{row['n']}",) * 2 if row["n"] else None
        low = high = row["value"]
    elif row["low"] is None or row["high"] is None:
        return None
    else:
        low, high = row["low"], row["high"]
    if row["kind"] == "loss":
        if exact:  # the last decimals of a loss differ between machines
            low, high = low - max(low / 10, LOSS_DIFFERS), high + max(high / 10, LOSS_DIFFERS)
        return _outwards(max(low, 0.0), high)
    if row["kind"] in ("median", "mean"):
        return _outwards(low, high)
    ends = _outwards(100 * max(low, -1.0), 100 * min(high, 1.0))
    return f"{ends[0]}%", f"{ends[1]}%"


def _outwards(low: float, high: float) -> Ends:
    """Return the ends of an interval as text, rounded outwards: its width has two places.

    Of an interval without width, its value has four.
    """
    width = high - low
    places = 1 - math.floor(math.log10(width)) if width else 3 - math.floor(math.log10(abs(high) or 1))
    scale = 10 ** max(0, places)
    return _decimal(math.floor(low * scale) / scale, places), _decimal(math.ceil(high * scale) / scale, places)


def _decimal(value: float, places: int) -> str:
    text = f"{value:.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fill_specs(report: Mapping[str, Record], specs: Sequence[Path], fixtures: Path) -> list[Filled]:
    """Return what becomes of each spec file of a report, or of those among `specs`, files or directories.

    Raises:
        HarnessError: the report tells of no such file, or one of them cannot be read.
    """
    by_file: dict[str, list[Record]] = {}
    for record in report.values():
        by_file.setdefault(record["path"], []).append(record)
    asked = [spec.resolve() for spec in specs]
    wanted = {
        Path(name): records
        for name, records in by_file.items()
        if not asked or any(Path(name).resolve().is_relative_to(one) for one in asked)
    }
    if not wanted:
        raise HarnessError.of("spec files that the report tells of", "none", f"name one of {', '.join(by_file)}")
    return [fill(path, records, fixtures) for path, records in wanted.items()]
