"""Every claim a pytest item. A thin shell: it collects, asks ``evaluate.judge``, and shows ``report``'s texts.

Only the modules ``pytest_*.py`` import pytest. Nothing heavy is imported before a claim is judged, and nothing is
collected but YAML below the ini key ``harness_paths`` or named on the command line.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, NotImportedError
from harness.files import SPEC_SUFFIXES
from harness.permission import allow_code
from harness.pytest_asked import Asked, asks_for_claims, fixtures_directory, roots
from harness.pytest_options import pytest_addoption
from harness.pytest_reporting import Reporting

if TYPE_CHECKING:
    from harness.evaluate import Result
    from harness.hypothesis import Claim
    from harness.making import Policy
    from harness.records import Record
    from harness.workbench import Workbench


__all__ = ["pytest_addoption"]  # a hook, which pytest finds here
FIXTURES_SHOWN = 4  # in the header
_BENCH = pytest.StashKey["Workbench"]()
_PLANNED = pytest.StashKey[set[Path | None]]()  # the spec files whose claims the bench knows of; None: all


def pytest_configure(config: pytest.Config) -> None:
    """Allow code or forbid it; report from here, unless this is one of xdist's workers: these share the GPUs out."""
    before = allow_code(bool(config.getini("harness_allow_code")))

    def restore() -> None:
        allow_code(before)

    config.add_cleanup(restore)
    workers = config.getoption("numprocesses", default=None) or config.getoption("tx", default=None)
    if config.getoption("--harness-train") == "always" and workers:
        raise pytest.UsageError("--harness-train always: expected one process, found -n; each worker would train")
    if not hasattr(config, "workerinput"):
        asked = Asked(config)
        config.pluginmanager.register(asked, "harness-asked")
        config.pluginmanager.register(Reporting(config, asked), "harness-reporting")
    elif config.getoption("--harness-device") in ("auto", "cuda") and asks_for_claims(config):
        from harness.gpus import VISIBLE, gpu_of, visible_gpus

        gpu = gpu_of(config.workerinput["workerid"], visible_gpus(os.environ))
        os.environ |= {} if gpu is None else {VISIBLE: gpu}  # before torch, which asks once, is loaded


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return the line with the device and the pinned fixtures."""
    if not asks_for_claims(config):
        return None
    from harness import __version__
    from harness.pins import read_pin
    from harness.places import PIN, list_fixtures

    fixtures = fixtures_directory(config)
    shown, bare = [], 0
    for name in list_fixtures(fixtures):
        if not (fixtures / name / PIN).exists():
            bare += 1
            continue
        try:
            shown.append(f"{name} sha256 {read_pin(name, fixtures).weights_sha256[:12]}")
        except HarnessError:
            shown.append(f"{name} (no usable weights)")
    more = len(shown) - FIXTURES_SHOWN
    shown = [*shown[:FIXTURES_SHOWN], *([f"{more} more"] if more > 0 else [])]
    shown += [f"{bare} without weights"] if bare else []
    listed = ", ".join(shown) or f"none in {fixtures}"
    return f"harness: {__version__}, device {config.getoption('--harness-device')}, fixtures: {listed}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect specs, and leave every other YAML file alone."""
    if file_path.suffix not in SPEC_SUFFIXES:
        return None
    # Where it is called, or where it leads: a link to a spec is one too, and no claim is left out unnoticed.
    places = (file_path, file_path.resolve())
    below = any(place.is_relative_to(root) for place in places for root in _as_called(parent.config))
    if below or parent.session.isinitpath(file_path):
        return SpecFile.from_parent(parent, path=file_path)
    return None


def _as_called(config: pytest.Config) -> list[Path]:
    return [*roots(config), *map(Path, config.getini("harness_paths"))]


