"""What depends on the draw of a reference: a planted model whose answer under mean ablation tosses a coin.

Its units at S3 are on as soon as the mean share of a digit among the reference's questions is above a tenth. So with a
sampled reference whether the tens come out right is chance, and with all 100 questions no unit is on.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from planted import PAIRS, planted_weights, read, scaling
from several import SIZES
from tiny import write_tiny

from harness.base.seeds import seed_for
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, gather, judge
from harness.judging.records import record_of
from harness.reporting.failure import failure_text

COIN = "ablate: S3L0H0\nquestions: [5+5, 6+5, 7+5]\nexpect: {{fails: [A1]}}\nreference: {{n: 1000, seed: %d}}"
NEVER = COIN.replace("fails: [A1]", "fails: []")
SURE = "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}"


@pytest.fixture(scope="module")
def coins(tmp_path_factory):
    weights = planted_weights()
    mean, _spread = scaling(4)
    for unit, (step, _) in enumerate((step, pair) for step in (3, 4) for pair in PAIRS):
        if step == 3:
            weights["blocks.0.mlp.b_in"][unit] = 3 * mean - 2.1  # on if the first part is above a tenth
    weights["unembed.b_U"][0] = 1e-6
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path, "planted", weights=weights, **SIZES)
    return path


def claims_of(text, fixtures, tmp_path, seeds):
    return [read(tmp_path, fixtures, text % seed)[0] for seed in seeds]


def test_a_verdict_that_depends_on_the_draw_is_none(coins, tmp_path):
    bench = Workbench("cpu")
    found = [judge(claim, bench) for claim in claims_of(COIN, coins, tmp_path, range(20))]
    one = [replace(claim, drawing_errors=(1.0, 1.0)) for claim in claims_of(COIN, coins, tmp_path, range(20))]
    first = [judge(claim, bench).verdict for claim in one]
    assert 3 <= first.count("supported") <= 17  # by one draw, a coin is tossed
    assert [result.verdict for result in found].count("inconclusive") >= 18
    for result in found:
        row = next(row for row in result.comparisons if row.subject == "A1")
        if result.verdict == "inconclusive":
            assert (row.finding, row.depends, row.drawn_low, row.drawn_high) == ("undecided", True, 0, 1)
            text = failure_text(record_of(result))
            assert f"over {row.draws} draws" in text
            assert re.search(r"A1 +fails +\d/3 +\d+% +0% to 100% +undecided", text)
            assert "It depends on which questions the reference holds. List them (`reference: [...]`" in text


@pytest.mark.slow
def test_a_claim_about_coins_is_seldom_decided(coins, tmp_path):
    """Of 150 claims at most 150 · 2^-8 = 0.6 are expected to be supported, and fewer refuted; 7 once in 300,000."""
    bench = Workbench("cpu")
    for text in (COIN, NEVER):
        claims = claims_of(text.replace("1000", "100"), coins, tmp_path, range(150))
        verdicts = [experiment(claim, bench).verdict for claim in claims]
        assert max(verdicts.count("supported"), verdicts.count("refuted")) < 7


def test_draws_stop_where_they_disagree_and_go_on_where_they_agree(coins, tmp_path):
    (sure,) = read(tmp_path, coins, SURE)
    assert {row.draws for row in judge(sure, Workbench("cpu")).comparisons} == {8}
    wrong = replace(sure, expect=replace(sure.expect, fails=()))
    found = judge(wrong, Workbench("cpu"))
    assert found.verdict == "refuted"
    assert {row.draws for row in found.comparisons} == {9}  # either of two might refute it: twice the chance
    draws = [len_of(claim) for claim in claims_of(COIN, coins, tmp_path, range(8))]
    assert min(draws) == 2
    assert max(draws) <= 8


def len_of(claim):
    return max(row.draws for row in judge(claim, Workbench("cpu")).comparisons)


def test_a_reference_is_drawn_anew_from_a_seed_of_its_own(coins, tmp_path):
    (claim,) = claims_of(COIN, coins, tmp_path, [3])
    assert claim.redrawn(0) is claim
    assert claim.redrawn(2).reference.seed == seed_for("reference", 3, 2)
    assert claim.redrawn(2).questions == claim.questions
    resampled = replace(claim, method="resample")
    assert resampled.is_drawn  # the listed questions are all there are, their donors are drawn
    assert resampled.redrawn(1).replaced_by != resampled.replaced_by
    (sampled,) = read(tmp_path, coins, SURE)
    assert not replace(sampled, method="resample").is_drawn  # pairs of a question and a donor are counted
    assert not replace(claim, method="zero").is_drawn
    listed = read(tmp_path, coins, COIN.replace("{{n: 1000, seed: %d}}", "{all}"))[0]
    assert not listed.is_drawn


def test_a_claim_asks_the_same_alone_and_with_others(coins, tmp_path):
    claims = [*claims_of(COIN, coins, tmp_path, range(4)), *read(tmp_path, coins, SURE)]
    together = Workbench("cpu")
    gather(claims, together)
    for claim in claims:
        alone = judge(claim, Workbench("cpu"))
        found = judge(claim, together)
        assert (found.verdict, found.comparisons) == (alone.verdict, alone.comparisons)


def test_more_prompts_are_not_asked_where_draws_disagree(coins, tmp_path):
    text = COIN.replace("[5+5, 6+5, 7+5]", "{{n: auto, seed: 1}}").replace("[A1]}}", "[A1], may_fail: [A0]}}")
    for claim in claims_of(text, coins, tmp_path, range(4)):
        found = experiment(claim, Workbench("cpu"))
        if any(row.depends for row in found.comparisons):
            assert found.claim.questions.n == 500
