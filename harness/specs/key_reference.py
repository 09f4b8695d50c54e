"""Writes ``docs/spec-reference.md``, the reference of spec keys, from their pydantic models. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.specs.keys import ClaimModel
from harness.specs.schema import FileModel, file_schema
from harness.specs.verbs.registry import VERBS, parser_of

Schema = Mapping[str, Any]
MOST = 2**53  # a larger bound is a technical limit and is not shown
HEAD = """\
# Every key of a spec

*Made by `make schema` (`harness schema --markdown`) from the models that read specs; do not edit.*

**Bold** keys must be there. The file holds the claims; each has one verb. What nodes, question sets and variables are
called is in the [glossary](glossary.md), how a verdict comes about in [verdicts](verdicts.md).
"""


def spec_reference() -> str:
    """Return the reference as Markdown: keys of the file, keys of every claim, keys of each verb, nested parts."""
    schema = file_schema()
    parts: dict[str, Schema] = schema["$defs"]
    shared = {name: parts["HypothesisTemplate"]["properties"][name] for name in (*ClaimModel.model_fields, "each")}
    needed = [name for name, field in ClaimModel.model_fields.items() if field.is_required()]
    sections = [HEAD, _section("The file", schema["properties"], schema["required"], FileModel.__doc__)]
    sections += [_section("Every claim", shared, needed, ClaimModel.__doc__)]
    for verb in VERBS:
        model = parser_of(verb).model
        part = parts[model.__name__.replace("Model", "Template")]
        own = {name: entry for name, entry in part["properties"].items() if name not in shared}
        sections.append(_section(f"`{verb}`", own, part["required"], model.__doc__))
    # Nested parts, in the order in which the schema refers to them.
    inside = [name for name in _references(schema) if not name.endswith("Template")]
    for name in dict.fromkeys(inside):
        part = parts[name]
        sections.append(_section(_title(name), part["properties"], part.get("required", []), part["description"]))
    return "\n".join(sections)


def _section(title: str, properties: Schema, required: list[str], says: str | None) -> str:
    rows = [
        f"| {f'**`{name}`**' if name in required else f'`{name}`'} | {_cell(kind_of(entry))} | {_default(entry)} "
        f"| {_cell(entry.get('description', ''))} |"
        for name, entry in properties.items()
    ]
    text = " ".join((says or "").split())
    table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {title}", "", text, "", *table, ""])


def kind_of(entry: Schema) -> str:
    """Return in words which values a schema entry allows."""
    if "$ref" in entry:
        return _link(entry["$ref"].rpartition("/")[2])
    if "examples" in entry:
        return " or ".join(f"`{name}`" for name in entry["examples"]) + " (or the names that a task of one's own has)"
    if "const" in entry or "enum" in entry:
        return " or ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    for union in ("anyOf", "oneOf"):
        if union in entry:
            kinds = [kind_of(part) for part in entry[union] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if entry.get("type") == "array":
        return f"list of {kind_of(entry['items'])}"
    return _mapping(entry) if entry.get("type") == "object" else _scalar(entry)


def _mapping(entry: Schema) -> str:
    values = [entry.get("additionalProperties"), *entry.get("patternProperties", {}).values()]
    kinds = [kind_of(value) for value in values if isinstance(value, dict)]
    return f"keys, each with {kinds[0]}" if kinds else "keys"


def _scalar(entry: Schema) -> str:
    words = {"boolean": "`true` or `false`", "integer": "whole number", "number": "number"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {entry[key]:g}" for key, sign in signs.items() if entry.get(key, MOST) < MOST]
    return " ".join([words.get(entry.get("type", ""), "text"), ", ".join(bounds)]).strip()


def _default(entry: Schema) -> str:
    default = entry.get("default")
    if default in (None, [], {}, ""):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _title(name: str) -> str:
    return f"The part {name.removesuffix('Model')}"


def _link(name: str) -> str:
    for verb in VERBS:
        if name == parser_of(verb).model.__name__.replace("Model", "Template"):
            return f"[`{verb}`](#{verb.replace(' ', '-')})"
    return f"[{name.removesuffix('Model')}](#{_title(name).lower().replace(' ', '-')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _references(schema: Schema) -> Iterator[str]:
    """Yield the names of the models that a schema refers to, directly or through others, in order of first mention."""
    parts, seen = schema["$defs"], set()

    def walk(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                seen.add(name)
                yield name
                yield from walk(parts[name])
            for part in value.values():
                yield from walk(part)
        elif isinstance(value, list):
            for part in value:
                yield from walk(part)

    yield from walk(schema["properties"])
