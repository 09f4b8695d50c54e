"""``each``: one claim written once, with ``{name}`` filled in from each row of a table. Imports no torch."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.base.text import shorten
from harness.base.yamlfile import Document, Loc

MAX_ROWS = 200
_FILLED = (
    "id", "ablate", "keep", "patch", "answer", "attend", "learn", "fixtures", "than", "questions", "pairs", "reference",
    "expect", "tags",
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
# (expected, fix) for a wrong table, a wrong row, and a wrong value.
_SHAPES = (
    ("a list of rows like {step: S12, digit: A4}", "write one mapping per claim"),
    ("a row like {step: S12, digit: A4}", "write one mapping per claim"),
    ("a text, a number, true or false", "write a row for each value"),
)
_ROWS = TypeAdapter(list[dict[str, str | int | float | bool]], config=ConfigDict(strict=True))


def expand(document: Document, loc: Loc, claim: Any) -> list[tuple[Loc, Any]]:
    """Return one copy of `claim` per row of its ``each``, with ``{name}`` replaced by the row's value.

    A text that is only ``{name}`` becomes the value itself, with its type. If a row is wrong, the problem is reported
    to `document` and no claim is returned.
    """
    if not isinstance(claim, dict):
        return [(loc, claim)]
    template = {key: value for key, value in claim.items() if key != "each"}
    used = _names_in(template)
    if "each" in claim:
        rows = _rows(document, loc, claim["each"], used)
        return [(loc, _fill(template, row)) for row in rows]
    used = _names_in([template.get(key) for key in _FILLED])  # in other keys, braces may be ordinary text
    if used:
        name = f"`each`, whose rows fill in {{{min(used)}}}"
        document.report(loc, name, "no such key", "add it, or drop the braces")
        return []
    return [(loc, claim)]


def _rows(document: Document, loc: Loc, rows: Any, used: set[str]) -> list[dict[str, Any]]:
    """Return the rows of an ``each``, or no rows after reporting why one does not fit the claim."""
    at = (*loc, "each")
    before = len(document.problems)
    try:
        _ROWS.validate_python(rows)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        expected, fix = _SHAPES[min(len(first["loc"]), 2)]
        document.report((*at, *first["loc"]), expected, shorten(first["input"]), fix)
        return []
    if not 0 < len(rows) <= MAX_ROWS:
        document.report(at, f"1 to {MAX_ROWS} rows", str(len(rows)), "add a row, or split the claim")
    if "" in used:
        document.report(loc, "a name in braces, like {step}", "{}", "name a column of `each`")
    for i, row in enumerate(rows):
        if missing := sorted(used - row.keys() - {""}):
            has = ", ".join(map(shorten, row)) or "none"
            document.report((*at, i), f"a value for {{{missing[0]}}}", has, f"add `{missing[0]}: …` to the row")
        if extra := sorted(row.keys() - used):
            found = shorten(extra[0])
            document.report((*at, i), "only values that the claim uses", found, "remove it, or use it in braces")
    return rows if len(document.problems) == before else []


def _names_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(value, dict) and isinstance(told := value.get("observed"), dict) and len(told) == 1:
        parts = [*parts, *told]
    return set[str]().union(*(_names_in(part) for part in parts))


def _fill(value: Any, row: dict[str, Any]) -> Any:
    if isinstance(value, dict):  # keys are not filled in, as two could become the same; but for those of one subject
        filled = {key: _fill(part, row) for key, part in value.items()}
        if isinstance(told := value.get("observed"), dict) and len(told) == 1:
            filled["observed"] = {str(_fill(key, row)): _fill(part, row) for key, part in told.items()}
        return filled
    if isinstance(value, list):
        return [_fill(part, row) for part in value]
    if not isinstance(value, str):
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return row[whole[1]]
    return _PLACEHOLDER.sub(lambda match: _written(row[match[1]]), value)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
