"""The table of contents: hypothesis → questions → clean run → intervention → measurement → verdict."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.hypothesis import Hypothesis
from harness.measurement import Measurement
from harness.recipe import PIN, RECIPE, WEIGHTS
from harness.verdict import Comparison, Verdict, decide
from harness.workbench import Ablation, Workbench

if TYPE_CHECKING:
    from pandas import DataFrame

Status = Literal["passed", "failed", "xfailed", "xpassed"]


@dataclass(frozen=True)
class Result:
    """What came of one hypothesis."""

    hypothesis: Hypothesis
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measurement: Measurement
    weights_sha256: str
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
        title = f"{h.id}: {self.verdict}. {h.claim} ({h.target}, {h.method}, {h.questions})"
        return f"<p><b>{html.escape(title)}</b></p>{self.to_frame().to_html(index=False)}"


@lru_cache(maxsize=1)
def _shared_bench(fixtures: Path, stamp: object) -> Workbench:
    """Return the bench of those who bring none: a notebook's loop loads its model once, and again when it changed."""
    return Workbench()


def _stamp(h: Hypothesis) -> tuple[tuple[int, int] | None, ...]:
    """Return when each of the fixture's files was last written, and its size."""
    paths = [h.fixtures / h.fixture / name for name in (RECIPE, WEIGHTS, PIN)]
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(stat and (stat.st_mtime_ns, stat.st_size) for stat in found)


def ablation_of(h: Hypothesis) -> Ablation:
    """Return what a hypothesis asks of its model."""
    return Ablation(h.fixture, h.fixtures, h.nodes, h.method, h.reference, h.questions, h.seed, h.one_at_a_time)


def judge(hypothesis: Hypothesis, bench: Workbench | None = None) -> Result:
    """Return the verdict on `hypothesis`, with the measurement behind it.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing; see :func:`harness.verdict.decide`.
    """
    bench = bench or _shared_bench(hypothesis.fixtures.resolve(), _stamp(hypothesis))
    h = hypothesis
    fixture = bench.fixture(h.fixture, h.fixtures)
    measured = bench.measure(ablation_of(h))
    verdict, comparisons = decide(h, measured.measurement)
    return Result(
        h, verdict, comparisons, measured.measurement, fixture.weights_sha256, str(fixture.device),
        bench.engine_name(h.fixture, h.fixtures), measured.seconds,
    )  # fmt: skip


def plan(hypotheses: Iterable[Hypothesis], bench: Workbench) -> None:
    """Say which hypotheses are going to be judged, so that they share what they have in common."""
    bench.plan(map(ablation_of, hypotheses))
