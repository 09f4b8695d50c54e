"""Results → records → what people read: the failure text, the terminal's table, Markdown and JSON.

A record is a result as plain JSON values, so that it can travel between processes; everything below is
made from records alone.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from harness.errors import HarnessError, NotImportedError
from harness.hypothesis import Claim, Hypothesis

if TYPE_CHECKING:
    from harness.evaluate import Result
    from harness.verdict import Comparison

Record = dict[str, Any]
VERSION = 2
EXAMPLES_SHOWN = 3
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
        "comparisons": [{**vars(row), **_finite_ends(row)} for row in result.comparisons],
        "measurement": result.measurement.as_dict(),
        "weights": result.weights,
        "device": result.device,
        "engine": result.engine,
        "seconds": round(result.seconds, 3),
    }


def _finite_ends(row: Comparison) -> dict[str, float | None]:
    """Return an interval's ends as JSON has them: null for one that is infinite."""
    ends = {"low": row.low, "high": row.high}
    return {name: None if end is None or math.isinf(end) else end for name, end in ends.items()}


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
        "tags": list(claim.tags),
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
    if known := sum(record["status"] == "xfailed" for record in records):
        line += f" ({known} refuted or inconclusive as their specs say)"
    if wrong := sum(record["status"] in ("failed", "xpassed") for record in records):
        line += f"; {wrong} not as their specs say"
    if errors := sum(record["verdict"] == "error" for record in records):
        line += f"; {errors} could not be judged"
    if skipped := sum(record["verdict"] == "skipped" for record in records):
        line += f"; {skipped} skipped, their weights are not here"
    return line


def skipped_lines(records: Sequence[Record]) -> list[str]:
    """Return why claims were skipped, a line for each reason."""
    reasons = Counter(problem for record in records if record["verdict"] == "skipped" for problem in record["problems"])
    return [f"{n} claim{'' if n == 1 else 's'} skipped: {reason}" for reason, n in reasons.items()]


def digits_seen(record: Record) -> str:
    """Return what failed, in short: ``A4 171/172 (99%)``; or why nothing is known."""
    if record["verdict"] in _NOT_JUDGED:
        return "not measured"
    if record["verb"] not in ABLATING:
        rows = record["comparisons"]
        if record["verb"] == "patch":  # what followed, and what else moved
            rows = [row for row in rows if "follows" in row["expected"] or row["value"] > 0]
        elif len(rows) > FIXTURES_SHOWN:  # of a large group, its ends
            ends = [pick(rows, key=lambda row: row["value"]) for pick in (min, max)]
            return f"{len(rows)}, from {' to '.join(_seen(row) for row in ends)}"
        return ", ".join(_seen(row) for row in rows)
    rows = [row for row in record["comparisons"] if row["what"] != "loss" and row["value"] > 0]
    seen = [f"{row['what']} {row['observed']} ({_percent(row['value'])})" for row in rows] or ["no digit fails"]
    if any(row["what"] == "loss" for row in record["comparisons"]):
        seen.append(f"loss {record['measurement']['loss']:.2g}")
    return ", ".join(seen)


def _seen(row: Record) -> str:
    rate = "/" in row["observed"]
    return f"{row['what']} {row['observed']}" + (f" ({_percent(row['value'])})" if rate else "")


