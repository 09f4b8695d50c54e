"""Strict YAML: what values come out, where they stood, and what is refused."""

from __future__ import annotations

import math

import pytest

from harness.base.errors import SpecError
from harness.base.yamlfile import MAX_BYTES, parse_yaml, read_yaml


def problems(text):
    try:
        return [str(problem) for problem in parse_yaml(text, "x.yaml").problems]
    except SpecError as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-3", -3), ("0.5", 0.5), ("1e3", 1000.0), ("true", True), ("~", None), ("null", None),
        ("'12'", "12"), ('"true"', "true"), ("15508+14500", "15508+14500"), ("yes", "yes"), ("S11L0H2", "S11L0H2"),
        ("2001-01-01", "2001-01-01"), ("1:30", "1:30"), (".inf", math.inf), ("'<9'", "<9"), ("=9", "=9"),
        ("[1, [a]]", [1, ["a"]]), ("{a: {b: []}}", {"a": {"b": []}}),
    ],
)  # fmt: skip
def test_values_follow_the_core_schema(text, value):
    assert parse_yaml(f"k: {text}", "x").data == {"k": value}


def test_not_a_number_is_read_as_one():
    assert math.isnan(parse_yaml("k: .nan", "x").data["k"])


def test_every_value_and_key_has_its_place():
    document = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2}\n", "x.yaml")
    assert document.place(("a",)) == (1, 4)
    assert document.keys["b",] == (2, 1)
    assert document.place(("b", 1, "c")) == (4, 9)
    assert document.place(("b", 1, "missing", 7)) == document.place(("b", 1)) == (4, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1", ["x.yaml:1:4: expected a plain value, found the anchor &x; remove it, and write out what refers to it"]),
        (
            "a: &x 1\nb: *x",
            [
                "x.yaml:1:4: expected a plain value, found the anchor &x; remove it, and write out what refers to it",
                "x.yaml:2:4: expected a plain value, found the alias *x; write it out",
            ],
        ),
        (
            "a: !!python/object/apply:os.system [ls]",
            [
                "x.yaml:1:4: expected a plain value, found the tag !!python/object/apply:os.system; remove the tag"
            ],
        ),
        ("a: 1\na: 2", ["x.yaml:2:1: expected each key once, found a again (first in line 1); keep one of them"]),
        ("a: 1\n---\nb: 1", [
            "x.yaml:2:1: expected one document in a file, found a second one after ---; put it into a file of its own"
        ]),
        ("? [a]\n: 1", ["x.yaml:1:3: expected a plain word as key, found a list; write the key as a word"]),
        ("%YAML 1.1\n---\na: 1", ["x.yaml:1:1: expected no YAML directives, found a %TAG or %YAML line; remove it"]),
        ("", ["x.yaml:1:1: expected a mapping with `version`, found nothing in the file; write a spec or remove it"]),
        ("# only\n", [
            "x.yaml:1:1: expected a mapping with `version`, found nothing in the file; write a spec or remove it"
        ]),
        ("a: [1\nb: 2", [
            "x.yaml:2:2: expected YAML (',' or ']'), found ':'; check quotes, colons and indentation"
        ]),
        ("a: 'x", ["x.yaml:1:4: expected YAML, found a quote that is not closed; close it"]),
    ],
)  # fmt: skip
def test_what_is_not_plain_data_is_refused(text, expected):
    assert problems(text) == expected


def test_a_character_that_yaml_has_not_is_named_at_its_place():
    assert problems("a: 1\nb: x\x07y\n") == [
        "x.yaml:2:5: expected printable text, found the character U+0007; remove it"
    ]


def test_half_a_character_is_refused():
    (line,) = problems('a: "\\ud800"')
    assert line == "x.yaml:1:4: expected text, found half a character (a lone surrogate); write the character itself"


def test_a_folded_text_is_one_line_and_nothing_else():
    assert parse_yaml("a: >-\n  one\n  two\n", "x").data == {"a": "one two"}


@pytest.mark.parametrize("text", ["{" * 20000, "? " * 500, "{" * 500 + "a"])
def test_nested_keys_are_refused_at_once(text):
    assert "expected a plain word as key, found a" in problems(text)[-1]


def test_a_pipe_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="expected a file, found something else; name a YAML file"):
        read_yaml(tmp_path / "pipe.yaml")


def test_very_many_problems_are_cut_short():
    text = "".join(f"k{i}: &a{i} 1\n" for i in range(500))
    document = parse_yaml(text, "x.yaml")
    with pytest.raises(SpecError) as caught:
        document.raise_problems()
    assert len(caught.value.problems) == 101
    assert (
        str(caught.value.problems[-1])
        == "x.yaml: expected at most 100 problems, found 400 more; correct the first ones"
    )


@pytest.mark.parametrize("text", ["[" * 1000 + "]" * 1000, "\n".join(" " * i + "a:" for i in range(1000)), "[" * 9999])
def test_deep_nesting_is_refused_at_its_first_level_too_many(text):
    (line,) = problems(text)
    assert line.endswith("expected at most 16 levels, found deeper nesting; flatten it")


def test_large_file(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"a: " + b"x" * (1 << 20))
    with pytest.raises(SpecError) as caught:
        read_yaml(path, "large.yaml")
    assert str(caught.value) == (
        f"large.yaml:1:1: expected at most {MAX_BYTES // 1024} KiB of YAML, found a file of more than 64 KiB; "
        "split it by topic"
    )


def test_not_utf8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(SpecError) as caught:
        read_yaml(path, "latin.yaml")
    assert str(caught.value) == "latin.yaml:2:7: expected UTF-8 text, found the byte 0xe9; save the file as UTF-8"


def test_unreadable(tmp_path):
    with pytest.raises(SpecError, match="expected a readable file, found No such file or directory; check the path"):
        read_yaml(tmp_path / "none.yaml")
