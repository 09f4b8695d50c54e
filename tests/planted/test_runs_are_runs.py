"""Training runs are counted as what they are: who is left out, which role nobody has shown, what is asked twice."""

from __future__ import annotations

import json

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from several import ASKED, GROUP, SIZES, read, weights_of, write_run
from tiny import edit_pin, recipe_text, refusal, write_tiny

from harness.base.errors import MeasurementError
from harness.cli import main
from harness.exploring.role_search import locate, roles_file
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import ordered, record_of
from harness.reporting.failure import failure_text
from harness.reporting.page import render
from harness.reporting.report import markdown, terminal_table
from harness.reporting.summary import remarks, summary_line
from harness.specs.fixtures.files import FixtureRef, runs_like
from harness.specs.fixtures.roles import write_roles

pytestmark = pytest.mark.usefixtures("one_thread")

# Runs that are left out.


@pytest.fixture
def family(tmp_path):
    """Four runs of a recipe, of which one has no weights, and others that are none of it."""
    path = tmp_path / "family"
    for seed, order in enumerate([[0, 1, 2], [2, 0, 1], [1, 2, 0]]):
        write_tiny(path, f"run_s{seed}", weights=weights_of(order), **SIZES, seed=seed)
    untrained = path / "run_s3"
    untrained.mkdir()
    (untrained / "recipe.yaml").write_text(recipe_text(**SIZES, seed=3), "utf-8")
    write_tiny(path, "longer_s4", weights=weights_of([0, 2, 1]), **SIZES, seed=4, steps=2)
    write_tiny(path, "wider_s5", **{**SIZES, "d_mlp": 8}, seed=5)
    broken = path / "broken_s6"
    broken.mkdir()
    (broken / "recipe.yaml").write_text("version: 1\n", "utf-8")
    return path


def test_runs_of_one_recipe_differ_in_the_seed_alone(family):
    assert runs_like(["run_s0"], family) == ["run_s0", "run_s1", "run_s2"]
    assert runs_like(["longer_s4"], family) == ["longer_s4"]
    assert runs_like(["longer_s4", "run_s1"], family) == ["longer_s4", "run_s0", "run_s1", "run_s2"]
    assert runs_like(["broken_s6", "nobody"], family) == []
    write_tiny(family, "run_s7", weights=weights_of([2, 1, 0]), **SIZES, seed=7)  # what came since is seen
    assert runs_like(["run_s0"], family) == ["run_s0", "run_s1", "run_s2", "run_s7"]


@pytest.mark.parametrize(
    ("asked", "left_out"),
    [
        (f"ablate: S3L0M\n{ASKED}expect: {{fails: [A1]}}\nfixtures: run_s[01]\n", ("run_s2",)),
        (f"ablate: S3L0M\n{ASKED}expect: {{fails: [A1]}}\nfixtures: run_s[012]\n", ()),
        (f"ablate: S3L0M\n{ASKED}expect: {{fails: [A1]}}\n", ()),
        (f"answer: whole\n{ASKED}expect: {{accuracy_at_least: 0.9}}\nfixtures: run_s[12]\n", ("run_s0",)),
        (f"answer: whole\n{ASKED}expect: {{gain_at_least: 0.1}}\nfixtures: run_s0\nthan: run_s1\n", ()),
        (f"answer: whole\n{ASKED}expect: {{gain_at_least: 0.1}}\nfixtures: run_s[01]\nthan: run_s2\n", ()),
    ],
)
def test_what_a_group_leaves_out_is_told(family, tmp_path, asked, left_out):
    assert read(tmp_path, asked, family).left_out == left_out


def test_it_stands_beside_the_verdict_in_every_report(family, tmp_path):
    text = f"ablate: S3L0H2\n{ASKED}{GROUP}expect: {{fails: [A1]}}\n"
    record = record_of(judge(read(tmp_path, text, family), Workbench("cpu")))
    assert record["left_out"] == ["run_s2"]
    assert "\nleft out: run_s2\n" in failure_text(record)
    for report in (markdown([record]), terminal_table([record]), render([record])):
        assert "left out: run_s2" in report


# Roles without evidence.

BY_ROLE = f"ablate: S3L0[carry]\n{ASKED}expect: {{fails: [A1]}}\n"


