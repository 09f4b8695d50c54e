"""Good specs become hypotheses; bad ones are refused with every problem at its place."""

from __future__ import annotations

import textwrap

import pytest
from paths import FIXTURE, FIXTURES

from harness import __version__
from harness.base.errors import FixtureError, SpecError
from harness.specs.spec_files import load_file, load_hypotheses, read_questions, spec_files
from harness.tasks.questions import NamedSet, QuestionList, Sample

HEAD = f"version: 1\nfixture: {FIXTURE}\nhypotheses:\n"
GOOD = {"id": "a", "claim": "c", "ablate": "S12L0H0", "questions": "varied", "expect": "{fails: [A4]}"}


def spec(**changes):
    """Return a spec of one claim, keys in a fixed order from line 4; None drops a key."""
    fields = {**GOOD, **changes}
    rows = [f"{key}: {value}" for key, value in fields.items() if value is not None]
    return HEAD + "  - " + "\n    ".join(rows) + "\n"


def load(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text, "utf-8")
    return load_file(path, FIXTURES, "s.yaml")


def lines(tmp_path, text):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    return [str(problem) for problem in caught.value.problems]


def test_defaults(tmp_path):
    (h,) = load(tmp_path, spec())
    assert (h.id, h.method, h.gate, h.by_construction, h.xfail, h.one_at_a_time) == (
        "a",
        "mean",
        0.99,
        False,
        None,
        False,
    )
    assert h.questions == NamedSet("varied")
    assert (h.expect.fails, h.expect.fail_rate, h.expect.intact_rate) == (("A4",), None, None)
    assert (h.path, h.line, h.key) == ("s.yaml", 4, "s.yaml::a")
    assert isinstance(h.reference, Sample)
    assert (h.reference.n, h.reference.strata) == (1000, ())


def test_a_sample_has_default_rates_and_a_census_has_none(tmp_path):
    (h,) = load(tmp_path, spec(questions="{n: 1000}"))
    assert (h.expect.fail_rate, h.expect.intact_rate) == (0.05, 0.01)


def test_the_reference_is_never_drawn_like_the_default_questions(tmp_path):
    (h,) = load(tmp_path, spec(questions="{n: 1000}"))
    assert h.questions != h.reference


def test_short_questions_are_padded(tmp_path):
    (short,) = load(tmp_path, spec(questions="[15+45]"))
    (padded,) = load(tmp_path, spec(questions="[00015+00045]"))
    assert short.questions == padded.questions == QuestionList(((15, 45),))


def test_each_writes_a_claim_per_row(tmp_path):
    text = spec(
        id='"add-{digit}"', claim='"{digit} at {step}"', ablate='"{step}L0H0+H1"', expect='{fails: ["{digit}"]}',
        questions='{n: "{n}"}', each="[{step: S12, digit: A4, n: 800}, {step: S13, digit: A3, n: 900}]",
    )  # fmt: skip
    first, second = load(tmp_path, text)
    assert (first.id, first.claim, first.expect.fails, first.questions.n) == ("add-A4", "A4 at S12", ("A4",), 800)
    assert (second.id, [str(n) for n in second.nodes]) == ("add-A3", ["S13L0H0", "S13L0H1"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ablate": "S11L0H5"}, "6:13: expected a head H0 to H2, found H5 in S11L0H5; name one that the model has"),
        ({"ablate": "S11L4H0"}, "6:13: expected a layer L0 to L1, found L4 in S11L4H0; name one that the model has"),
        ({"abblate": "S3"}, "9:5: expected a known key, found abblate; did you mean 'ablate'?"),
        ({"tags": "[_x]"}, "9:12: expected a tag of letters, digits, _ and -, found _x; correct `tags`"),
        (
            {"ablate": "S16", "questions": "{n: 1}", "expect": "{fails: [], may_fail: [A0], loss_below: 0.5}"},
            "7:20: expected n of at least 28, or the claim cannot be settled, found 1; write n: 28 or more",
        ),
        (  # the larger of what the digits and what the loss need
            {"questions": "{n: 1}", "expect": "{fails: [A4], loss_below: 0.5}"},
            "7:20: expected n of at least 706, or the claim cannot be settled, found 1; write n: 706 or more",
        ),
        ({"claim": '"{digit}"', "each": "[{}]"}, "9:12: expected a value for {digit}, found none; add `digit: …` to the row"),
        (
            {"claim": '"c{x}"', "each": "[{x: 1}, {x: 2}]"},
            "4:9: expected each id once in a file, found a again (first in line 4); give one of them another id",
        ),
    ],
)  # fmt: skip
def test_one_bad_thing_is_one_exact_line(tmp_path, changes, expected):
    assert lines(tmp_path, spec(**changes)) == [f"s.yaml:{expected}"]


@pytest.mark.parametrize(
    "text",
    [
        "version: 2\nfixture: add_d5_l2_h3\nhypotheses: [{}]\n",
        "version: 2\nmodels: {a: b}\nclaims: [1]\n",
        "version: 2\nshared: &a [S11L0H2]\nclaims: [{ablate: *a}]\n",
    ],
)
def test_of_a_spec_of_a_newer_format_only_that_is_told(tmp_path, text):
    expected = f"expected version 1, the newest that harness {__version__} reads, found 2; install a newer harness"
    assert lines(tmp_path, text) == [f"s.yaml:1:10: {expected}"]


