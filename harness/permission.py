"""May Python that a recipe names be run? Not unless the user said so: this module holds what was said. No torch.

pytest's ini key ``harness_allow_code`` says it, and so does ``--allow-code`` on the command line. It holds for one
process; whoever starts another, passes it on.
"""

from __future__ import annotations

from harness.errors import FixtureError, Problem

_granted = [False]


def allow_code(allowed: bool = True) -> bool:
    """Allow, or forbid, that code which a recipe names is run; return what held before."""
    before, _granted[0] = _granted[0], allowed
    return before


def require_permission(key: str, reference: str, where: object) -> None:
    """Refuse to go on where a recipe names code and nobody allowed it.

    Raises:
        FixtureError: saying what to set.
    """
    if not _granted[0]:
        fix = "it runs code: set harness_allow_code = true for pytest, or give --allow-code to harness"
        raise FixtureError(Problem("nothing that runs code", f"{key}: {reference}", fix, str(where)))
