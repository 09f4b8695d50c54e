"""Prompts files with one mistake each: what is changed in a good one, where that is seen, and what is said about it."""

from __future__ import annotations

FILLED = """\
version: 1
values: {name: [" Mary", " John", " Tom"], place: [" store", " park"], year: {from: 2, to: 98, width: 2}}
slots: {IO: name, S: name, place: place, YY: year}
distinct: [[IO, S]]
templates:
  ABBA: "In{YY},{IO} and{S as S1} went to the{place},{S as S2} gave a drink to"
  BABA: "In{YY},{S as S1} and{IO} went to the{place},{S as S2} gave a drink to"
answer: "{IO}"
wrong: "{S}"
one_token: [name]
positions: {IO: IO, S2: S2, "S1+1": S1+1, END: last}
counterparts: {abc: {IO: other, S1: other, S2: other}, swap: {IO: S, S: IO}}
"""
ROWS = """\
version: 1
rows:
  - {land: " France", city: " Paris"}
  - {land: " Italy", city: " Rome"}
templates: {city: "The capital of{land} is"}
answer: "{city}"
wrong: {of: city, not: land}
counterparts: {land: another row}
"""
YEARS = """\
version: 1
values: {year: {from: 2, to: 98, width: 2}, digits: {from: 0, to: 99, width: 2}}
slots: {YY: year}
templates: {war: "The drink went to17{YY},17"}
answer: {of: digits, above: YY}
wrong: {of: digits, at_most: YY}
positions: {YY: YY}
"""
REPEATED = """\
version: 1
random: {tokens: ordinary, length: 4, times: 2}
positions: {again: repeat 2, before: repeat 1, after: repeat 1+1}
counterparts: {unrepeated: first repeat drawn anew}
"""
_BABA = '"In{YY},{S as S1} and{IO} went to the{place},{S as S2} gave a drink to"'

