"""``each``: one claim written once, with ``{name}`` filled in from each row of a table. Imports no torch."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.errors import shorten
from harness.yamlfile import Document, Loc

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_ROWS = TypeAdapter(list[dict[str, str | int | float | bool]], config=ConfigDict(strict=True))


def expand(document: Document, loc: Loc, claim: Any) -> list[tuple[Loc, Any]]:
    """Return `claim` once for each row of its ``each``; a text that is only ``{name}`` becomes the value itself.

    Problems with the rows are noted in `document`, and no claim is returned for them.
    """
    if not isinstance(claim, dict) or "each" not in claim:
        return [(loc, claim)]
    rows, template = claim["each"], {key: value for key, value in claim.items() if key != "each"}
    at = (*loc, "each")
    try:
        _ROWS.validate_python(rows)
    except ValidationError:
        document.report(at, "a list of rows like {step: S12, digit: A4}", shorten(rows), "write one mapping per claim")
        return []
    if not rows:
        document.report(at, "at least one row", "an empty list", "add a row or remove `each`")
        return []
    used = _names_in(template)
    if unnamed := [name for name in used if not name]:
        document.report(loc, "a name in braces, like {step}", f"{len(unnamed)} times {{}}", "name a column of `each`")
        return []
    good = True
    for i, row in enumerate(rows):
        missing, extra = sorted(used - row.keys()), sorted(row.keys() - used)
        if missing:
            document.report(
                (*at, i), f"a value for {{{missing[0]}}}", shorten(row), f"add `{missing[0]}: …` to the row"
            )
        if extra:
            document.report((*at, i), "only values that the claim uses", extra[0], f"remove it, or use {{{extra[0]}}}")
        good = good and not missing and not extra
    if not good:
        return []
    return [(loc, _fill(template, row)) for row in rows]


def _names_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return set[str]().union(*(_names_in(part) for part in parts))


def _fill(value: Any, row: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_fill_key(key, row): _fill(part, row) for key, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, row) for part in value]
    if not isinstance(value, str):
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return row[whole[1]]
    return _fill_key(value, row)


def _fill_key(text: str, row: dict[str, Any]) -> str:
    return _PLACEHOLDER.sub(lambda match: str(row[match[1]]), text)
