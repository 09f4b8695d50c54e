"""Splits claims into jobs, one for each fixture, and turns the results of the jobs into records.

A job can run in any process or on any machine. A claim about several training runs is judged run by run, in the jobs
of their fixtures, and its verdict is made from those results. A claim that compares fixtures gets a job for that
group. So only the clean runs of compared fixtures can be measured in two jobs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.errors import HarnessError, NotImportedError
from harness.judging.across import confirmed, to_confirm
from harness.judging.bench import Workbench
from harness.judging.evaluation import Setting, gather, judge, judge_from_runs, setting_of
from harness.judging.records import Record, error_record, record_of, skipped_record
from harness.judging.verdict import Result
from harness.judging.worth.coverage import MAP_N, NodeMap, map_nodes
from harness.specs.claim import Claim
from harness.specs.fixtures.files import FixtureRef

Outcome = Result | Exception  # an exception: why a claim could not be judged
Key = tuple[str, str]  # the claim's key and its fixture, since one claim may be asked of several fixtures


@dataclass
class Job:
    """The claims to judge about the same fixtures."""

    names: tuple[str, ...]
    fixtures: Path
    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True)
class JobResult:
    """The result of a job, as plain data that can be sent between machines."""

    outcomes: dict[Key, Outcome]
    settings: dict[str, Setting | HarnessError]


def jobs_of(claims: Iterable[Claim]) -> dict[str, Job]:
    """Return the jobs by the names of their fixtures, in the order of the claims."""
    jobs: dict[str, Job] = {}

    def job(names: tuple[str, ...], fixtures: Path) -> Job:
        return jobs.setdefault(_title(names), Job(names, fixtures))

    for claim in claims:
        if claim.across is not None:
            for name in claim.models:  # also runs without the role's nodes: the report names their weights
                job((name,), claim.fixtures)
        for one in claim.parts:
            job(one.models, one.fixtures).claims.append(one)
    return jobs


def _title(names: Iterable[str]) -> str:
    return " ".join(sorted(names))


def do_job(job: Job, bench_for: Callable[[], Workbench]) -> JobResult:
    """Return the results of a job; an error in one claim does not stop the others."""
    outcomes: dict[Key, Outcome] = {}
    bench = bench_for()
    gather(job.claims, bench)
    for claim in job.claims:
        try:
            outcomes[_key(claim)] = judge(claim, bench)
        except HarnessError as error:
            outcomes[_key(claim)] = error
        except Exception as error:  # for example out of memory: print the traceback, and keep the claim in the report
            traceback.print_exc()
            outcomes[_key(claim)] = error
    return JobResult(outcomes, {name: _setting(FixtureRef(name, job.fixtures), bench) for name in job.names})


def _key(claim: Claim) -> Key:
    return claim.key, claim.fixture


def _setting(ref: FixtureRef, bench: Workbench) -> Setting | HarnessError:
    try:
        return setting_of(ref, bench)
    except HarnessError as error:
        return error


def jobs_to_confirm(claims: Iterable[Claim], done: Mapping[str, JobResult | Exception]) -> dict[str, Job]:
    """Return the jobs that ask more draws of a reference in runs that refute a claim, by the names of their fixtures.

    Their results go into those of the first jobs (`add_confirmed`), until there are no more such jobs.
    """
    jobs: dict[str, Job] = {}
    for claim in claims:
        if (across := claim.across) is not None:
            found = {member.fixture: _outcome(member, done) for member in across.members}
            results = {name: outcome for name, outcome in found.items() if isinstance(outcome, Result)}
            for member in to_confirm(across, results) if len(results) == len(found) else ():
                jobs.setdefault(_title(member.models), Job(member.models, member.fixtures)).claims.append(member)
    return jobs


def add_confirmed(
    done: Mapping[str, JobResult | Exception], jobs: Mapping[str, Job], again: Mapping[str, JobResult | Exception]
) -> None:
    """Put what came of `jobs`, which confirmed results that were `done`, in their place."""
    for title, job in jobs.items():
        came, first = again[title], done[title]
        assert isinstance(first, JobResult)  # only results are confirmed
        for key in map(_key, job.claims):
            new, old = came if isinstance(came, Exception) else came.outcomes[key], first.outcomes[key]
            if isinstance(old, Result) and isinstance(new, Result):
                new = confirmed(old, new)
            first.outcomes[key] = new


def records_of(
    claims: Iterable[Claim], done: Mapping[str, JobResult | Exception], options: Sequence[str]
) -> list[Record]:
    """Return the record of each claim, made from the finished jobs; `options` are those to judge a claim again."""
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


def _outcome(claim: Claim, done: Mapping[str, JobResult | Exception]) -> Outcome:
    if (across := claim.across) is None:
        came = done[_title(claim.models)]
        return came if isinstance(came, Exception) else came.outcomes[_key(claim)]
    results, settings = {}, []
    for member in across.members:
        outcome = _outcome(member, done)
        if isinstance(outcome, Exception):
            return outcome
        results[member.fixture] = outcome
    for name in across.group:
        came = done[name]
        setting = came if isinstance(came, Exception) else came.settings[name]
        if isinstance(setting, Exception):
            return setting
        settings.append(setting)
    return judge_from_runs(across, results, settings)


def map_of(ref: FixtureRef, bench_for: Callable[[], Workbench]) -> NodeMap:
    """Return the node map of a model for the report page.

    Raises:
        HarnessError: the model cannot be loaded, or the measurement is invalid.
    """
    return map_nodes(ref, bench_for(), MAP_N)