# a name → the good file, what is replaced in it, by what, the line and column, and a piece of the message
BAD = {
    "unknown key": (FILLED, "distinct:", "distnct:", "4:1", "did you mean 'distinct'?"),
    "newer version": (FILLED, "version: 1", "version: 2", "1:10", "install a newer harness"),
    "version as text": (FILLED, "version: 1", 'version: "1"', "1:10", "'1'"),
    "no version": (FILLED, "version: 1", "description: a", "1:1", "the key `version`"),
    "no templates": (ROWS, 'templates: {city: "The capital of{land} is"}\n', "", "1:1", "the key `templates`"),
    "templates empty": (ROWS, '{city: "The capital of{land} is"}', "{}", "5:12", "at least 1 in `templates`"),
    "no answer": (FILLED, 'answer: "{IO}"\n', "", "1:1", "the key `answer`"),
    "a list for the file": (FILLED, FILLED, "- version: 1", "1:1", "expected a mapping"),
    "values a list": (FILLED, "distinct:", "description: [a]\ndistinct:", "4:14", "expected text, found a list"),
    "a number as value": (FILLED, '" Tom"', "17", "2:35", "quote it"),
    "an empty list": (FILLED, '[" store", " park"]', "[]", "2:51", "at least 1"),
    "an empty value": (FILLED, '" Tom"', '""', "2:35", "expected text"),
    "a value twice": (FILLED, '" Tom"', '" Mary"', "2:16", "' Mary' again"),
    "a list's bad name": (FILLED, "place: [", "a place: [", "2:44", "a name of at most 20"),
    "an empty range": (FILLED, "from: 2, to: 98", "from: 98, to: 2", "2:78", "correct the range"),
    "a huge range": (FILLED, "to: 98, width: 2", "to: 999999999, width: 9", "2:92", "at most 20,000 numbers"),
    "a range without end": (FILLED, ", to: 98, width: 2", "", "2:78", "the key `to`"),
    "a range with text": (FILLED, "from: 2", "from: two", "2:85", "a whole number"),
    "neither values nor rows": (ROWS, ROWS[: ROWS.index("templates")], "version: 1\n", "1:1", "list what slots may be"),
    "a slot's unknown list": (FILLED, "S: name", "S: names", "3:22", "did you mean 'name'?"),
    "a slot in no template": (FILLED, "YY: year", "YY: year, X: name", "3:52", "{X} in a template"),
    "one_token's unknown list": (FILLED, "[name]", "[nam]", "10:13", "did you mean 'name'?"),
    "one_token of a column": (ROWS, "answer:", "one_token: [city]\nanswer:", "6:13", "rows are drawn whole"),
    "one_token as text": (FILLED, "[name]", "name", "10:12", "expected a list"),
    "distinct of an unknown slot": (FILLED, "[[IO, S]]", "[[IO, X]]", "4:17", "a slot of the templates"),
    "distinct of a place": (FILLED, "[[IO, S]]", "[[IO, S2]]", "4:17", "a slot of the templates"),
    "distinct of one": (FILLED, "[[IO, S]]", "[[IO]]", "4:12", "at least 2"),
    "distinct of itself": (FILLED, "[[IO, S]]", "[[IO, IO]]", "4:17", "each slot once"),
    "distinct without groups": (FILLED, "[[IO, S]]", "[IO, S]", "4:12", "expected a list"),
    "a template's unknown slot": (FILLED, _BABA, '"{IO} {SS}"', "7:9", "found {SS}"),
    "a brace that stays open": (FILLED, _BABA, '"{IO} {S"', "7:9", "braces in pairs"),
    "a brace never opened": (FILLED, _BABA, '"{IO} S}"', "7:9", "braces in pairs"),
    "double braces": (FILLED, _BABA, '"{{IO}} and {S}"', "7:9", "braces in pairs"),
    "empty braces": (FILLED, _BABA, '"{IO} {}"', "7:9", "a slot in braces"),
    "a slot twice": (FILLED, _BABA, '"{IO} {S} {S}"', "7:9", "write {S as S2}"),
    "a place for two slots": (FILLED, "{S as S1} and{IO}", "{S as S2} and{IO as S1}", "7:9", "S1 to be S, as before"),
    "a place called as a slot": (FILLED, "{S as S1} and{IO}", "{S as place} and{IO}", "7:9", "a name of its own"),
    "a place called last": (FILLED, "{S as S1} and{IO}", "{S as last} and{IO}", "7:9", "a name of its own"),
    "a template without slots": (FILLED, _BABA, '"In the park"', "7:9", "a slot in the template"),
    "an empty template": (FILLED, _BABA, '""', "7:9", "expected text"),
    "an answer without braces": (FILLED, '"{IO}"', '"IO"', "8:9", "a slot in braces"),
    "an answer without quotes": (FILLED, '"{IO}"', "{IO}", "8:9", "in quotes"),
    "an answer of more than a slot": (FILLED, '"{IO}"', '"{IO}."', "8:9", "a slot in braces"),
    "an answer's unknown slot": (FILLED, '"{IO}"', '"{OI}"', "8:9", "found {OI}"),
    "an answer that no template has": (FILLED, '"{IO}"', '"{name}"', "8:9", "a slot of the templates"),
    "an answer that one template lacks": (FILLED, _BABA, '"{S as S1}{S as S2}"', "8:9", "none in BABA"),
    "an answer of a wrong type": (FILLED, '"{IO}"', "3", "8:9", "expected text"),
    "wrong as right": (FILLED, '"{S}"', '"{IO}"', "9:8", "another answer"),
    "above of names": (FILLED, '"{S}"', "{of: name, above: YY}", "9:13", "numbers, for `above`"),
    "above a name": (FILLED, '"{S}"', "{of: year, above: S}", "9:26", "numbers, for `above`"),
    "two relations": (FILLED, '"{S}"', "{of: year, above: YY, at_most: YY}", "9:8", "one of `above`, `at_most`"),
    "no relation": (FILLED, '"{S}"', "{of: year}", "9:8", "one of `above`, `at_most`"),
    "a set of an unknown list": (FILLED, '"{S}"', "{of: years, above: YY}", "9:13", "did you mean 'year'?"),
    "a set by an unknown slot": (FILLED, '"{S}"', "{of: year, not: YZ}", "9:24", "write one of IO, S, YY"),
    "a set's unknown key": (FILLED, '"{S}"', "{of: year, over: YY}", "9:19", "expected a known key"),
    "a position's unknown slot": (FILLED, "S2: S2", "S2: S3", "11:25", "where a slot stands"),
    "a position with a sum": (FILLED, "S2: S2", "S2: S2+1+1", "11:25", "where a slot stands"),
    "a position's bad name": (FILLED, "S2: S2", "2nd: S2", "11:21", "a position's name"),
    "a position that one template lacks": (FILLED, "{S as S1} and{IO}", "{S as S3} and{IO}", "11:37", "none in BABA"),
    "a position behind the end": (FILLED, "END: last", "END: last+1", "11:48", "last-1"),
    "an unknown part of a slot": (FILLED, "END: last", "END: IO.middle", "11:48", "where a slot stands"),
    "a counterpart's unknown slot": (FILLED, "swap: {IO: S", "swap: {IQ: S", "12:63", "write one of IO, S"),
    "a counterpart without rules": (FILLED, "{IO: S, S: IO}", "{}", "12:62", "at least 1"),
    "a counterpart as text": (FILLED, "{IO: S, S: IO}", "other", "12:62", "another row"),
    "a counterpart of another list": (FILLED, "{IO: S, S: IO}", "{IO: place}", "12:67", "a slot of name"),
    "a counterpart by a place": (FILLED, "{IO: S, S: IO}", "{IO: S1}", "12:67", "write S, the slot"),
    "a counterpart that is no number": (
        YEARS,
        "positions:",
        "counterparts: {a: {YY: x}}\npositions:",
        "7:24",
        "a number for YY",
    ),
    "another row without rows": (FILLED, "{IO: S, S: IO}", "another row", "12:62", "another row is of `rows`"),
    "rules where there are rows": (ROWS, "{land: another row}", "{land: {land: other}}", "8:22", "land: another row"),
    "rows and values": (ROWS, "templates:", 'values: {x: ["a"]}\ntemplates:', "2:1", "drop one"),
    "a row that lacks a column": (ROWS, ', city: " Rome"', "", "4:5", "the columns land, city"),
    "a row with one more column": (ROWS, '" Rome"', '" Rome", sea: " Adria"', "4:5", "land, city, sea"),
    "a row twice": (ROWS, '" Italy", city: " Rome"', '" France", city: " Paris"', "4:5", "each row once"),
    "an empty row": (ROWS, '{land: " Italy", city: " Rome"}', "{}", "4:5", "at least 1"),
    "an answer that is no column": (ROWS, '"{city}"', '"{town}"', "6:9", "a slot in braces"),
    "random and templates": (REPEATED, "positions:", 'templates: {A: "{x}"}\npositions:', "3:1", "a known key"),
    "random as text": (REPEATED, "{tokens: ordinary, length: 4, times: 2}", "4", "2:9", "expected a mapping"),
    "no length": (REPEATED, " length: 4,", "", "2:9", "the key `length`"),
    "a length of one": (REPEATED, "length: 4", "length: 1", "2:36", "at least 2"),
    "said once": (REPEATED, "times: 2", "times: 1", "2:46", "at least 2"),
    "other tokens": (REPEATED, "ordinary", "rare", "2:18", "expected ordinary"),
    "repeat 3 of 2": (REPEATED, "again: repeat 2", "again: repeat 3", "3:20", "repeat 1 to 2"),
    "before the prompt": (REPEATED, "before: repeat 1", "before: repeat 1-1", "3:38", "repeat 1 to 2"),
    "before the prompt, from 2": (REPEATED, "again: repeat 2", "again: repeat 2-5", "3:20", "repeat 1 to 2"),
    "behind the prompt": (REPEATED, "again: repeat 2", "again: repeat 2+2", "3:20", "repeat 1 to 2"),
    "no repeat": (REPEATED, "again: repeat 2", "again: last", "3:20", "repeat 1 to 2"),
    "another counterpart": (REPEATED, "first repeat drawn anew", "another row", "4:28", "first repeat drawn anew"),
}
