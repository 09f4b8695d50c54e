"""Ranges of observed values, as people write them: ``[5%, 12%]``, ``5% to 12%``, ``2/9``, ``[1.4, 2.05]``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from harness.base.text import shorten

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_VALUE = rf"{_NUMBER}%?|[0-9]+/[1-9][0-9]*"
_TO = " to "
_ROUNDING = 1e-9  # 28.4% and 0.284 are the same


@dataclass(frozen=True)
class Range:
    """The values that are expected of one subject: a closed range, shares as fractions."""

    subject: str
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low - _ROUNDING <= value <= self.high + _ROUNDING


def ranges_of(observed: Mapping[str, object]) -> tuple[Range, ...]:
    """Return the ranges that the validated key `observed` gives."""
    return tuple(Range(subject, *ends) for subject, value in observed.items() if (ends := _ends(value)))


def beyond(due: Range, limits: tuple[float, float] | None) -> bool:
    """Return whether a range has no value in common with the possible ones; without limits any is possible."""
    return limits is not None and (due.low > limits[1] or due.high < limits[0])


def limits_of(subject: str) -> tuple[float, float] | None:
    """Return the least and the largest value that a subject can have; None for a loss or a mean, which have none."""
    last = subject.rpartition(" ")[2]
    return None if last in ("loss", "median", "mean", "kept") else (-1.0, 1.0) if last == "gain" else (0.0, 1.0)


def _ends(value: object) -> tuple[float, float] | None:
    """Return the ends of a range: ``[5%, 12%]``, ``5% to 12%``, or one value; None if it is none of these."""
    parts: Iterable[object] = (
        value if isinstance(value, list) else value.split(_TO) if isinstance(value, str) else [value]
    )
    found = [_number(part) for part in parts]
    if len(found) == 1 and not isinstance(value, list):
        found *= 2
    if len(found) != 2 or found[0] is None or found[1] is None:
        return None
    return found[0], found[1]


def _number(value: object) -> float | None:
    """Return a number, a percentage or a fraction, ``0.05``, ``5%`` or ``1/20``, as a float; None for another value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str) or not re.fullmatch(_VALUE, value) or len(value) > 40:
        return None
    return float(Fraction(value.removesuffix("%")) / (100 if value.endswith("%") else 1))


def _check(value: object) -> object:
    ends = _ends(value)
    expected = "a value, or a range like [5%, 12%]"
    if ends is None:
        parts = {"expected": expected, "found": shorten(value), "fix": "write numbers, percentages or fractions"}
        raise PydanticCustomError("harness", "{expected}", parts)
    if ends[0] > ends[1]:
        found = " and ".join(shorten(part) for part in (value if isinstance(value, list) else str(value).split(_TO)))
        parts = {"expected": "a range whose lower end comes first", "found": found, "fix": "swap them"}
        raise PydanticCustomError("harness", "{expected}", parts)
    return value


_ValueText = Annotated[str, Field(pattern=rf"^({_VALUE})( to ({_VALUE}))?$")]
_EndText = Annotated[str, Field(pattern=rf"^({_VALUE})$")]
_Ends = Annotated[list[float | _EndText], Field(min_length=2, max_length=2)]
ObservedRange = Annotated[float | _ValueText | _Ends, BeforeValidator(_check)]
