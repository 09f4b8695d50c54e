"""``patch``: interchange interventions. A node's value from a source question replaces its value in a base question.

If the node carries the claim's variable, the claim's digits become the ones that the causal model computes with the
source's value of the variable, and all other digits stay. If the variable has the same value in source and base (an
agreeing pair), no digit changes.

Source: Geiger et al. 2021, "Causal Abstractions of Neural Networks" (interchange interventions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.base.errors import FixtureError, HarnessError, MeasurementError
from harness.base.intervals import exact_interval
from harness.engines import interventions
from harness.engines.interventions import Intervention
from harness.judging.bench import Workbench
from harness.judging.measurement import EXAMPLES
from harness.judging.verdict import Comparison, opposite, require_accuracy, straddled, within_bounds
from harness.specs.siblings import Nodes
from harness.specs.verbs.patch import Patch
from harness.tasks.answers import answers
from harness.tasks.pairs import Drawn, draw_pairs
from harness.tasks.positions import Positions
from harness.tasks.registry import task_of


@dataclass(frozen=True)
class Patched:
    """Counts after the interchange, on pairs whose two questions the clean model answers with every digit right."""

    n: int  # base questions
    excluded: int  # pairs of both kinds with a question that the clean model gets wrong
    clean_accuracy: float  # over all questions in the pairs
    as_expected: Bool[Tensor, "pair digit"]  # for differing pairs
    unchanged: Bool[Tensor, " pair"]  # for agreeing pairs: no digit changed
    examples: dict[str, tuple[str, ...]]  # digit, or "agreeing" → pairs with an unexpected answer

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "n": self.n, "excluded": self.excluded, "clean_accuracy": self.clean_accuracy,
            "differing": len(self.as_expected), "as_expected": self.as_expected.sum(0).tolist(),
            "agreeing": len(self.unchanged), "unchanged": int(self.unchanged.sum()),
            "examples": {key: list(lines) for key, lines in self.examples.items()},
        }  # fmt: skip


def measure_patch(
    claim: Patch, bench: Workbench, siblings: Mapping[str, Nodes] | None = None
) -> tuple[Patched, dict[str, Bool[Tensor, "pair digit"]]]:
    """Return the counts for the claim's nodes and, for each sibling, which digits came out as expected.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: no usable pairs, a clean model that is not accurate enough, a hook that did not fire, or
            a logit that is not finite.
    """
    where, siblings = (claim.fixture, claim.fixtures), siblings or {}
    fixture, engine = bench.fixture(*where), bench.engine(*where)
    layout = fixture.layout
    try:
        drawn = draw_pairs(claim.questions, claim.variable, claim.digits, layout)
    except FixtureError:  # raised by the task's own code
        raise
    except HarnessError as error:
        placed = [replace(problem, where=claim.path, line=claim.line, col=1) for problem in error.problems]
        raise MeasurementError(*placed) from None
    every = {node for nodes in (claim.nodes, *siblings.values()) for node in nodes}
    clean_source, values = engine.capture(fixture, drawn.sources, every, bench.chunk)

    def carry(nodes: Nodes, donors: Int[Tensor, " pair"]) -> Intervention:
        # A base without a source of this kind gets source 0, and is not counted.
        return interventions.resample({node: values[node] for node in nodes if node in values}, donors.clamp(min=0))

    rows = (drawn.differing, drawn.agreeing)
    changes = [carry(claim.nodes, donors) for donors in rows]
    changes += [carry(nodes, drawn.differing) for nodes in siblings.values()]
    clean_base, *outcomes = (
        outcome.check(fixture.name) for outcome in bench.run(*where, drawn.bases, [interventions.CLEAN, *changes])
    )
    truth = answers(drawn.bases, layout)
    source_right = (clean_source.check(fixture.name).predicted == answers(drawn.sources, layout)).all(1)
    base_right = (clean_base.predicted == truth).all(1)
    accuracy = float(torch.cat([source_right, base_right]).double().mean())
    require_accuracy(claim, accuracy)

    asked = [donors >= 0 for donors in rows]
    counted = [a & base_right & source_right[donors.clamp(min=0)] for a, donors in zip(asked, rows, strict=True)]
    excluded = sum(int((a & ~c).sum()) for a, c in zip(asked, counted, strict=True))
    differing, agreeing, *others = (outcome.predicted for outcome in outcomes)
    as_expected, unchanged = differing == drawn.expected, (agreeing == truth).all(1)
    examples = {
        digit: _examples(drawn, drawn.differing, differing, drawn.expected, counted[0] & ~as_expected[:, i], layout)
        for i, digit in enumerate(layout.answer_digits)
    }
    examples["agreeing"] = _examples(drawn, drawn.agreeing, agreeing, truth, counted[1] & ~unchanged, layout)
    own = Patched(len(drawn.bases), excluded, accuracy, as_expected[counted[0]], unchanged[counted[1]], examples)
    beside = ((found == drawn.expected)[counted[0]] for found in others)
    return own, dict(zip(siblings, beside, strict=True))


def _examples(
    drawn: Drawn,
    donors: Int[Tensor, " pair"],
    predicted: Int[Tensor, "pair digit"],
    wanted: Int[Tensor, "pair digit"],
    rows: Bool[Tensor, " pair"],
    layout: Positions,
) -> tuple[str, ...]:
    """Return the first few of these pairs as text, each with the model's answer and the expected one."""
    chosen = rows.nonzero().squeeze(1)[:EXAMPLES]
    asked = (task_of(layout).texts(tokens) for tokens in (drawn.sources[donors[chosen]], drawn.bases[chosen]))
    shown = zip(*asked, predicted[chosen].tolist(), wanted[chosen].tolist(), strict=True)
    return tuple(
        f"{source} -> {base} = {layout.write_answer(found)}, not {layout.write_answer(right)}"
        for source, base, found, right in shown
    )


