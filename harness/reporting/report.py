"""The reports at the end of a run, made from records: the terminal's table, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from harness.base.text import markdown_table, percent
from harness.judging.records import Record, judged
from harness.reporting.columns import COLUMNS, MARKDOWN, TERMINAL, headings, linked
from harness.reporting.failure import failure_text, same_elsewhere, shortened
from harness.reporting.summary import (
    counts,
    false_verdicts_line,
    hashes_of,
    is_recorded,
    shown_verdict,
    skipped_lines,
    summary_line,
)
from harness.reporting.words import (
    comparisons_in_short,
    nouns_of,
    spare_nodes,
    variables_apart,
    with_words,
    xfail_text,
)
from harness.specs.methods import METHODS

if TYPE_CHECKING:
    from harness.judging.worth.coverage import Coverage

VERSION = 4


def terminal_table(records: Sequence[Record]) -> str:
    """Return the table at the end of a run: one row per claim, by-construction claims last, skipped ones left out."""
    shown = sorted((r for r in records if r["verdict"] != "skipped"), key=lambda r: r["verdict"] == "by construction")
    columns = [COLUMNS[name] for name in TERMINAL]
    rows = [[column.text(record) for column in columns] for record in shown]
    heads, widths = headings(columns, records), [column.width for column in columns]
    return tabulate(rows, heads, maxcolwidths=widths, disable_numparse=True)


def more_lines(records: Sequence[Record], coverage: Sequence[Coverage], most: int | None = None) -> list[str]:
    """Return lines on false verdicts by chance, mutation score and coverage; at most `most` missing nodes are named."""
    covered = (line for found in coverage for line in _coverage_lines(found, most))
    return [*filter(None, [false_verdicts_line(records)]), *_mutant_lines(records), *covered]


def _mutant_lines(records: Sequence[Record]) -> list[str]:
    tried = [(record, record["mutants"]) for record in records if record.get("mutants")]
    if not tried:
        return []
    killed = sum(len(mutants["killed"]) for _, mutants in tried)
    alike = sum(bool(one["reason"]) for _, mutants in tried for one in mutants["survivors"])
    open_ = [(r, one) for r, mutants in tried for one in mutants["survivors"] if not one["reason"]]
    score = percent(killed / max(1, killed + len(open_)))
    lines = [
        f"mutation score {score}: {killed} of {killed + len(open_)} mutants killed; {alike} more hold as well, "
        "for the reasons that their specs give"
    ]
    lines += [
        f"  survives: {r['id']} with {one['kind']}: {one['about']}: {one['expected']}: "
        f"{comparisons_in_short(r, one['comparisons'])}"
        for r, one in open_
    ]
    lines += [
        f"  not tried: {r['id']} without each of its {mutants['not_tried']} nodes, which are too many"
        for r, mutants in tried
        if mutants.get("not_tried")
    ]
    lines += [
        f"  does not survive, though its spec gives a reason: {r['id']} with {kind}"
        for r, mutants in tried
        for kind in mutants["stale"]
    ]
    return lines


def _coverage_lines(found: Coverage, most: int | None) -> list[str]:
    nodes = [f"{node} ({seen})" for node, seen in found.missing.items()]
    missing = ", ".join([*nodes[:most], *([f"{len(nodes) - most} more"] if most and len(nodes) > most else [])])
    return [f"coverage of {found}", *([f"  not named: {missing}"] if missing else [])]


def markdown(
    records: Sequence[Record],
    spec_errors: Sequence[str] = (),
    command: str = "",
    coverage: Sequence[Coverage] = (),
    specs: str | None = None,
    unreached: Sequence[str] = (),
) -> str:
    """Return the Markdown report of the run that `command` started; a run may cover only some of the claims.

    `unreached` are the claims left unjudged because the run was stopped.
    `specs` is the directory that spec paths are relative to, seen from the report. With it, claims link to their lines.
    """
    by_construction = [r for r in records if r["verdict"] == "by construction"]
    skipped = [r for r in records if r["verdict"] == "skipped"]
    others = [r for r in records if r["verdict"] not in ("by construction", "skipped")]
    parts = ["# Claims", "", f"`{command}`: {summary_line(records)}." if command else f"{summary_line(records)}.", ""]
    if unreached:
        parts += ["## Not judged, as the run was stopped", "", *(f"- `{key}`" for key in unreached), ""]
    if spec_errors:
        parts += ["## Specs that could not be read", "", *(f"- `{line}`" for line in spec_errors), ""]
    parts += [_claims_table(others, specs)] if others else []
    if by_construction:
        parts += ["", "## True by construction", ""]
        parts += [
            "The model's shape alone settles these; they are not evidence.",
            "",
            _claims_table(by_construction, specs),
        ]
    if skipped:
        parts += ["", "## Skipped", "", *(f"- {line}" for line in skipped_lines(skipped)), ""]
        parts += [_claims_table(skipped, specs)]
    if any(map(is_recorded, records)):
        parts += ["", "*Recorded* claims write down what was seen before they were made; nobody predicted it."]
    details = [r for r in records if r["status"] not in ("passed", "skipped")]
    if details:
        parts += ["", "## Claims that did not simply hold", ""]
        for record in details:
            parts += [f"### {record['id']}", ""]
            parts += [linked(f"{record['path']}:{record['line']}", record, specs), ""]
            if record["xfail"]:
                parts += [f"Known: {xfail_text(record)}.", ""]
            text = "\n".join(record["problems"]) if record["verdict"] == "error" else failure_text(record)
            parts += ["```text", text, "```", ""]
    parts += _controls(records)
    if more := more_lines(records, coverage):
        parts += [
            "",
            "## What the claims are worth",
            "",
            *(f"{'  ' * line.startswith(' ')}- {line.strip()}" for line in more),
        ]
    parts += [
        "",
        "<details><summary>How to read this, and where it comes from</summary>",
        "",
        *_provenance(records),
        "",
        "</details>",
        "",
        *_times(records),
    ]
    return "\n".join(parts)


def _controls(records: Sequence[Record]) -> list[str]:
    """Return the section with the table of controls, and its explanation."""
    rows = [
        (r["id"], f"{shown_verdict(r)}", r["target"], _ranked(r["controls"]), same_elsewhere(r["controls"]),
         shortened(spare_nodes(r["controls"])), ", ".join(variables_apart(r["controls"], apart=True)),
         ", ".join(variables_apart(r["controls"], apart=False)),
         *(_by_method(r["controls"], method) for method in METHODS))
        for r in records
        if r.get("controls")
    ]  # fmt: skip
    if not rows:
        return []
    heads = ["claim", "verdict", "about", "rank", "others that do it too", "spare", "told apart from",
             "not told apart from", *METHODS]  # fmt: skip
    return [
        "", "## Controls", "",
        "In each of these claims every node was given the value that it has, and nothing changed. The rank is that of",
        "the claim's nodes among as many other heads of their steps and layers, and the same nodes at other steps. Of",
        "a claim about what suffices, the others are the nodes that can be spared. *Spare* are the nodes of the claim",
        "without each of which, alone, the others do the same. *Told apart* are other variables: of the pairs on which",
        "they predict other answers than the claim's variable, so many came out as that one says, against so many as",
        "they say. Under a method's name stands the verdict by that method. Of a claim about several runs: in how many",
        "of them it is so.", "",
        markdown_table(rows, heads),
    ]  # fmt: skip


def _by_method(controls: Record, method: str) -> str:
    if (found := controls["methods"].get(method)) is None:
        return ""
    return f"supported in {found} of {controls['runs']}" if "runs" in controls else str(found)


def _ranked(controls: Record) -> str:
    if "runs" in controls:
        specific = f"specific in {controls['specific_runs']} of {controls['compared']}" if controls["compared"] else ""
        first = f"1 in {controls['first']} of {controls['ranked']}" if controls["ranked"] else ""
        return "; ".join(filter(None, [first, specific]))
    return "" if controls["rank"] is None else f"{controls['rank']} of {len(controls['siblings']) + 1}"


def _times(records: Sequence[Record]) -> list[str]:
    """Return a folded table of seconds per claim. It comes last: two reports of the same results differ only there."""
    if not (measured := judged(records)):
        return []
    rows = [(f"`{r['key']}`", r["engine"], f"{r['seconds']:.3f}") for r in measured]
    return [
        "<details><summary>Seconds per claim</summary>", "",
        f"Of claims that ask the same {nouns_of(*records).prompts}, each has its share of their clean run.", "",
        markdown_table(rows, ["claim", "engine", "s"]), "", "</details>", "",
    ]  # fmt: skip


def _claims_table(records: Sequence[Record], specs: str | None) -> str:
    columns = [COLUMNS[name] for name in MARKDOWN]
    rows = [[c.markdown(r, specs) if c.markdown else c.text(r) for c in columns] for r in records]
    return markdown_table(rows, headings(columns, records))


def _provenance(records: Sequence[Record]) -> list[str]:
    measured, nouns = judged(records), nouns_of(*records)
    runs = sorted({(r["engine"], r["device"]) for r in measured})
    return [
        *(f"- fixture `{name}`, weights sha256 `{sha}`" for name, sha in hashes_of(measured, "weights")),
        *(f"- own code `{path}`, sha256 `{sha}`" for path, sha in hashes_of(measured, "code")),
        *(f"- engine {engine} on {device}" for engine, device in runs),
        f"- Teacher-forced: the true answer {nouns.tokens} stand in the context. A {nouns.token} is counted only on "
        f"{nouns.prompts} whose",
        f"  clean run gets it right. A named or listed {nouns.prompt} set is a census; a sample has exact",
        "  (Clopper-Pearson) intervals that hold together, over all comparisons of a claim, with 99% confidence;",
        "  that of a mean loss, each loss capped at ln(vocabulary size), is a betting interval, of a gain in accuracy",
        "  or a share of attention the empirical Bernstein bound: both valid at any n. In claims about training runs",
        f"  it is the runs that are sampled. A near-tie is a {nouns.token} whose two largest logits are closer than",
        "  1e-4: another engine or machine may answer otherwise.",
    ]


def to_json(
    records: Sequence[Record],
    spec_errors: Sequence[str] = (),
    command: str = "",
    coverage: Sequence[Coverage] = (),
    unreached: Sequence[str] = (),
) -> str:
    """Return the JSON report."""
    body = {
        "version": VERSION,
        "command": command,
        "summary": counts(records),
        "spec_errors": list(spec_errors),
        "claims": [with_words(record) for record in records],
        "unreached": list(unreached),
        "coverage": {found.fixture: found.as_dict() for found in coverage},
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
