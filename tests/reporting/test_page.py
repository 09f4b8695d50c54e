"""The report page: what stands in it, that nothing in a spec can act in it, and that it loads nothing."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict
from html.parser import HTMLParser

import pytest
import tiny

from harness.judging.bench import Workbench
from harness.judging.measurement import Example
from harness.judging.verdict import Comparison, row_of
from harness.judging.worth.coverage import MAP_N, MAP_SEED, map_nodes
from harness.reporting.drawing import TICKS, along, bounds, colour_class, draw
from harness.reporting.examples import broken_patterns, broken_questions, unbroken_questions
from harness.reporting.map_drawing import draw_map
from harness.reporting.page import SCRIPTS, excerpt, render
from harness.reporting.words import example_line, expected
from harness.specs.fixtures.files import FixtureRef
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach

ROW = row_of(
    Comparison(subject="A1", kind="fails", at_least=0.05, k=80, n=100, value=0.8, low=0.7, high=0.9, finding="holds")
)


def example(prompt, answered, answer, case="", node="", source=""):
    came, right = (text.split() if " " in text else list(text) for text in (answered, answer))
    wrong = tuple(a != b for a, b in zip(came, right, strict=True))
    return asdict(Example(prompt, answered, tuple(came), wrong, answer, case, node, source))


BROKEN, UNBROKEN = example("12+34", "056", "046", "BA"), example("11+11", "022", "022", "BA")
RECORD = {
    "key": "claims/a.yaml::one", "id": "one", "path": "claims/a.yaml", "line": 4, "index": 0, "fixture": "tiny",
    "fixtures": ["tiny"], "claim": "It is so.", "source": "me", "verb": "ablate", "target": "S5L0H0", "how": "mean",
    "reference": "1000 × uniform, seed 271828", "questions": "100 × BA, seed 7", "census": False,
    "expected": "A1 fails > 5%", "fails": ["A1"], "may_fail": [], "xfail": None, "tags": [], "named": ["S5L0H0"],
    "nouns": {"prompt": "question", "token": "digit"},
    "verdict": "supported", "status": "passed", "comparisons": [ROW],
    "measurement": {
        "n": 100, "clean_accuracy": 1.0, "clean_loss": 0.0, "loss": 1.0, "tokens": [], "patterns": {"yNy": 80, "yyy": 20},
        "cases": {"BA": {"failed": 80, "asked": 100}}, "by_node": {},
        "examples": {"A1": [BROKEN], "A1 right": [UNBROKEN]},
    },
    "weights": {"tiny": "0123456789abcdef" * 4}, "code": {}, "device": "cpu", "engine": "cone", "seconds": 0.5, "settled_by": None,
    "controls": None, "options": [],
}  # fmt: skip


def record(**changed):
    return copy.deepcopy(RECORD) | changed


class Page(HTMLParser):
    """The elements of a page, each with its attributes, and the text inside of elements by class."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, name=""):
        return [
            attrs
            for found, attrs in self.elements
            if found == tag and (not name or name in (attrs.get("class") or "").split())
        ]


@pytest.fixture(scope="module")
def node_map(tmp_path_factory):
    fixtures = tmp_path_factory.mktemp("fixtures")
    tiny.write_tiny(fixtures, "tiny")
    with tiny.one_thread():
        return map_nodes(FixtureRef("tiny", fixtures), Workbench("cpu"))


def test_a_claim_is_shown_with_its_numbers_its_questions_its_lines_and_where_it_comes_from(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "a.yaml").write_text("version: 1\nfixture: tiny\nhypotheses:\n  - id: one\n    ablate: S5\n")
    html = render([record()], command="pytest claims/", root=tmp_path)
    text = " ".join(" ".join(Page(html).text).split())
    for shown in (
        "1 claim evaluated: 1 supported.", "It is so.", "80/100 80%", "fails > 5%", "70.00% to 90.00%",
        "Patterns of wrong digits: yNy 80×", "BA 80/100", "- id: one ablate: S5", "tiny sha256 0123456789abcdef", "cone on cpu", "100 × BA, seed 7",
        "1000 × uniform, seed 271828", 'pytest "claims/a.yaml::one"', "pytest claims/", "harness 0.1.0",
    ):  # fmt: skip
        assert shown in text
    assert "0<mark>5</mark>6" in html  # 12+34 is 046
    assert "<td>046</td>" in html


