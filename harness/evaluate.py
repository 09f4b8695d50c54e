"""The table of contents: claim → questions → clean run → intervention → measurement → comparisons → verdict."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.answering import compare_answers, measure_answers
from harness.attending import compare_attention, measure_attention
from harness.hypothesis import Claim, Hypothesis, Patch
from harness.learning import compare_learning, measure_learning
from harness.observations import Answer, Attend, Learn
from harness.patching import compare_patch, measure_patch
from harness.recipe import PIN, RECIPE, WEIGHTS
from harness.verdict import Comparison, Verdict, decide, verdict_of
from harness.workbench import Ablation, Workbench

if TYPE_CHECKING:
    from pandas import DataFrame

Status = Literal["passed", "failed", "xfailed", "xpassed"]


class Measured(Protocol):
    """What was counted, whatever the verb."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        ...


@dataclass(frozen=True)
class Result:
    """What came of one hypothesis."""

    hypothesis: Claim
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measurement: Measured
    weights: dict[str, str]  # fixture → sha256 of its weights
    device: str
    engine: str
    seconds: float

    @property
    def status(self) -> Status:
        """Whether the claim passes as its spec has it: only what is supported, or by construction and said so."""
        h = self.hypothesis
        if self.verdict == "by construction":
            return "passed" if h.by_construction and h.xfail is None else "failed"
        if h.xfail is not None:
            return "xpassed" if self.verdict == "supported" else "xfailed"
        return "passed" if self.verdict == "supported" else "failed"

    def to_frame(self) -> DataFrame:
        """Return one row per comparison: digit or loss, expected, observed, rate, interval, finding."""
        from pandas import DataFrame

        return DataFrame([vars(row) for row in self.comparisons])

    def _repr_html_(self) -> str:
        h = self.hypothesis
        title = f"{h.id}: {self.verdict}. {h.claim} ({h.target}, {h.how}, {h.questions})"
        return f"<p><b>{html.escape(title)}</b></p>{self.to_frame().to_html(index=False)}"


@lru_cache(maxsize=1)
def _shared_bench(fixtures: Path, stamp: object) -> Workbench:
    """Return the bench of those who bring none: a notebook's loop loads its model once, and again when it changed."""
    return Workbench()


def _stamp(directory: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return when each of a fixture's files was last written, and its size."""
    paths = [directory / name for name in (RECIPE, WEIGHTS, PIN)]
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(stat and (stat.st_mtime_ns, stat.st_size) for stat in found)


def judge(hypothesis: Claim, bench: Workbench | None = None) -> Result:
    """Return the verdict on a claim, with the measurement behind it.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: what was measured means nothing; see :func:`harness.verdict.decide`.
    """
    h = hypothesis
    bench = bench or _shared_bench(h.fixtures.resolve(), tuple(_stamp(h.fixtures / name) for name in h.models))
    fixtures = [bench.fixture(name, h.fixtures) for name in h.models]
    start = time.perf_counter()
    engine = bench.engine_name(h.models[0], h.fixtures)
    measured: Measured
    seconds = None
    if isinstance(h, Hypothesis):
        shared = bench.measure(ablation_of(h))
        measured, seconds = shared.measurement, shared.seconds
        verdict, rows = decide(h, shared.measurement)
    elif isinstance(h, Patch):
        measured = measure_patch(h, bench)
        rows = compare_patch(h, measured)
        verdict = verdict_of(h, rows)
    elif isinstance(h, Answer):
        measured = measure_answers(h, bench)
        rows = compare_answers(h, measured)
        verdict = verdict_of(h, rows)
    elif isinstance(h, Attend):
        measured = measure_attention(h, bench)
        rows = compare_attention(h, measured)
        verdict = verdict_of(h, rows)
    else:
        assert isinstance(h, Learn)
        measured, engine = measure_learning(h), "learning curves"
        rows = compare_learning(h, measured)
        verdict = verdict_of(h, rows)
    seconds = time.perf_counter() - start if seconds is None else seconds
    weights = {fixture.name: fixture.weights_sha256 for fixture in fixtures}
    return Result(h, verdict, rows, measured, weights, str(fixtures[0].device), engine, seconds)


def ablation_of(h: Hypothesis) -> Ablation:
    """Return what an ablation claim asks of its model."""
    return Ablation(h.fixture, h.fixtures, h.nodes, h.method, h.reference, h.questions, h.seed, h.one_at_a_time)


def plan(claims: Iterable[Claim], bench: Workbench) -> None:
    """Say which claims are going to be judged, so that they share what they have in common."""
    for claim in claims:
        if isinstance(claim, Hypothesis):
            bench.plan([ablation_of(claim)])
        elif isinstance(claim, Attend):
            bench.plan_attention(claim.fixture, claim.fixtures, claim.questions, claim.node)
