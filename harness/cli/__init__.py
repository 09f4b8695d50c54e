"""The ``harness`` command. Thin: it reads arguments, calls other packages, prints, returns an exit code."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main", "options"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 fine, 1 a claim does not hold, 2 trouble (one line per problem)."""
    from harness.cli.command import main as run  # late: the plugin imports only `cli.options`

    return run(arguments)
