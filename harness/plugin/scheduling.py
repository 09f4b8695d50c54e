"""Assigns claims to xdist workers. Imported only where xdist is installed."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadFileScheduling, LoadGroupScheduling, LoadScopeScheduling
from xdist.workermanage import WorkerController

from harness.base.files import SPEC_SUFFIXES


class Surviving(LoadScopeScheduling):  # type: ignore[misc]
    """A scheduler that ends the run whichever worker dies, at any moment.

    xdist's own schedulers can wait forever for a replacement worker that got no test, or only one: a worker does not
    start a test before it knows the next one (pytest-xdist issues 1323 and 1327).
    """

    @property
    def collection_is_completed(self) -> bool:
        """Whether all live workers have collected, and are as many as requested; stays True once tests are assigned."""
        return self.collection is not None or (
            len(self.assigned_work) >= self.numnodes and self.assigned_work.keys() <= self.registered_collections.keys()
        )

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that a worker died in, if any, and give its tests that have not started to the others.

        The test it died in is left out, as it would kill the others too. Finished units are left out, as a worker
        that gets an empty unit never gets another one.
        """
        begun = None
        for unit in self.assigned_work[node].values():
            begun = begun or next((nodeid for nodeid, done in unit.items() if not done), None)
            if begun in unit:
                unit[begun] = True
        left = {scope: unit for scope, unit in self.assigned_work[node].items() if not all(unit.values())}
        self.assigned_work[node] = left
        super().remove_node(node)
        return begun

    def _reschedule(self, node: WorkerController) -> None:
        """Assign work to a worker until it has two pending tests or no work is left; not while it still collects."""
        if node not in self.registered_collections:
            return
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)


class ByFile(Surviving):
    """Keeps the claims of one file on one worker, so that their shared model and clean runs are made only once."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.split("::", maxsplit=1)[0])
        return str(path) if path.suffix in SPEC_SUFFIXES else nodeid


class SurvivingByFile(Surviving, LoadFileScheduling):  # type: ignore[misc]
    """The scheduler of `--dist=loadfile`."""


class SurvivingByGroup(Surviving, LoadGroupScheduling):  # type: ignore[misc]
    """The scheduler of `--dist=loadgroup`."""


SCHEDULERS: dict[str, type[LoadScopeScheduling]] = {
    "load": ByFile, "loadscope": Surviving, "loadfile": SurvivingByFile, "loadgroup": SurvivingByGroup,
}  # fmt: skip
