"""The failure text of a claim whose result does not agree with its spec, and the lines that reports share with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from harness.base.text import percent
from harness.judging.records import Record
from harness.reporting.summary import near_ties, near_ties_line, remarks
from harness.reporting.words import (
    AMOUNTS,
    COUNTS_FAILURES,
    drawn_range,
    example_line,
    expected,
    is_count,
    move_line,
    nouns_of,
    observed,
    spare_nodes,
    subject,
    untested,
    variables_apart,
)
from harness.tasks.positions import Nouns

EXAMPLES_SHOWN = 3
SIBLINGS_SHOWN = 3
DRAWN_FOR_EACH = ("corrupt", "noise", "patch", "resample")  # methods whose values are drawn for each prompt
DEPENDS_FIX = (
    "List them (`reference: [...]`, or a named set) to speak of that mean alone, claim a rate that all draws meet, or "
    "say `method: resample`."
)


def failure_text(record: Record) -> str:
    """Return the text for a failed claim: comparisons, deciding questions, place in the spec, rerun command."""
    head = f"{record['verdict'].upper()}: {record['claim']}"
    if record["status"] == "xpassed":
        head += f"\nThe spec says xfail ({record['xfail']}): remove that, the claim holds now."
    if moves := record.get("xfail_moves"):
        head += f"\nThe spec says xfail ({record['xfail']}), but it does not fail in the way that is expected there:"
        head += "".join(f"\n  {move_line(move)}" for move in moves)
        head += "\nFind out why it moved. If that is right, write into `xfail` what is seen now."
    if record["verdict"] == "by construction" and record["status"] == "failed":
        head += "\nThe model's shape alone settles it; say `by_construction: true`, or claim what could fail."
    nouns = nouns_of(record)
    head += "".join(f"\nNothing was tested: {untested(reason, nouns)}." for reason in record["untested"])
    draws = max((row["draws"] for row in record["comparisons"]), default=1)
    rows: list[tuple[str, ...]] = [
        (subject(row), expected(row),
         observed(row, record) + (f" ({row['excluded']} excluded)" if row["excluded"] else ""),
         _rate(row), _ends(row), *([drawn_range(row)] if draws > 1 else []), row["finding"])
        for row in record["comparisons"]
    ]  # fmt: skip
    counting = record["verb"] in COUNTS_FAILURES
    heads = [nouns.token, "expected", "wrong/asked"] if counting else ["", "expected", "observed"]
    heads += ["rate", "interval", *([f"over {draws} draws"] if draws > 1 else []), "finding"]
    if record["verb"] == "across" and record.get("controls"):
        rows = [(*row, run_controls(record, row[0])) for row in rows]
        heads += ["controls"]
    table = tabulate(rows, heads, disable_numparse=True)
    parts = [head, about_line(record), *remarks(record), "", table]
    if any(row["depends"] for row in record["comparisons"]):
        depends = f"It depends on which {nouns.prompts} the reference holds. {DEPENDS_FIX}"
        if record["how"].split()[0] in DRAWN_FOR_EACH:
            depends = f"It depends on what is drawn for each of these {nouns.prompts}. Ask a sample of {nouns.prompts}."
        parts += ["", depends]
    elif record["verdict"] == "inconclusive" and not record["census"] and record["verb"] != "across":
        n = record["settled_by"]
        parts += ["", f"about n: {n} would settle it, if what was seen stays what it is" if n else "no n is likely to "
                  "settle it: what was seen is at the threshold"]  # fmt: skip
    if record.get("controls"):
        parts += ["", f"controls: {controls_line(record['controls'], nouns)}"]
    if deciding := deciding_questions(record):
        parts += ["", f"{nouns.prompts} that decided it:", *(f"  {line}" for line in deciding)]
    options = "".join(f" {shlex.quote(option)}" for option in record.get("options", []))
    parts += ["", f"{record['path']}:{record['line']}", f'rerun: pytest "{record["key"]}"{options}']
    return "\n".join(parts)


def about_line(record: Record) -> str:
    """Return one line with source, fixture, intervention, questions, clean accuracy and near-ties."""
    sampled = "census" if record["census"] else "sample"
    reference = f", reference {record['reference']}" if record["reference"] else ""
    measured = record["measurement"]
    what = record["target"]
    if record["verb"] in COUNTS_FAILURES:
        what = f"{record['how']}-ablate {'all but ' if record['verb'] == 'keep' else ''}{what.removeprefix('only ')}"
    # For several fixtures, `what` names them.
    whose = record["fixture"] if record["fixtures"] == [record["fixture"]] else ""
    about = [record["source"], whose, f"{what}{reference}"]
    if record["verb"] not in COUNTS_FAILURES:
        about.append(record["how"])
    if record["questions"]:
        about.append(f"{record['questions']} ({sampled}{_of_how_many(measured)})")
    if "clean_accuracy" in measured:
        about.append(f"clean accuracy {percent(measured['clean_accuracy'])}")
    about.append(near_ties_line(near_ties(record)))
    if unread := record.get("unread"):
        about.append(f"read by nothing: {shortened(unread)}")
    return " · ".join(filter(None, about))


def _of_how_many(measured: Record) -> str:
    """Return the number of questions; for several runs, the number for each run."""
    if "n" in measured:
        return f" of {measured['n']}"
    of_each = [
        *measured.get("by_fixture", {}).values(),
        *(r["measurement"] for r in measured.get("by_run", {}).values()),
    ]
    return f" of {of_each[0]['n']}" if of_each else ""


def controls_line(controls: Record, nouns: Nouns) -> str:
    """Return the results of a claim's controls in one line; for several runs, in how many each holds."""
    if "runs" in controls:
        return _runs_controls_line(controls, nouns)
    parts = [f"values put back on {controls['put_back']} {nouns.prompts} change nothing"]
    if controls["rank"] is not None:
        parts.append(f"rank {controls['rank']} of {len(controls['siblings']) + 1}")
    if same := same_elsewhere(controls):
        parts.append(f"so do, or can be spared: {same}")
    parts += _worth(controls)
    parts += [f"{method}: {verdict}" for method, verdict in controls["methods"].items()]
    return "; ".join(parts)


