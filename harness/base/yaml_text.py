"""Plain values → YAML on one line."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 _.+-]*")  # text that YAML reads back unchanged without quotes
_WORDS = {"yes", "no", "on", "off", "true", "false", "null"}  # exceptions: YAML reads these as other values


def flow(value: object, floats: str = "") -> str:
    """Return plain values as one line of YAML, quoted only where YAML needs it; `floats` is a format, like ``.4g``."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(part, floats)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(part, floats) for part in value) + "]"
    if isinstance(value, float) and floats:
        return format(value, floats)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS and value == value.strip():
        return value
    return json.dumps(value, ensure_ascii=False)
