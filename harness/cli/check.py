"""``harness check``: judges claims outside pytest; with ``--all``, every claim, also on many machines (``--ray``)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.cli.options import FAILED, OK, TROUBLE, common_options, engine_option, ray_option, refuse_without_all
from harness.specs.fixtures.files import FixtureRef

if TYPE_CHECKING:
    from harness.cli.cluster import Do
    from harness.judging.bench import Workbench
    from harness.judging.records import Record
    from harness.judging.worth.coverage import NodeMap
    from harness.reporting.output import Run
    from harness.specs.claim import Claim

SPECS, REPORTS = Path("hypotheses"), Path("reports")


def add_check_command(commands: Any) -> None:
    """Add ``check``, the command that judges claims."""
    command = commands.add_parser("check", help="judge the claims of spec files or directories")
    command.add_argument("paths", type=Path, nargs="*", metavar="FILE|DIR")
    command.add_argument("--json", action="store_true", help="print the JSON report instead of the table")
    command.add_argument(
        "--all", action="store_true",
        help=f"every claim of the project, those below {SPECS} unless PATHs are given; writes the reports of pytest",
    )  # fmt: skip
    command.add_argument(
        "--report", type=Path, metavar="PATH",
        help=f"with --all: where the report goes, PATH.md and PATH.json, or into a directory (default: {REPORTS})",
    )  # fmt: skip
    command.add_argument("--html", type=Path, metavar="PATH", help="with --all: also write it as one HTML page")
    ray_option(command)
    common_options(command)
    engine_option(command)
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    refuse_without_all(options, "report", "html", "ray")
    paths = options.paths or [SPECS] * options.all
    if not paths:
        raise HarnessError.of("a spec file, a directory of them, or --all", "none", "name one")
    claims, spec_errors = _read(paths, options.fixtures)
    for problem in spec_errors:
        print(f"harness: {problem}", file=sys.stderr)
    if not claims and not options.all:
        return TROUBLE
    from harness.cli.cluster import job_runner
    from harness.judging.records import ordered
    from harness.reporting.output import Run

    with job_runner(options.ray, options.fixtures, options.device) as do:
        records = ordered(_judge(claims, options, do))
        run = Run(options.typed, records, spec_errors)
        if options.html:
            run.maps, run.notes = _maps(records, options, do)
    _show(run, options)
    written = True
    if options.all:
        written = _write(run, options)
        for line in run.add_to_job_summary():
            print(f"harness: {line}", file=sys.stderr)
    statuses = {record["status"] for record in records}
    if spec_errors or not written or "error" in statuses or statuses <= {"skipped"}:
        return TROUBLE
    return FAILED if statuses & {"failed", "xpassed"} else OK


def _read(paths: Sequence[Path], fixtures: Path) -> tuple[list[Claim], list[str]]:
    """Return the claims of all valid spec files, and the problems of the refused ones."""
    from harness.specs.spec_files import load_file, spec_files

    claims: list[Claim] = []
    problems: list[str] = []
    for file in dict.fromkeys(file for path in paths for file in spec_files(path)):
        try:
            claims += load_file(file, fixtures)
        except HarnessError as error:  # the other files are still judged
            problems += map(str, error.problems)
    return claims, problems


def _judge(claims: Sequence[Claim], options: argparse.Namespace, do: Do[Any]) -> list[Record]:
    from tqdm import tqdm

    from harness.judging.jobs import Job, JobResult, add_confirmed, do_job, jobs_of, jobs_to_confirm, records_of

    bench_for = _bench_for(options)
    hidden = None if options.all and sys.stderr else True  # None: tqdm hides the bar if stderr is no terminal

    def results(jobs: dict[str, Job], what: str) -> dict[str, JobResult | Exception]:
        calls = {title: partial(do_job, job, bench_for) for title, job in jobs.items()}
        return dict(tqdm(do(calls), what, len(calls), unit=" fixtures", file=sys.stderr, disable=hidden, leave=False))

    done = results(jobs_of(claims), "judging")
    while again := jobs_to_confirm(claims, done):
        add_confirmed(done, again, results(again, "confirming"))
    given = [
        ("--harness-device", options.device, "auto"), ("--harness-engine", options.engine, "auto"),
        ("--harness-fixtures", str(options.fixtures), "fixtures"),
    ]  # fmt: skip
    return records_of(claims, done, [f"{name}={value}" for name, value, default in given if value != default])


def _bench_for(options: argparse.Namespace) -> partial[Workbench]:
    """Return a function that gives a job its workbench: a shared one here; with Ray, a new one on the job's machine."""
    from harness.judging.bench import Workbench

    make = partial(Workbench, options.device, options.engine)
    return make if options.ray else partial(_same, make())


def _same(bench: Workbench) -> Workbench:
    return bench


def _maps(records: Sequence[Record], options: argparse.Namespace, do: Do[Any]) -> tuple[list[NodeMap], list[str]]:
    """Return a node map of each model that claims look inside, and a line for each map that could not be made."""
    from harness.judging.jobs import map_of
    from harness.judging.records import named_nodes

    bench_for = _bench_for(options)
    jobs = {
        name: partial(map_of, FixtureRef(name, options.fixtures), bench_for) for name in sorted(named_nodes(records))
    }
    found = dict(do(jobs))
    made = [result for name in jobs if not isinstance(result := found[name], Exception)]
    return made, [f"no map of {name}: {found[name]}" for name in jobs if isinstance(found[name], Exception)]


def _show(run: Run, options: argparse.Namespace) -> None:
    from harness.reporting.failure import failure_text
    from harness.reporting.report import terminal_table, to_json
    from harness.reporting.summary import skipped_lines, summary_line

    if options.json:
        print(to_json(run.records, run.spec_errors), end="")
    else:
        for record in run.records:
            if record["status"] in ("failed", "xpassed"):
                print(f"{failure_text(record)}\n")
        if any(record["verdict"] != "skipped" for record in run.records):
            print(f"{terminal_table(run.records)}\n")
        print("\n".join([*skipped_lines(run.records), summary_line(run.records)]))
    for record in run.records:
        for problem in record["problems"] if record["verdict"] == "error" else []:
            print(f"harness: {record['key']}: {problem}", file=sys.stderr)
    for note in run.notes:
        print(f"harness: {note}", file=sys.stderr)


def _write(run: Run, options: argparse.Namespace) -> bool:
    """Write the reports; return whether every requested file was written."""
    from harness.reporting.output import REPORT

    here, base, out = Path.cwd(), options.report or REPORTS / REPORT, sys.stderr if options.json else sys.stdout
    try:
        print("\n".join(run.write(here / base, here, within=None if options.report else here)), file=out)
        if options.html:
            print(run.write_page(here / options.html, here), file=out)
    except OSError as error:
        found = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        line = f"expected reports that can be written, found {found}; name another place"
        print(f"harness: {line}", file=sys.stderr)
        return False
    return True
