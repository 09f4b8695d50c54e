"""The table of contents: claim → requests → answers → comparisons → verdict → result.

`judge` returns the result of one claim. `gather` tells the bench what many claims will ask, so that it is run together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.base.errors import MeasurementError, Problem
from harness.base.files import version_of
from harness.base.intervals import error_at
from harness.judging.across import Runs, compare_runs, confirmed, controls_of_runs, share_of, to_confirm
from harness.judging.answers import Ablated
from harness.judging.bench import Workbench
from harness.judging.redraws import confirmed_by_draws, first_draws
from harness.judging.requests import brief
from harness.judging.untested import Untested
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, Measured, Result, Verdict, placed_at, verdict_of
from harness.judging.worth.controls import measure_controls, nodes_with_credit
from harness.models.bridge import device_name
from harness.specs.claim import AcrossRuns, Claim
from harness.specs.fixtures.files import PIN, RECIPE, WEIGHTS, FixtureRef
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import AUTO_FIRST, AUTO_LOOKS, PairSample, Sample


def judge(claim: Claim, bench: Workbench | None = None, *, controls: bool = False, credit: bool = False) -> Result:
    """Return the verdict on a claim, with the measurement behind it and, if `controls` is set, the controls.

    With `credit`, also the nodes that count for coverage.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: the measurement means nothing.
    """
    if (across := claim.across) is not None:
        return _judge_runs(across, bench or Workbench(), controls, credit)
    bench = bench or _shared_bench(claim.fixtures.resolve(), tuple(_stamp(ref.directory) for ref in claim.refs))
    fixtures = [bench.fixture(ref) for ref in claim.refs]
    weights = {fixture.name: fixture.weights_sha256 for fixture in fixtures}
    _refuse_copies(claim, weights)
    found = experiment(claim, bench)
    code = {path: sha256 for fixture in fixtures for path, sha256 in fixture.code.items()}
    shown = measure_controls(found.claim, bench) if controls else None
    credited: tuple[str, ...] | None = () if credit else None
    if credit and found.verdict == "supported":
        credited = nodes_with_credit(found.claim, bench, shown)
    return Result(
        found.claim, found.verdict, found.comparisons, found.measured, weights, code, device_name(fixtures[0].device),
        verb_named(claim.verb).engine(claim, bench), found.seconds,
        shown, credited, found.untested,
    )  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """The result of an experiment on one claim."""

    claim: Claim  # with the questions that were asked last; `n: auto` may have added some
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    measured: Measured
    seconds: float
    untested: tuple[Untested, ...]


def experiment(claim: Claim, bench: Workbench, *, mutant: bool = False) -> Experiment:
    """Return the result of the experiment that a claim asks for.

    A claim with `n: auto` is asked of more and more questions until it is settled, or there are enough. One whose
    reference is drawn is asked of several draws. A `mutant` needs no examples, the first draw suffices to refute it,
    and nobody asks whether it was tested: it survives if it is supported.

    Raises:
        FixtureError: a model cannot be loaded.
        MeasurementError: the measurement means nothing.
    """
    verb, start = verb_named(claim.verb), time.perf_counter()
    answers: list[Any] = []
    for look in sequential_looks(claim):
        requests = verb.requests(look)
        if not mutant:
            bench.gather(first_draws(look))
        with placed_at(look):
            answers = bench.answer(brief(requests) if mutant else requests)
            measured, rows = verb.compare(look, answers)
        rows = confirmed_by_draws(look, rows, bench, refuting=not mutant)
        verdict = verdict_of(look, rows)
        # Draws are asked once: by further looks they could err again and again.
        if verdict != "inconclusive" or any(row.draws > 1 for row in rows):
            break
    untested = () if mutant or verdict == "by construction" else tuple(verb.untested(look, answers, bench))
    verdict = verdict_of(look, rows, untested)
    # An ablation knows its share of what it had in common with others; several looks or draws take what time passed.
    alone = look is claim and all(row.draws == 1 for row in rows)
    shared = isinstance(answers[0], Ablated) if answers and alone else False
    seconds = answers[0].seconds if shared else time.perf_counter() - start
    return Experiment(look, verdict, rows, measured, seconds, untested if verdict == "vacuous" else ())


def sequential_looks(claim: Claim) -> Iterator[Claim]:
    """Yield the claim as it is asked, look by look, with the chance of error that each look may take."""
    asked = claim.questions
    if not isinstance(asked, Sample | PairSample) or not asked.auto:
        yield claim
        return
    for look in range(AUTO_LOOKS):
        yield replace(claim, questions=replace(asked, n=AUTO_FIRST * 2**look), error=error_at(look, claim.error))


def gather(
    claims: Iterable[Claim], bench: Workbench, *, mutants: bool = False, controls: bool = False, credit: bool = False
) -> None:
    """Tell the bench what the first look of each claim will ask, its controls and its credit; it is run together."""
    for part in (part for claim in claims for part in claim.parts):
        verb, look = verb_named(part.verb), next(sequential_looks(part))
        requests = verb.requests(look)
        bench.gather(brief(requests) if mutants else [*requests, *first_draws(look)])
        if isinstance(look, Hypothesis) and look.is_drawn:
            bench.gather_draws(look, refuting=not mutants)
        if controls:
            bench.gather(verb.control_requests(look))
        if credit:
            bench.gather(verb.left_out_requests(look))


@dataclass(frozen=True)
class Setting:
    """What the claims about a fixture are judged with."""

    fixture: str
    weights_sha256: str
    code: dict[str, str]
    device: str
    engine: str


def setting_of(ref: FixtureRef, bench: Workbench) -> Setting:
    """Return what the claims about a fixture are judged with.

    Raises:
        FixtureError: the model cannot be loaded.
    """
    fixture = bench.fixture(ref)
    return Setting(ref.name, fixture.weights_sha256, fixture.code, device_name(fixture.device), bench.engine_name(ref))


def _judge_runs(claim: AcrossRuns, bench: Workbench, controls: bool, credit: bool) -> Result:
    """Return the result of a claim about several fixtures, by judging it on each of them."""
    results = {member.fixture: judge(member, bench, controls=controls, credit=credit) for member in claim.members}
    while again := to_confirm(claim, results):
        results |= {one.fixture: confirmed(results[one.fixture], judge(one, bench)) for one in again}
    return judge_from_runs(claim, results, [setting_of(ref, bench) for ref in claim.refs])


def judge_from_runs(claim: AcrossRuns, results: Mapping[str, Result], settings: Sequence[Setting]) -> Result:
    """Return the result of a claim about several fixtures, made from the results for each fixture."""
    _refuse_copies(claim, {setting.fixture: setting.weights_sha256 for setting in settings})
    claim = replace(claim, members=tuple(result.hypothesis for result in results.values()))  # as they were asked
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


def _refuse_copies(claim: Claim, weights: Mapping[str, str]) -> None:
    """Refuse a group in which the same weights stand under two names, for it is one training run.

    Raises:
        MeasurementError: two fixtures have the same weights.
    """
    seen: dict[str, str] = {}
    for name, sha256 in weights.items():
        if (other := seen.setdefault(sha256, name)) != name:
            found = f"the weights of {other} again, as those of {name}"
            raise MeasurementError(
                Problem("each training run once", found, "leave one of them out", claim.path, claim.line, 1)
            )


@lru_cache(maxsize=1)
def _shared_bench(fixtures: Path, stamp: object) -> Workbench:
    """Return the bench for callers without one: a loop in a notebook reloads its model only when its files change."""
    return Workbench()


def _stamp(directory: Path) -> tuple[object, ...]:
    """Return the modification time and size of each of a fixture's files; None for a missing file."""
    paths = [directory / name for name in (RECIPE, WEIGHTS, PIN)]
    return tuple(version_of(path) if path.exists() else None for path in paths)
