"""`n: auto`, and what is said of claims that no sample settled: cut to its mean, a copying head breaks A1 on 45%."""

from __future__ import annotations

import pytest
from planted import read

from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.worth.controls import measure_controls
from harness.judging.worth.mutation_score import judge_mutants
from harness.reporting.failure import failure_text
from harness.reporting.summary import false_verdicts_line
from harness.tasks.questions import AUTO_MOST

pytestmark = pytest.mark.usefixtures("one_thread")
CUT = "ablate: S3L0H0\nreference: {{all}}\nquestions: {questions}\nexpect: {{{{fails: [A1], fail_rate: {rate}}}}}"


@pytest.mark.parametrize(
    ("rate", "verdict", "least", "most"),
    [(0.2, "supported", 500, 1000), (0.42, "supported", 2000, 16000), (0.48, "refuted", 2000, 16000)],
)
def test_as_many_are_asked_as_settle_it(tmp_path, fixtures, bench, rate, verdict, least, most):
    (claim,) = read(tmp_path, fixtures, CUT.format(questions="{{n: auto, seed: 5}}", rate=rate))
    assert str(claim.questions) == "500 (auto) × uniform, seed 5"
    result = judge(claim, bench)
    assert result.verdict == verdict
    n = result.hypothesis.questions.n
    assert least <= n <= most
    assert result.measurement.n == n
    record = record_of(result)
    assert record["questions"] == f"{n} (auto) × uniform, seed 5"
    assert record["settled_by"] is None
    (row,) = [row for row in result.comparisons if row.subject == "A1"]
    assert row.low < 0.45 < row.high


@pytest.mark.slow
def test_what_no_number_settles_is_given_up_at_the_cap(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, CUT.format(questions="{{n: auto, seed: 5}}", rate=0.45))
    result = judge(claim, bench)
    assert result.verdict == "inconclusive"
    assert result.hypothesis.questions.n == AUTO_MOST


@pytest.mark.slow
def test_a_claim_is_controlled_and_mutated_with_the_number_that_settled_it(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, CUT.format(questions="{{n: auto, seed: 5}}", rate=0.42))
    settled = judge(claim, bench).hypothesis
    assert measure_controls(settled, bench).methods["mean"] == "supported"
    mutants = judge_mutants(settled, bench, [])
    assert {survivor.kind for survivor in mutants.survivors} == {"head+1"}
    assert {"no-op", "drop A1"} <= set(mutants.killed)


def test_patch_and_answer_can_be_auto_too(tmp_path, fixtures, bench):
    claims = read(
        tmp_path, fixtures,
        "patch: {{node: S3L0M, variable: D0.carry, digits: [A1]}}\npairs: {{n: auto}}",
        "answer: whole\nquestions: {{n: auto}}\nexpect: {{accuracy_at_least: 0.99}}",
        "attend: {{node: S3L0H0, to: [D0]}}\nquestions: {{n: auto}}\nexpect: {{mass_at_least: 0.95}}",
    )  # fmt: skip
    results = [judge(claim, bench) for claim in claims]
    assert [result.verdict for result in results] == ["supported"] * 3
    assert results[0].hypothesis.questions.n == 1000  # 706 pairs are the least that could settle it at 99%


def test_an_inconclusive_claim_says_how_many_would_settle_it(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, CUT.format(questions="{{n: 1000, seed: 3}}", rate=0.42))
    record = record_of(judge(claim, bench))
    assert record["verdict"] == "inconclusive"
    n = record["settled_by"]
    assert f"about n: {n} would settle it, if what was seen stays what it is" in failure_text(record)
    # The true rate is 45%: at 1,000 questions the interval reaches 5 points to either side, at n 3.
    assert 1000 < n < 20_000


def test_what_chance_may_have_made_false_is_counted(tmp_path, fixtures, bench):
    claims = read(
        tmp_path, fixtures,
        CUT.format(questions="{{n: 1000, seed: 3}}", rate=0.2),  # supported
        CUT.format(questions="{{n: 1000, seed: 3}}", rate=0.42),  # inconclusive: not false
        CUT.format(questions="{{n: 1000, seed: 3}}", rate=0.8),  # refuted
        CUT.format(questions="{all}", rate=0.2),  # a census: no chance
    )  # fmt: skip
    records = [record_of(judge(claim, bench)) for claim in claims]
    assert false_verdicts_line(records) == (
        "by chance, at most 0.02 of the 2 verdicts on samples are expected to be false"
    )
    assert false_verdicts_line(records[3:]) == ""
