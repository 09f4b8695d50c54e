"""Column names of learning curves: the losses of each answer digit and each sub-task. Imports no torch."""

from __future__ import annotations

from harness.tasks.positions import Positions

TASKS = ("BA", "UC1", "US9")


def series_names(layout: Positions) -> tuple[str, ...]:
    """Return the names of the sub-task series; each also has a ``.cases`` column."""
    if not layout.columns:
        return ()
    return ("BA.all", "UC1.any", "US9.any", *(f"{task}.{column}" for task in TASKS for column in layout.columns))


def column_names(layout: Positions) -> tuple[str, ...]:
    """Return the names of all columns after ``step``."""
    series = series_names(layout)
    return ("loss", "right", *layout.answer_digits, *series, *(f"{name}.cases" for name in series))


def loss_names(layout: Positions) -> tuple[str, ...]:
    """Return the names of the columns that hold losses."""
    return ("loss", *layout.answer_digits, *series_names(layout))
