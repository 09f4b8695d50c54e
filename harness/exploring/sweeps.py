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
from harness.engines.predictions import Outcome
from harness.judging.bench import Workbench
from harness.judging.measurement import pattern
from harness.judging.methods import replacement
from harness.judging.requests import Ablation
from harness.models.fixtures import Fixture
from harness.specs.fixture_files import FixtureRef
from harness.specs.methods import Method
from harness.specs.nodes import Node, all_nodes, reach
from harness.tasks.answers import answers
from harness.tasks.questions import Questions

UNUSED_LOSS = 0.02  # the notebook's threshold (Part 10), nats per answer digit


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep, as plain values; :func:`to_markdown` displays them."""

    fixture: str
    weights_sha256: str
    reference: str
    grid_method: str
    cases: list[dict[str, Any]]  # one row per question set
    steps: list[dict[str, Any]]  # one row per step: residual stream after layer 0, mean- and zero-ablated
    grids: list[dict[str, Any]]  # one per question set: node → broken questions and broken digits


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
    # Each question is run once, even if several sets contain it.
    tokens = [bench.tokens(ref, questions) for questions in question_sets]
    union, index = torch.unique(torch.cat(tokens), dim=0, return_inverse=True)
    rows = torch.split(index, [len(part) for part in tokens])
    truth, cases = answers(union, fixture.layout), fixture.task.cases_of(union)
    first = rows[0]

    def cut(nodes: Sequence[Node], how: Method) -> list[Intervention]:
        """Return one intervention per node; the values from the reference questions are computed once for all."""
        ablation = Ablation(ref, tuple(nodes), how, reference, question_sets[0])
        make = replacement(ablation, bench, union)
        return [make([node]) for node in nodes]

    streams = [Node(step, 0, "resid") for step in range(fixture.layout.n_ctx)]
    live = [node for node in all_nodes(fixture.shape) if node.kind != "resid" and reach([node], fixture.shape)]
    changes = [CLEAN, *cut(live, method), *cut(streams, "mean"), *cut(streams, "zero")]
    outcomes = iter([found.check(ref.name) for found in bench.run(ref, union, changes)])
    clean = next(outcomes)
    broken = {node: _broken(next(outcomes), clean, truth) for node in live}
    means, zeros = ([next(outcomes).at(first) for _ in streams] for _ in range(2))

    by_set = list(zip(question_sets, rows, strict=True))
    case_rows = []
    for questions, part in by_set:
        right = (clean.predicted[part] == truth[part]).all(1)
        loss = float(clean.loss[part].mean())
        case_rows.append({"questions": str(questions), "n": len(part), "right": int(right.sum()), "loss": loss})

    step_rows = [
        {"step": node.step, "mean_loss": float(mean.loss.mean()),
         "zero": _step_row(zero, truth[first], [cases[i] for i in first.tolist()], fixture.task.cases)}
        for node, mean, zero in zip(streams, means, zeros, strict=True)
    ]  # fmt: skip
    grids = [
        {"questions": str(questions), "n": len(part), "nodes": _grid(broken, part, fixture)}
        for questions, part in by_set
    ]
    return Sweep(ref.name, fixture.weights_sha256, str(reference), method, case_rows, step_rows, grids)


def _broken(outcome: Outcome, clean: Outcome, truth: Tensor) -> Bool[Tensor, "question digit"]:
    """Return which digits are right in the clean run and wrong under the intervention."""
    return (outcome.predicted != truth) & (clean.predicted == truth)


def _step_row(outcome: Outcome, truth: Tensor, cases: list[str], known: Sequence[str]) -> dict[str, Any]:
    wrong = outcome.predicted != truth
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
        digits = bad[part].sum(0).tolist()
        if any(digits):
            by_digit = {name: n for name, n in zip(fixture.layout.answer_digits, digits, strict=True) if n}
            found[str(node)] = {"failed": int(bad[part].any(1).sum()), "digits": by_digit}
    return found


def to_markdown(found: Sweep, fixture: Fixture) -> str:
    """Return the tables of the sweep as Markdown."""
    cases = [
        (r["questions"], r["n"], r["right"], f"{r['right'] / r['n']:.1%}", f"{r['loss']:.2g}") for r in found.cases
    ]
    parts = [
        f"# Sweep of {found.fixture}", "",
        f"Weights sha256 `{found.weights_sha256}`; means and donors from {found.reference}; teacher-forced.", "",
        "## Clean accuracy (Part 9)", "",
        markdown_table(cases, ["questions", "n", "right", "share", "loss (nats/digit)"]), "",
        f"## Which steps are used (Parts 10 and 11A), on {found.cases[0]['questions']}", "",
        "The residual stream after layer 0 is cut at one step: mean-ablated for the loss, zero-ablated for the rest.",
        "Patterns: y right, N wrong, highest digit first; failures of the clean run are not taken out.", "",
        markdown_table(_step_cells(found), ["step", "mean-ablated loss", "", "fail", "by case", "patterns"]), "",
    ]  # fmt: skip
    shape = fixture.shape
    at_step = [[n for n in all_nodes(shape) if n.step == s and n.kind != "resid"] for s in range(shape.layout.n_ctx)]
    columns = [str(node).removeprefix("S0") for node in at_step[0]]
    for grid in found.grids:
        parts += [
            f"## Step × layer × head on {grid['questions']} (Part 11B-F)", "",
            f"Questions of {grid['n']} that {found.grid_method}-ablating one node breaks, and the digits that break. "
            "Empty: none. –: the node can reach no digit.", "",
        ]  # fmt: skip
        rows = []
        for step, nodes in enumerate(at_step):
            if any(str(node) in grid["nodes"] for node in nodes):
                cells = [_cell(grid["nodes"].get(str(n))) if reach([n], shape) else "–" for n in nodes]
                rows.append((f"S{step} {shape.layout.names[step]}", *cells))
        parts += [markdown_table(rows, ["step", *columns]) if rows else "No node breaks any question.", ""]
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
                f"S{row['step']}",
                f"{loss:.3g}",
                used,
                f"{zero['failed'] / zero['asked']:.0%}",
                by_case,
                patterns,
            )
        )
    return rows


def _cell(found: dict[str, Any] | None) -> str:
    return f"{found['failed']} {' '.join(found['digits'])}" if found else ""


def ask(ablation: Ablation, bench: Workbench) -> list[str]:
    """Return a line per question in the notebook's format: answer, pattern, loss in nats per digit, case."""
    ref = ablation.model
    fixture, tokens = bench.fixture(ref), bench.tokens(ref, ablation.questions)
    change = replacement(ablation, bench, tokens)(ablation.nodes) if ablation.nodes else CLEAN
    outcome = bench.run(ref, tokens, [change])[0].check(ref.name)
    wrong = (outcome.predicted != answers(tokens, fixture.layout)).tolist()
    return [
        f"{question}={fixture.layout.write_answer(answer)} {pattern(bad)} loss {loss:.3g} {case}".rstrip()
        for question, answer, bad, loss, case in zip(
            fixture.task.texts(tokens), outcome.predicted.tolist(), wrong, outcome.loss.mean(1).tolist(),
            fixture.task.cases_of(tokens), strict=True,
        )
    ]  # fmt: skip
