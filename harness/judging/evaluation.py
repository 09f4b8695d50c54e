"""Judging of a claim: claim → questions → clean run → intervention → measurement → comparisons → verdict.

`judge` returns the result for one claim. `plan` registers claims before they are judged, so that they share work.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from harness.base.intervals import error_at
from harness.judging.across import Runs, compare_runs, controls_of_runs, share_of
from harness.judging.bench import Ablation, Workbench, ablation_of
from harness.judging.controls import ablations_of, measure_controls
from harness.judging.verbs.ablate import decide
from harness.judging.verbs.answer import compare_answers, measure_answers
from harness.judging.verbs.attend import compare_attention, measure_attention
from harness.judging.verbs.learn import compare_learning, measure_learning
from harness.judging.verbs.patch import compare_patch, measure_patch
from harness.judging.verdict import Comparison, Measured, Result, Verdict, verdict_of
from harness.models.bridge import device_name
from harness.specs.across import AcrossRuns
from harness.specs.claim import Claim
from harness.specs.fixture_files import PIN, RECIPE, WEIGHTS
from harness.specs.verbs.ablate import Hypothesis
from harness.specs.verbs.answer import Answer
from harness.specs.verbs.attend import Attend
from harness.specs.verbs.learn import Learn
from harness.specs.verbs.patch import Patch
from harness.tasks.questions import AUTO_FIRST, AUTO_LOOKS, PairSample, Sample


@lru_cache(maxsize=1)
def _shared_bench(fixtures: Path, stamp: object) -> Workbench:
    """Return the bench for callers without one: a loop in a notebook reloads its model only when its files change."""
    return Workbench()


def _stamp(directory: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return the modification time and size of each of a fixture's files; None for a missing file."""
    paths = [directory / name for name in (RECIPE, WEIGHTS, PIN)]
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(stat and (stat.st_mtime_ns, stat.st_size) for stat in found)


@dataclass(frozen=True)
class Experiment:
    """The result of an experiment on one claim."""

    claim: Claim  # with the questions that were asked last; `n: auto` may have added some
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measured: Measured
    seconds: float


def judge(hypothesis: Claim, bench: Workbench | None = None, *, controls: bool = False) -> Result:
    """Return the verdict on a claim, with the measurement behind it and, if `controls` is set, the controls.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: the measurement is invalid; see :func:`harness.judging.verbs.ablate.decide`.
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
    """Return the result of a claim about several fixtures, with the controls of all of them together."""
    results = {member.fixture: judge(member, bench, controls=controls) for member in claim.members}
    return judge_from_runs(claim, results, [setting_of(name, claim.fixtures, bench) for name in claim.group])


@dataclass(frozen=True)
class Setting:
    """The weights, code, device and engine that claims about a fixture are judged with."""

    fixture: str
    weights_sha256: str
    code: dict[str, str]
    device: str
    engine: str


def setting_of(name: str, fixtures: Path, bench: Workbench) -> Setting:
    """Return the setting that claims about the fixture `name` are judged with.

    Raises:
        FixtureError: the model cannot be loaded.
    """
    fixture = bench.fixture(name, fixtures)
    engine = bench.engine_name(name, fixtures)
    return Setting(name, fixture.weights_sha256, fixture.code, device_name(fixture.device), engine)


def judge_from_runs(claim: AcrossRuns, results: Mapping[str, Result], settings: Sequence[Setting]) -> Result:
    """Return the result of a claim about several fixtures, made from the result of each one that was measured."""
    claim = replace(claim, members=tuple(result.hypothesis for result in results.values()))  # as last asked
    verdicts = {name: result.verdict for name, result in results.items()}
    share = share_of(claim, verdicts)
    engines = dict.fromkeys(setting.engine for setting in settings)
    return Result(
        claim, share.verdict, compare_runs(claim, results, share), Runs(results),
        {setting.fixture: setting.weights_sha256 for setting in settings},
        {path: sha256 for setting in settings for path, sha256 in setting.code.items()},
        settings[0].device, "; ".join(engines),
        sum(result.seconds for result in results.values()),
        controls_of_runs(claim, {name: result.controls for name, result in results.items()}, verdicts),
    )  # fmt: skip


def experiment(claim: Claim, bench: Workbench, *, details: bool = True) -> Experiment:
    """Return the result of the experiment that a claim asks for; without `details`, examples may be left out.

    With `n: auto`, the number of questions grows until the claim is settled or the maximum is reached.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: the measurement is invalid.
    """
    start = time.perf_counter()
    for look in looks(claim):
        found = _look(look, bench, details)
        if found.verdict != "inconclusive":
            break
    automatic = isinstance(claim.questions, Sample | PairSample) and claim.questions.auto
    return replace(found, seconds=time.perf_counter() - start) if automatic else found


def looks(claim: Claim) -> Iterator[Claim]:
    """Yield the claim for each look, with its number of questions and its part of the error probability."""
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
    """Return the ablations of the siblings, by name, that a claim with `only_here` needs; {} for other claims."""
    siblings = h.siblings if h.expect.only_here else {}
    return {name: ablation_of(h, nodes=nodes) for name, nodes in siblings.items()}


def plan(claims: Iterable[Claim], bench: Workbench, *, controls: bool = False) -> None:
    """Register claims that will be judged, so that they share clean runs and captured values."""
    each = (one for claim in claims for one in (claim.members if isinstance(claim, AcrossRuns) else (claim,)))
    for claim in (next(looks(claim)) for claim in each):
        if isinstance(claim, Hypothesis):
            bench.plan([ablation_of(claim)])
            bench.plan(siblings_of(claim).values(), details=False)
        elif isinstance(claim, Attend):
            bench.plan_attention(claim.fixture, claim.fixtures, claim.questions, claim.nodes)
        if controls:
            bench.plan(ablations_of(claim), details=False)
