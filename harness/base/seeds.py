"""Seeds: a number of its own for each purpose, so that what one draw has shown is not shown again by another."""

from __future__ import annotations

import hashlib

MOST_SEED = 2**63 - 1


def seed_for(purpose: str, *numbers: int) -> int:
    """Return the seed of a draw for `purpose` that follows from `numbers`, on any machine: 0 to `MOST_SEED`.

    Two purposes have different seeds although their numbers agree, as the 0 of all that a spec does not give.
    """
    digest = hashlib.sha256(repr((purpose, *numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") & MOST_SEED