def compare_patch(claim: Patch, found: Patched, siblings: Mapping[str, Tensor] | None = None) -> tuple[Comparison, ...]:
    """Return the comparisons behind the verdict: each digit, the digits jointly, agreeing pairs, and siblings."""
    beside = (compare_patch_sibling(claim, name, right) for name, right in (siblings or {}).items())
    return (*_rows(claim, found), *beside)


def compare_patch_sibling(claim: Patch, name: str, as_expected: Bool[Tensor, "pair digit"]) -> Comparison:
    """Return the row of a sibling: how often all the claim's digits follow it. If they do, it is contradicted."""
    right = as_expected[:, [claim.shape.layout.answer_digits.index(digit) for digit in claim.digits]].all(1)
    row = _follows(claim, name, right)
    return replace(row, expected="does not carry it too", finding=opposite(row.finding), sibling=True)


def _rows(claim: Patch, found: Patched) -> Iterator[Comparison]:
    digits = claim.shape.layout.answer_digits
    for i, digit in enumerate(digits):
        right = found.as_expected[:, i]
        if digit in claim.digits:
            yield _follows(claim, digit, right)
        elif digit in claim.may_change:
            moved = int((~right).sum())
            yield Comparison(digit, "may change", f"{moved}/{len(right)}", _share(moved, len(right)), None, None,
                             "not compared")  # fmt: skip
        else:
            yield _stays(claim, digit, right)
    if len(claim.digits) > 1:
        places = [digits.index(digit) for digit in claim.digits]
        yield _follows(claim, "jointly", found.as_expected[:, places].all(1))
    yield _stays(claim, "agreeing", found.unchanged)


def _follows(claim: Patch, what: str, right: Bool[Tensor, " pair"]) -> Comparison:
    k, n, least = int(right.sum()), len(right), claim.follow_rate
    low, high = _interval(claim, k, n)
    finding = within_bounds(_share(k, n), low, high, 1.0 if least is None else least, None) if n else "undecided"
    expected = "always follows" if least is None else f"follows > {100 * least:g}%"
    at = straddled(finding, low, high, least)
    return Comparison(what, expected, f"{k}/{n}", _share(k, n), low, high, finding, asked=n, threshold=at)


def _stays(claim: Patch, what: str, right: Bool[Tensor, " pair"]) -> Comparison:
    k, n, most = int((~right).sum()), len(right), claim.intact_rate
    if what != "agreeing" and what not in claim.reach:
        return Comparison(what, "out of reach", f"{k}/{n}", _share(k, n), None, None, "by construction")
    low, high = _interval(claim, k, n)
    finding = within_bounds(_share(k, n), low, high, None, 0.0 if most is None else most) if n else "undecided"
    if not n and claim.questions.census:  # a list without pairs of this kind tells nothing about them
        finding = "not compared"
    expected = "never changes" if most is None else f"changes < {100 * most:g}%"
    at = straddled(finding, low, high, most)
    return Comparison(what, expected, f"{k}/{n}", _share(k, n), low, high, finding, asked=n, threshold=at)


def _share(k: int, n: int) -> float:
    return k / n if n else 0.0


def _interval(claim: Patch, k: int, n: int) -> tuple[float | None, float | None]:
    if claim.questions.census or not n:
        return None, None
    return exact_interval(k, n, claim.confidence)
