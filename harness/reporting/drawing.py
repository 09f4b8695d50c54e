"""Positions on an axis: where a rate, its interval and its expected bounds are drawn.

Rates use an arcsine axis. It gives more room to values near 0% and 100%, where most thresholds are. Other numbers, such
as losses, use a linear axis of their own. All positions are fractions of the axis length, 0 to 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.base.text import is_count

TICKS = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)  # of the axis of rates
STEPS = (0.0, 0.01, 0.05, 0.2, 0.5)  # of a colour scale: the class of a rate is the number of steps that it exceeds
_BOUND = re.compile(r"([<>≤≥]) (-?[\d.]+(?:e-?\d+)?)(%| points)?")
_WORDS: dict[str, tuple[float | None, float | None]] = {
    "fails": (0.0, None), "never fails": (None, 0.0), "never changes": (None, 0.0), "always follows": (1.0, None),
}  # fmt: skip


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


def bounds(expected: str) -> tuple[float | None, float | None]:
    """Return the lower and the upper bound of a comparison's expectation; None: no such bound.

    Both are None for an expectation that sets no bound, such as "may fail".
    """
    if expected in _WORDS:
        return _WORDS[expected]
    low, high = None, None
    for sign, number, unit in _BOUND.findall(expected):
        value = float(number) / (100 if unit else 1)
        low, high = (value, high) if sign in ">≥" else (low, value)
    return low, high


def is_rate(row: Mapping[str, Any]) -> bool:
    """Return whether a comparison is about a rate or a share, not about a loss or a difference."""
    return is_count(row["observed"]) or row["what"] == "mass"


def draw(row: Mapping[str, Any]) -> Drawing:
    """Return the positions of a comparison's numbers; an infinite interval end (None) is put at the axis's end."""
    value, (least, most) = row["value"], (None, None) if row["sibling"] else bounds(row["expected"])
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