BAD = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def test_nothing_that_a_spec_or_a_run_says_can_act_in_the_page(tmp_path):
    (tmp_path / "a.yaml").write_text(f"hypotheses:\n  - id: x\n    claim: {BAD}\n", "utf-8")
    texts = {
        key: BAD for key, value in RECORD.items() if isinstance(value, str) and key not in ("verdict", "status", "verb")
    }
    one = record(**texts | {"path": "a.yaml", "line": 2, "xfail": BAD, "options": [BAD], "fixtures": [BAD],
                         "nouns": {"prompt": BAD, "token": BAD}})  # fmt: skip
    row = ROW | {"subject": BAD, "token": BAD}
    one["comparisons"] = [
        row,
        *(row | {"kind": "run", "k": None, **said} for said in ({"nodes": [BAD]}, {"absent": BAD})),
    ]
    shown = dict.fromkeys(BROKEN, BAD) | {"tokens": [BAD], "wrong": [True]}
    one["measurement"] |= {"examples": {BAD: [shown, shown | {"source": ""}]}, "patterns": {f"N{BAD}": 1}, "cases": {BAD: {"failed": 1, "asked": 1}},
                           "by_node": {BAD: 1}, "by_step": {BAD: 0.5}, "reached": {BAD: {BAD: 1}}}  # fmt: skip
    one["weights"] = {BAD: BAD}
    one["controls"] = {"put_back": 1, "own": 0.5, "rank": 1, "specific": True, "methods": {BAD: "refuted"},
                       "siblings": [row]}  # fmt: skip
    one["mutants"] = {"killed": [], "survivors": [{"kind": BAD, "about": BAD, "expected": BAD, "comparisons": [row],
                                                   "reason": BAD}], "stale": [BAD]}  # fmt: skip
    bad = record(key="b", verdict="error", status="error", problems=[BAD])
    page = Page(render([one, bad], command=BAD, spec_errors=[BAD], notes=[BAD], root=tmp_path))
    assert len(page.all("script")) == len(SCRIPTS)
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert "".join(page.text).count("<script>alert(1)</script>") > 20  # as text, it is there


