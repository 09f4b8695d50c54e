"""A spec file as a pytest collector, a claim as a pytest item. Set-up measures and judges; the test compares."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import HarnessError, NotImportedError
from harness.plugin.requested import fixtures_directory
from harness.specs.fixtures.files import FixtureRef

if TYPE_CHECKING:
    from harness.judging.bench import Workbench
    from harness.judging.records import Record
    from harness.judging.verdict import Result
    from harness.specs.claim import Claim
    from harness.training.runs import Policy

_BENCH = pytest.StashKey["Workbench"]()
_GATHERED = pytest.StashKey[set[Path | None]]()  # the spec files whose claims are gathered; None: all files


class SpecFile(pytest.File):
    """One YAML file of claims."""

    problems: tuple[str, ...] = ()

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item for each hypothesis, and register its tags as markers."""
        from harness.specs.spec_files import load_file

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
        """Return a spec's problems, one per line, without a traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, HarnessError) else super().repr_failure(excinfo)


class ClaimItem(pytest.Item):
    """One claim. Set-up runs the experiment: trouble there is an error. The test compares: there a claim can fail."""

    def __init__(self, *, hypothesis: Claim, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hypothesis = hypothesis
        self.result: Result | None = None
        self.record: Record | None = None

    def setup(self) -> None:
        """Measure and judge the claim, and keep its record."""
        from harness.judging.evaluation import judge
        from harness.judging.records import error_record, record_of, skipped_record
        from harness.judging.worth.mutation_score import judge_mutants
        from harness.judging.worth.reseeding import judge_reseeded
        from harness.specs.fixtures.files import fixtures_of_same_shape

        if self.config.getoption("runxfail", default=False):
            self.hypothesis = dataclasses.replace(self.hypothesis, xfail=None)
        h, trouble, mutation, reseeds = self.hypothesis, None, None, None
        try:
            bench = _workbench(self)
            controls = self.config.getoption("--harness-controls")
            result = judge(h, bench, controls=controls, credit=_covered(self.config))
            if _mutated(self.config, h) and result.verdict == "supported":
                mutation = judge_mutants(result.hypothesis, bench, fixtures_of_same_shape(h.ref))
            if times := self.config.getoption("--harness-reseed"):
                reseeds = judge_reseeded(h, bench, times)
            self.result = result
        except HarnessError as error:
            trouble = error  # reported below: inside this clause, pytest would show it twice
        except Exception as error:  # such as out of memory: show the traceback, keep an error record
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
        if reseeds is not None:
            self.record["reseeds"] = reseeds.as_dict()
        self.user_properties.extend(_properties(self.record))

    def runtest(self) -> None:
        """Fail unless the claim's result is the one that its spec expects."""
        assert self.result is not None
        status, h = self.result.status, self.hypothesis
        if status == "xfailed":
            pytest.xfail(f"{self.result.verdict}: {h.xfail.reason if h.xfail else ''}")
        if status != "passed":
            raise ClaimFailed

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the table of a failed claim, the reason of an expected failure, or else pytest's text."""
        from harness.reporting.failure import failure_text

        if isinstance(excinfo.value, ClaimFailed) and self.record is not None:
            return failure_text(self.record)
        if isinstance(excinfo.value, pytest.xfail.Exception):
            return str(excinfo.value)  # pytest would take tenths of a second for a traceback that nobody sees
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the claim's file, line and heading.

        The heading starts with "claim": pytest garbles a heading with a dot if the node id ends with it.
        """
        return self.path, self.hypothesis.line - 1, f"claim {self.name}"


class ClaimFailed(Exception):  # noqa: N818 - pytest's own is called Failed too
    """A claim is refuted, inconclusive, or true by construction without saying so."""

    def __str__(self) -> str:
        return "the claim does not hold as its spec has it"


def _workbench(item: ClaimItem) -> Workbench:
    """Return the workbench that this process's claims share; gather the claims that may share runs with `item`."""
    config = item.config
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if _BENCH not in config.stash:
        import torch

        from harness.judging.bench import Workbench

        if workers:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        config.stash[_BENCH] = Workbench(
            config.getoption("--harness-device"), config.getoption("--harness-engine"),
            before_loading=partial(_train_if_asked, config),
        )  # fmt: skip
    from harness.judging.evaluation import gather
    from harness.judging.worth.mutation_score import gather_mutants
    from harness.judging.worth.reseeding import all_reseeded
    from harness.specs.fixtures.files import fixtures_of_same_shape

    # A worker runs whole files, and does not know which other files it will get. So it plans one file at a time.
    gathered, group = config.stash.setdefault(_GATHERED, set()), item.path if workers else None
    if group not in gathered:
        gathered.add(group)
        claims = [other for other in item.session.items if isinstance(other, ClaimItem)]
        shared = [claim.hypothesis for claim in claims if group in (None, claim.path)]
        controls = config.getoption("--harness-controls")
        gather(shared, config.stash[_BENCH], controls=controls, credit=_covered(config))
        times = config.getoption("--harness-reseed")
        gather([again for claim in shared for again in all_reseeded(claim, times)], config.stash[_BENCH])
        for claim in shared:
            if _mutated(config, claim):
                gather_mutants(claim, config.stash[_BENCH], fixtures_of_same_shape(claim.ref))
    return config.stash[_BENCH]


def _mutated(config: pytest.Config, claim: Claim) -> bool:
    """Return whether to judge a claim's mutants if it is supported; False if it has `xfail` or `by_construction`."""
    return bool(config.getoption("--harness-mutate")) and claim.xfail is None and not claim.by_construction


def _covered(config: pytest.Config) -> bool:
    """Return whether to find out which nodes get credit from each claim."""
    return bool(config.getoption("--harness-coverage")) or config.getoption("--harness-coverage-fail-under") is not None


def _train_if_asked(config: pytest.Config, ref: FixtureRef) -> None:
    """Train a fixture before it is loaded, if the policy wants it; show the progress even if pytest captures output."""
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    policy: Policy = config.getoption("--harness-train") or ("never" if in_ci else "missing")
    if policy == "never":
        return
    from harness.training.runs import ensure_trained

    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        ensure_trained(ref, policy, config.getoption("--harness-device"))


def _options(config: pytest.Config) -> list[str]:
    """Return the harness options of this run that are not defaults, for the command that reruns one claim."""
    given = [("--harness-device", "auto"), ("--harness-engine", "auto"), ("--harness-fixtures", None)]
    return [f"{name}={value}" for name, default in given if (value := config.getoption(name)) != default]


def _properties(record: Record) -> list[tuple[str, object]]:
    from harness.reporting.words import observed, subject

    measured = record["measurement"]
    suffix = "_wrong_of_asked" if record["verb"] == "ablate" else ""
    return [
        ("verdict", record["verdict"]),
        *((key, measured[key]) for key in ("n", "clean_accuracy", "loss") if key in measured),
        *(
            (f"{subject(row)}{suffix}", observed(row, record))
            for row in record["comparisons"]
            if subject(row) != "loss"
        ),
        ("weights_sha256", " ".join(record["weights"].values())),
        ("device", record["device"]),
        ("engine", record["engine"]),
    ]
