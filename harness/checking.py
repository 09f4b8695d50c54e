"""Claims → jobs, one for each fixture, which can be done anywhere → what came of each claim, as records.

A claim about each of several training runs is asked run by run, in the jobs of their fixtures, and put together from
the answers; one that compares fixtures is a job of that group. So nothing is measured in two jobs but the clean runs
of what is compared.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.across import AcrossRuns
from harness.errors import HarnessError, NotImportedError
from harness.evaluate import Result, Setting, judge, judge_from_runs, plan, setting_of
from harness.hypothesis import Claim
from harness.nodemap import MAP_N, NodeMap, map_nodes
from harness.records import Record, error_record, record_of, skipped_record
from harness.workbench import Workbench

Outcome = Result | Exception  # an exception: why a claim could not be judged
Key = tuple[str, str]  # of a claim: the spec's, and the fixture's, as one claim may be asked of several


@dataclass
class Job:
    """What is to be judged of the same fixtures."""

    names: tuple[str, ...]
    fixtures: Path
    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """What came of a job; plain data, so that it can travel between machines."""

    outcomes: dict[Key, Outcome]
    settings: dict[str, Setting | HarnessError]


def jobs_of(claims: Iterable[Claim]) -> dict[str, Job]:
    """Return what there is to do, by the names of the fixtures that it is about, in the order of the claims."""
    jobs: dict[str, Job] = {}

    def job(names: tuple[str, ...], fixtures: Path) -> Job:
        return jobs.setdefault(_title(names), Job(names, fixtures))

    for claim in claims:
        if isinstance(claim, AcrossRuns):
            for name in claim.group:  # also those of which it cannot be asked: the report names their weights
                job((name,), claim.fixtures)
        for one in claim.members if isinstance(claim, AcrossRuns) else (claim,):
            job(one.models, one.fixtures).claims.append(one)
    return jobs


def _title(names: Iterable[str]) -> str:
    return " ".join(sorted(names))


def do_job(job: Job, bench_for: Callable[[], Workbench]) -> Done:
    """Return what comes of the claims of a job; what goes wrong with one keeps no other from being judged."""
    outcomes: dict[Key, Outcome] = {}
    bench = bench_for()
    plan(job.claims, bench)
    for claim in job.claims:
        try:
            outcomes[_key(claim)] = judge(claim, bench)
        except HarnessError as error:
            outcomes[_key(claim)] = error
        except Exception as error:  # out of memory, say: a traceback is due, and the claim is not forgotten
            traceback.print_exc()
            outcomes[_key(claim)] = error
    return Done(outcomes, {name: _setting(name, job.fixtures, bench) for name in job.names})


def _key(claim: Claim) -> Key:
    return claim.key, claim.fixture


def _setting(name: str, fixtures: Path, bench: Workbench) -> Setting | HarnessError:
    try:
        return setting_of(name, fixtures, bench)
    except HarnessError as error:
        return error


def records_of(claims: Iterable[Claim], done: Mapping[str, Done | Exception], options: Sequence[str]) -> list[Record]:
    """Return the record of each claim, of what came of the jobs; `options` are those to judge one again with."""
    found = []
    for claim in claims:
        outcome = _outcome(claim, done)
        if isinstance(outcome, Result):
            found.append({**record_of(outcome), "options": list(options)})
        elif isinstance(outcome, NotImportedError):
            found.append(skipped_record(claim, outcome))
        else:
            found.append(error_record(claim, outcome))
    return found


def _outcome(claim: Claim, done: Mapping[str, Done | Exception]) -> Outcome:
    if not isinstance(claim, AcrossRuns):
        came = done[_title(claim.models)]
        return came if isinstance(came, Exception) else came.outcomes[_key(claim)]
    results, settings = {}, []
    for member in claim.members:
        outcome = _outcome(member, done)
        if isinstance(outcome, Exception):
            return outcome
        results[member.fixture] = outcome
    for name in claim.group:
        came = done[name]
        setting = came if isinstance(came, Exception) else came.settings[name]
        if isinstance(setting, Exception):
            return setting
        settings.append(setting)
    return judge_from_runs(claim, results, settings)


def map_of(name: str, fixtures: Path, bench_for: Callable[[], Workbench]) -> NodeMap:
    """Return the report page's map of a model.

    Raises:
        HarnessError: the model cannot be loaded, or what was measured means nothing.
    """
    return map_nodes(name, fixtures, bench_for(), MAP_N)
