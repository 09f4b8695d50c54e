"""The hooks that pytest calls. Nothing heavy is imported before a claim is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import HarnessError
from harness.base.files import SPEC_SUFFIXES
from harness.base.own_code import allow_code
from harness.plugin.items import ClaimItem, SpecFile
from harness.plugin.options import pytest_addoption
from harness.plugin.reporting import RunReporter
from harness.plugin.requested import RequestedClaims, asks_for_claims, fixtures_directory, roots
from harness.specs.fixtures.files import FixtureRef

__all__ = ["pytest_addoption"]  # a hook; the package re-exports it from here
FIXTURES_SHOWN = 4  # in the header


def pytest_configure(config: pytest.Config) -> None:
    """Set the permission to run code, and register the reporting; an xdist worker chooses its GPU instead."""
    before = allow_code(bool(config.getini("harness_allow_code")))

    def restore() -> None:
        allow_code(before)

    config.add_cleanup(restore)
    workers = config.getoption("numprocesses", default=None) or config.getoption("tx", default=None)
    if config.getoption("--harness-train") == "always" and workers:
        raise pytest.UsageError("--harness-train always: expected one process, found -n; each worker would train")
    if not hasattr(config, "workerinput"):
        asked = RequestedClaims(config)
        config.pluginmanager.register(asked, "harness-asked")
        config.pluginmanager.register(RunReporter(config, asked), "harness-reporting")
    elif config.getoption("--harness-device") in ("auto", "cuda") and asks_for_claims(config):
        from harness.plugin.gpus import VISIBLE, gpu_of, visible_gpus

        gpu = gpu_of(config.workerinput["workerid"], visible_gpus(os.environ))
        os.environ |= {} if gpu is None else {VISIBLE: gpu}  # before torch is loaded: it reads this once


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return the header line with the device and the pinned fixtures; None if the run asks for no claims."""
    if not asks_for_claims(config):
        return None
    from harness import __version__
    from harness.specs.fixtures.files import PIN, list_fixtures
    from harness.specs.fixtures.pins import read_pin

    fixtures = fixtures_directory(config)
    shown, bare = [], 0
    for name in list_fixtures(fixtures):
        if not (fixtures / name / PIN).exists():
            bare += 1
            continue
        try:
            shown.append(f"{name} sha256 {read_pin(FixtureRef(name, fixtures)).weights_sha256[:12]}")
        except HarnessError:
            shown.append(f"{name} (no usable weights)")
    more = len(shown) - FIXTURES_SHOWN
    shown = [*shown[:FIXTURES_SHOWN], *([f"{more} more"] if more > 0 else [])]
    shown += [f"{bare} without weights"] if bare else []
    listed = ", ".join(shown) or f"none in {fixtures}"
    return f"harness: {__version__}, device {config.getoption('--harness-device')}, fixtures: {listed}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return a collector for a spec file; None for every other file."""
    if file_path.suffix not in SPEC_SUFFIXES:
        return None
    # Check the path as given and with links resolved: a link to a spec is a spec, so no claim is missed.
    places = (file_path, file_path.resolve())
    below = any(place.is_relative_to(root) for place in places for root in _as_called(parent.config))
    if below or parent.session.isinitpath(file_path):
        return SpecFile.from_parent(parent, path=file_path)
    return None


def _as_called(config: pytest.Config) -> list[Path]:
    return [*roots(config), *map(Path, config.getini("harness_paths"))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Attach a claim's record to its report, so that it reaches the process that writes the reports."""
    report = yield
    if isinstance(item, ClaimItem) and item.record is not None and report.when == ("call" if item.result else "setup"):
        report.harness_record = item.record
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Mark collection errors that come from a spec, so that the other specs can still be judged."""
    report = yield
    if isinstance(collector, SpecFile) and collector.problems:
        report.harness_spec_errors = collector.problems
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that ends the run even if a worker dies; by default, a spec's claims stay on one worker."""
    if not asks_for_claims(config):
        return None
    from harness.plugin.scheduling import SCHEDULERS

    scheduler = SCHEDULERS.get(config.getvalue("dist"))
    return scheduler and scheduler(config, log)
