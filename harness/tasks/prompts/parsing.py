"""Reads a prompts file into what it defines; each problem is told with its place. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from harness.base.text import did_you_mean, shorten
from harness.base.validation import validate
from harness.base.yamlfile import Document, Loc, read_yaml
from harness.tasks.prompts.definition import LAST, OTHER, Filled, Place, Repeated, Template
from harness.tasks.prompts.keys import FilledFile, RepeatedFile, SetOfValues

_SLOT = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?: as ([A-Za-z][A-Za-z0-9_]*))?")
_WHERE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(\.first|\.last)?([+-][1-9][0-9]{0,2})?")
_REPEAT = re.compile(r"repeat ([1-9])([+-][1-9][0-9]?)?")


def read_definition(path: Path) -> Filled | Repeated:
    """Return what a prompts file defines.

    Raises:
        SpecError: one line for each problem in the file.
    """
    document = read_yaml(path)
    if isinstance(document.data, dict) and "random" in document.data:
        repeated = validate(RepeatedFile, document, document.data)
        found: Filled | Repeated | None = None if repeated is None else _repeated(repeated, document, path)
    else:
        filled = validate(FilledFile, document, document.data)
        found = None if filled is None else _Reader(filled, document, path).read()
    document.raise_problems()
    assert found is not None  # no problem was reported
    return found


def _repeated(file: RepeatedFile, document: Document, path: Path) -> Repeated:
    positions = {}
    length, times = file.random.length, file.random.times
    for name, text in file.positions.items():
        match = _REPEAT.fullmatch(text)
        start = (int(match[1]) - 1) * length + int(match[2] or 0) if match else 0
        if match is None or int(match[1]) > times or not 0 <= start <= (times - 1) * length + 1:
            document.report(
                ("positions", name), f"repeat 1 to {file.random.times}, or like repeat 1+1", shorten(text), "correct it"
            )
            continue
        positions[name] = (int(match[1]) - 1, int(match[2] or 0))
    return Repeated(
        path.stem, document.path, file.description or "", file.random.length, file.random.times, positions,
        tuple(file.counterparts),
    )  # fmt: skip


class _Reader:
    """Reads one file; each problem is reported to its document."""

    def __init__(self, file: FilledFile, document: Document, path: Path) -> None:
        self.file, self.document, self.path = file, document, path
        rows = file.rows
        columns = list(rows[0]) if rows else []
        self.lists: dict[str, list[str]] = {
            name: list(given) if isinstance(given, list) else given.texts for name, given in file.values.items()
        }
        if rows and file.values:
            self.report(("rows",), "`values`, or `rows`", "both", "drop one", at_key=True)
        if not rows and not file.values:
            self.report((), "`values`, or `rows`", "none", "list what slots may be")
        seen: set[tuple[str, ...]] = set()
        for i, row in enumerate(rows):
            if list(row) != columns:
                self.report(("rows", i), f"the columns {', '.join(columns)}", ", ".join(row), "give each row the same")
            elif tuple(row.values()) in seen:
                self.report(("rows", i), "each row once", "one again", "drop one")
            seen.add(tuple(row.values()))
        self.lists |= {name: [row.get(name, "") for row in rows] for name in columns}
        self.list_of = {**{name: name for name in self.lists}, **file.slots}
        self.slot_at: dict[str, str] = {}
        relations = (said.relation for said in (file.answer, file.wrong) if isinstance(said, SetOfValues))
        self.compared = {said[1] for said in relations if said is not None and said[0] != "other_than"}  # as numbers

    def report(self, loc: Loc, expected: str, found: str, fix: str, *, at_key: bool = False) -> None:
        self.document.report(loc, expected, found, fix, at_key=at_key)

    def read(self) -> Filled:
        file = self.file
        self._check_lists()
        self.document.raise_problems()  # what follows from them would be reported as well
        templates = tuple(self._template(name, text) for name, text in file.templates.items())
        self.document.raise_problems()
        used = set(self.slot_at.values())
        for slot in file.slots:
            if slot not in used:
                self.report(("slots", slot), f"{{{slot}}} in a template", "none", "remove it, or use it", at_key=True)
        for i, group in enumerate(file.distinct):
            for j, slot in enumerate(group):
                self._known_slot(("distinct", i, j), slot)
                if slot in group[:j]:
                    self.report(("distinct", i, j), "each slot once", f"{slot} again", "name slots that differ")
        answer, wrong = self._answer("answer", file.answer, templates), None
        if file.wrong is not None:
            wrong = self._answer("wrong", file.wrong, templates)
            if wrong == answer:
                self.report(("wrong",), "another answer than the right one", "the same", "correct it")
        positions = {name: self._place(name, text, templates) for name, text in file.positions.items()}
        extra: dict[str, list[str]] = {slot: [] for slot in used}
        counterparts = {
            name: self._counterpart(name, rules, extra, templates) for name, rules in file.counterparts.items()
        }
        if file.rows:  # an answer may be a column that no template has
            used |= {said for said in (answer, wrong) if isinstance(said, str)}
            extra |= {slot: [] for slot in used - set(extra)}
        slots = {slot: self.lists.get(self.list_of.get(slot, ""), []) for slot in sorted(used)}
        return Filled(
            self.path.stem, self.document.path, file.description or "", templates, self.slot_at,
            {slot: (*values, *extra[slot]) for slot, values in slots.items()},
            {slot: len(values) for slot, values in slots.items()},
            {name: tuple(values) for name, values in self.lists.items()}, self.list_of, bool(file.rows),
            frozenset(file.one_token), tuple(map(tuple, file.distinct)), answer, wrong, positions, counterparts,
        )  # fmt: skip

    def _check_lists(self) -> None:
        for name, values in self.lists.items():
            if not values:
                self.report(("values", name), "at least one value", "none", "correct the range")
            twice = [v for v, n in Counter(values).items() if n > 1] if name in self.file.values else []
            if twice:
                self.report(("values", name), "each value once", f"{shorten(twice[0])} again", "drop one")
        for slot, name in self.file.slots.items():
            if name not in self.lists:
                self.report(("slots", slot), "a list of `values`", shorten(name), did_you_mean(name, self.lists))
        for i, name in enumerate(self.file.one_token):
            if name not in self.file.values:
                fix = did_you_mean(name, self.file.values) if self.file.values else "leave it out: rows are drawn whole"
                self.report(("one_token", i), "a list of `values`", shorten(name), fix)

    def _template(self, name: str, text: str) -> Template:
        at, parts, seen, end = ("templates", name), [], set(), 0
        for match in _SLOT.finditer(text):
            field = _FIELD.fullmatch(match[1])
            slot, place = (field[1], field[2] or field[1]) if field else ("", "")
            if slot not in self.list_of:
                expected = "a slot in braces, like {IO} or {S as S1}"
                self.report(at, expected, shorten(match[0]), did_you_mean(slot, self.list_of) if slot else "correct it")
                continue
            if place in (LAST, OTHER) or (place != slot and place in self.list_of):
                self.report(at, "a place with a name of its own", f"{place} for {slot}", "call it otherwise")
            if place in seen:
                self.report(at, "each slot once, or under another name", match[0], f"write {{{slot} as {slot}2}}")
            if self.slot_at.setdefault(place, slot) != slot:
                found = f"{place} for {slot}"
                self.report(at, f"{place} to be {self.slot_at[place]}, as before", found, "call it otherwise")
            seen.add(place)
            parts.append((text[end : match.start()], place))
            end = match.end()
        rest = text[end:]
        if "{" in _SLOT.sub("", text) or "}" in _SLOT.sub("", text):
            self.report(at, "braces in pairs", shorten(text, 60), "close them")
        if not parts:
            self.report(at, "a slot in the template, or all prompts are one", shorten(text, 60), "write {NAME}")
        return Template(name, (*parts, (rest, "")) if rest else tuple(parts))

    def _known_slot(self, loc: Loc, slot: str) -> None:
        used = dict.fromkeys(self.slot_at.values())
        if slot not in used:
            self.report(loc, "a slot of the templates", shorten(slot), did_you_mean(slot, used))

    def _in_each(self, loc: Loc, slot: str, templates: tuple[Template, ...]) -> None:
        """Refuse a slot that a template lacks; of a row, all columns are known."""
        self._known_slot(loc, slot)
        for template in templates if slot in self.slot_at.values() and not self.file.rows else ():
            if slot not in {self.slot_at[place] for place in template.places}:
                fix = "name a slot that each template has"
                self.report(loc, f"{slot} in each template", f"none in {template.name}", fix)

    def _answer(self, key: str, said: str | SetOfValues, templates: tuple[Template, ...]) -> str | SetOfValues:
        if isinstance(said, str):
            match = _SLOT.fullmatch(said)
            if match is None or match[1] not in self.list_of:
                fix = 'write a slot: "{NAME}"' if match is None else did_you_mean(match[1], self.list_of)
                self.report((key,), "a slot in braces, whose value is the answer", shorten(said), fix)
                return said
            if not self.file.rows:
                self._in_each((key,), match[1], templates)
            return match[1]
        if said.of not in self.lists:
            self.report((key, "of"), "a list of `values`", shorten(said.of), did_you_mean(said.of, self.lists))
        if said.relation is None:
            self.report((key,), "one of `above`, `at_most` and `not`", "none, or several", "name one slot")
            return said
        relation, slot = said.relation
        at = (key, "not" if relation == "other_than" else relation)
        self._in_each(at, slot, templates)
        compared = {} if relation == "other_than" else {(key, "of"): said.of, at: self.list_of.get(slot, "")}
        for loc, name in compared.items():
            if not all(v.strip().isdecimal() for v in self.lists.get(name, [])):
                self.report(loc, f"numbers, for `{relation}`", name, "name a list of numbers, or write `not`")
        return said

    def _place(self, name: str, text: str, templates: tuple[Template, ...]) -> Place:
        match = _WHERE.fullmatch(text)
        known = {place for template in templates for place in template.places}
        if match is None or (match[1] != LAST and match[1] not in known):
            near = did_you_mean(match[1], {*known, LAST}) if match else "write a slot's place, `last`, or like S1+1"
            self.report(("positions", name), "where a slot stands, or last", shorten(text), near)
            return Place("")
        if match[1] == LAST:
            if match[2] or (match[3] or "").startswith("+"):
                self.report(("positions", name), "last, or a token before it", text, "write last, or like last-1")
            return Place("", "", int(match[3] or 0))
        for template in templates:
            if match[1] not in template.places:
                fix = "name a place that each template has"
                self.report(("positions", name), f"{match[1]} in each template", f"none in {template.name}", fix)
        return Place(match[1], (match[2] or "").removeprefix("."), int(match[3] or 0))

    def _counterpart(
        self, name: str, rules: str | dict[str, str], extra: dict[str, list[str]], templates: tuple[Template, ...]
    ) -> dict[str, str]:
        if isinstance(rules, str):
            if not self.file.rows:
                self.report(("counterparts", name), "a rule for each slot", rules, "another row is of `rows`")
            return {}
        if self.file.rows:
            self.report(("counterparts", name), "another row, where there are `rows`", "rules", f"{name}: another row")
            return {}
        slots, found = set(self.slot_at.values()), {}
        for key, rule in rules.items():
            loc = ("counterparts", name, key)
            places = [key] if key in self.slot_at else [p for p, slot in self.slot_at.items() if slot == key]
            if not places:
                near = did_you_mean(key, {*self.slot_at, *slots})
                self.report(loc, "a slot, or where one stands", shorten(key), near, at_key=True)
            for place in places:
                found[place] = rule
                slot = self.slot_at[place]
                if rule in self.slot_at and rule not in slots:
                    fix = f"write {self.slot_at[rule]}, the slot"
                    self.report(loc, "other, a slot, or a text", f"{rule}, a place", fix)
                    continue
                if rule in slots:
                    self._in_each(loc, rule, tuple(t for t in templates if place in t.places))
                literal = rule != OTHER and rule not in slots
                if not literal and rule != OTHER and self.list_of[rule] != self.list_of[slot]:
                    fix = "name a slot of the same list"
                    self.report(loc, f"a slot of {self.list_of[slot]}, as {slot} is", rule, fix)
                if literal and slot in self.compared and not rule.strip().isdecimal():
                    self.report(loc, f"other, a slot, or a number for {slot}", shorten(rule), "correct it")
                if literal and rule not in self.lists.get(self.list_of[slot], []) and rule not in extra[slot]:
                    extra[slot].append(rule)
        return found
