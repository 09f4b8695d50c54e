"""``harness findings REPORT.json``: which claims hold in every training run, and which in some. Imports no torch.

The document uses the claims of a report that ask several fixtures, and the roles files of these fixtures. Runs of one
recipe differ only in the seed. They are a sample of that recipe's runs, so their share has an interval. Runs of
different recipes are shown separately.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.intervals import CONFIDENCE, exact_interval
from harness.base.text import markdown_table, percent
from harness.judging.records import Record
from harness.reporting.words import observed
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import read_roles

MARKS = {"holds": "●", "contradicted": "○", "undecided": "?", "by construction": "="}
_SEED = re.compile(r"_s[0-9]+$")


def findings(records: Sequence[Record], fixtures: Path, command: str) -> str:
    """Return the Markdown document: which claims hold in all runs, a table of claims, and the places of roles.

    Raises:
        HarnessError: no claim of the report asks several fixtures.
        FixtureError: a roles file is invalid.
    """
    across = [record for record in records if record["verb"] == "across" and "comparisons" in record]
    if not across:
        raise HarnessError.of("claims about several fixtures in the report", "none", "judge some: make findings")
    by_file: dict[str, list[Record]] = {}
    for record in across:
        by_file.setdefault(record["path"], []).append(record)
    parts = [_SUMMARY.format(command=command), *_overview(across)]
    for path, claims in by_file.items():
        parts += ["", f"## {Path(path).stem.replace('_', ' ').capitalize()}", "", f"`{path}`", "", _table(claims)]
    runs = list(dict.fromkeys(row["subject"] for record in across for row in record["comparisons"][:-1]))
    parts += ["", *_role_tables(runs, fixtures), "", *_seen(across)]
    return "\n".join(parts) + "\n"


_SUMMARY = """# Which claims hold of every training run

A head number belongs to one training run. What a published claim is *about*, which step computes, what is
carried where, may or may not be so in another. Here each claim is asked of several runs, each by intervals that hold
for all runs of the claim together with 99% confidence, and by the same prompts.

How to read the tables: ● the claim holds of the run, ○ it is refuted, ? undecided (the interval straddles a threshold,
or a role was not found), = settled by the model's shape. The share is that of the runs of one recipe, which differ in
the seed alone, with its exact 99% interval: eight runs say little about the ninth, as its width shows. A claim that
holds of all runs here is "universal" only in that sense: the runs are of a few recipes, and each recipe is of one
architecture and one task.

Written by `{command}`. Do not edit."""
_ROLES = """Found by `harness locate`: the nodes, and in how many of 1,000 pairs of prompts, other than those that the
search saw, the whole answer came out as the causal model says when their values were carried over. A dash: no set of up
to three heads, or of two nodes of any kind, does it in more than 90%."""


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the fixtures grouped by recipe; those of one recipe differ only in the seed."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_SEED.sub("", name), []).append(name)
    return found


def _overview(across: Sequence[Record]) -> list[str]:
    """Return lists of the claims that hold in every run, in some runs, in no run, or are undecided."""
    kinds: dict[str, list[str]] = {"of every run": [], "of some runs, not of others": [], "of no run": [], "open": []}
    for record in across:
        findings = [row["finding"] for row in record["comparisons"][:-1] if row["finding"] != "by construction"]
        holds, fails = findings.count("holds"), findings.count("contradicted")
        if holds == len(findings):
            kind = "of every run"
        elif fails and holds:
            kind = "of some runs, not of others"
        else:
            kind = "of no run" if fails == len(findings) else "open"
        kinds[kind].append(f"{record['claim'].rstrip('.')} ({observed(record['comparisons'][-1])}; `{record['id']}`)")
    parts = []
    for kind, claims in kinds.items():
        if claims:
            heading = "Undecided in some run, or not placed" if kind == "open" else f"Holds {kind}"
            parts += [
                "",
                f"## {heading}: {len(claims)} of {len(across)} claims",
                "",
                *(f"- {claim}" for claim in claims),
            ]
    return parts


def _table(claims: Sequence[Record]) -> str:
    """Return a table with a row per claim: a mark per run, and for each recipe the share of runs in which it holds."""
    names = list(dict.fromkeys(row["subject"] for record in claims for row in record["comparisons"][:-1]))
    families = _families(names)
    heads = ["claim", "source"]
    for family, runs in families.items():
        heads += [f"`{family}`" + (f" {', '.join(_SEED.search(run)[0][1:] for run in runs)}" if len(runs) > 1 else "")]  # type: ignore[index]
        heads += ["share"] if len(runs) > 1 else []
    rows = []
    for record in claims:
        found = {row["subject"]: row["finding"] for row in record["comparisons"][:-1]}
        cells = [f"**{record['id']}** {record['claim']}", record["source"] or ""]
        for runs in families.values():
            cells.append("".join(MARKS.get(found.get(run, ""), " ") for run in runs))
            if len(runs) > 1:
                cells.append(_share([found[run] for run in runs if run in found]))
        rows.append(cells)
    return markdown_table(rows, heads)


def _share(findings: Sequence[str]) -> str:
    told = [finding for finding in findings if finding != "by construction"]
    if not told:
        return ""
    holds = told.count("holds")
    low, high = exact_interval(holds, len(told), CONFIDENCE)
    return f"{holds}/{len(told)} ({percent(round(low, 2))} to {percent(round(high, 2))})"


def _role_tables(names: Sequence[str], fixtures: Path) -> list[str]:
    """Return tables of each role's nodes per run, one table per set of roles; a dash: no nodes found."""
    tables: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for name in names:
        found = read_roles(FixtureRef(name, fixtures))
        if found is None:
            continue
        places: dict[str, str] = dict.fromkeys(found.unplaced, "–")
        for role, at in found.roles.items():
            for place, nodes in at.items():
                full = f"{role}.{place}"
                seen = found.evidence.get(full)
                text = nodes if isinstance(nodes, str) else ", ".join(nodes)
                places[full] = f"{text} ({percent(round(seen.follow, 3))})" if seen else text
        tables.setdefault(tuple(sorted(places, key=_of_role)), {})[name] = places
    parts = ["## Where the roles are", "", _ROLES, ""]
    for roles, runs in tables.items():
        rows = [(role, *(places[role] for places in runs.values())) for role in roles]
        parts += [
            markdown_table(rows, ["role", *(f"`{name}`" for name in runs)]),
            "",
        ]
    return parts[:-1]


def _of_role(name: str) -> tuple[str, int, str]:
    """Return what roles are sorted by: A5 to A0, highest first, then places without a number, like ``sign``."""
    role, _, place = name.partition(".")
    number = re.search(r"[0-9]+$", place)
    return role, -int(number[0]) if number else 1, place


def _seen(across: Sequence[Record]) -> list[str]:
    """Return the observations in each run in which a claim is contradicted or undecided."""
    parts = ["## What was seen where a claim does not hold", ""]
    for record in across:
        rows = [row for row in record["comparisons"][:-1] if row["finding"] in ("contradicted", "undecided")]
        if rows:
            parts += [f"- **{record['id']}** ({record['target'].split(' of ')[0]}; expected: {record['expected']})"]
            parts += [f"  - {row['subject']}: {observed(row, record)}" for row in rows]
    return parts
