"""Positions on an axis: where a rate, its interval and its expected bounds are drawn.

Rates use an arcsine axis. It gives more room to values near 0% and 100%, where most thresholds are. Other numbers, such
as losses, use a linear axis of their own. All positions are fractions of the axis length, 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.judging.records import Record
from harness.reporting.words import is_count

TICKS = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)  # of the axis of rates
STEPS = (0.0, 0.01, 0.05, 0.2, 0.5)  # of a colour scale: the class of a rate is the number of steps that it exceeds
_WHOLE: dict[str, tuple[float | None, float | None]] = {"some": (0.0, None), "none": (None, 0.0), "all": (1.0, None)}


@dataclass(frozen=True)
class Drawing:
    """Positions of one comparison's point, interval and allowed values, and the labels at the ends of its axis."""

    point: float
    interval: tuple[float, float] | None
    allowed: tuple[float, float] | None
    ends: tuple[str, str] | None  # labels of a linear axis; None for the axis of rates


def along(rate: float) -> float:
    """Return the position of a fraction on the axis of rates, 0 to 1."""
    return math.asin(math.sqrt(min(max(rate, 0.0), 1.0))) / (math.pi / 2)


def colour_class(rate: float) -> int:
    """Return the class of a failure rate on the colour scale: the number of :data:`STEPS` that it exceeds."""
    return sum(rate > step for step in STEPS)


def bounds(row: Record) -> tuple[float | None, float | None]:
    """Return the lower and the upper bound of what is drawn as allowed; None: no such bound."""
    return _WHOLE.get(row["expects"], (row["at_least"], row["at_most"]))


def is_rate(row: Record) -> bool:
    """Return whether a comparison is about a rate or a share, not about a loss or a difference."""
    return is_count(row) or row["kind"] == "mass"


def draw(row: Record) -> Drawing:
    """Return the positions of a comparison's numbers; an infinite interval end (None) is put at the axis's end."""
    value, (least, most) = row["value"], bounds(row)
    low, high = row["low"], row["high"]
    left, right, ends = 0.0, 1.0, None
    if not is_rate(row):
        known = [0.0, *(number for number in (value, low, high, least, most) if number is not None)]
        pad = 0.1 * (max(known) - min(known)) or 1.0
        left, right = min(known) - pad * (min(known) < 0), max(known) + pad
        ends = (f"{left:.2g}", f"{right:.2g}")

    def place(number: float) -> float:
        return along(number) if ends is None else (number - left) / (right - left)

    def span(start: float | None, end: float | None) -> tuple[float, float] | None:
        if start is None and end is None:
            return None
        return place(left if start is None else start), place(right if end is None else end)

    return Drawing(place(value), span(low, high), span(least, most), ends)
