"""The notebook's sweeps as tables: by case (Part 9), by step (Parts 10, 11A), by step × layer × head (11B–F)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from harness.base.text import markdown_table
from harness.engines.interventions import CLEAN, Intervention
from harness.judging.bench import Workbench
from harness.judging.measurement import pattern
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.models.fixtures import Fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.methods import Method
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Node, reach
from harness.tasks.batch import joined
from harness.tasks.questions import Questions

UNUSED_LOSS = 0.02  # the notebook's threshold (Part 10), nats per answer token


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep, as plain values; :func:`to_markdown` displays them."""

    fixture: str
    weights_sha256: str
    reference: str
    grid_method: str
    cases: list[dict[str, Any]]  # one row per question set
    steps: list[dict[str, Any]]  # one row per step: residual stream after layer 0, mean- and zero-ablated
    grids: list[dict[str, Any]]  # one per question set: node → broken questions and broken tokens


def sweep(
    ref: FixtureRef,
    question_sets: Sequence[Questions],
    reference: Questions,
    method: Method,
    bench: Workbench,
) -> Sweep:
    """Return the tables of Parts 9–11F for these question sets; only the first set is swept step by step.

    Raises:
        HarnessError: the fixture cannot be loaded, or a measurement is invalid.
    """
    fixture = bench.fixture(ref)
    # Each prompt is run once, even if several sets contain it.
    parts = [bench.prompts(ref, questions) for questions in question_sets]
    whole = joined(parts)
    distinct, index = torch.unique(whole.tokens, dim=0, return_inverse=True)
    union = whole[torch.empty(len(distinct), dtype=torch.int64).scatter_(0, index, torch.arange(len(whole)))]
    rows = torch.split(index, [len(part) for part in parts])
    cases, first = union.cases(), rows[0]

    def cut(nodes: Sequence[Node], how: Method) -> list[Intervention]:
        """Return one intervention per node; the values from the reference prompts are computed once for all."""
        ablation = Ablation(ref, tuple(nodes), how, reference, question_sets[0])
        make = replacement(ablation, bench, union)
        return [make([node]) for node in nodes]

    every = list(all_nodes(fixture.shape))
    streams = [node for node in every if node.kind == "resid" and node.layer == 0]
    live = [node for node in every if node.kind != "resid" and reach([node], fixture.shape)]
    changes = [CLEAN, *cut(live, method), *cut(streams, "mean"), *cut(streams, "zero")]
    outcomes = iter([found.check(ref.name) for found in bench.run(ref, union, changes)])
    clean = next(outcomes)
    right = union.right.contains(clean.predicted)
    broken = {node: ~union.right.contains(next(outcomes).predicted) & right for node in live}
    means, zeros = ([next(outcomes).at(first) for _ in streams] for _ in range(2))

    by_set = list(zip(question_sets, rows, strict=True))
    case_rows = []
    for questions, part in by_set:
        loss, whole_right = float(clean.loss[part].mean()), right[part].all(1)
        case_rows.append({"questions": str(questions), "n": len(part), "right": int(whole_right.sum()), "loss": loss})

    of_first = union.right[first]
    step_rows = [
        {"step": node.at or node.step, "mean_loss": float(mean.loss.mean()),
         "zero": _step_row(~of_first.contains(zero.predicted), [cases[i] for i in first.tolist()], fixture.task.cases)}
        for node, mean, zero in zip(streams, means, zeros, strict=True)
    ]  # fmt: skip
    grids = [
        {"questions": str(questions), "n": len(part), "nodes": _grid(broken, part, fixture)}
        for questions, part in by_set
    ]
    return Sweep(ref.name, fixture.weights_sha256, str(reference), method, case_rows, step_rows, grids)


def _step_row(wrong: Bool[Tensor, "prompt answer"], cases: list[str], known: Sequence[str]) -> dict[str, Any]:
    failed = [case for case, bad in zip(cases, wrong.any(1).tolist(), strict=True) if bad]
    patterns = Counter(pattern(row) for row in wrong.tolist() if any(row))
    return {
        "failed": len(failed),
        "asked": len(cases),
        "cases": {case: {"failed": failed.count(case), "asked": cases.count(case)} for case in known if case in cases},
        "patterns": dict(patterns.most_common()),
    }