def test_it_loads_nothing(node_map):
    page = Page(render([record()], [node_map]))
    targets = [value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href", "data")]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    style = re.search(r"<style>(.*?)</style>", render([record()]), re.DOTALL)[1]
    assert not re.search(r"@import|url\((?!#)", style)


def test_the_same_run_makes_the_same_page_in_the_order_of_the_specs(node_map):
    rows = [record(), record(key="claims/a.yaml::two", id="two", index=1), record(key="claims/a.yaml::t-wo", id="t-wo")]
    assert render(rows, [node_map]) == render(copy.deepcopy(rows), [node_map])
    claims = [attrs["id"] for attrs in Page(render(rows)).all("details", "claim")]
    assert claims == ["claim-claims-a.yaml-one", "claim-claims-a.yaml-two", "claim-claims-a.yaml-t-wo"]


def test_claims_whose_keys_read_alike_have_places_of_their_own():
    rows = [record(key="a.yaml::x y"), record(key="a.yaml::x/y"), record(key="a.yaml::x?y")]
    assert len({attrs["id"] for attrs in Page(render(rows)).all("details", "claim")}) == 3


def test_what_it_does_not_know_of_a_record_is_no_trouble():
    several = [ROW | {"subject": name, "new": 1} for name in ("quick_d5_l2_s0", "quick_d5_l2_s1")]
    html = render([record(comparisons=several, later={"x": 1}, mutants=None)])
    assert html.count('<th scope="row">quick_d5_l2_s') == 2


@pytest.mark.parametrize("status", ["error", "skipped"])
def test_a_claim_without_a_verdict_shows_why(status):
    bare = {key: value for key, value in RECORD.items() if key not in ("comparisons", "measurement", "weights", "engine",
            "device", "seconds", "settled_by", "controls", "options")}  # fmt: skip
    page = Page(render([bare | {"verdict": status, "status": status, "problems": ["no weights here"]}]))
    assert "no weights here\n" in page.text
    assert not page.all("table", "comparisons")


def test_a_run_of_bad_specs_alone_has_a_page():
    assert "a.yaml:1:1: expected a mapping" in "".join(
        Page(render([], spec_errors=["a.yaml:1:1: expected a mapping"])).text
    )


def test_the_map_hatches_what_reaches_nothing_and_outlines_what_supported_claims_name(node_map):
    rows = [
        record(named=["S5L0H0", "S5L0R"]),
        record(key="n", id="n", fails=[], named=["S5L0H0", "S6L1M"]),
        record(key="m", id="m", named=["S3L0M", "S0L0R", "S1L0R", "S2L0R", "S3L0R"]),
        record(key="r", id="r", verdict="refuted", named=["S5L0H1"]),
        record(key="o", id="o", fixture="other", named=["S5L0M"]),
    ]  # fmt: skip
    page = Page(render(rows, [node_map]))
    names = [text.split(" ")[0] for text in page.text if re.match(r"S\d+L\d(M|H\d) \(", text)]
    cells = dict(zip(names, (attrs["class"].split() for attrs in page.all("g", "cell")), strict=True))
    nodes = [node for node in all_nodes(node_map.shape) if node.kind != "resid"]
    assert set(cells) == set(map(str, nodes))
    dead = {str(node) for node in nodes if not reach([node], node_map.shape)}
    assert {node for node, classes in cells.items() if "dead" in classes} == dead
    assert 0 < len(dead) < len(nodes)
    assert {node for node, classes in cells.items() if "claimed" in classes} == {"S5L0H0", "S6L1M", "S3L0M"}
    assert {node for node, classes in cells.items() if "loosely" in classes} == {"S6L1M", "S3L0M"}
    assert len(page.all("g", "step")) == node_map.shape.task.n_ctx
    streams = [i for i, attrs in enumerate(page.all("g", "step")) if "claimed" in attrs["class"]]
    assert streams == [0, 1, 2, 3, 5]


def test_the_map_tells_each_nodes_counts(node_map):
    assert node_map.questions == f"{MAP_N} × cascade 0 … 1, seed {MAP_SEED}"
    cells = {cell.node: cell for cell in draw_map(node_map, []).cells}
    broken = 0
    for node, counts in node_map.counts.items():
        cell, worst = cells[str(node)], max(c.wrong / c.asked for c in counts if c.asked)
        assert cell.colour == colour_class(worst)
        told = [f"{c.token} fails {c.wrong}/{c.asked}" in cell.told for c in counts if c.wrong]
        assert all(told)
        broken += len(told)
    assert broken > 0


@pytest.mark.parametrize(
    ("words", "row", "found"),
    [
        ("fails > 50%", {"at_least": 0.5}, (0.5, None)), ("fails < 1%", {"at_most": 0.01}, (None, 0.01)),
        ("right ≥ 99.5%", {"kind": "right", "at_least": 0.995}, (0.995, None)),
        ("right ≤ 90%", {"kind": "right", "at_most": 0.9}, (None, 0.9)),
        ("gain ≥ -2 points", {"kind": "gain", "at_least": -0.02}, (-0.02, None)),
        ("≥ 0.7", {"kind": "mass", "at_least": 0.7}, (0.7, None)),
        ("< 0.02 nats", {"kind": "loss", "at_most": 0.02}, (None, 0.02)),
        ("< 1e-05 nats", {"kind": "loss", "at_most": 1e-5}, (None, 1e-5)),
        ("> 50% of training runs", {"kind": "order", "at_least": 0.5}, (0.5, None)),
        ("never fails", {"expects": "none"}, (None, 0.0)),
        ("always follows", {"kind": "follows", "expects": "all"}, (1.0, None)),
        ("fails", {"expects": "some"}, (0.0, None)), ("may fail", {"expects": "free"}, (None, None)),
        ("out of reach", {"expects": "unreachable"}, (None, None)),
        ("at least 7", {"kind": "runs", "at_least": 7 / 9, "k": 6, "n": 9}, (7 / 9, None)),
    ],
)  # fmt: skip
def test_what_an_expectation_allows(words, row, found):
    row = ROW | {"at_least": None, "at_most": None} | row
    assert expected(row) == words
    assert bounds(row) == found


def test_rates_stand_in_order_on_their_axis_and_the_ends_have_room():
    places = [along(tick) for tick in TICKS]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 1)
    assert along(0.01) > 5 * 0.01
    assert 1 - along(0.99) == pytest.approx(along(0.01))


def test_a_drawing_shows_the_point_in_its_interval_and_what_is_allowed():
    drawn = draw(ROW)
    assert drawn.interval == (along(0.7), along(0.9))
    assert drawn.interval[0] < drawn.point < drawn.interval[1]
    assert drawn.allowed == (along(0.05), 1)
    assert drawn.ends is None


def test_a_loss_and_a_loss_of_accuracy_stand_on_axes_of_their_own():
    counted = {"k": None, "n": None, "at_least": None}
    loss = draw(
        ROW | counted | {"subject": "loss", "kind": "loss", "at_most": 2.0, "value": 4.0, "low": 3.0, "high": 5.0}
    )
    assert loss.ends == ("0", "5.5")
    assert loss.point == pytest.approx(4 / 5.5)
    assert loss.allowed == (0, pytest.approx(2 / 5.5))
    gain = draw(ROW | counted | {"subject": "gain", "kind": "gain", "at_least": 0.02, "groups": (0.9, 0.95),
                                 "value": -0.05, "low": -0.1, "high": None})  # fmt: skip
    assert gain.interval == (pytest.approx(0.012 / 0.144), 1)  # an infinite end is the axis's
    assert gain.point < gain.allowed[0]