def failure_text(record: Record) -> str:
    """Return what is shown of a claim that failed: the table, the questions that decided it, where, how to rerun."""
    sampled = "census" if record["census"] else "sample"
    reference = f", reference {record['reference']}" if record["reference"] else ""
    head = f"{record['verdict'].upper()}: {record['claim']}"
    if record["status"] == "xpassed":
        head += f"\nThe spec says xfail ({record['xfail']}): remove that, the claim holds now."
    if record["verdict"] == "by construction" and record["status"] == "failed":
        head += "\nThe model's shape alone settles it; say `by_construction: true`, or claim what could fail."
    rows = [
        (row["what"], row["expected"], row["observed"] + (f" ({row['excluded']} excluded)" if row["excluded"] else ""),
         _percent(row["value"]) if "/" in row["observed"] else "", _interval(row), row["finding"])
        for row in record["comparisons"]
    ]  # fmt: skip
    heads = ["digit", "expected", "wrong/asked"] if record["verb"] in ABLATING else ["", "expected", "observed"]
    table = tabulate(rows, [*heads, "rate", "interval", "finding"], disable_numparse=True)
    measured = record["measurement"]
    what = record["target"]
    if record["verb"] in ABLATING:
        what = f"{record['how']}-ablate {'all but ' if record['verb'] == 'keep' else ''}{what.removeprefix('only ')}"
    whose = record["fixture"] if record["fixtures"] == [record["fixture"]] else ""  # `what` says which others
    about = [record["source"], whose, f"{what}{reference}"]
    if record["verb"] not in ABLATING:
        about.append(record["how"])
    if record["questions"]:
        n = measured["n"] if "n" in measured else next(iter(measured["by_fixture"].values()))["n"]
        about.append(f"{record['questions']} ({sampled} of {n})")
    if "clean_accuracy" in measured:
        about.append(f"clean accuracy {_percent(measured['clean_accuracy'])}")
    parts = [head, " · ".join(filter(None, about)), "", table]
    if deciding := deciding_questions(record):
        parts += ["", "questions that decided it:", *(f"  {line}" for line in deciding)]
    options = "".join(f" {shlex.quote(option)}" for option in record.get("options", []))
    parts += ["", f"{record['path']}:{record['line']}", f'rerun: pytest "{record["key"]}"{options}']
    return "\n".join(parts)


def deciding_questions(record: Record) -> list[str]:
    """Return a few of the questions behind a contradicted or undecided comparison."""
    measured = record["measurement"]
    if record["verb"] == "answer":
        return _wrong_answers(record)
    examples = measured.get("examples", {})
    if not examples:
        return []
    lines: dict[str, None] = {}
    for row in record["comparisons"]:
        if row["finding"] in ("contradicted", "undecided") and row["what"] != "loss":
            unbroken = row["what"] in record["fails"]
            for line in examples.get(f"{row['what']} right" if unbroken else row["what"], [])[:EXAMPLES_SHOWN]:
                lines.setdefault(line)
    return list(lines)


def _wrong_answers(record: Record) -> list[str]:
    """Return a few wrong answers of each fixture that should have answered better."""
    several, lines = len(record["fixtures"]) > 1, []
    for name, answered in record["measurement"]["by_fixture"].items():
        low = any(
            row["finding"] in ("contradicted", "undecided") and "right ≥" in row["expected"]
            and (not several or row["what"].startswith(f"{name} "))
            for row in record["comparisons"]
        )  # fmt: skip
        prefix = f"{name}: " if several else ""
        lines += [f"{prefix}{line}" for line in answered["examples"][:EXAMPLES_SHOWN] if low]
    return lines


def terminal_table(records: Sequence[Record]) -> str:
    """Return the table at the end of a run: one row a claim, by-construction claims last, no skipped ones."""
    rows = [
        (
            _shown_verdict(r),
            r["id"],
            r["target"],
            r["how"],
            r["questions"],
            r["expected"],
            digits_seen(r),
        )
        for r in sorted(records, key=lambda r: r["verdict"] == "by construction")
        if r["verdict"] != "skipped"
    ]
    heads = ["verdict", "claim", "about", "how", "questions", "expected", "observed"]
    widths = [None, 34, 22, None, 30, 24, 44]
    return tabulate(rows, heads, maxcolwidths=widths, disable_numparse=True)


def _shown_verdict(record: Record) -> str:
    suffix = {"xfailed": " (xfail)", "xpassed": " (XPASS)"}.get(record["status"], "")
    if record["verdict"] == "by construction" and record["status"] == "failed":
        suffix = " (undeclared)"
    return f"{record['verdict']}{suffix}"


