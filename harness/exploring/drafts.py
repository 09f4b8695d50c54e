"""``harness new``: drafts a claim from a measurement. The claim records a result; nobody predicted it.

The nodes are ablated on a sample. The interval of each answer token decides whether the token fails, may fail or stays
right in the claim. The claim asks other questions, drawn with another seed, so that it tests the recorded result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.base.errors import HarnessError
from harness.base.intervals import exact_interval, shared_confidence
from harness.base.seeds import MOST_SEED
from harness.base.text import percent
from harness.base.yaml_text import flow
from harness.base.yamlfile import parse_yaml
from harness.judging.bench import Workbench
from harness.judging.measurement import TokenCount
from harness.judging.requests import Ablation
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import shape_of
from harness.specs.keys import DEFAULT_GATE
from harness.specs.methods import Method
from harness.specs.nodes import Shape, reach, read_nodes
from harness.specs.parsing import DEFAULT_REFERENCE, FAIL_RATE, INTACT_RATE
from harness.specs.spec_files import claims_in, read_questions
from harness.tasks.questions import Sample

DEFAULT_N = 1000
SEED = 314159  # of the measurement, if the questions name no seed


@dataclass(frozen=True)
class Seen:
    """The effect of the ablation on one answer token."""

    count: TokenCount
    low: float  # the ends of the interval of the token's failure rate
    high: float
    reached: bool  # whether the ablated nodes can affect the token

    @property
    def fails(self) -> bool:
        """Whether the token surely fails at more than a spec's default rate, ``FAIL_RATE``."""
        return self.reached and self.low > FAIL_RATE

    @property
    def open(self) -> bool:
        """Whether the token neither surely fails nor surely stays right."""
        return self.reached and not self.fails and not self.high < INTACT_RATE

    def __str__(self) -> str:
        seen = f"{self.count.token:<4}{self.count.wrong}/{self.count.asked}"
        return f"{seen:<16}{self.low:.2%} to {self.high:.2%}" if self.reached else f"{seen:<16}out of reach"


@dataclass(frozen=True)
class Draft:
    """A drafted claim, and the measurement that it was made from."""

    fixture: str
    nodes: tuple[str, ...]  # as the user named them
    method: Method
    measured: Sample
    asked: dict[str, Any]  # the questions of the claim, as written in a spec
    seen: tuple[Seen, ...]  # in the order of the answer's tokens
    clean_accuracy: float
    token: str  # what the task calls a token of the answer

    @property
    def settled(self) -> bool:
        """Whether the model's shape alone settles the claim: the nodes reach no answer token."""
        return not any(row.reached for row in self.seen)

    def spec(self) -> str:
        """Return the text of a complete spec file with the claim."""
        about = ", ".join(self.nodes)
        name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"cut {about}".replace("[", ""))[:90].strip("-")
        written = self.nodes[0] if len(self.nodes) == 1 else list(self.nodes)
        fails = [row.count.token for row in self.seen if row.fails]
        may = [row.count.token for row in self.seen if row.open]
        by = "" if self.method == "mean" else f"    method: {self.method}\n"
        gate = f"    gate: {math.floor(9 * self.clean_accuracy) / 10}\n" if self.clean_accuracy < DEFAULT_GATE else ""
        return (
            f"# Drafted by `harness new` from {self.measured}. What it saw, {self.token} by {self.token}:\n"
            + "".join(f"#   {row}\n" for row in self.seen)
            + "# It records; it predicts nothing. Edit it into what you expect, and why, then delete `recorded`.\n"
            f"version: 1\nfixture: {self.fixture}\nhypotheses:\n"
            f"  - id: {name}\n"
            f"    claim: {flow(self.sentence())}\n"
            f"    source: {flow(f'harness new, {self.measured}')}\n"
            "    recorded: true\n"
            f"    ablate: {flow(written)}\n{by}"
            f"    questions: {flow(self.asked)}\n"
            f"    expect: {flow({'fails': fails} | ({'may_fail': may} if may else {}))}\n{gate}"
            + ("    by_construction: true\n" if self.settled else "")
        )

    def sentence(self) -> str:
        """Return the claim as an English sentence that states the result."""
        about = f"Cutting {', '.join(self.nodes)} by {self.method} ablation"
        if self.settled:
            return f"{about} changes no {self.token}, because nothing reads what it computes."
        parts = [f"{r.count.token} {_rate(r)}" for r in self.seen if r.fails]
        broken = (
            f"breaks {_listed(parts)}"
            if parts
            else f"breaks no {self.token} surely"
            if any(r.open for r in self.seen)
            else f"breaks no {self.token}"
        )
        free = [f"{r.count.token} {_rate(r)}" for r in self.seen if r.open]
        rest = f", perhaps {_listed(free)}" if free else ""
        if len(parts) + len(free) == len(self.seen):
            return f"{about} {broken}{rest}."
        return f"{about} {broken}{rest}; {'the others' if parts or free else 'all'} stay right."


