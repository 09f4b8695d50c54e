"""Claims asked again on fresh seeds: what is drawn anew, and what is told beside the verdict."""

from __future__ import annotations

import json

import pytest
from planted import read

from harness.judging.worth.reseeding import all_reseeded, judge_reseeded, reseeded

PATCH = "patch: {{node: S3L0M, variable: D0.carry, digits: [A1]}}\npairs: {{n: 800, seed: 4}}"
SPEC = """\
version: 1
fixture: planted
hypotheses:
  - id: sure
    claim: The MLP at S3 serves A1.
    ablate: S3L0M
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
  - id: lucky
    claim: Without the MLP at S3 more than 40% of A1 fail; in truth it is 45%, as far off as 800 questions can tell.
    ablate: S3L0M
    questions: {n: 800, seed: 3}
    expect: {fails: [A1], fail_rate: 0.4}
  - id: listed
    claim: Head 2 at S2 does nothing.
    ablate: S2L0H2
    method: zero
    questions: [1+9, 9+1, 5+0]
    expect: {fails: []}
"""


def test_all_that_is_drawn_gets_a_fresh_seed_and_nothing_else_changes(fixtures, tmp_path):
    mean, donors, pairs, clean, listed = read(
        tmp_path, fixtures,
        "ablate: S3L0M\nquestions: {sample}\nreference: {{n: 200, seed: 8}}\nexpect: {{fails: [A1]}}",
        "ablate: S3L0M\nquestions: {all}\nmethod: resample\nreference: {all}\nexpect: {{fails: [A1]}}",
        PATCH, "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_least: 0.9}}",
        "ablate: S3L0M\nquestions: {all}\nreference: {all}\nexpect: {{fails: [A1]}}",
    )  # fmt: skip
    first, second = all_reseeded(mean, 2)
    assert len({one.questions.seed for one in (mean, first, second)}) == 3
    assert len({one.reference.seed for one in (mean, first, second)}) == 3
    assert (first.questions.n, first.reference.n, first.seed) == (1500, 200, mean.seed)
    (drawn,) = all_reseeded(donors, 1)
    assert (drawn.questions, drawn.reference) == (donors.questions, donors.reference)
    assert drawn.seed != donors.seed
    assert next(all_reseeded(pairs, 1)).questions.seed != 4
    assert next(all_reseeded(clean, 1)).questions != clean.questions
    assert reseeded(listed, 1) is None
    assert reseeded(mean, 1) == reseeded(mean, 1)


def test_what_is_true_is_so_on_every_seed(fixtures, tmp_path, bench):
    (claim,) = read(tmp_path, fixtures, PATCH)
    assert judge_reseeded(claim, bench, 3).as_dict() == {
        "asked": 3, "supported": 3, "verdicts": ["supported"] * 3,
    }  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_it_is_told_beside_the_verdict(pytester, fixtures, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    pytester.mkdir("claims")
    (pytester.path / "claims" / "a.yaml").write_text(SPEC, "utf-8")
    result = pytester.runpytest("claims/", f"--harness-fixtures={fixtures}", "--harness-reseed=6")
    body = json.loads((pytester.path / "reports" / "hypotheses.json").read_text("utf-8"))
    found = {claim["id"]: claim.get("reseeds") for claim in body["claims"]}
    assert found["sure"]["supported"] == 6
    assert 0 < found["lucky"]["supported"] < 6  # at its threshold: now so, now so
    assert found["listed"] is None
    result.stdout.fnmatch_lines(["supported (supported on 6 of 6 fresh*sure *"])


@pytest.mark.parametrize("times", ["0", "-1", "2.5", "many", "1001"])
def test_how_often_is_a_number(pytester, times):
    result = pytester.runpytest(f"--harness-reseed={times}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*expected a whole number from 1 to 1000, found {times}"])
