"""Which of xdist's workers judges which claims; imported only where xdist is."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadFileScheduling, LoadGroupScheduling, LoadScopeScheduling
from xdist.workermanage import WorkerController

from harness.files import SPEC_SUFFIXES


class Surviving(LoadScopeScheduling):  # type: ignore[misc]
    """Comes to an end whichever worker dies at whichever moment.

    xdist's own goes on to wait for a replacement that was given nothing, or a single test, which a worker does
    not begin before it is told of the next (pytest-xdist issues 1323 and 1327).
    """

    @property
    def collection_is_completed(self) -> bool:
        """Whether as many workers as were asked for have collected, of those that live."""
        return self.collection is not None or (
            len(self.assigned_work) >= self.numnodes and self.assigned_work.keys() <= self.registered_collections.keys()
        )

    def remove_node(self, node: WorkerController) -> str | None:
        """Return what a worker died of, if it did, and give the others what it had not begun.

        Not what it died of, which would kill them too; nor units that it had done with, as whoever is given
        nothing to do is never given anything else.
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
        """Give a worker more, up to two tests or all there are; one that still collects, once it has collected."""
        if node not in self.registered_collections:
            return
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)


class ByFile(Surviving):
    """Keeps the claims of one file on one worker, so that what they share (model, clean runs) is made once there."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.split("::", maxsplit=1)[0])
        return str(path) if path.suffix in SPEC_SUFFIXES else nodeid


class SurvivingByFile(Surviving, LoadFileScheduling):  # type: ignore[misc]
    """`--dist=loadfile`."""


class SurvivingByGroup(Surviving, LoadGroupScheduling):  # type: ignore[misc]
    """`--dist=loadgroup`."""


SCHEDULERS: dict[str, type[LoadScopeScheduling]] = {
    "load": ByFile, "loadscope": Surviving, "loadfile": SurvivingByFile, "loadgroup": SurvivingByGroup,
}  # fmt: skip