def test_a_role_that_nobody_has_shown_is_told_and_one_that_was_located_is_not(copied, tmp_path):
    one = read(tmp_path, BY_ROLE, copied)
    assert one.without_evidence == {"carry.A1": ("run_s0",)}
    record = record_of(judge(one, Workbench("cpu")))
    assert record["verdict"] == "supported"
    assert remarks(record) == ["role carry.A1 without evidence"]
    assert "supported** (role carry.A1 without evidence)" in markdown([record])

    found = locate(FixtureRef("run_s0", copied), Workbench("cpu"), n=60, confirm=400)
    (copied / "run_s0" / "roles.yaml").write_text(write_roles(roles_file(found, None), "found"), "utf-8")
    assert read(tmp_path, BY_ROLE, copied).without_evidence == {}
    both = read(tmp_path, BY_ROLE + GROUP, copied)
    assert both.without_evidence == {"carry.A1": ("run_s1",)}
    assert "role carry.A1 without evidence in run_s1" in remarks(record_of(judge(both, Workbench("cpu"))))
    assert read(tmp_path, BY_ROLE.replace("[carry]", "H0"), copied).without_evidence == {}


# What is asked twice.

HEAD = "version: 1\nfixture: FIXTURE\nhypotheses:\n"
CLAIM = """\
  - id: ID
    claim: Heads 0 and 1 serve A1.
    ablate: S3L0H0+H1
    questions: {n: 1500, seed: 3}
    expect: {fails: [A1]}
"""
SAME = {
    "words": ("Heads 0 and 1 serve A1.", "They carry the one."),
    "spelling": ("S3L0H0+H1", "[S3L0H1, S3L0H0]"),
    "default": ("fails: [A1]", "fails: [A1], fail_rate: 0.05"),
    "tags": ("expect:", "tags: [carry]\n    source: me\n    recorded: true\n    expect:"),
}
OTHER = {
    "seed": ("seed: 3", "seed: 4"),
    "head": ("H0+H1", "H0"),
    "rate": ("fails: [A1]", "fails: [A1], fail_rate: 0.051"),
    "method": ("questions", "method: zero\n    questions"),
    "gate": ("questions", "gate: 0.9\n    questions"),
}


@pytest.fixture
def asking(copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "claims").mkdir()

    def ask(**files):
        for name, text in files.items():
            (tmp_path / "claims" / f"{name}.yaml").write_text(text, "utf-8")
        assert main(["check", "claims", "--json", "--device=cpu"]) == 0
        return json.loads(capsys.readouterr().out)["claims"]

    return ask


def variants(changes):
    return "".join(CLAIM.replace("ID", name).replace(*change) for name, change in changes.items())


def test_the_same_claim_several_times_is_one_claim(asking):
    head = HEAD.replace("FIXTURE", "run_s0")
    records = asking(a=head + CLAIM.replace("ID", "first") + variants(SAME), b=head + CLAIM.replace("ID", "elsewhere"))
    assert {one["id"]: one["repeats"] for one in records} == {
        "first": None, **dict.fromkeys([*SAME, "elsewhere"], "claims/a.yaml::first"),
    }  # fmt: skip
    assert summary_line(records).startswith(
        "6 claims evaluated: 6 supported, of these 1 recorded, not predicted, 5 of them repeat another"
    )
    assert summary_line(records[:2]).startswith("2 claims evaluated: 2 supported, 1 of them repeats another")
    assert "**supported** (repeats claims/a.yaml::first)" in markdown(records)


def test_what_differs_in_anything_that_is_asked_or_expected_is_no_repeat(asking):
    head = HEAD.replace("FIXTURE", "run_s0")
    records = asking(
        a=head + CLAIM.replace("ID", "first") + variants(OTHER), b=HEAD.replace("FIXTURE", "run_s2") + CLAIM
    )
    assert [one["repeats"] for one in records] == [None] * 7
    assert "repeat" not in summary_line(records)
    assert len({one["asks"] for one in records}) == 7


def test_the_order_of_fixtures_and_the_fixture_of_the_file_make_no_other_claim(copied, tmp_path):
    claims = [
        read(tmp_path, BY_ROLE + fixtures, copied)
        for fixtures in (GROUP, "fixtures: [run_s1, run_s0]\n", "fixtures: [run_s1, run_s2]\n")
    ]
    records = [
        record_of(judge(claim, Workbench("cpu"))) | {"key": str(i), "index": i} for i, claim in enumerate(claims)
    ]
    assert [one["repeats"] for one in ordered(records)] == [None, "0", None]


# One run under two names.


def test_a_copy_of_a_run_is_refused_by_claims_about_answers_too(copied, tmp_path):
    write_run(copied, "run_s3", [0, 1, 2], roles=False)
    edit_pin(copied / "run_s3", name="run_s3")
    for group in (
        "fixtures: [run_s0, run_s3]\nexpect: {accuracy_at_least: 0.9}",
        "fixtures: run_s0\nthan: run_s3\nexpect: {gain_at_most: 0.5}",
    ):
        claim = read(tmp_path, f"answer: whole\n{ASKED}{group}\n", copied)
        assert "expected each training run once, found the weights of run_s0 again, as those of run_s3" in refusal(
            MeasurementError, judge, claim, Workbench("cpu")
        )
