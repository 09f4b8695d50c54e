"""The table of contents: hypothesis → questions → clean run → intervention → measurement → verdict."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxtyping import Int
from torch import Tensor

from harness import hooked, interventions
from harness.errors import HarnessError
from harness.fixtures import Fixture, load_fixture
from harness.hypothesis import Hypothesis
from harness.interventions import Intervention
from harness.measurement import Measurement, Tally
from harness.nodes import Node, reach
from harness.recipe import PIN, RECIPE, WEIGHTS
from harness.sampling import tokens_for
from harness.selection import Questions
from harness.spec_model import Method
from harness.verdict import Comparison, Verdict, decide

if TYPE_CHECKING:
    from pandas import DataFrame

ENGINE = "hooks"
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


class Workbench:
    """Models, questions, clean runs and reference means, each made once and shared by all hypotheses."""

    def __init__(
        self,
        device: str = "auto",
        batch_size: int = hooked.BATCH,
        before_loading: Callable[[str, Path], None] = lambda name, fixtures: None,
    ) -> None:
        self.device = device
        self.before_loading = before_loading  # trains what is missing, say; once for a fixture, also where that fails
        self._prepared: dict[tuple[str, Path], HarnessError | None] = {}
        self.batch_size = batch_size
        # Bounded, so that a long run's memory does not grow with its number of question sets.
        self.fixture = lru_cache(maxsize=4)(self._load)
        self.tokens = lru_cache(maxsize=32)(self._tokens)
        self.clean_run = lru_cache(maxsize=32)(self._clean_run)
        self.means = lru_cache(maxsize=8)(self._means)

    def _load(self, name: str, fixtures: Path) -> Fixture:
        if (name, fixtures) not in self._prepared:
            self._prepared[name, fixtures] = None
            try:
                self.before_loading(name, fixtures)
            except HarnessError as error:
                self._prepared[name, fixtures] = error
        if (failed := self._prepared[name, fixtures]) is not None:
            raise failed
        return load_fixture(name, fixtures, self.device)

    def _tokens(self, name: str, fixtures: Path, questions: Questions) -> Int[Tensor, "question pos"]:
        return tokens_for(questions, self.fixture(name, fixtures).layout)

    def _clean_run(self, name: str, fixtures: Path, questions: Questions) -> hooked.Outcome:
        tokens = self.tokens(name, fixtures, questions)
        return hooked.run(self.fixture(name, fixtures), tokens, batch_size=self.batch_size)

    def _means(self, name: str, fixtures: Path, reference: Questions) -> dict[Node, Tensor]:
        tokens = self.tokens(name, fixtures, reference)
        return hooked.capture_means(self.fixture(name, fixtures), tokens, self.batch_size)


@lru_cache(maxsize=1)
def _shared_bench(fixtures: Path, stamp: object) -> Workbench:
    """Return the bench of those who bring none: a notebook's loop loads its model once, and again when it changed."""
    return Workbench()


def _stamp(h: Hypothesis) -> tuple[tuple[int, int] | None, ...]:
    """Return when each of the fixture's files was last written, and its size."""
    paths = [h.fixtures / h.fixture / name for name in (RECIPE, WEIGHTS, PIN)]
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(stat and (stat.st_mtime_ns, stat.st_size) for stat in found)


@dataclass(frozen=True)
class Ablation:
    """One question asked of a model: what becomes of these questions when these nodes are ablated?"""

    fixture: str
    fixtures: Path
    nodes: tuple[Node, ...]
    method: Method
    reference: Questions
    questions: Questions
    seed: int = 0
    one_at_a_time: bool = False


def judge(hypothesis: Hypothesis, bench: Workbench | None = None) -> Result:
    """Return the verdict on `hypothesis`, with the measurement behind it.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing; see :func:`harness.verdict.decide`.
    """
    bench = bench or _shared_bench(hypothesis.fixtures.resolve(), _stamp(hypothesis))
    start = time.perf_counter()
    h = hypothesis
    fixture = bench.fixture(h.fixture, h.fixtures)
    measurement = measure(
        Ablation(h.fixture, h.fixtures, h.nodes, h.method, h.reference, h.questions, h.seed, h.one_at_a_time),
        bench,
    )
    verdict, comparisons = decide(h, measurement)
    seconds = time.perf_counter() - start
    return Result(h, verdict, comparisons, measurement, fixture.weights_sha256, str(fixture.device), ENGINE, seconds)


def measure(ablation: Ablation, bench: Workbench) -> Measurement:
    """Return what was counted when the nodes of `ablation` were cut, all at once or one at a time.

    Raises:
        MeasurementError: no questions, a hook that did not fire, or a logit that is not finite.
    """
    where = (ablation.fixture, ablation.fixtures)
    fixture = bench.fixture(*where)
    tokens = bench.tokens(*where, ablation.questions)
    tally = Tally(tokens, fixture.layout, bench.clean_run(*where, ablation.questions))
    make = intervention_maker(ablation, bench, tokens)
    for nodes, name in _groups(ablation, fixture):
        tally.add(hooked.run(fixture, tokens, make(nodes), bench.batch_size), name)
    return tally.finish()


def _groups(ablation: Ablation, fixture: Fixture) -> Iterator[tuple[tuple[Node, ...], str]]:
    if not ablation.one_at_a_time:
        yield ablation.nodes, ""
        return
    for node in ablation.nodes:
        if reach([node], fixture.shape):  # a node that reaches no digit leaves the clean run as it is
            yield (node,), str(node)


def intervention_maker(
    ablation: Ablation, bench: Workbench, tokens: Int[Tensor, "question pos"]
) -> Callable[[Iterable[Node]], Intervention]:
    """Return what turns nodes into the values that replace theirs on the questions in `tokens`."""
    where = (ablation.fixture, ablation.fixtures)
    fixture = bench.fixture(*where)
    if ablation.method == "zero":
        return lambda nodes: interventions.zero({node: hooked.width(node, fixture) for node in nodes})
    if ablation.method == "mean":
        means = bench.means(*where, ablation.reference)
        return lambda nodes: interventions.mean(nodes, means)
    reference = bench.tokens(*where, ablation.reference)
    donors = interventions.draw_donors(tokens, reference, fixture.layout, ablation.seed)
    values = hooked.capture(fixture, reference, ablation.nodes, bench.batch_size)
    return lambda nodes: interventions.resample({node: values[node] for node in nodes}, donors)
