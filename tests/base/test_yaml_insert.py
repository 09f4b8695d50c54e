"""Keys put into a YAML text: everything else stays, to the letter."""

from __future__ import annotations

import pytest

from harness.base.yaml_insert import WIDTH, Insertion, insert_keys
from harness.base.yamlfile import parse_yaml

TEXT = """\
# the head
a:
  - id: x   # a remark
    known: {reason: "so, it is", }  # another
    each:
      - {step: S11, why: "a } b"}
      - step: S12
        why: c
  - id: y

    known:
      # why
      reason: no
"""


def test_keys_go_before_or_after_those_of_a_flow_mapping_and_before_those_of_a_block():
    found = insert_keys(
        TEXT,
        [
            Insertion(("a", 0, "known"), {"verdict": "refuted", "observed": "{A4: [5%, 12%]}"}),
            Insertion(("a", 0, "each", 0), {"range": "2/9"}, first=False),
            Insertion(("a", 0, "each", 1), {"range": "3/9"}, first=False),
            Insertion(("a", 1, "known"), {"verdict": "refuted", "observed": "{training runs: 2/9}"}),
        ],
    )
    assert found == (
        TEXT.replace("{reason:", "{verdict: refuted, observed: {A4: [5%, 12%]}, reason:")
        .replace('"a } b"}', '"a } b", range: 2/9}')
        .replace("- step: S12\n", "- range: 3/9\n        step: S12\n")
        .replace("reason: no", "verdict: refuted\n      observed: {training runs: 2/9}\n      reason: no")
    )
    data = parse_yaml(found, "s").data
    assert data["a"][0]["known"] == {"verdict": "refuted", "observed": {"A4": ["5%", "12%"]}, "reason": "so, it is"}
    assert [row["range"] for row in data["a"][0]["each"]] == ["2/9", "3/9"]


@pytest.mark.parametrize("first", [True, False])
def test_a_long_line_goes_on_in_the_next_one(first):
    text = f"a: {{reason: {'x' * (WIDTH - 20)}}}\n"
    found = insert_keys(text, [Insertion(("a",), {"verdict": "refuted"}, first)])
    assert len(found.splitlines()) == 2
    assert max(map(len, found.splitlines())) <= WIDTH
    assert parse_yaml(found, "s").data["a"] == {"verdict": "refuted", "reason": "x" * (WIDTH - 20)}


def test_the_ends_of_lines_stay_what_they_are():
    found = insert_keys("a:\r\n  b: 1\r\n", [Insertion(("a",), {"c": "2"})])
    assert found == "a:\r\n  c: 2\r\n  b: 1\r\n"


def test_a_byte_order_mark_is_no_letter_too_many():
    assert insert_keys("\ufeffa: {b: é}\n", [Insertion(("a",), {"c": "2"}, first=False)]) == "\ufeffa: {b: é, c: 2}\n"


@pytest.mark.parametrize("loc", [("b",), ("a", 1), ("a", 0, "x"), ("c",)])
def test_there_must_be_a_mapping(loc):
    with pytest.raises(KeyError):
        insert_keys("a: [{x: 1}]\nc: {}\n", [Insertion(loc, {"y": "2"})])
