"""Numbers → words: what a comparison expected, what was seen, and an example, each in one line.

Every report takes these words from here, so that each is made in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.base.text import percent
from harness.judging.records import Record
from harness.specs.claim import bounds_in_words
from harness.tasks.positions import Nouns

FIXTURES_SHOWN = 3
_CONTROLS = ("siblings", "left_out", "variables")  # the rows of controls
METRIC_KINDS = ("share", "median", "mean", "kept")
COUNTS_FAILURES = ("ablate", "keep")  # verbs whose comparisons count what went wrong
_EXPECTS = {
    "free": "may {act}", "some": "{kind}", "none": "never {kind}", "all": "always {kind}",
    "unreachable": "out of reach", "needed": "is needed", "unlike": "does not {do} it too",
    "apart": "is told apart",
}  # fmt: skip
_ACTIONS = {"fails": "fail", "changes": "change", "follows": "follow"}


def nouns_of(*records: Record) -> Nouns:
    """Return what the task of the records calls a prompt and an answer token; general words if there are several."""
    found = {(nouns["prompt"], nouns["token"]) for record in records if (nouns := record.get("nouns"))}
    return Nouns(*found.pop()) if len(found) == 1 else Nouns()


def subject(row: Record) -> str:
    """Return what a comparison is about: ``A4``, ``capped loss``; of several fixtures, whose: ``quick_d5_l2_s0 A4``."""
    return f"{row['fixture']} {'capped ' if row.get('cap') else ''}{row['subject']}".strip()


def expected(row: Record) -> str:
    """Return what was expected of a comparison's subject: ``fails > 5%``."""
    if row["expects"] == "bounds":
        return _BOUNDS[row["kind"]](row)
    return _EXPECTS[row["expects"]].format(
        kind=row["kind"], act=_ACTIONS.get(row["kind"]), do="carry" if row["kind"] == "follows" else "do"
    )


def _rate(row: Record) -> str:
    return "; ".join(bounds_in_words(row["kind"], _hundred(row["at_most"]), _hundred(row["at_least"]), "{:g}%"))


def _within(what: str, form: str, scale: float = 100) -> Callable[[Record], str]:
    """Return a function that writes bounds which may be met: ``right ≥ 99%``."""

    def words(row: Record) -> str:
        most, least = (None if row[end] is None else scale * row[end] for end in ("at_most", "at_least"))
        return ", ".join(bounds_in_words(what, most, least, form, "≤", "≥")).strip()

    return words


def _loss(row: Record) -> str:
    bounds = ", ".join(bounds_in_words("", row["at_most"], row["at_least"], "{:g} nats")).strip().replace(",  ", ", ")
    return f"{bounds}, cap {row['cap']:.3g}" if row.get("cap") else bounds


def _run(row: Record) -> str:
    return "nodes there" if row["absent"] else ", ".join(row["nodes"]) or "holds"


_BOUNDS: dict[str, Callable[[Record], str]] = {
    "fails": _rate, "changes": _rate, "follows": _rate, "loss": _loss, "run": _run,
    "right": _within("right", "{:g}%"), "gain": _within("gain", "{:g} points"), "mass": _within("", "{:g}", 1),
    "order": lambda row: f"> {100 * row['at_least']:g}% of training runs",
    "share": lambda row: f"on {_rate({**row, 'kind': ''}).strip()}",
    "median": _within("", "{:g}", 1), "mean": _within("", "{:g}", 1), "kept": _within("", "{:g}%"),
    "runs": lambda row: f"at least {round(row['at_least'] * row['n'])}",
}  # fmt: skip


