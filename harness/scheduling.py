"""Which of xdist's workers judges which claims; imported only where xdist is."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from harness.files import SPEC_SUFFIXES


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the claims of one file on one worker, so that what they share (model, clean runs) is made once there."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.split("::", maxsplit=1)[0])
        return str(path) if path.suffix in SPEC_SUFFIXES else nodeid

    def remove_node(self, node: WorkerController) -> str | None:
        """Return what a worker died of, if it did, and give the others what it had not begun.

        Not what it died of, which would kill them too; nor files that it had done with, as whoever is given
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
