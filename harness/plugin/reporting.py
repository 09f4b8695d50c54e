"""The end of a pytest run: collects the claims' records, writes the reports, and sets the exit code."""

from __future__ import annotations

import shlex
import traceback
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.plugin.requested import RequestedClaims, asks_for_claims, fixtures_directory
from harness.reporting.output import Note
from harness.specs.fixtures.files import FixtureRef

if TYPE_CHECKING:
    from harness.judging.records import Record
    from harness.judging.worth.coverage import Coverage, NodeMap


class RunReporter:
    """Collects records and writes reports in the reporting process: the only process, or xdist's controller."""

    def __init__(self, config: pytest.Config, asked: RequestedClaims) -> None:
        self.config, self.asked = config, asked
        self.records: dict[str, Record] = {}
        self.spec_errors: list[str] = []
        self.foreign_errors = 0
        self.notes: list[Note] = []
        self.coverage: list[Coverage] = []
        self.maps: list[NodeMap] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep a claim's record. A claim has none if the project's own hooks skip or fail it before it is measured."""
        if record := getattr(report, "harness_record", None):
            self.records[record["key"]] = record
        if record or (report.when == "setup" and not report.passed):
            self.asked.reached.add(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        """Keep the errors of specs, and count the collection errors that do not come from specs."""
        problems = getattr(report, "harness_spec_errors", [])
        self.spec_errors += problems
        self.foreign_errors += bool(report.failed and not problems)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Let the valid specs be judged if all collection errors come from invalid specs."""
        if self.spec_errors and not self.foreign_errors:
            session.config.option.continue_on_collection_errors = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remove traceback frames without a line number: pytest 9 fails on them, and then exits with code 1."""
        Traceback = type(excinfo.traceback)
        frames = zip(Traceback(excinfo.tb), traceback.walk_tb(excinfo.tb), strict=True)
        excinfo.traceback = Traceback(frame for frame, (_, line) in frames if line is not None)
        # Drop the chained exception too: an earlier Ctrl-C has such frames as well.
        excinfo.value.__cause__, excinfo.value.__suppress_context__ = None, True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the reports; exit with 2 on trouble with specs or fixtures, and never with 0 if no claim was judged."""
        ok, failed = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
        stopped = session.exitstatus == pytest.ExitCode.INTERRUPTED  # after Ctrl-C, nobody waits for a sweep
        if self.asked.worker_died:
            self._tell_what_was_lost(stopped)
        trouble = self.spec_errors or any(record["status"] == "error" for record in self.records.values())
        if trouble and session.exitstatus in (ok, failed):
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        if session.config.option.collectonly:
            return
        if session.exitstatus == ok and asks_for_claims(self.config) and not self._judged():
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        least = self.config.getoption("--harness-coverage-fail-under")
        covered = self.config.getoption("--harness-coverage") or least is not None
        if self.records and not stopped and (covered or self.config.getoption("--harness-html")):
            self._sweep(covered)
            if least is not None:
                self._require_coverage(session, least)
        if unreached := self.asked.unreached():
            self._note(f"no verdict on {len(unreached)} more, as the run was stopped", missing="verdicts")
        if self.records or self.spec_errors:
            self._write(session)

    def _note(self, text: str, missing: Literal["", "coverage", "map", "verdicts"] = "") -> None:
        self.notes.append(Note(text, missing))

    def _tell_what_was_lost(self, stopped: bool) -> None:
        """Add an error record for each claim that got no verdict because a worker died."""
        from harness.base.errors import HarnessError

        try:
            found = self.asked.lost(stopped=stopped)
        except HarnessError as error:  # somebody edited a spec during the run
            self.spec_errors += map(str, error.problems)
            return
        for record in found:
            self.records[record["key"]] = record
            self.notes += [Note(f"not judged: {problem}") for problem in record["problems"]]

    def _sweep(self, covered: bool) -> None:
        """Ablate each node of each model that claims look inside, for the page's maps and, if asked for, coverage."""
        from harness.base.errors import HarnessError
        from harness.judging.bench import Workbench
        from harness.judging.records import named_nodes
        from harness.judging.worth.coverage import COVERAGE_N, MAP_N, coverage_of, map_nodes

        bench = Workbench(self.config.getoption("--harness-device"), self.config.getoption("--harness-engine"))
        alone = named_nodes(self.records.values(), alone=True)
        for name, named in sorted(named_nodes(self.records.values()).items()):
            ref = FixtureRef(name, fixtures_directory(self.config))
            try:
                found = map_nodes(ref, bench, COVERAGE_N if covered else MAP_N)
            except HarnessError as error:
                for problem in error.problems:
                    what: Literal["coverage", "map"] = "coverage" if covered else "map"
                    self._note(f"no {what} of {name}: {problem}", missing=what)
                continue
            self.maps.append(found)
            if covered:
                self.coverage.append(coverage_of(found, named, alone[name]))

    def _require_coverage(self, session: pytest.Session, least: float) -> None:
        """Fail the run if coverage of any model is below `least` per cent, or if it could not be measured."""
        if any(note.missing == "coverage" for note in self.notes):
            session.exitstatus = max(session.exitstatus, pytest.ExitCode.INTERRUPTED)
            return
        if not self.coverage:
            self._note("no coverage: no claim that was judged looks inside of a model", missing="coverage")
        elif any(100 * found.share < least for found in self.coverage):
            self._note(f"coverage is under the {least:g} per cent asked for")
        else:
            return
        session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)

    def _judged(self) -> list[Record]:
        from harness.judging.records import judged

        return judged(self.records.values())

    def _write(self, session: pytest.Session) -> None:
        from harness.judging.records import ordered
        from harness.reporting.output import REPORT, Run

        given, here = self.config.getoption("--harness-report"), self.config.invocation_params.dir
        command = shlex.join(["pytest", *map(str, self.config.invocation_params.args)])
        missing = [note.text for note in self.notes if note.missing]
        run = Run(
            command, ordered(self.records.values()), self.spec_errors, self.coverage, self.maps, missing,
            self.asked.unreached(),
        )  # fmt: skip
        base = here / given if given else self.config.rootpath / "reports" / REPORT
        try:
            self.notes += map(Note, run.write(base, here, within=None if given else self.config.rootpath))
        except OSError as error:
            self._note(f"no report written: {base}: {error.strerror}; name a place with --harness-report PATH")
            if given:
                self._asked_for(session)
        if page := self.config.getoption("--harness-html"):
            try:
                self._note(run.write_page(here / page, here))
            except OSError as error:
                self._note(f"no page written: {here / page}: {error.strerror}; name a file with --harness-html PATH")
                self._asked_for(session)
        self.notes += map(Note, run.add_to_job_summary())

    @staticmethod
    def _asked_for(session: pytest.Session) -> None:
        """Set exit code 2, as a file that the user asked for could not be written."""
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = pytest.ExitCode.INTERRUPTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table of claims, the summary and the notes."""
        if not self.records and not (asks_for_claims(self.config) and not self.config.option.collectonly):
            return
        from harness.judging.records import ordered
        from harness.reporting.report import more_lines, terminal_table
        from harness.reporting.summary import setting_line, skipped_lines, summary_line

        records = ordered(self.records.values())
        terminalreporter.section("claims")
        if any(record["verdict"] != "skipped" for record in records):
            terminalreporter.write_line(terminal_table(records))
            terminalreporter.write_line("")
        for line in [*skipped_lines(records), summary_line(records), *more_lines(records, self.coverage, most=8)]:
            terminalreporter.write_line(line)
        if setting := setting_line(records):
            terminalreporter.write_line(setting)
        for note in self.notes:
            terminalreporter.write_line(note.text)
