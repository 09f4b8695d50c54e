"""Which claims a pytest run is asked to judge, and which got no verdict: a worker died, or the run was stopped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.base.files import SPEC_SUFFIXES

if TYPE_CHECKING:
    from harness.judging.records import Record


def asks_for_claims(config: pytest.Config) -> bool:
    """Return whether this run's arguments include a spec file or a directory of specs."""
    below = roots(config)
    return any(
        path.suffix in SPEC_SUFFIXES or any(path.is_relative_to(r) or r.is_relative_to(path) for r in below)
        for path in _named(config)
    )


def _named(config: pytest.Config) -> list[Path]:
    """Return the paths that this run's arguments name."""
    return [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]


def roots(config: pytest.Config) -> list[Path]:
    """Return the directories whose YAML files are specs."""
    return [Path(root).resolve() for root in config.getini("harness_paths")]


def fixtures_directory(config: pytest.Config) -> Path:
    """Return the fixtures directory, as a path relative to where pytest was started if it lies below that."""
    given = config.getoption("--harness-fixtures")
    return _near(config, config.invocation_params.dir / given if given else config.rootpath / "fixtures")


def _near(config: pytest.Config, path: Path) -> Path:
    here = config.invocation_params.dir
    return path.relative_to(here) if path.is_relative_to(here) and Path.cwd() == here else path


class RequestedClaims:
    """The claims that were collected, and those that were reached. Lives in the reporting process."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.claims: dict[str, None] = {}  # an ordered set
        self.reached: set[str] = set()  # claims with a record, or stopped in set-up by the project's hooks
        self.worker_died = False
        self._killers: set[str] = set()  # the tests that workers were running when they died

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the claims to be judged."""
        self._ask(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Keep the claims to be judged; each worker collects all of them."""
        self._ask(ids)

    def _ask(self, nodeids: Iterable[str]) -> None:
        below, named = roots(self.config), _named(self.config)
        for nodeid in nodeids:
            path = self._path(nodeid).resolve()
            if path.suffix in SPEC_SUFFIXES and (path in named or any(map(path.is_relative_to, below))):
                self.claims[nodeid] = None

    def _path(self, nodeid: str) -> Path:
        return self.config.rootpath / nodeid.partition("::")[0]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Keep the test that a worker was running when it died."""
        self._killers.add(crashitem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object | None) -> None:
        """Note that a worker died."""
        self.worker_died |= error is not None

    def unreached(self) -> list[str]:
        """Return the claims that were not reached."""
        return [nodeid for nodeid in self.claims if nodeid not in self.reached]

    def lost(self, *, stopped: bool) -> list[Record]:
        """Return an error record for each claim that was not reached because a worker died; mark it as reached.

        If the run was stopped, only claims that a worker was judging when it died count: without the stop, another
        worker might have judged the rest.

        Raises:
            SpecError: a spec has become unreadable since collection.
        """
        from harness.base.errors import MeasurementError
        from harness.judging.records import error_record
        from harness.specs.spec_files import load_file

        here, fixtures = self.config.invocation_params.dir, fixtures_directory(self.config)
        lost: dict[Path, dict[str, str]] = {}
        for nodeid in self.unreached():
            died = nodeid in self._killers
            if stopped and not died:
                continue
            found = "a worker that died while it judged this" if died else "none, as a worker died"
            lost.setdefault(self._path(nodeid), {})[nodeid.partition("::")[2]] = found
            self.reached.add(nodeid)
        fix = "look at its memory, and run the claim without -n"
        return [
            error_record(claim, MeasurementError.of("a verdict", claims[claim.id], fix, claim.key))
            for path, claims in lost.items()
            for claim in load_file(path, fixtures, os.path.relpath(path, here))
            if claim.id in claims
        ]