def _hundred(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate


def observed(row: Record, record: Record | None = None) -> str:
    """Return what was seen: ``171/172``; of one run, what its own `record` in the claim's says, in short."""
    if row["kind"] == "run":
        run = (record or {}).get("measurement", {}).get("by_run", {}).get(row["subject"])
        by_one = " (by one draw)" if row.get("one_draw") else ""
        return str(row["absent"]) if run is None else observed_in_short(run) + by_one
    if row["absent"] or row["expects"] == "apart" or (row["k"] is None and row["kind"] in ("fails", "follows")):
        return _of_controls(row)
    if row["k"] is not None:
        return f"{row['token']} {row['k']}/{row['n']}".strip()
    if row["groups"] is not None:
        ours, theirs = row["groups"]
        return f"{ours:.4%} against {theirs:.4%}"
    if row["kind"] == "kept":
        return percent(row["value"])
    return f"{row['value']:.3f}" if row["kind"] == "mass" else f"{row['value']:.3g}"


AMOUNTS = ("loss", "mass", "median", "mean")  # kinds of comparisons whose values are no percentages


def untested(reason: Record, nouns: Nouns) -> str:
    """Return in words why nothing was tested."""
    return _UNTESTED[reason["why"]].format(
        about=", ".join(reason["about"]), prompts=nouns.prompts, **{key: reason[key] for key in ("value", "least")}
    )


_UNTESTED = {
    "unmoved": "no value was moved by more than {value:.2g} of its natural spread (at least {least:g} is asked)",
    "constant": "the right {about} is the same in all {prompts}",
    "unlearned": "the clean model gets {about} right on at most {value:.0%} of the {prompts}",
    "uniform": "a head that looks everywhere alike meets {least:g} too, with {value:.2g}",
    "only way": "{about} has no way but through these nodes in any model of this shape",
    "already": "the other answer is preferred on {value:.0%} of the {prompts} before anything is carried over",
    "nothing to lose": "the best of the models is right on {value:.0%} of the {prompts}, so there is nothing to lose",
}


def over_draws(row: Record) -> str:
    """Return that range and the number of draws, in words; empty if there was one draw of the reference."""
    return f"{drawn} over {row['draws']} draws of the reference" if (drawn := drawn_range(row)) else ""


def drawn_range(row: Record) -> str:
    """Return the range of what was seen over several draws of the reference; empty if there was one."""
    if row.get("draws", 1) == 1:
        return ""
    form = percent if row["k"] is not None else "{:.3g}".format
    low, high = form(row["drawn_low"]), form(row["drawn_high"])
    return low if low == high else f"{low} to {high}"


def _of_controls(row: Record) -> str:
    """Return what was seen of another variable, of a node that was left out without a run, or why nothing was."""
    if row["absent"]:
        return str(row["absent"])
    if row["expects"] == "apart":
        return "predicts the same" if not row["n"] else f"{row['k']} of {row['n']} against {row['rival']}"
    return "is read by nothing" if row["expects"] == "unreachable" else "by construction"


def spare_nodes(controls: Record) -> list[str]:
    """Return the nodes that a claim does not need, with what was seen without each; of several runs, in how many."""
    if "runs" in controls:
        return [f"{name} (in {n})" for name, n in controls["spare"].items()]
    return [f"{r['subject']} ({_without(r)})" for r in controls.get("left_out", []) if r["finding"] == "contradicted"]


def _without(row: Record) -> str:
    return observed(row) if row["expects"] == "unreachable" else f"without it {observed(row)}"


def variables_apart(controls: Record, *, apart: bool) -> list[str]:
    """Return the other variables that the pairs tell from the claim's, or those that they do not.

    With each stand the pairs on which the two predict different answers: on how many the outcome is that of the claim's
    variable, and on how many that of the other one. Of several runs, the number of those that tell it apart.
    """
    if "runs" in controls:
        held, told = controls["held"], controls["variables"].items()
        return [f"{name} (told apart in {n} of {held} runs)" for name, n in told if (n == held) == apart]
    rows = [row for row in controls.get("variables", []) if (row["finding"] == "holds") == apart]
    return [f"{row['subject']} ({observed(row)})" for row in rows]


def is_count(row: Record) -> bool:
    """Return whether a comparison is a count of the claim's own, ``171/172``, whose rate is shown beside it."""
    return row["k"] is not None and not row["token"]


def observed_in_short(record: Record) -> str:
    """Return in one line what the comparisons of a claim observed, without its siblings."""
    return comparisons_in_short(record, record["comparisons"])


def comparisons_in_short(record: Record, comparisons: Sequence[Record]) -> str:
    """Return the same for other comparisons than the record's own, those of a mutant of it say."""
    verb = record["verb"]
    rows = [row for row in comparisons if not row["sibling"]]
    if verb == "across":
        others = [row["subject"] for row in rows[:-1] if row["finding"] in ("contradicted", "undecided")]
        named = [*others[:FIXTURES_SHOWN], *(["…"] if len(others) > FIXTURES_SHOWN else [])]
        return f"{observed(rows[-1])} runs" + (f", not {', '.join(named)}" if named else "")
    if verb not in COUNTS_FAILURES:
        if any(row["kind"] == "follows" for row in rows):  # tokens that should follow, and others that changed
            rows = [row for row in rows if row["kind"] == "follows" or row["value"] > 0]
        elif len(rows) > FIXTURES_SHOWN and len({row["kind"] for row in rows}) == 1:  # only the ends of a large group
            ends = [pick(rows, key=lambda row: row["value"]) for pick in (min, max)]
            return f"{len(rows)}, from {' to '.join(_short(row) for row in ends)}"
        return ", ".join(_short(row) for row in rows)
    failing = [_short(row) for row in rows if row["kind"] == "fails" and row["value"] > 0]
    metrics = [_short(row) for row in rows if row["kind"] in METRIC_KINDS]
    failing = failing or metrics or [f"no {nouns_of(record).token} fails"]
    failing += metrics if failing != metrics else []
    loss = {  # once, even with two bounds
        f"{subject(row)} {row['value']:.2g}{_depends(row)}": None for row in rows if row["kind"] == "loss"
    }
    return ", ".join([*failing, *loss])


def _short(row: Record) -> str:
    rate = f" ({percent(row['value'])}{_depends(row)})" if row["k"] is not None else ""
    return f"{subject(row)} {observed(row)}{rate}"


def _depends(row: Record) -> str:
    return f"; {over_draws(row)}" if row["finding"] == "undecided" and over_draws(row) else ""


def xfail_text(record: Record) -> str:
    """Return what is known of a claim, and what is expected of it: ``it is so; expected: A5 5% to 12%``."""
    due = record.get("xfail_expects") or {"verdict": None, "observed": {}}
    ranges = [f"{name} {_range_text(name, low, high)}" for name, (low, high) in due["observed"].items()]
    expects = ", ".join(filter(None, [due["verdict"], *ranges]))
    return f"{record['xfail']}; expected: {expects}" if expects else str(record["xfail"])


def move_line(move: Record) -> str:
    """Return what an `xfail` expected and what was observed: ``A5: expected 5% to 12%, observed 14.2%``."""
    name, observed_value = move["subject"], move["observed"]
    if not name:
        return f"verdict: expected {move['expected']}, observed {observed_value}"
    seen = "nothing" if observed_value is None else _amount(name, observed_value)
    return f"{name}: expected {_range_text(name, *move['expected'])}, observed {seen}"


def _range_text(name: str, low: float, high: float) -> str:
    return _amount(name, low) if low == high else f"{_amount(name, low)} to {_amount(name, high)}"


def _amount(name: str, value: float) -> str:
    return f"{value:.4g}" if name.endswith(("loss", "median", "mean")) else f"{100 * value:.4g}%"


def example_line(example: Record) -> str:
    """Return an example in one line: ``prompt=answer yNy case by S8L0H1``, or a pair with what was expected."""
    if example["source"]:
        pair = f"{example['source']} -> {example['prompt']}"
        return f"{pair} = {example['answered']}, not {example['right']}"
    by = f"by {example['node']}" if example["node"] else ""
    parts = [f"{example['prompt']}={example['answered']}", pattern_of(example), example["case"], by]
    return " ".join(filter(None, parts))


def pattern_of(example: Record) -> str:
    """Return which tokens of an example are wrong, in the notebook's notation: y right, N wrong."""
    return "".join("N" if wrong else "y" for wrong in example["wrong"])


def with_words(record: Record) -> Record:
    """Return a record with the words for its numbers beside them, as reports up to version 3 had them.

    They stay in the JSON report for one version: `what`, `expected` and `observed` of each comparison, `observed` of a
    mutant that survives, and the examples as lines; as data, examples are `example_rows` there.
    """
    found: dict[str, Any] = dict(record)
    if "comparisons" in found:
        found["comparisons"] = [_row_with_words(row, record) for row in record["comparisons"]]
    controls = found.get("controls")
    if controls and isinstance(controls.get("siblings"), list):
        rows = {key: [_row_with_words(row, record) for row in controls.get(key, [])] for key in _CONTROLS}
        found["controls"] = {**controls, **rows}
    if "measurement" in found:
        found["measurement"] = _measurement_with_words(record["measurement"])
    if mutants := found.get("mutants"):
        survivors = [{**one, "observed": comparisons_in_short(record, one["comparisons"])}
                     for one in mutants["survivors"]]  # fmt: skip
        found["mutants"] = {**mutants, "survivors": survivors}
    return found


def _measurement_with_words(measured: Record) -> Record:
    found = dict(measured)
    if "by_run" in found:
        found["by_run"] = {name: with_words(run) for name, run in found["by_run"].items()}
    if "by_fixture" in found:
        found["by_fixture"] = {
            name: {**one, "examples": list(map(example_line, one["examples"])), "example_rows": one["examples"]}
            for name, one in found["by_fixture"].items()
        }
    if "tokens" in found:  # as the reports up to version 3 called them
        found["digits"] = [{"digit": row["token"], **row} for row in found["tokens"]]
    if "examples" in found:
        found["example_rows"] = found["examples"]
        found["examples"] = {key: list(map(example_line, rows)) for key, rows in found["examples"].items()}
    return found


def _row_with_words(row: Record, record: Record) -> Record:
    words = {"what": subject(row), "expected": expected(row), "observed": observed(row, record)}
    counted = row["expects"] not in ("free", "unreachable") or row["kind"] != "changes"
    return {**row, **words, "asked": row["n"] if counted else None}