def test_unknown_fixture_has_a_suggestion(tmp_path):
    text = spec().replace(FIXTURE, "add_d5_l2_h33")
    assert lines(tmp_path, text) == [
        f"s.yaml:2:10: expected a fixture in {FIXTURES}, found add_d5_l2_h33; did you mean 'add_d5_l2_h3'?"
    ]


@pytest.mark.parametrize("name", ["5", '""', "[a]"])
def test_a_fixture_that_is_no_name_is_told_once(tmp_path, name):
    (line,) = lines(tmp_path, spec().replace(FIXTURE, name))
    assert line.startswith("s.yaml:2:10: expected ")


def test_all_files_of_a_directory_are_read_and_all_their_problems_told(tmp_path):
    (tmp_path / "a.yaml").write_text(spec(ablate="S99"), "utf-8")
    (tmp_path / "b.yml").write_text("x: [", "utf-8")
    (tmp_path / "c.yaml").write_text(spec(), "utf-8")
    with pytest.raises(SpecError) as caught:
        load_hypotheses(tmp_path, FIXTURES)
    assert [problem.where for problem in caught.value.problems] == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yml")]


def test_of_a_directory_only_files_that_are_named_as_specs_are_read(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "folder.yaml" / "b.yaml").write_text(spec(), "utf-8")
    (tmp_path / "notes.txt").write_text("no spec", "utf-8")
    (tmp_path / "a.yml").write_text(spec(), "utf-8")
    assert spec_files(tmp_path) == [tmp_path / "a.yml", tmp_path / "folder.yaml" / "b.yaml"]


def test_fixtures_are_sought_in_the_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(FIXTURES.parent)
    (tmp_path / "s.yaml").write_text(spec() + "  - " + spec(id="b").split("  - ")[1], "utf-8")
    first, second = load_hypotheses(tmp_path / "s.yaml")
    assert (first.fixture, first.index, second.index) == (FIXTURE, 0, 1)


def test_a_claim_of_two_verbs_is_refused_where_the_second_stands(tmp_path):
    two = spec(keep="[S12L0H0]")
    (line,) = lines(tmp_path, two)
    assert line.startswith(f"s.yaml:{two.splitlines().index('    keep: [S12L0H0]') + 1}:5: expected one of ablate, ")
    assert line.endswith("found ablate and keep; write a claim each")


def test_a_broken_recipe_is_the_fixtures_trouble(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.yaml").write_text("version: 1\n", "utf-8")
    path = tmp_path / "s.yaml"
    path.write_text(spec().replace(FIXTURE, "broken"), "utf-8")
    with pytest.raises(FixtureError, match="expected the key `n_digits`"):
        load_file(path, tmp_path)


def test_the_reach_decides_what_is_by_construction(tmp_path):
    (h,) = load(tmp_path, spec(ablate="S17", expect="{fails: []}", by_construction="true"))
    assert h.true_by_construction
    assert h.comparisons == 0
    (h,) = load(tmp_path, spec(ablate="S16L1H0", expect="{fails: [], may_fail: [A0]}"))
    assert h.true_by_construction
    (h,) = load(tmp_path, spec(ablate="S16L1H0", expect="{fails: [], may_fail: [A0], loss_above: 0.02}"))
    assert not h.true_by_construction


def test_the_least_n_is_enough_and_one_less_is_refused(tmp_path):
    nothing = "{fails: [], loss_below: 0.02}"
    assert load(tmp_path, spec(questions="{n: 1005}", expect=nothing))
    assert "n of at least 1005" in lines(tmp_path, spec(questions="{n: 1004}", expect=nothing))[0]
    assert load(tmp_path, spec(questions="{n: 688}"))
    assert "n of at least 688" in lines(tmp_path, spec(questions="{n: 687}"))[0]


def test_questions_of_the_command_line_are_those_of_a_spec(tmp_path):
    (h,) = load(tmp_path, spec(questions="{n: 900, seed: 4, where: {case: [BA, MC1]}, stratify: case}"))
    assert read_questions("{n: 900, seed: 4, where: {case: [BA, MC1]}, stratify: case}", h.shape) == h.questions
    with pytest.raises(SpecError, match="questions:1:1: expected ba, uc1"):
        read_questions("vary", h.shape)
    with pytest.raises(SpecError, match="questions:1:10: expected a known key, found sead"):
        read_questions("{n: 900, sead: 4}", h.shape)


def test_the_readme_of_the_design_is_a_spec(tmp_path):
    """The three forms that the documentation shows."""
    text = HEAD + textwrap.indent(
        textwrap.dedent("""\
        - id: listed
          claim: c
          ablate: S11L0H2
          reference: varied
          questions: [15508+14500, 14508+15500]
          expect: {fails: [A4], may_fail: [A5]}
        - id: sampled
          claim: c
          ablate: S0-S7
          questions: {n: 3000, seed: 1, stratify: cascade}
          expect: {fails: [], loss_below: 0.02}
        - id: base-add-{digit}
          claim: The base add of {digit} happens at {step}.
          each: [{step: S12, digit: A4}, {step: S13, digit: A3}]
          ablate: "{step}L0H0+H1"
          questions: {where: {case: BA}, n: 1000}
          expect: {fails: ["{digit}"], fail_rate: 0.5}
          tags: [base-add]
        """),
        "  ",
    )
    assert [h.id for h in load(tmp_path, text)] == ["listed", "sampled", "base-add-A4", "base-add-A3"]
