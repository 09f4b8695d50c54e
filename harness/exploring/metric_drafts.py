"""``harness new`` of prompts with a metric: drafts a claim that a metric falls, or rises, or does neither on most.

Answers of a language model seldom flip when one head is cut, so the claim is of the share of prompts on which the
metric falls. It leaves room for the luck of two samples: that of the measurement, and that of the claim's own prompts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.base.errors import HarnessError
from harness.base.intervals import exact_interval, shared_confidence
from harness.base.yaml_text import flow
from harness.base.yamlfile import parse_yaml
from harness.exploring.drafts import samples
from harness.judging.bench import Workbench
from harness.judging.requests import Ablation
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import shape_of
from harness.specs.methods import CORRUPT
from harness.specs.metrics import METRICS, NEEDS_WRONG
from harness.specs.nodes import read_nodes
from harness.specs.parsing import DEFAULT_REFERENCE
from harness.specs.spec_files import claims_in
from harness.tasks.contract import AnyTask
from harness.tasks.questions import Counterparts, Source

DRAFTED_N = 200
STEP = 20  # shares are written in twentieths


@dataclass(frozen=True)
class Shift:
    """On how many prompts a metric falls or rises."""

    what: str  # falls or rises
    k: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact interval of the share; both directions are looked at."""
        return exact_interval(self.k, self.n, shared_confidence(2))

    @property
    def surely(self) -> float:
        """A share that other prompts will very likely exceed: as far below the interval as the interval is wide."""
        low = self.interval[0]
        return math.floor(STEP * (2 * low - self.k / self.n)) / STEP

    @property
    def hardly(self) -> float:
        """A share that other prompts will very likely not reach."""
        high = self.interval[1]
        return math.ceil(STEP * (2 * high - self.k / self.n)) / STEP

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.what} on {self.k}/{self.n}, {low:.2%} to {high:.2%}"


def metric_for(task: AnyTask, named: str | None) -> str:
    """Return the metric that is named, or the task's own: of logits where there are wrong answers, else of the right.

    Raises:
        HarnessError: there is no such metric, or it does not fall or rise.
    """
    known = [name for name in METRICS if name not in ("right", "prefers", "kl")]
    known = [name for name in known if task.has_wrong or name not in NEEDS_WRONG]
    metric = named or known[0]
    if metric not in known:
        raise HarnessError.of(f"a metric {', '.join(known)}", metric, "choose one of these")
    return metric


def draft_metric(
    ref: FixtureRef, nodes: Sequence[str], questions: str | None, method: str, counterpart: str | None,
    metric: str | None, bench: Workbench,
) -> str:  # fmt: skip
    """Return a spec file that claims what the ablation of `nodes` does to a metric.

    Raises:
        HarnessError: the fixture, nodes, metric or sample do not exist, or nothing can be said of so few prompts.
        FixtureError: the model cannot be loaded.
        MeasurementError: the measurement is invalid.
    """
    shape = shape_of(ref)
    task, metric = shape.task, metric_for(shape.task, metric)
    cut = read_nodes(nodes, shape)
    measured, others = samples(questions, shape, DRAFTED_N)
    reference: Source = Counterparts(measured, counterpart) if counterpart else DEFAULT_REFERENCE
    how = CORRUPT if counterpart else method
    ablation = Ablation(ref, cut, how, reference, measured, details=False, metrics=(metric,))
    found = bench.measure(ablation).measurement
    clean, after = found.metrics[metric]
    shifts = [Shift("falls", int((after < clean).sum()), found.n), Shift("rises", int((after > clean).sum()), found.n)]
    expect = _expectation(shifts)
    about, by = ", ".join(nodes), f"{{corrupt: {counterpart}}}" if counterpart else method
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"cut {about}")[:90].strip("-")
    medians = [f"{float(values.median()):.3g}" for values in (clean, after)]
    text = (
        f"# Drafted by `harness new` from {measured}. What it saw: {metric} {' and '.join(map(str, shifts))};\n"
        f"# its median went from {medians[0]} to {medians[1]}.\n"
        "# It records; it predicts nothing. Edit it into what you expect, and why, then delete `recorded`.\n"
        f"version: 1\nfixture: {ref.name}\n" + (f"task: {ref.task}\n" if ref.task else "") + "hypotheses:\n"
        f"  - id: {name}\n"
        f"    claim: {flow(_sentence(about, by, metric, expect))}\n"
        f"    source: {flow(f'harness new, {measured}')}\n"
        "    recorded: true\n"
        f"    ablate: {flow(nodes[0] if len(nodes) == 1 else list(nodes))}\n"
        f"    method: {by}\n"
        f"    prompts: {flow(others)}\n"
        f"    expect: {flow({metric: expect})}\n" + gate_line(found.clean_accuracy, found.n, task)
    )
    claims_in(parse_yaml(text, "draft"), ref.root)  # raises unless the draft is a valid spec
    return text


def gate_line(accuracy: float, n: int, task: AnyTask) -> str:
    """Return the line of a drafted claim that lowers its gate, where the model may not reach the task's own.

    Of `prefers` the lower end of an interval must reach the gate: there is room for that of other prompts.
    """
    least = accuracy
    if task.success.kind == "prefers":
        least = 2 * exact_interval(round(accuracy * n), n, shared_confidence(1))[0] - accuracy
    return "" if least >= task.success.gate else f"    gate: {max(0, math.floor(STEP * least)) / STEP:g}\n"


def _expectation(shifts: Sequence[Shift]) -> dict[str, float]:
    """Return what to expect of the metric, as a spec writes it.

    Raises:
        HarnessError: nothing can be said of so few prompts.
    """
    most = max(shifts, key=lambda shift: shift.k)
    if most.interval[0] > 0.5 and most.surely >= 0.5:
        return {f"{most.what}_on": most.surely}
    falls = shifts[0]
    if falls.hardly < 1:
        return {"falls_on_at_most": falls.hardly}
    fix = "ask more, --questions '{n: 1000}' say"
    raise HarnessError.of("a share that is clear of one half, or of all", "; ".join(map(str, shifts)), fix)


def _sentence(about: str, by: str, metric: str, expect: dict[str, float]) -> str:
    """Return the claim as an English sentence that states the result."""
    (key, share), method = next(iter(expect.items())), by.strip("{}")
    cut = f"Cutting {about} ({method})"
    if key == "falls_on_at_most":
        return f"{cut} lowers {metric} on less than {share:.0%} of the prompts."
    return f"{cut} {'lowers' if key == 'falls_on' else 'raises'} {metric} on more than {share:.0%} of the prompts."