def draft(ref: FixtureRef, nodes: Sequence[str], questions: str | None, method: Method, bench: Workbench) -> str:
    """Return a spec file that claims the measured effect of ablating `nodes` of a fixture.

    Raises:
        HarnessError: the fixture, nodes or sample do not exist, or the sample is too small to settle any token.
        FixtureError: the model cannot be loaded.
        MeasurementError: the measurement is invalid.
    """
    shape = shape_of(ref)
    cut, reached = read_nodes(nodes, shape), reach(read_nodes(nodes, shape), shape)
    measured, others = samples(questions, shape, DEFAULT_N)
    found = bench.measure(Ablation(ref, cut, method, DEFAULT_REFERENCE, measured, details=False)).measurement
    seen = tuple(_seen(count, count.token in reached, len(reached)) for count in found.tokens)
    if reached and all(row.open for row in seen if row.reached):
        told = ", ".join(f"{r.count.token} {r.count.wrong}/{r.count.asked}" for r in seen if r.reached)
        surely = f"surely fails on more than {FAIL_RATE:.0%}, or on less than {INTACT_RATE:.0%}"
        raise HarnessError.of(
            f"a {shape.task.nouns.token} that {surely}", told,
            "ask more questions, --questions '{n: 4000}' say, or write the claim with a fail_rate of its own",
        )  # fmt: skip
    text = Draft(
        ref.name, tuple(nodes), method, measured, others, seen, found.clean_accuracy,
        shape.task.nouns.token,
    ).spec()  # fmt: skip
    claims_in(parse_yaml(text, "draft"), ref.root)  # raises unless the draft is a valid spec
    return text


def samples(questions: str | None, shape: Shape, n: int) -> tuple[Sample, dict[str, Any]]:
    """Return the sample to measure on, `n` prompts unless the text says otherwise, and that of the claim as written.

    Raises:
        HarnessError: the text describes no sample of a known size.
    """
    text = questions or f"{{n: {n}{shape.task.spread_key}}}"
    asked = read_questions(text, shape)
    if not isinstance(asked, Sample) or asked.auto:
        fix = f"ask {{n: {n}}}: the claim is judged on {shape.task.nouns.prompts} other than those it was made from"
        raise HarnessError.of("a sample, with its n", text, fix)
    written = parse_yaml(text, "questions").data
    measured = Sample(asked.n, asked.seed if "seed" in written else SEED, asked.strata)
    return measured, {**written, "seed": measured.seed + 1 if measured.seed < MOST_SEED else 0}


def _seen(count: TokenCount, reached: bool, comparisons: int) -> Seen:
    low, high = (0.0, 1.0)
    if count.asked:
        low, high = exact_interval(count.wrong, count.asked, shared_confidence(comparisons))
    return Seen(count, low, high, reached)


def _rate(row: Seen) -> str:
    return f"({percent(row.count.wrong / max(1, row.count.asked))})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