def _grid(broken: dict[Node, Tensor], part: Tensor, fixture: Fixture) -> dict[str, dict[str, Any]]:
    found = {}
    for node, bad in broken.items():
        tokens = bad[part].sum(0).tolist()
        if any(tokens):
            by_token = {name: n for name, n in zip(fixture.task.answer_tokens, tokens, strict=True) if n}
            found[str(node)] = {"failed": int(bad[part].any(1).sum()), "tokens": by_token}
    return found


def to_markdown(found: Sweep, fixture: Fixture) -> str:
    """Return the tables of the sweep as Markdown."""
    cases = [
        (r["questions"], r["n"], r["right"], f"{r['right'] / r['n']:.1%}", f"{r['loss']:.2g}") for r in found.cases
    ]
    shape, nouns = fixture.shape, fixture.task.nouns
    parts = [
        f"# Sweep of {found.fixture}", "",
        f"Weights sha256 `{found.weights_sha256}`; means and donors from {found.reference}; teacher-forced.", "",
        "## Clean accuracy (Part 9)", "",
        markdown_table(cases, [nouns.prompts, "n", "right", "share", f"loss (nats/{nouns.token})"]), "",
        f"## Which steps are used (Parts 10 and 11A), on {found.cases[0]['questions']}", "",
        "The residual stream after layer 0 is cut at one step: mean-ablated for the loss, zero-ablated for the rest.",
        f"Patterns: y right, N wrong, highest {nouns.token} first; failures of the clean run are not taken out.", "",
        markdown_table(_step_cells(found), ["step", "mean-ablated loss", "", "fail", "by case", "patterns"]), "",
    ]  # fmt: skip
    at_position: dict[str, list[Node]] = {}
    for node in all_nodes(shape):
        if node.kind != "resid":
            at_position.setdefault(node.position, []).append(node)
    columns = [node.component for node in next(iter(at_position.values()))]
    names = dict(zip(at_position, shape.task.names, strict=True)) if shape.task.names else {}
    for grid in found.grids:
        parts += [
            f"## Step × layer × head on {grid['questions']} (Part 11B-F)", "",
            f"{nouns.prompts.capitalize()} of {grid['n']} that {found.grid_method}-ablating one node breaks, and the "
            f"{nouns.tokens} that break. Empty: none. –: the node can reach no {nouns.token}.", "",
        ]  # fmt: skip
        rows = []
        for position, nodes in at_position.items():
            if any(str(node) in grid["nodes"] for node in nodes):
                cells = [_cell(grid["nodes"].get(str(n))) if reach([n], shape) else "–" for n in nodes]
                rows.append((f"{position} {names.get(position, '')}".strip(), *cells))
        parts += [markdown_table(rows, ["step", *columns]) if rows else f"No node breaks any {nouns.prompt}.", ""]
    return "\n".join(parts)


def _step_cells(found: Sweep) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for row in found.steps:
        zero, loss = row["zero"], row["mean_loss"]
        by_case = ", ".join(
            f"{case} {count['failed'] / count['asked']:.0%}" for case, count in zero["cases"].items() if count["failed"]
        )
        patterns = ", ".join(f"{name} {n}" for name, n in zero["patterns"].items())
        used = "unused" if loss < UNUSED_LOSS else "used"
        rows.append(
            (
                row["step"] if isinstance(row["step"], str) else f"S{row['step']}",
                f"{loss:.3g}",
                used,
                f"{zero['failed'] / zero['asked']:.0%}",
                by_case,
                patterns,
            )
        )
    return rows


def _cell(found: dict[str, Any] | None) -> str:
    return f"{found['failed']} {' '.join(found['tokens'])}" if found else ""


def ask(ablation: Ablation, bench: Workbench) -> list[str]:
    """Return a line per prompt in the notebook's format: answer, pattern, loss in nats per token, case."""
    ref = ablation.model
    fixture, prompts = bench.fixture(ref), bench.prompts(ref, ablation.questions)
    change = replacement(ablation, bench, prompts)(ablation.nodes) if ablation.nodes else CLEAN
    outcome = bench.run(ref, prompts, [change])[0].check(ref.name)
    wrong = (~prompts.right.contains(outcome.predicted)).tolist()
    return [
        f"{prompt}={fixture.task.write_answer(answer)} {pattern(bad)} loss {loss:.3g} {case}".rstrip()
        for prompt, answer, bad, loss, case in zip(
            prompts.texts(), outcome.predicted.tolist(), wrong, outcome.loss.mean(1).tolist(), prompts.cases(),
            strict=True,
        )
    ]  # fmt: skip
