"""YAML text → plain values, each with the line and column it stood at. Imports no torch.

Strict on purpose: a spec is data. Anchors, aliases, tags, directives, several documents, keys that are
not text, duplicate keys, deep nesting and large files are refused, all at once where the syntax allows.
Built on ruamel.yaml's event stream, which resolves nothing and constructs nothing.
"""

from __future__ import annotations

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

from harness.errors import HarnessError, Problem, SpecError, shorten

MAX_BYTES = 64 * 1024  # 800 lines or so; ruamel.yaml reads about 100 KiB/s, and a bad spec is refused at once
MAX_DEPTH = 16
MAX_PROBLEMS = 100

Loc = tuple[str | int, ...]


@dataclass
class Document:
    """The values of one YAML file and where they and their keys stood (lines and columns from 1)."""

    path: str
    data: Any = None
    places: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def known(self, loc: Loc) -> Loc:
        """Return `loc` without the parts that are not in the file: what is nearest to it that is."""
        known: Loc = ()
        for part in loc:
            if (*known, part) in self.places:
                known = (*known, part)
        return known

    def place(self, loc: Loc) -> tuple[int, int]:
        """Return the position of the value at `loc`, or of the nearest thing around it."""
        return self.places.get(self.known(loc), (1, 1))

    def problem(self, loc: Loc, error: HarnessError) -> None:
        """Note what a position-less `error` said about the value at `loc`."""
        for p in error.problems:
            self.report(loc, p.expected, p.found, p.fix)

    def report(self, loc: Loc, expected: str, found: str, fix: str, *, at_key: bool = False) -> None:
        """Note a problem with the value at `loc`, or with its key."""
        place = self.keys.get(self.known(loc)) if at_key else None
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
    """Return the values of the YAML `text`; as :func:`read_yaml`, which it serves."""
    document = Document(shown)
    yaml = YAML(typ="safe", pure=True)
    try:
        builder = _Builder(document, yaml.parse(text))
        builder.build()
    except YAMLError as error:
        raise SpecError(*document.problems, _syntax_problem(error, text, shown)) from None
    if document.data is None and not document.problems:
        raise SpecError(
            Problem("a mapping with `version`", "nothing in the file", "write a spec or remove it", shown, 1, 1)
        )
    return document


def _syntax_problem(error: YAMLError, text: str, shown: str) -> Problem:
    """Return ruamel.yaml's complaint as one of ours."""
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, col = before.count("\n") + 1, error.position - before.rfind("\n")
        return Problem("printable text", f"the character U+{error.character:04X}", "remove it", shown, line, col)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    detail = str(getattr(error, "problem", None) or error).partition("\n")[0]
    expected, _, found = detail.removeprefix("expected ").partition(", but ")
    fix = "check quotes, colons and indentation"
    if detail.startswith("expected ") and found:
        return Problem(f"YAML ({expected})", found.removeprefix("found ").removeprefix("got "), fix, shown, line, col)
    return Problem("YAML", detail.removeprefix("found "), fix, shown, line, col)


class _Builder:
    """Turns the event stream into values. A class only to share the stream between the mutual recursion."""

    def __init__(self, document: Document, events: Iterator[Event]) -> None:
        self.document = document
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
                    self._refuse(event, "no YAML directives", "a %TAG or %YAML line", "remove it")
            elif isinstance(event, (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent)):
                value = self._value(event, ())
                if documents == 1:
                    self.document.data = value

    def _value(self, event: Event, loc: Loc, depth: int = 0) -> Any:
        # The parser places an empty value at the next token, which may be lines away.
        nothing = isinstance(event, ScalarEvent) and event.implicit[0] and not event.value
        place = self.document.keys.get(loc) if nothing else None
        self.document.places[loc] = place or _position(event)
        if isinstance(event, AliasEvent):
            self._refuse(event, "a value", f"the alias *{getattr(event, 'anchor', '')}", "write the value out")
            return None
        if anchor := getattr(event, "anchor", None):
            self._refuse(event, "a plain value", f"the anchor &{anchor}", "write the value out where it is needed")
        if tag := getattr(event, "tag", None):
            name = str(tag).replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, "a plain value", f"the tag {shorten(name)}", "remove the tag")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if depth >= MAX_DEPTH:
            # The parser's time grows with the square of the depth: what follows is not worth reading.
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
        """Return the key, or None for one that is refused."""
        if not isinstance(event, ScalarEvent) or event.anchor or getattr(event, "tag", None):
            self._refuse(event, "a plain word as key", "something else", "write the key as a word")
            if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                raise SpecError(*self.document.problems)  # where the key ends is not worth finding out
            return None
        key = self._text(event)
        if key in mapping:
            first = self.document.keys[(*loc, key)]
            self._refuse(event, "each key once", f"{shorten(key)} again (first in line {first[0]})", "keep one of them")
            return None
        self.document.keys[(*loc, key)] = _position(event)
        return key

    def _scalar(self, event: ScalarEvent) -> Any:
        """Return the value by YAML 1.2's core schema: null, true, 12, 0.5, text."""
        text = self._text(event)
        if not event.implicit[0]:
            return text
        tag = str(self.resolver.resolve(ScalarNode, text, event.implicit)).rpartition(":")[2]
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text.replace("_", ""), 0) if not text.lstrip("+-").startswith("0") else int(text, 10)
                case "float":
                    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
        except ValueError:
            pass
        return text

    def _text(self, event: ScalarEvent) -> str:
        text = str(event.value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self._refuse(event, "text", "half a character (a lone surrogate)", "write the character itself")
            return ""
        return text

    def _refuse(self, event: Event, expected: str, found: str, fix: str) -> None:
        self.document.problems.append(Problem(expected, found, fix, self.document.path, *_position(event)))


def _position(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)
