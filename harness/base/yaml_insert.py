"""Puts keys into mappings of a YAML text, and leaves everything else, comments and layout too, as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from harness.base.yaml_text import flow
from harness.base.yamlfile import Loc

WIDTH = 120  # columns; a longer flow mapping goes on in a new line


@dataclass(frozen=True)
class Insertion:
    """Keys with their values, written as YAML, for the mapping at `loc`: before its other keys or after them."""

    loc: Loc
    entries: Mapping[str, str]
    first: bool = True  # a block mapping gets them before its other keys in any case


def insert_keys(text: str, insertions: Sequence[Insertion]) -> str:
    """Return the YAML `text` with the keys put in; it must be one document that has mappings at these places.

    Raises:
        KeyError: there is no mapping, or an empty one, at such a place.
    """
    root = YAML(typ="safe", pure=True).compose(text)
    places = sorted(((*_piece(_mapping_at(root, one.loc), one, text), one) for one in insertions), key=lambda p: -p[0])
    for at, piece, _ in places:
        text = text[:at] + piece + text[at:]
    return text


def _mapping_at(root: Any, loc: Loc) -> MappingNode:
    node: Any = root
    for part in loc:
        if isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            node = None
    if not isinstance(node, MappingNode) or not node.value:
        raise KeyError(loc)
    return node


def _piece(node: MappingNode, one: Insertion, text: str) -> tuple[int, str]:
    """Return where the keys go, as an offset into `text`, and the text that goes there."""
    written = [f"{flow(key)}: {value}" for key, value in one.entries.items()]
    first: Node = node.value[0][0]
    newline = "\r\n" if "\r\n" in text else "\n"
    if not node.flow_style:
        indent = " " * first.start_mark.column
        return first.start_mark.index, "".join(f"{line}{newline}{indent}" for line in written)
    inside = f"{newline}{' ' * (node.start_mark.column + 1)}"
    joined = ", ".join(written)
    if one.first:
        at = node.start_mark.index + 1
        return at, f"{joined},{' ' if _fits(text, at, joined) else inside}"
    at = node.value[-1][1].end_mark.index
    return at, f",{' ' if _fits(text, at, joined) else inside}{joined}"


def _fits(text: str, at: int, more: str) -> bool:
    """Return whether the line at an offset has room for `more`, with a comma and a space."""
    line = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0].rstrip("\r")
    return len(line) + len(more) + 2 <= WIDTH
