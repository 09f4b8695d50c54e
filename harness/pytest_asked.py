"""What a pytest run was asked to judge, and what of it got no verdict: a worker died, or the run was stopped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.files import SPEC_SUFFIXES

if TYPE_CHECKING:
    from harness.records import Record


def asks_for_claims(config: pytest.Config) -> bool:
    """Return whether this run's arguments include a spec file or a directory of specs."""
    below = roots(config)
    return any(
        path.suffix in SPEC_SUFFIXES or any(path.is_relative_to(r) or r.is_relative_to(path) for r in below)
        for path in _named(config)
    )


def _named(config: pytest.Config) -> list[Path]:
    """Return what this run's arguments name."""
    return [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]


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


class Asked:
    """The claims that were collected, and which of them were reached; in the process that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.claims: dict[str, None] = {}  # in order
        self.reached: set[str] = set()  # those with a record, or that the project itself keeps from having one
        self.worker_died = False
        self._killers: set[str] = set()  # what a worker was at when it died

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what there is to be judged."""
        self._ask(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Keep what there is to be judged; each worker collects all."""
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
        """Keep what a worker died of."""
        self._killers.add(crashitem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object | None) -> None:
        """Keep that a worker died."""
        self.worker_died |= error is not None

    def unreached(self) -> list[str]:
        """Return the claims that were not reached."""
        return [nodeid for nodeid in self.claims if nodeid not in self.reached]

    def lost(self, *, stopped: bool) -> list[Record]:
        """Return an error for each claim that was not reached because workers died; from now on it is.

        In a run that was stopped, those are the ones that they died of: somebody might have judged the others.

        Raises:
            SpecError: a spec has become unreadable since.
        """
        from harness.errors import MeasurementError
        from harness.records import error_record
        from harness.spec import load_file

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
