"""A sweep narrowed to some nodes: what a metric becomes when each is cut by itself; with progress, and resumable.

`harness sweep` cuts every node of a small model at every step. A language model has too many, and its answers seldom
flip: here the nodes are named, and what is told is how far a metric moves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.text import markdown_table
from harness.engines.interventions import CLEAN
from harness.judging.bench import Workbench
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.judging.verbs.metrics import Values, value_of
from harness.specs.nodes import Node
from harness.tasks.batch import Batch

AT_ONCE = 8  # nodes between two lines of the file, and two steps of the progress
SHOWN = 15  # rows of the table of those that move it most


@dataclass(frozen=True)
class Row:
    """A metric of the prompts with one node cut; its unit is the metric's, shares are of the prompts."""

    node: str
    position: str
    layer: int
    part: str  # H3, M or R
    mean: float
    median: float
    change: float  # of the mean, against the clean run
    falls_on: float  # share of the prompts on which it is below the clean run's


@dataclass(frozen=True)
class Scan:
    """What was asked, and one row for each node that is done."""

    asked: dict[str, Any]
    clean: float  # the metric's mean in the clean run
    rows: list[Row]


def scan(ablation: Ablation, metric: str, bench: Workbench, out: Path | None = None) -> Iterator[Scan]:
    """Yield what is known, again and again, as nodes of `ablation` are cut one by one; at last all of it.

    With `out`, a file of JSON lines: nodes that it holds already are not cut again.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: no prompts, or a hook that did not fire.
        HarnessError: the file holds another sweep, or none.
    """
    ref = ablation.model
    prompts = bench.prompts(ref, ablation.questions)
    asked = {
        "fixture": ref.name, "task": ref.task, "weights_sha256": bench.fixture(ref).weights_sha256, "metric": metric,
        "prompts": str(ablation.questions), "tokens": _hash(prompts), "method": ablation.method,
        "reference": str(ablation.reference),
    }  # fmt: skip
    wanted = {str(node) for node in ablation.nodes}
    rows = [row for row in (_kept(out, asked) if out is not None and out.exists() else []) if row.node in wanted]
    of_clean = bench.run(ref, prompts, [CLEAN], kl=metric == "kl")[0]
    clean = value_of(metric, of_clean.check(ref.name), prompts)
    found = Scan(asked, float(clean.mean()), rows)
    done = {row.node for row in rows}
    left = [node for node in ablation.nodes if str(node) not in done]
    if out is not None and not out.exists():
        _append(out, [asked])
    yield found
    if not left:
        return
    make = replacement(ablation, bench, prompts)
    for nodes in (left[first : first + AT_ONCE] for first in range(0, len(left), AT_ONCE)):
        outcomes = bench.run(ref, prompts, [make([node]) for node in nodes], kl=metric == "kl")
        new = [
            _row(node, value_of(metric, outcome.check(ref.name), prompts), clean)
            for node, outcome in zip(nodes, outcomes, strict=True)
        ]
        if out is not None:
            _append(out, map(asdict, new))
        rows.extend(new)
        yield found


def _hash(prompts: Batch) -> str:
    """Return the sha256 of the prompts' tokens: another prompts file or tokenizer gives others."""
    return hashlib.sha256(prompts.tokens.numpy().tobytes()).hexdigest()


def _row(node: Node, after: Values, clean: Values) -> Row:
    change, falls = float((after - clean).mean()), float((after < clean).double().mean())
    part = node.component.removeprefix(f"L{node.layer}")
    return Row(
        str(node), node.position, node.layer, part, float(after.mean()), float(after.median()), change, falls
    )  # fmt: skip


def _append(out: Path, rows: Iterable[object]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _kept(out: Path, asked: dict[str, Any]) -> list[Row]:
    """Return the rows that a file holds; a last line that was cut off is left out, and the file is mended."""
    try:
        lines = out.read_text("utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        head, *rows = [json.loads(line) for line in whole]
        kept = [Row(**row) for row in rows]
        head = dict(head)
    except (ValueError, TypeError):
        raise HarnessError.of("a sweep to go on with", "something else", "name another file", out) from None
    if head != asked:
        other = next((f"{key}: {head.get(key)}" for key in asked if head.get(key) != asked[key]), "more")
        raise HarnessError.of(f"the sweep that is asked for, in {out}", f"another ({other})", "name another file", out)
    if whole != lines:
        out.write_text("".join(whole), "utf-8")
    return kept


def scan_markdown(found: Scan) -> str:
    """Return the nodes that move the metric most, and a map of all: layers by parts, for each position."""
    asked = found.asked
    most = sorted(found.rows, key=lambda row: -abs(row.change))[:SHOWN]
    cells = [(r.node, f"{r.change:+.3g}", f"{r.mean:.3g}", f"{r.median:.3g}", f"{r.falls_on:.0%}") for r in most]
    parts = [
        f"# {asked['metric']} of {asked['fixture']} with one node cut", "",
        f"Weights sha256 `{asked['weights_sha256']}`; {asked['prompts']};",
        f"{asked['method']}, from {asked['reference']}.",
        f"The clean run's mean is {found.clean:.3g}. Nothing here is a verdict: write a claim, on other prompts.", "",
        markdown_table(cells, ["node", "change of the mean", "mean", "median", "falls on"]), "",
    ]  # fmt: skip
    for position in dict.fromkeys(row.position for row in found.rows):
        there = {(row.layer, row.part): f"{row.change:+.2g}" for row in found.rows if row.position == position}
        columns = list(dict.fromkeys(part for _, part in there))
        grid = [
            (f"L{layer}", *(there.get((layer, part), "") for part in columns))
            for layer in dict.fromkeys(layer for layer, _ in there)
        ]
        parts += [f"## Change at {position}", "", markdown_table(grid, ["layer", *columns]), ""]
    return "\n".join(parts)
