"""The table of contents: claim → questions → clean run → intervention → measurement → comparisons → verdict."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.across import AcrossRuns
from harness.answering import compare_answers, measure_answers
from harness.attending import compare_attention, measure_attention
from harness.controls import Controls, ablations_of, measure_controls
from harness.hypothesis import Claim, Hypothesis, Patch
from harness.intervals import error_at
from harness.learning import compare_learning, measure_learning
from harness.models import device_name
from harness.observations import Answer, Attend, Learn
from harness.patching import compare_patch, measure_patch
from harness.places import PIN, RECIPE, WEIGHTS
from harness.records import record_of
from harness.runs import Runs, RunsControls, compare_runs, controls_of_runs, share_of
from harness.selection import AUTO_FIRST, AUTO_LOOKS, PairSample, Sample
from harness.verdict import Comparison, Verdict, decide, verdict_of
from harness.workbench import Ablation, Workbench, ablation_of

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
    code: dict[str, str]  # file of one's own code → its sha256
    device: str
    engine: str
    seconds: float
    controls: Controls | RunsControls | None = None

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


@dataclass(frozen=True)
class Experiment:
    """What an experiment on one claim showed."""

    claim: Claim  # as it was asked at last: of more questions than at first, where it says so
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measured: Measured
    seconds: float


def judge(hypothesis: Claim, bench: Workbench | None = None, *, controls: bool = False) -> Result:
    """Return the verdict on a claim, with the measurement behind it; with `controls`, what these show of it too.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: what was measured means nothing; see :func:`harness.verdict.decide`.
    """
    h = hypothesis
    if isinstance(h, AcrossRuns):
        return _judge_runs(h, bench or Workbench(), controls)
    bench = bench or _shared_bench(h.fixtures.resolve(), tuple(_stamp(h.fixtures / name) for name in h.models))
    fixtures = [bench.fixture(name, h.fixtures) for name in h.models]
    found = experiment(h, bench)
    h = found.claim
    engine = "learning curves" if isinstance(h, Learn) else bench.engine_name(h.models[0], h.fixtures)
    weights = {fixture.name: fixture.weights_sha256 for fixture in fixtures}
    code = {path: sha256 for fixture in fixtures for path, sha256 in fixture.code.items()}
    return Result(
        h, found.verdict, found.comparisons, found.measured, weights, code, device_name(fixtures[0].device), engine,
        found.seconds, measure_controls(h, bench) if controls else None,
    )  # fmt: skip


def _judge_runs(claim: AcrossRuns, bench: Workbench, controls: bool) -> Result:
    """Return the verdict on a claim about several fixtures, and what the controls of all of them come to."""
    results = {member.fixture: judge(member, bench, controls=controls) for member in claim.members}
    return judge_from_runs(claim, results, [setting_of(name, claim.fixtures, bench) for name in claim.group])


@dataclass(frozen=True)
class Setting:
    """What claims about a fixture are judged with."""

    fixture: str
    weights_sha256: str
    code: dict[str, str]
    device: str
    engine: str


def setting_of(name: str, fixtures: Path, bench: Workbench) -> Setting:
    """Return what claims about the fixture `name` are judged with.

    Raises:
        FixtureError: the model cannot be loaded.
    """
    fixture = bench.fixture(name, fixtures)
    engine = bench.engine_name(name, fixtures)
    return Setting(name, fixture.weights_sha256, fixture.code, device_name(fixture.device), engine)


def judge_from_runs(claim: AcrossRuns, results: Mapping[str, Result], settings: Sequence[Setting]) -> Result:
    """Return the verdict on a claim about several fixtures, of what came of each that it was asked of."""
    claim = replace(claim, members=tuple(result.hypothesis for result in results.values()))  # as they were asked
    by_run = {name: record_of(result) for name, result in results.items()}
    verdicts = {name: result.verdict for name, result in results.items()}
    share = share_of(claim, verdicts)
    engines = dict.fromkeys(setting.engine for setting in settings)
    return Result(
        claim, share.verdict, compare_runs(claim, by_run, share), Runs(by_run),
        {setting.fixture: setting.weights_sha256 for setting in settings},
        {path: sha256 for setting in settings for path, sha256 in setting.code.items()},
        settings[0].device, "; ".join(engines),
        sum(result.seconds for result in results.values()),
        controls_of_runs(claim, {name: result.controls for name, result in results.items()}, verdicts),
    )  # fmt: skip


def experiment(claim: Claim, bench: Workbench, *, details: bool = True) -> Experiment:
    """Return what the experiment shows that a claim asks for; without `details`, examples may be left out.

    A claim with `n: auto` is asked of more and more questions until it is settled, or there are enough.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: what was measured means nothing.
    """
    start = time.perf_counter()
    for look in looks(claim):
        found = _look(look, bench, details)
        if found.verdict != "inconclusive":
            break
    automatic = isinstance(claim.questions, Sample | PairSample) and claim.questions.auto
    return replace(found, seconds=time.perf_counter() - start) if automatic else found


def looks(claim: Claim) -> Iterator[Claim]:
    """Yield the claim as it is asked, one time after the other, with the chance of error that each time may take."""
    asked = claim.questions
    if not isinstance(asked, Sample | PairSample) or not asked.auto:
        yield claim
        return
    for look in range(AUTO_LOOKS):
        yield replace(claim, questions=replace(asked, n=AUTO_FIRST * 2**look), error=error_at(look, claim.error))


def _look(claim: Claim, bench: Workbench, details: bool) -> Experiment:
    start = time.perf_counter()
    if isinstance(claim, Hypothesis):
        shared = bench.measure(ablation_of(claim), details=details)
        beside = {
            name: bench.measure(other, details=False).measurement.digits for name, other in siblings_of(claim).items()
        }
        return Experiment(claim, *decide(claim, shared.measurement, beside), shared.measurement, shared.seconds)
    measured: Measured
    if isinstance(claim, Patch):
        measured, siblings = measure_patch(claim, bench, claim.siblings if claim.only_here else None)
        rows = compare_patch(claim, measured, siblings)
    elif isinstance(claim, Answer):
        measured = measure_answers(claim, bench)
        rows = compare_answers(claim, measured)
    elif isinstance(claim, Attend):
        measured = measure_attention(claim, bench)
        rows = compare_attention(claim, measured)
    else:
        assert isinstance(claim, Learn)
        measured = measure_learning(claim)
        rows = compare_learning(claim, measured)
    return Experiment(claim, verdict_of(claim, rows), rows, measured, time.perf_counter() - start)


def siblings_of(h: Hypothesis) -> dict[str, Ablation]:
    """Return what a claim that it is so only here asks besides, by the sibling's name."""
    siblings = h.siblings if h.expect.only_here else {}
    return {name: ablation_of(h, nodes=nodes) for name, nodes in siblings.items()}


def plan(claims: Iterable[Claim], bench: Workbench, *, controls: bool = False) -> None:
    """Say which claims are going to be judged, so that they share what they have in common."""
    each = (one for claim in claims for one in (claim.members if isinstance(claim, AcrossRuns) else (claim,)))
    for claim in (next(looks(claim)) for claim in each):
        if isinstance(claim, Hypothesis):
            bench.plan([ablation_of(claim)])
            bench.plan(siblings_of(claim).values(), details=False)
        elif isinstance(claim, Attend):
            bench.plan_attention(claim.fixture, claim.fixtures, claim.questions, claim.nodes)
        if controls:
            bench.plan(ablations_of(claim), details=False)