def test_the_colour_scale_has_a_class_for_none_and_for_most():
    assert [colour_class(rate) for rate in (0, 0.001, 0.01, 0.02, 0.2, 0.3, 0.9, 1)] == [0, 1, 1, 2, 3, 4, 5, 5]


SPEC = """\
version: 1
hypotheses:
  # about the first
  - id: a
    each:
      - {x: 1}
      - {x: 2}

    expect: {fails: []}

  # about the second
  - id: b
    claim: >-
      of two
      lines
# done
"""


def test_a_claims_lines_end_where_the_next_one_begins(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC, "utf-8")
    assert excerpt(path, 4) == "- id: a\n  each:\n    - {x: 1}\n    - {x: 2}\n\n  expect: {fails: []}"
    assert excerpt(path, 12) == "- id: b\n  claim: >-\n    of two\n    lines"


def test_lines_that_are_not_there_are_no_trouble(tmp_path):
    path = tmp_path / "a.yaml"
    assert excerpt(path, 4) == ""
    path.write_bytes(b"\xff\xfe")
    assert excerpt(path, 1) == ""
    path.write_text("a: 1\n", "utf-8")
    assert [excerpt(path, line) for line in (1, 99)] == ["", ""]
    assert excerpt(tmp_path, 1) == ""


def test_questions_are_taken_apart():
    one = record()
    cascade = example("99+01", "000", "100", "CascadeUS9", "S5L0H1")
    assert [example_line(row) for row in (cascade, BROKEN)] == [
        "99+01=000 Nyy CascadeUS9 by S5L0H1",
        "12+34=056 yNy BA",
    ]
    one["measurement"]["examples"] = {"A2": [cascade], "A1": [cascade, BROKEN]}
    first, second = broken_questions(one)  # each once
    assert first.question == "99+01"
    assert first.tokens == (("0", True), ("0", False), ("0", False))
    assert (first.wanted, first.pattern, first.note) == ("100", "Nyy", "CascadeUS9 by S5L0H1")
    assert second.wanted == "046"
    assert broken_patterns(one) == {"yNy": 80}


def test_pairs_and_answers_of_several_models_are_taken_apart():
    patched = record(verb="patch")
    swapped = example("39+60", "090", "100", source="72+24")
    assert example_line(swapped) == "72+24 -> 39+60 = 090, not 100"
    patched["measurement"] = {"examples": {"A2": [swapped]}}
    (pair,) = broken_questions(patched)
    assert (pair.question, pair.pattern, pair.wanted) == ("72+24 -> 39+60", "NNy", "100")
    answered = record(verb="answer")
    answered["measurement"] = {"by_fixture": {name: {"examples": [BROKEN]} for name in ("m", "n")}}
    assert [found.note for found in broken_questions(answered)] == ["m BA", "n BA"]


def test_questions_of_another_task_are_taken_apart_and_nothing_is_added_up():
    words = record(adds=False)
    asked = [example("ant bee cow ant", "bee ant", "cow ant", "at0", "S3L1H0"), example("12+34", "056", "096")]
    assert [example_line(row) for row in asked] == ["ant bee cow ant=bee ant Ny at0 by S3L1H0", "12+34=056 yNy"]
    words["measurement"]["examples"] = {"a1": asked}
    first, second = broken_questions(words)
    assert (first.question, first.tokens, first.note) == (
        "ant bee cow ant",
        (("bee", True), ("ant", False)),
        "at0 by S3L1H0",
    )
    assert [second.question, second.pattern, second.note] == ["12+34", "yNy", ""]
    assert (first.wanted, second.wanted) == ("cow ant", "096")
    swapped = example("cow elk cow", "bee ant", "bee cow", source="ant bee ant")
    assert example_line(swapped) == "ant bee ant -> cow elk cow = bee ant, not bee cow"
    words["measurement"]["examples"] = {"a1": [swapped]}
    (pair,) = broken_questions(words)
    assert (pair.question, pair.pattern, pair.wanted) == ("ant bee ant -> cow elk cow", "yN", "bee cow")


def test_a_prompt_that_reads_like_an_example_is_shown_as_it_is():
    odd = record()
    for prompt in ("something else", "12+34=056 yNy BA", "72+24 -> 39+60 = 090, not 100"):
        odd["measurement"]["examples"] = {"A1": [example(prompt, "", "")]}
        (found,) = broken_questions(odd)
        assert (found.question, found.tokens, found.wanted, found.note) == (prompt, (), "", "")


def test_of_a_refuted_claim_the_questions_that_did_not_break_are_shown():
    assert unbroken_questions(record()) == []
    refuted = record(comparisons=[ROW | {"finding": "contradicted"}])
    assert [found.question for found in unbroken_questions(refuted)] == ["11+11"]