def markdown(records: Sequence[Record], spec_errors: Sequence[str] = (), command: str = "") -> str:
    """Return the Markdown report of the run that `command` started, which may have been of some claims only."""
    by_construction = [r for r in records if r["verdict"] == "by construction"]
    skipped = [r for r in records if r["verdict"] == "skipped"]
    others = [r for r in records if r["verdict"] not in ("by construction", "skipped")]
    parts = ["# Claims", "", f"`{command}`: {summary_line(records)}." if command else f"{summary_line(records)}.", ""]
    if spec_errors:
        parts += ["## Specs that could not be read", "", *(f"- `{line}`" for line in spec_errors), ""]
    parts += [_markdown_table(others)] if others else []
    if by_construction:
        parts += ["", "## True by construction", ""]
        parts += [
            "The model's shape alone settles these; they are not evidence.",
            "",
            _markdown_table(by_construction),
        ]
    if skipped:
        parts += ["", "## Skipped", "", *(f"- {line}" for line in skipped_lines(skipped)), ""]
        parts += [_markdown_table(skipped)]
    details = [r for r in records if r["status"] not in ("passed", "skipped")]
    if details:
        parts += ["", "## Claims that did not simply hold", ""]
        for record in details:
            parts += [f"### {record['id']}", ""]
            parts += [f"`{record['path']}:{record['line']}`", ""]
            if record["xfail"]:
                parts += [f"Known: {record['xfail']}.", ""]
            text = "\n".join(record["problems"]) if record["verdict"] == "error" else failure_text(record)
            parts += ["```text", text, "```", ""]
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


def _times(records: Sequence[Record]) -> list[str]:
    """Return the folded table of what each claim took; last, so that two reports differ in nothing else."""
    if not (measured := judged(records)):
        return []
    rows = [(f"`{r['key']}`", r["engine"], f"{r['seconds']:.3f}") for r in measured]
    return [
        "<details><summary>Seconds per claim</summary>", "",
        "Of claims that ask the same questions, each has its share of their clean run.", "",
        tabulate(rows, ["claim", "engine", "s"], tablefmt="github", disable_numparse=True), "", "</details>", "",
    ]  # fmt: skip


def _markdown_table(records: Sequence[Record]) -> str:
    rows = [
        (f"**{_shown_verdict(r)}**", f"{r['id']}: {r['claim']}", f"`{r['target']}`", r["how"], r["questions"],
         r["expected"], digits_seen(r), r["source"])
        for r in records
    ]  # fmt: skip
    heads = ["verdict", "claim", "about", "how", "questions", "expected", "observed", "source"]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, heads, tablefmt="github", disable_numparse=True)


def _provenance(records: Sequence[Record]) -> list[str]:
    measured = judged(records)
    fixtures = sorted({pair for r in measured for pair in r["weights"].items()})
    runs = sorted({(r["engine"], r["device"]) for r in measured})
    return [
        *(f"- fixture `{name}`, weights sha256 `{sha}`" for name, sha in fixtures),
        *(f"- engine {engine} on {device}" for engine, device in runs),
        "- Teacher-forced: the true answer digits stand in the context. A digit is counted only on questions whose",
        "  clean run gets it right. A named or listed question set is a census; a sample has exact",
        "  (Clopper-Pearson) intervals that hold together, over all comparisons of a claim, with 99% confidence;",
        "  the interval of a mean loss is Student's t, of a gain in accuracy or a share of attention the empirical",
        "  Bernstein bound. In claims about training runs it is the runs that are sampled.",
    ]


def to_json(records: Sequence[Record], spec_errors: Sequence[str] = (), command: str = "") -> str:
    """Return the JSON report."""
    body = {
        "version": VERSION,
        "command": command,
        "summary": counts(records),
        "spec_errors": list(spec_errors),
        "claims": list(records),
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _percent(rate: float) -> str:
    if 0 < rate < 0.01 or 0.99 < rate < 1:
        return f"{rate:.2%}"
    return f"{rate:.0%}" if round(rate * 1000) % 10 == 0 else f"{rate:.1%}"


def _interval(row: Record) -> str:
    if row["low"] is None:
        return ""
    if row["what"].endswith("loss") or row["what"] == "mass":
        return f"{row['low']:.3g} to {row['high']:.3g}"
    return f"{row['low']:.2%} to {row['high']:.2%}"
