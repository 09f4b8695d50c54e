"""Reads YAML text as plain values, each with its line and column. Imports no torch.

Strict on purpose: a spec is data. Anchors, aliases, tags, directives, several documents, keys that are
not text, duplicate keys, deep nesting and large files are refused, all at once where the syntax allows.
It uses ruamel.yaml's event stream, which resolves no tags and constructs no objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)  # fmt: skip
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.reader import ReaderError

from harness.base.errors import HarnessError, Problem, SpecError
from harness.base.text import shorten

MAX_BYTES = 64 * 1024  # 800 lines or so; ruamel.yaml reads about 100 KiB/s, and a bad spec is refused at once
MAX_DEPTH = 16
MAX_PROBLEMS = 100
MAX_INT = 100  # characters; Python stops at 4,300 digits
# Message of ruamel.yaml → what was found, and what to do.
_NOT_CLOSED = "found unexpected end of stream"
_SAID = {
    _NOT_CLOSED: ("a quote that is not closed", "close it"),
    "mapping values are not allowed here": ("a colon where no key can be", "quote the text, or check the indentation"),
    "found character '\\t' that cannot start any token": ("a tab", "write spaces"),
}
_TOKEN = re.compile("'?<([a-z ]+)>'?")
_TOKENS = {
    "stream end": "the end of the file", "document start": "---", "document end": "...", "scalar": "text",
    "block end": "the end of what is indented so", "block mapping start": "an indented mapping",
    "block sequence start": "an indented list", "alias": "an alias", "anchor": "an anchor", "tag": "a tag",
}  # fmt: skip
Loc = tuple[str | int, ...]


@dataclass
class Document:
    """The values of one YAML file, with the positions of values and keys (lines and columns from 1)."""

    path: str
    data: Any = None
    places: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[Loc] = field(default_factory=set)  # places refused as YAML; no later check reports them again

    def known(self, loc: Loc) -> Loc:
        """Return `loc` without the parts that are not in the file: the nearest place that is in it."""
        known: Loc = ()
        for part in loc:
            if (*known, part) in self.places:
                known = (*known, part)
        return known

    def place(self, loc: Loc) -> tuple[int, int]:
        """Return the position of the value at `loc`, or of the nearest value around it."""
        return self.places.get(self.known(loc), (1, 1))

    def problem(self, loc: Loc, error: HarnessError) -> None:
        """Note the problems of an `error` without a position, as problems of the value at `loc`."""
        for p in error.problems:
            self.report(loc, p.expected, p.found, p.fix)

    def report(self, loc: Loc, expected: str, found: str, fix: str, *, at_key: bool = False) -> None:
        """Note a problem with the value at `loc`, or with its key."""
        known = self.known(loc)
        place = self.keys.get(known) if at_key else None
        if known not in self.refused:
            self.problems.append(Problem(expected, found, fix, self.path, *(place or self.place(loc))))

    def raise_problems(self) -> None:
        """Raise all problems noted so far, in the order of the file, if there are any."""
        if self.problems:
            unique = sorted(dict.fromkeys(self.problems), key=lambda p: (p.line or 0, p.col or 0))
            rest = len(unique) - MAX_PROBLEMS
            more = Problem(f"at most {MAX_PROBLEMS} problems", f"{rest} more", "correct the first ones", self.path)
            raise SpecError(*unique[:MAX_PROBLEMS], *([more] if rest > 0 else []))


def read_yaml(path: Path, shown_as: str | None = None) -> Document:
    """Return the values of the YAML file at `path`; problems that leave values readable are noted in it.

    Raises:
        SpecError: the file cannot be read, is not UTF-8 text, too large, empty, or not YAML.
    """
    shown = shown_as or str(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would wait forever
            raise SpecError(Problem("a file", "something else", "name a YAML file", shown))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(Problem("a readable file", error.strerror or str(error), "check the path", shown)) from None
    if len(raw) > MAX_BYTES:
        found = f"a file of more than {MAX_BYTES // 1024} KiB"
        raise SpecError(Problem(f"at most {MAX_BYTES // 1024} KiB of YAML", found, "split it by topic", shown, 1, 1))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        col = error.start - raw.rfind(b"\n", 0, error.start)
        found = f"the byte 0x{raw[error.start]:02x}"
        raise SpecError(Problem("UTF-8 text", found, "save the file as UTF-8", shown, line, col)) from None
    return parse_yaml(text, shown)


def parse_yaml(text: str, shown: str) -> Document:
    """Return the values of the YAML `text`; `shown` is the file name in messages. :func:`read_yaml` calls it.

    Raises:
        SpecError: the text is empty, or not YAML.
    """
    document = Document(shown)
    yaml = YAML(typ="safe", pure=True)
    try:
        builder = _Builder(document, text, yaml.parse(text))
        builder.build()
    except YAMLError as error:
        raise SpecError(*document.problems, _syntax_problem(error, text, shown)) from None
    if document.data is None and not document.problems:
        raise SpecError(
            Problem("a mapping with `version`", "nothing in the file", "write a spec or remove it", shown, 1, 1)
        )
    return document


def _syntax_problem(error: YAMLError, text: str, shown: str) -> Problem:
    """Return an error of ruamel.yaml as a :class:`Problem`."""
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, col = before.count("\n") + 1, error.position - before.rfind("\n")
        return Problem("printable text", f"the character U+{error.character:04X}", "remove it", shown, line, col)
    said = str(getattr(error, "problem", None) or error).partition("\n")[0]
    found, fix = _SAID.get(said, ("", "check quotes, colons and indentation"))
    # For a quote that is not closed, show where it was opened, not the end of the file.
    marks = ("context_mark", "problem_mark") if said == _NOT_CLOSED else ("problem_mark", "context_mark")
    mark = next((mark for name in marks if (mark := getattr(error, name, None))), None)
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if found:
        return Problem("YAML", found, fix, shown, *place)
    detail = _TOKEN.sub(lambda token: _TOKENS.get(token[1], token[0]), said)
    expected, _, found = detail.removeprefix("expected ").partition(", but ")
    if detail.startswith("expected ") and found:
        return Problem(f"YAML ({expected})", found.removeprefix("found ").removeprefix("got "), fix, shown, *place)
    return Problem("YAML", detail.removeprefix("found "), fix, shown, *place)


class _Builder:
    """Turns the event stream into values. It is a class so that its recursive methods share the stream."""

    def __init__(self, document: Document, text: str, events: Iterator[Event]) -> None:
        self.document = document
        self.text = text
        self.events = events
        self.resolver = YAML(typ="safe", pure=True).resolver

    def build(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(
                        event,
                        "one document in a file",
                        "a second one after ---",
                        "put it into a file of its own",
                    )
                elif event.tags or event.version:
                    lines = enumerate(self.text.splitlines(), 1)
                    line = next((i for i, line in lines if line.startswith("%")), 1)
                    self._refuse((line, 1), "no YAML directives", "a %TAG or %YAML line", "remove it")
            elif isinstance(event, (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent)):
                value = self._value(event, ())
                if documents == 1:
                    self.document.data = value

    def _value(self, event: Event, loc: Loc, depth: int = 0) -> Any:
        # The parser places an empty value at the next token, which may be lines away.
        nothing = isinstance(event, ScalarEvent) and event.implicit[0] and not event.value
        place = self.document.keys.get(loc) if nothing else None
        self.document.places[loc] = place or _position(event)
        if self._refuse_marks(event, "a plain value"):
            self.document.refused.add(loc)
        if isinstance(event, AliasEvent):
            return None
        if isinstance(event, ScalarEvent):
            return self._scalar(event, loc)
        if depth >= MAX_DEPTH:
            # The parser's time grows with the square of the depth, so the rest is not read.
            self._refuse(event, f"at most {MAX_DEPTH} levels", "deeper nesting", "flatten it")
            raise SpecError(*self.document.problems)
        if isinstance(event, SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := next(self.events), SequenceEndEvent):
                items.append(self._value(item, (*loc, len(items)), depth + 1))
            return items
        mapping: dict[str, Any] = {}
        while not isinstance(key_event := next(self.events), MappingEndEvent):
            key = self._key(key_event, loc, mapping)
            value_event = next(self.events)
            value = self._value(value_event, (*loc, key) if key is not None else (*loc, "?"), depth + 1)
            if key is not None:
                mapping[key] = value
        return mapping

    def _key(self, event: Event, loc: Loc, mapping: dict[str, Any]) -> str | None:
        """Return the key, or None if it is refused."""
        self._refuse_marks(event, "a plain word as key")
        if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            found = "a mapping" if isinstance(event, MappingStartEvent) else "a list"
            self._refuse(event, "a plain word as key", found, "write the key as a word")
            raise SpecError(*self.document.problems)  # stop here: it is not worth searching for the end of the key
        if not isinstance(event, ScalarEvent):  # an alias
            return None
        key = self._text(event)
        if key in mapping:
            first = self.document.keys[(*loc, key)]
            self._refuse(event, "each key once", f"{shorten(key)} again (first in line {first[0]})", "keep one of them")
            return None
        self.document.keys[(*loc, key)] = _position(event)
        return key

    def _refuse_marks(self, event: Event, expected: str) -> bool:
        """Refuse an alias, an anchor or a tag; return whether there was one."""
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, AliasEvent):
            self._refuse(event, expected, f"the alias *{anchor}", "write it out")
        elif anchor:
            self._refuse(event, expected, f"the anchor &{anchor}", "remove it, and write out what refers to it")
        if tag:
            name = str(tag).replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, expected, f"the tag {shorten(name)}", "remove the tag")
        return bool(anchor or tag)

    def _scalar(self, event: ScalarEvent, loc: Loc) -> Any:
        """Return the value by YAML 1.2's core schema: null, true, 12, 0.5, text."""
        text = self._text(event)
        if text != event.value:
            self.document.refused.add(loc)
        if not event.implicit[0]:
            return text
        tag = str(self.resolver.resolve(ScalarNode, text, event.implicit)).rpartition(":")[2]
        if tag == "null":
            return None
        if tag == "int" and len(text) > MAX_INT:
            found = f"one of {len(text):,} characters"
            self._refuse(event, f"a number of at most {MAX_INT} characters", found, "write a smaller one")
            self.document.refused.add(loc)
        return _value_of(tag, text)

    def _text(self, event: ScalarEvent) -> str:
        text = str(event.value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self._refuse(event, "text", "half a character (a lone surrogate)", "write the character itself")
            return ""
        return text

    def _refuse(self, at: Event | tuple[int, int], expected: str, found: str, fix: str) -> None:
        place = at if isinstance(at, tuple) else _position(at)
        self.document.problems.append(Problem(expected, found, fix, self.document.path, *place))


def _position(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)


def _value_of(tag: str, text: str) -> bool | int | float | str:
    """Return the value of a plain text that is not null; the text itself if the core schema reads no number in it."""
    try:
        match tag:
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text.replace("_", ""), 0) if not text.lstrip("+-").startswith("0") else int(text, 10)
            case "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
    except ValueError:
        pass
    return text
