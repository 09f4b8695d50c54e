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

from harness.base.intervals import ERROR, draws_for
from harness.base.seeds import seed_for
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, gather, judge
from harness.judging.jobs import add_confirmed, do_job, jobs_of, jobs_to_confirm, records_of
from harness.judging.records import record_of
from harness.reporting.failure import failure_text
from harness.reporting.words import observed

COIN = "ablate: S3L0H0\nquestions: [5+5, 6+5, 7+5]\nexpect: {{fails: [A1]}}\nreference: {{n: 1000, seed: %d}}"
NEVER = COIN.replace("fails: [A1]", "fails: []")
WRONG = "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: []}}"
SURE = "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}"


RUNS = ("coin_s0", "coin_s1", "coin_s2")


@pytest.fixture(scope="module")
def coins(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixtures")
    for number, name in enumerate(("planted", *RUNS)):  # four training runs, alike but for a hair
        write_coin(path, name, hair=1e-6 * (1 + number))
    return path


def write_coin(path, name, hair):
    weights = planted_weights()
    mean, _spread = scaling(4)
    for unit, (step, _) in enumerate((step, pair) for step in (3, 4) for pair in PAIRS):
        if step == 3:
            weights["blocks.0.mlp.b_in"][unit] = 3 * mean - 2.1  # on if the first part is above a tenth
    weights["unembed.b_U"][0] = hair
    write_tiny(path, name, weights=weights, **SIZES)


def claims_of(text, fixtures, tmp_path, seeds):
    return [read(tmp_path, fixtures, text % seed)[0] for seed in seeds]


def test_a_verdict_that_depends_on_the_draw_is_none(coins, tmp_path):
    bench = Workbench("cpu")
    found = [judge(claim, bench) for claim in claims_of(COIN, coins, tmp_path, range(20))]
    one = [replace(claim, drawing_errors=(1.0, None)) for claim in claims_of(COIN, coins, tmp_path, range(20))]
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
    assert {row.draws for row in found.comparisons} == {
        9
    }  # the first chooses which of two comparisons the others are to confirm
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


def of_runs(text, at_least):
    return text.replace("fails:", f"at_least: {at_least}, fails:") + f"\nfixtures: [{', '.join(RUNS)}]"


def draws_of_runs(result):
    return {name: max(row.draws for row in run.comparisons) for name, run in result.measurement.by_run.items()}


@pytest.mark.parametrize(("at_least", "confirmed"), [("3/3", 1), ("2/3", 2), ("1/3", 3)])
def test_only_as_many_refuted_runs_are_confirmed_as_the_verdict_needs(coins, tmp_path, at_least, confirmed):
    text = of_runs(WRONG, at_least)
    (claim,) = read(tmp_path, coins, text)
    found = judge(claim, Workbench("cpu"))
    assert found.verdict == "refuted"
    asked = 1 + draws_for(ERROR / int(at_least[0]))  # one draw chooses of two comparisons; one of so many runs may err
    assert sorted(draws_of_runs(found).values()) == [1] * (3 - confirmed) + [asked] * confirmed
    runs = record_of(found)["comparisons"][:3]
    assert [row["one_draw"] for row in runs] == [row["subject"] in RUNS[confirmed:] for row in runs]
    assert [observed(row, record_of(found)).endswith("(by one draw)") for row in runs] == [
        row["one_draw"] for row in runs
    ]


def test_runs_refuted_by_the_luck_of_one_draw_are_open(coins, tmp_path):
    """Each run tosses its coin: of eight claims some are refuted by the first draws, and none by all of them."""
    text = of_runs(COIN, "3/3")
    claims = claims_of(text, coins, tmp_path, range(8))
    bench = Workbench("cpu")
    first = [[judge(one, bench).verdict for one in claim.members] for claim in claims]
    assert any("refuted" in verdicts for verdicts in first)
    assert {judge(claim, bench).verdict for claim in claims} == {"inconclusive"}


def test_jobs_confirm_the_same_runs(coins, tmp_path):
    text = of_runs(WRONG, "2/3")
    claims = read(tmp_path, coins, text)
    done = {title: do_job(job, lambda: Workbench("cpu")) for title, job in jobs_of(claims).items()}
    rounds = 0
    while jobs := jobs_to_confirm(claims, done):
        add_confirmed(done, jobs, {title: do_job(job, lambda: Workbench("cpu")) for title, job in jobs.items()})
        rounds += 1
    (record,) = records_of(claims, done, ())
    expected = judge(claims[0], Workbench("cpu"))
    assert rounds == 1
    assert record["comparisons"] == record_of(expected)["comparisons"]
    assert {name: run["comparisons"] for name, run in record["measurement"]["by_run"].items()} == {
        name: record_of(run)["comparisons"] for name, run in expected.measurement.by_run.items()
    }
