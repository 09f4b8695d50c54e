"""What a pytest run says at its end: it gathers the claims' records, writes the reports, and sets the exit code."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.files import SPEC_SUFFIXES

if TYPE_CHECKING:
    from harness.coverage import Coverage
    from harness.nodemap import NodeMap
    from harness.records import Record


def asks_for_claims(config: pytest.Config) -> bool:
    """Return whether this run's arguments include a spec file or a directory of specs."""
    below = roots(config)
    for argument in config.args:
        path = (config.invocation_params.dir / argument.split("::")[0]).resolve()
        if path.suffix in SPEC_SUFFIXES or any(path.is_relative_to(r) or r.is_relative_to(path) for r in below):
            return True
    return False


def roots(config: pytest.Config) -> list[Path]:
    """Return the directories whose YAML files are specs."""
    return [Path(root).resolve() for root in config.getini("harness_paths")]


def fixtures_directory(config: pytest.Config) -> Path:
    """Return where the fixtures are, shown relative to where pytest was started if it is below that."""
    given = config.getoption("--harness-fixtures")
    return _near(config, config.invocation_params.dir / given if given else config.rootpath / "fixtures")


def _near(config: pytest.Config, path: Path) -> Path:
    here = config.invocation_params.dir
    return path.relative_to(here) if path.is_relative_to(here) and Path.cwd() == here else path


class Reporting:
    """Gathers and writes, on the one process that reports: the only one, or xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: dict[str, Record] = {}
        self.spec_errors: list[str] = []
        self.foreign_errors = 0
        self.notes: list[str] = []
        self.coverage: list[Coverage] = []
        self.maps: list[NodeMap] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep a claim's record."""
        if record := getattr(report, "harness_record", None):
            self.records[record["key"]] = record

    def pytest_collectreport(self, report: Any) -> None:
        """Keep a spec's errors, and count the errors that are not ours."""
        problems = getattr(report, "harness_spec_errors", [])
        self.spec_errors += problems
        self.foreign_errors += bool(report.failed and not problems)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Let the good specs be judged where the only collection errors are those of bad specs."""
        if self.spec_errors and not self.foreign_errors:
            session.config.option.continue_on_collection_errors = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the reports; make trouble with specs and fixtures exit code 2, and nothing evaluated never green."""
        ok, failed = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
        stopped = session.exitstatus == pytest.ExitCode.INTERRUPTED  # whoever pressed Ctrl-C does not wait for a sweep
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
        if self.records or self.spec_errors:
            self._write(session)

    def _sweep(self, covered: bool) -> None:
        """Cut each node of each model that a claim looks inside of: for the page's maps and, if asked for, coverage."""
        from harness.coverage import COVERAGE_N, coverage_of
        from harness.errors import HarnessError
        from harness.nodemap import MAP_N, map_nodes
        from harness.records import named_nodes
        from harness.workbench import Workbench

        bench = Workbench(self.config.getoption("--harness-device"), self.config.getoption("--harness-engine"))
        for name, named in sorted(named_nodes(self.records.values()).items()):
            try:
                found = map_nodes(name, fixtures_directory(self.config), bench, COVERAGE_N if covered else MAP_N)
            except HarnessError as error:
                what = "coverage" if covered else "map"
                self.notes += [f"no {what} of {name}: {problem}" for problem in error.problems]
                continue
            self.maps.append(found)
            if covered:
                self.coverage.append(coverage_of(found, named))

    def _require_coverage(self, session: pytest.Session, least: float) -> None:
        """Fail where less than `least` per cent of a model is covered, and where nothing could be measured."""
        if any(note.startswith("no coverage") for note in self.notes):
            session.exitstatus = max(session.exitstatus, pytest.ExitCode.INTERRUPTED)
            return
        if not self.coverage:
            self.notes.append("no coverage: no claim that was judged looks inside of a model")
        elif any(100 * found.share < least for found in self.coverage):
            self.notes.append(f"coverage is under the {least:g} per cent asked for")
        else:
            return
        session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)

    def _judged(self) -> list[Record]:
        from harness.records import judged

        return judged(self.records.values())

    def _write(self, session: pytest.Session) -> None:
        from harness.files import refuse_outside, write_atomically
        from harness.records import ordered
        from harness.report import markdown, to_json

        given = self.config.getoption("--harness-report")
        base = self.config.invocation_params.dir / given if given else self.config.rootpath / "reports" / "hypotheses"
        records = ordered(self.records.values())
        command = shlex.join(["pytest", *map(str, self.config.invocation_params.args)])
        try:
            base = base / "hypotheses" if base.is_dir() else base
            base = base.with_suffix("") if base.suffix in (".md", ".json") else base
            for suffix in () if given else (".md", ".json"):
                refuse_outside(base.parent / (base.name + suffix), self.config.rootpath)
            base.parent.mkdir(parents=True, exist_ok=True)
            specs = Path(os.path.relpath(self.config.invocation_params.dir, base.parent)).as_posix()
            for suffix, content in (
                (".md", markdown(records, self.spec_errors, command, self.coverage, specs)),
                (".json", to_json(records, self.spec_errors, command, self.coverage)),
            ):
                path = base.parent / (base.name + suffix)
                write_atomically(path, content.encode())
                self.notes.append(f"wrote {os.path.relpath(path, self.config.invocation_params.dir)}")
        except OSError as error:
            self.notes.append(f"no report written: {base}: {error.strerror}; name a place with --harness-report PATH")
            if given and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                session.exitstatus = pytest.ExitCode.INTERRUPTED  # it was asked for
        if page := self.config.getoption("--harness-html"):
            self._write_page(session, self.config.invocation_params.dir / page, records, command)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(markdown(records, self.spec_errors, command, self.coverage))
            except OSError as error:
                self.notes.append(f"no job summary written: {summary}: {error.strerror}")

    def _write_page(self, session: pytest.Session, path: Path, records: list[Record], command: str) -> None:
        from harness.files import write_atomically
        from harness.page import render

        here = self.config.invocation_params.dir
        missing = [note for note in self.notes if note.startswith("no ")]
        text = render(
            records, self.maps, command=command, coverage=self.coverage, spec_errors=self.spec_errors, notes=missing,
            root=here,
        )  # fmt: skip
        try:
            path = path / "index.html" if path.is_dir() else path
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
            took = f"; its maps took {sum(found.seconds for found in self.maps):.1f} s" if self.maps else ""
            self.notes.append(f"wrote {os.path.relpath(path, here)}{took}")
        except OSError as error:
            self.notes.append(f"no page written: {path}: {error.strerror}; name a file with --harness-html PATH")
            if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                session.exitstatus = pytest.ExitCode.INTERRUPTED  # it was asked for

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table of claims."""
        if not self.records and not (asks_for_claims(self.config) and not self.config.option.collectonly):
            return
        from harness.records import ordered, setting_line, skipped_lines, summary_line
        from harness.report import more_lines, terminal_table

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
            terminalreporter.write_line(note)