class SpecFile(pytest.File):
    """One YAML file of claims."""

    problems: tuple[str, ...] = ()

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item for each hypothesis, its tags registered as markers."""
        from harness.spec import load_file

        shown = os.path.relpath(self.path, self.config.invocation_params.dir)
        try:
            hypotheses = load_file(self.path, fixtures_directory(self.config), shown)
        except HarnessError as error:
            self.problems = tuple(map(str, error.problems))
            raise
        for hypothesis in hypotheses:
            for tag in hypothesis.tags:
                self.config.addinivalue_line("markers", f"{tag}: a tag of a hypothesis")
            item = ClaimItem.from_parent(self, name=hypothesis.id, hypothesis=hypothesis)
            for tag in hypothesis.tags:
                item.add_marker(tag)
            yield item

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return a spec's problems, a line each, without a traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, HarnessError) else super().repr_failure(excinfo)


class ClaimItem(pytest.Item):
    """One claim. Set-up does the experiment, so trouble there is an error; the test compares, so a claim fails."""

    def __init__(self, *, hypothesis: Claim, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hypothesis = hypothesis
        self.result: Result | None = None
        self.record: Record | None = None

    def setup(self) -> None:
        """Measure and judge."""
        from harness.evaluate import judge
        from harness.mutants import judge_mutants
        from harness.places import alike
        from harness.records import error_record, record_of, skipped_record

        if self.config.getoption("runxfail", default=False):
            self.hypothesis = dataclasses.replace(self.hypothesis, xfail=None)
        h, trouble, mutation = self.hypothesis, None, None
        try:
            bench = _workbench(self)
            result = judge(h, bench, controls=self.config.getoption("--harness-controls"))
            if _mutated(self.config, h) and result.verdict == "supported":
                mutation = judge_mutants(result.hypothesis, bench, alike(h.fixture, h.fixtures))
            self.result = result
        except HarnessError as error:
            trouble = error  # told below, outside of this clause, or pytest would show it twice
        except Exception as error:  # out of memory, say: a traceback is due, and the claim is not forgotten
            self.record = error_record(self.hypothesis, error)
            raise
        if isinstance(trouble, NotImportedError):
            self.record = skipped_record(self.hypothesis, trouble)
            raise pytest.skip.Exception(str(trouble), _use_item_location=True)
        if trouble is not None or self.result is None:
            assert trouble is not None
            self.record = error_record(self.hypothesis, trouble)
            pytest.fail(str(trouble), pytrace=False)  # during set-up, pytest calls this an error
        self.record = {**record_of(self.result), "options": _options(self.config)}
        if mutation is not None:
            self.record["mutants"] = mutation.as_dict()
        self.user_properties.extend(_properties(self.record))

    def runtest(self) -> None:
        """Fail unless the claim came out as its spec has it."""
        assert self.result is not None
        status, h = self.result.status, self.hypothesis
        if status == "xfailed":
            pytest.xfail(f"{self.result.verdict}: {h.xfail}")
        if status != "passed":
            raise ClaimFailed

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the table of a failed claim, or an error's lines; never a traceback of ours."""
        from harness.failure import failure_text

        if isinstance(excinfo.value, ClaimFailed) and self.record is not None:
            return failure_text(self.record)
        if isinstance(excinfo.value, pytest.xfail.Exception):
            return str(excinfo.value)  # pytest would make a traceback, which nobody sees, for tenths of a second
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the claim is written; pytest garbles a heading that its id ends with, if that has a dot."""
        return self.path, self.hypothesis.line - 1, f"claim {self.name}"


class ClaimFailed(Exception):  # noqa: N818 - pytest's own is called Failed too
    """A claim is refuted, inconclusive, or true by construction without saying so."""

    def __str__(self) -> str:
        return "the claim does not hold as its spec has it"


def _workbench(item: ClaimItem) -> Workbench:
    """Return the bench that this process's claims share, which knows of all that `item` can share something with."""
    config = item.config
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if _BENCH not in config.stash:
        import torch

        from harness.workbench import Workbench

        if workers:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        config.stash[_BENCH] = Workbench(
            config.getoption("--harness-device"), config.getoption("--harness-engine"),
            before_loading=partial(_train_if_asked, config),
        )  # fmt: skip
    from harness.evaluate import plan
    from harness.mutants import plan_mutants
    from harness.places import alike

    # A worker runs whole files, and does not know which others will be its own.
    planned, group = config.stash.setdefault(_PLANNED, set()), item.path if workers else None
    if group not in planned:
        planned.add(group)
        claims = [other for other in item.session.items if isinstance(other, ClaimItem)]
        shared = [claim.hypothesis for claim in claims if group in (None, claim.path)]
        plan(shared, config.stash[_BENCH], controls=config.getoption("--harness-controls"))
        for claim in shared:
            if _mutated(config, claim):
                plan_mutants(claim, config.stash[_BENCH], alike(claim.fixture, claim.fixtures))
    return config.stash[_BENCH]


def _mutated(config: pytest.Config, claim: Claim) -> bool:
    """Return whether the mutants of a claim are judged, should it be supported: not those known not to be."""
    return bool(config.getoption("--harness-mutate")) and claim.xfail is None and not claim.by_construction


def _train_if_asked(config: pytest.Config, name: str, fixtures: Path) -> None:
    """Train a fixture before it is loaded, with its progress where the user sees it, also under capture."""
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    policy: Policy = config.getoption("--harness-train") or ("never" if in_ci else "missing")
    if policy == "never":
        return
    from harness.making import ensure_trained

    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        ensure_trained(name, fixtures, policy, config.getoption("--harness-device"))


def _options(config: pytest.Config) -> list[str]:
    """Return the harness's options of this run, for the command that runs one claim again."""
    given = [("--harness-device", "auto"), ("--harness-engine", "auto"), ("--harness-fixtures", None)]
    return [f"{name}={value}" for name, default in given if (value := config.getoption(name)) != default]


def _properties(record: Record) -> list[tuple[str, object]]:
    measured = record["measurement"]
    suffix = "_wrong_of_asked" if record["verb"] == "ablate" else ""
    return [
        ("verdict", record["verdict"]),
        *((key, measured[key]) for key in ("n", "clean_accuracy", "loss") if key in measured),
        *((f"{row['what']}{suffix}", row["observed"]) for row in record["comparisons"] if row["what"] != "loss"),
        ("weights_sha256", " ".join(record["weights"].values())),
        ("device", record["device"]),
        ("engine", record["engine"]),
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Send a claim's record along with its report, so that it reaches the process that writes."""
    report = yield
    if isinstance(item, ClaimItem) and item.record is not None and report.when == ("call" if item.result else "setup"):
        report.harness_record = item.record
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Mark the collection errors that are a spec's: they do not keep the other specs from being judged."""
    report = yield
    if isinstance(collector, SpecFile) and collector.problems:
        report.harness_spec_errors = collector.problems
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the claims of one file on one worker, and come to an end though a worker dies."""
    if not asks_for_claims(config):
        return None
    from harness.scheduling import SCHEDULERS

    scheduler = SCHEDULERS.get(config.getvalue("dist"))
    return scheduler and scheduler(config, log)