def _worth(controls: Record) -> Iterator[str]:
    """Yield which nodes can be spared, and which variables the pairs tell apart."""
    if spare := spare_nodes(controls):
        each = "each alone can be spared" if len(spare) > 1 and "runs" not in controls else "can be spared"
        yield f"{each}: {shortened(spare)}"
    if controls.get("not_tried"):
        yield f"not tried, whether each of {controls['not_tried']} nodes can be spared"
    for text, apart in (("told apart from", True), ("not told apart from", False)):
        if found := variables_apart(controls, apart=apart):
            yield f"{text}: {', '.join(found)}"


def shortened(texts: Sequence[str]) -> str:
    """Return the first few texts in one line, and the number of further ones."""
    shown = list(texts[:SIBLINGS_SHOWN])
    return ", ".join([*shown, *([f"{len(texts) - len(shown)} more"] if len(texts) > len(shown) else [])])


def _runs_controls_line(controls: Record, nouns: Nouns) -> str:
    runs = controls["runs"]
    parts = [f"values put back on {controls['put_back']} {nouns.prompts} of each of {runs} runs change nothing"]
    if controls["compared"]:
        of = f"specific in {controls['specific_runs']} of the {controls['compared']} runs that it holds of"
        parts.append(f"{of} ({controls['needed']} needed{f', {n} open' if (n := controls['open']) else ''})")
    if controls["ranked"]:
        parts.append(f"rank 1 in {controls['first']} of {controls['ranked']}")
    if same := same_elsewhere(controls):
        parts.append(f"so do, or can be spared: {same}")
    parts += _worth(controls)
    parts += [f"{method}: supported in {n} of {runs}" for method, n in controls["methods"].items()]
    return "; ".join(parts)


def run_controls(record: Record, name: str) -> str:
    """Return the controls of a claim's run `name` in short: rank, siblings with the same effect, other verdicts."""
    run = record["measurement"]["by_run"].get(name) or {}
    if not (controls := run.get("controls")):
        return ""
    parts = [] if controls["rank"] is None else [f"rank {controls['rank']} of {len(controls['siblings']) + 1}"]
    if same := same_elsewhere(controls):
        parts.append(f"so do, or can be spared: {same}")
    elif controls["siblings"] and not spare_nodes(controls):
        parts.append("specific" if controls["specific"] else "open whether specific")
    if spare := spare_nodes(controls):
        parts.append(f"can be spared: {shortened(spare)}")
    parts += [f"{method}: {found}" for method, found in controls["methods"].items() if found != run["verdict"]]
    return "; ".join(parts)


def same_elsewhere(controls: Record) -> str:
    """Return the first siblings that have the claimed effect too, and the number of further ones."""
    if "runs" in controls:
        same = [f"{name} (in {n})" for name, n in controls["same"].items()]
    else:
        same = [f"{r['subject']} ({observed(r)})" for r in controls["siblings"] if r["finding"] == "contradicted"]
    return shortened(same)


def deciding_questions(record: Record) -> list[str]:
    """Return a few of the questions behind each contradicted or undecided comparison."""
    measured = record["measurement"]
    if record["verb"] == "answer":
        return _wrong_answers(record)
    if record["verb"] == "across":
        runs = [(name, run) for name, run in measured["by_run"].items() if run["verdict"] != "supported"]
        return [f"{name}: {line}" for name, run in runs for line in deciding_questions(run)[:EXAMPLES_SHOWN]]
    examples = measured.get("examples", {})
    if not examples:
        return []
    lines: dict[str, None] = {}
    for row in record["comparisons"]:
        if row["finding"] in ("contradicted", "undecided") and row["kind"] != "loss":
            unbroken = row["subject"] in record["fails"]
            key = f"{row['subject']} right" if unbroken else row["subject"]
            lines |= dict.fromkeys(map(example_line, examples.get(key, [])[:EXAMPLES_SHOWN]))
    return list(lines)


def _wrong_answers(record: Record) -> list[str]:
    """Return a few wrong answers of each fixture whose accuracy is not shown to reach its bound."""
    several, lines = len(record["fixtures"]) > 1, []
    for name, answered in record["measurement"]["by_fixture"].items():
        low = any(
            row["finding"] in ("contradicted", "undecided") and row["kind"] == "right" and row["at_least"] is not None
            and (not several or row["fixture"] == name)
            for row in record["comparisons"]
        )  # fmt: skip
        prefix = f"{name}: " if several else ""
        lines += [f"{prefix}{example_line(one)}" for one in answered["examples"][:EXAMPLES_SHOWN] if low]
    return lines


def _rate(row: Record) -> str:
    return percent(row["value"]) if is_count(row) else ""


def interval_text(row: Record) -> str:
    """Return the ends of a comparison's interval as text, and its range over draws; empty if it has neither."""
    drawn = f"{row['draws']} draws: {drawn_range(row)}" if row["draws"] > 1 else ""
    return "; ".join(filter(None, [_ends(row), drawn]))


def _ends(row: Record) -> str:
    form = "{:.3g}" if row["kind"] in AMOUNTS else "{:.2%}"
    return "" if row["low"] is None else f"{form.format(row['low'])} to {form.format(row['high'])}"
