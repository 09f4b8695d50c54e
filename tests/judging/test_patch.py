"""`patch` and `keep`: what they ask, what they count, and verdicts on claims whose truth is known by theory."""

from __future__ import annotations

import pytest
import torch
from paths import FIXTURES
from tiny import make_recipe, random_weights, read_claim, write_tiny

from harness.base.errors import MeasurementError, SpecError
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN, resample
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.untested import Untested
from harness.judging.worth.mutants import mutants_of
from harness.judging.worth.mutation_score import judge_mutants
from harness.models.fixtures import load_fixture
from harness.reporting.failure import failure_text
from harness.reporting.summary import tokens_seen
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import read_nodes
from harness.tasks.addition.arithmetic import decode
from harness.tasks.addition.task import Addition
from harness.tasks.addition.variables import read_variable
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import PairSample

MODEL = "quick_d5_l2_s0"  # small, and right on all that is asked here
LAYOUT = Addition(5)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path, "one", weights=random_weights(make_recipe(), 0))
    return path


def read(tmp_path, text, fixtures=FIXTURES, fixture=MODEL):
    return read_claim(tmp_path, text, fixtures, fixture)


def refused(tmp_path, text):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text)
    return str(caught.value.problems[0])


# pairs


def sums_of(question):
    return [int(x) + int(y) for x, y in zip(f"{question.x:05d}", f"{question.y:05d}", strict=True)]


@pytest.mark.parametrize(
    ("name", "digits"),
    [("D2.tricase", ("A5", "A4")), ("D3.base_add", ("A3",)), ("D4.T5", ("A5", "A4")), ("D1.carry_in", ("A1",))],
)
def test_a_differing_pair_changes_every_digit_and_an_agreeing_one_none(name, digits):
    variable = read_variable(name, LAYOUT)
    drawn = draw_pairs(PairSample(300, 5), variable, digits, LAYOUT)
    assert len(drawn.bases) == 300
    assert len(set(decode(drawn.bases.tokens, LAYOUT))) > 250
    truth = drawn.bases.answers
    places = [LAYOUT.answer_tokens.index(digit) for digit in digits]
    others = [i for i in range(6) if i not in places]
    assert bool((drawn.expected[:, places] != truth[:, places]).all())
    assert torch.equal(drawn.expected[:, others], truth[:, others])
    found = drawn.agreeing >= 0
    assert found.double().mean() > 0.99
    bases, sources = decode(drawn.bases.tokens, LAYOUT), decode(drawn.sources.tokens, LAYOUT)
    for base, agreeing in zip(bases, drawn.agreeing.tolist(), strict=True):
        if name == "D3.base_add" and agreeing >= 0:
            assert sums_of(base)[1] % 10 == sums_of(sources[agreeing])[1] % 10
        if name == "D2.tricase" and agreeing >= 0:
            ours, theirs = sums_of(base)[2], sums_of(sources[agreeing])[2]
            assert (ours > 9) - (ours < 9) == (theirs > 9) - (theirs < 9)


def test_pairs_depend_on_nothing_but_the_seed_and_a_longer_sample_is_not_needed_for_a_rare_cascade():
    variable = read_variable("D0.tricase", LAYOUT)  # through four columns of nine: 1 of 20,000 uniform questions
    first, again, other = (draw_pairs(PairSample(100, seed), variable, ("A5",), LAYOUT) for seed in (1, 1, 2))
    assert torch.equal(first.bases.tokens, again.bases.tokens)
    assert torch.equal(first.agreeing, again.agreeing)
    assert not torch.equal(first.bases.tokens, other.bases.tokens)


# what is true by theory: the last residual stream at a step is all that its digit depends on


def test_a_stream_that_is_the_digit_carries_all_that_the_digit_depends_on(tmp_path, bench):
    text = "patch: {node: [S11L1R, S12L1R], variable: D4.T5, digits: [A5, A4]}\npairs: {n: 800}"
    result = judge(read(tmp_path, text), bench)
    assert result.verdict == "vacuous"  # of any model that adds
    assert result.untested == (Untested("only way", ("A5", "A4")),)
    rows = {row.subject: row for row in result.comparisons}
    assert [rows[what].value for what in ("A5", "A4", "jointly", "agreeing")] == [1, 1, 1, 0]
    assert {rows[digit].finding for digit in ("A3", "A2", "A1", "A0")} == {"by construction"}


def test_a_stream_that_carries_the_carry_too_does_not_carry_the_base_add_alone(tmp_path, bench):
    text = "patch: {node: S13L1R, variable: D3.base_add, digits: [A3]}\npairs: {n: 800}"
    result = judge(read(tmp_path, text), bench)
    assert result.verdict == "refuted"
    rows = {row.subject: row for row in result.comparisons}
    assert 0.2 < rows["A3"].value < 0.8  # wrong where source and base differ in the carry that comes in
    assert rows["agreeing"].finding == "contradicted"
    assert "D3.base_add at S13L1R to A3" in failure_text(record_of(result))
    assert " -> " in failure_text(record_of(result))


def test_a_node_that_carries_nothing_is_followed_by_nothing(tmp_path, bench):
    text = "patch: {node: S1L0M, variable: D4.T1, digits: [A5, A4]}\npairs: {n: 800}\nexpect: {follow_rate: 0.5}"
    result = judge(read(tmp_path, text), bench)
    assert result.verdict == "refuted"
    assert tokens_seen(record_of(result)).startswith("A5 ")


def test_listed_pairs_are_a_census(tmp_path, bench):
    text = (
        "patch: {node: S11L1R, variable: D4.T5, digits: [A5]}\n"
        "pairs: [71111+71111 -> 44444+55555, 24444+65555 -> 34444+55555]\nexpect: {}"
    )
    result = judge(read(tmp_path, text), bench)
    assert result.verdict == "vacuous"
    assert {row.finding for row in result.comparisons} == {"holds", "by construction"}
    assert [(row.subject, row.k, row.n, row.low) for row in result.comparisons if row.subject in ("A5", "agreeing")] == [
        ("A5", 1, 1, None), ("agreeing", 0, 1, None),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_is_counted_is_what_the_reference_engine_answers(tmp_path, bench):
    claim = read(tmp_path, "patch: {node: S12L0, variable: D4.T1, digits: [A4]}\npairs: {n: 800, seed: 9}\n"
                 "expect: {may_change: [A5]}")  # fmt: skip
    found = judge(claim, bench).measurement
    fixture = load_fixture(MODEL, FIXTURES, "cpu")
    drawn = draw_pairs(claim.questions, claim.variable, claim.tokens, LAYOUT)
    clean, values = hooked.capture(fixture, drawn.sources, claim.nodes)
    base, after = hooked.run(fixture, drawn.bases, [CLEAN, resample(values, drawn.differing)])
    right = (clean.predicted == drawn.sources.answers).all(1)[:800]
    right &= (base.predicted == drawn.bases.answers).all(1)
    assert found.as_expected.sum(0).tolist() == (after.predicted == drawn.expected)[right].sum(0).tolist()


def test_questions_that_the_clean_model_gets_wrong_do_not_count(tmp_path, fixtures):
    text = "patch: {node: S4L0, variable: D1.T1, digits: [A1]}\npairs: {n: 700}\ngate: 0"
    result = judge(read(tmp_path, text, fixtures, "one"), Workbench("cpu"))  # it answers at random
    measured = result.measurement
    assert measured.excluded + len(measured.as_expected) + len(measured.unchanged) >= 1390
    assert measured.excluded > 1300
    with pytest.raises(MeasurementError, match=r"clean accuracy of at least 0\.99"):
        judge(read(tmp_path, text.removesuffix("\ngate: 0"), fixtures, "one"), Workbench("cpu"))


def test_a_listed_pair_that_says_nothing_is_an_error_with_its_place(tmp_path, bench):
    text = "patch: {node: S11L1R, variable: D2.tricase, digits: [A5]}\npairs: [77711+22711 -> 11111+11111]"
    with pytest.raises(MeasurementError) as caught:
        judge(read(tmp_path, text), bench)
    assert str(caught.value) == (
        "s.yaml:4:1: expected pairs in which D2.tricase agrees or changes A5, found 77711+22711 -> 11111+11111; list "
        "others, or name the digits that it changes"
    )


# which variable


def test_the_whole_sum_is_told_from_its_parts(tmp_path, bench):
    """The last stream is the digit, so what comes out is what the whole sum says, wherever a part says otherwise."""
    claim = read(tmp_path, "patch: {node: S13L1R, variable: D3.T4, digits: [A3]}\npairs: {n: 800}")
    result = judge(claim, bench, controls=True)
    assert result.verdict == "vacuous"  # so it is of any model
    rows = {row.subject: row for row in result.controls.variables}
    assert set(rows) == {"D3.T3", "D3.base_add", "D3.carry_in"}
    assert all(row.k == row.n and row.rival == 0 for row in rows.values())
    assert [rows[name].finding for name in ("D3.base_add", "D3.carry_in")] == ["holds", "holds"]
    line = failure_text(record_of(result))
    assert f"told apart from: D3.base_add ({rows['D3.base_add'].n} of {rows['D3.base_add'].n} against 0)" in line
    found = judge_mutants(claim, bench, [])
    assert {"variable D3.base_add", "variable D3.carry_in"} <= set(found.killed)


def test_a_variable_that_is_the_same_for_the_claimed_digits_is_no_mutant(tmp_path):
    """Of a column's sum only the tri-case matters higher up, and of that the carry alone does not say all."""
    kinds = [m.kind for m in mutants_of(read(
        tmp_path, "patch: {node: S11L1R, variable: D2.tricase, digits: [A5]}\npairs: {n: 800}"
    ))]  # fmt: skip
    assert [kind for kind in kinds if kind.startswith("variable")] == [
        f"variable {name}" for name in ("D3.tricase", "D1.tricase", "D2.carry", "D2.sum9", "D2.carry_in")
    ]


def test_another_variable_that_the_outcome_follows_is_named(tmp_path, bench):
    """The stream holds the sum with its carry: where that differs from the column's own, it is followed instead."""
    text = "patch: {node: S13L1R, variable: D3.T1, digits: [A3]}\npairs: {n: 800}\nxfail: {reason: more}"
    rows = {row.subject: row for row in judge(read(tmp_path, text), bench, controls=True).controls.variables}
    assert rows["D3.T2"].finding == "contradicted"
    assert rows["D3.T2"].rival > rows["D3.T2"].k
    assert rows["D3.T2"].n > 20
    # A sum and its last digit say the same of this digit: no pair can tell them apart.
    assert (rows["D3.base_add"].finding, rows["D3.base_add"].n) == ("undecided", 0)
    assert "D4.T1" not in rows  # it cannot change A3


def test_listed_pairs_tell_variables_apart_too(tmp_path, bench):
    """In the first the carry that comes into D4 is another, in the second nothing is."""
    text = (
        "patch: {node: [S11L1R, S12L1R], variable: D4.T5, digits: [A4]}\n"
        "pairs: [21111+39999 -> 12222+11111, 24444+65555 -> 34444+55555]\nexpect: {may_change: [A5]}"
    )
    rows = {row.subject: row for row in judge(read(tmp_path, text), bench, controls=True).controls.variables}
    assert (rows["D4.T4"].n, rows["D4.base_add"].k, rows["D4.base_add"].n, rows["D4.base_add"].rival) == (0, 1, 1, 0)
    assert [rows[name].finding for name in ("D4.T4", "D4.base_add")] == ["undecided", "holds"]
    assert rows["D4.base_add"].low is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch: {node: S8L0H1, variable: D2.tricase, digits: [A2]}\npairs: {n: 800}",
         "s.yaml:6:58: expected digits that D2.tricase can change (A5, A4, A3), found A2; name one of those"),
        ("patch: {node: S13L0H1, variable: D2.tricase, digits: [A5]}\npairs: {n: 800}",
         "s.yaml:6:59: expected digits that S13L0H1 can change (A3, A2, A1, A0), found A5; name one of those"),
        ("patch: {node: S8L0H1, variable: D7.tricase, digits: [A5]}\npairs: {n: 800}",
         "s.yaml:6:37: expected a column D0 to D4, found D7; name a column of the question"),
        ("patch: {node: S8L0H1, variable: D2.tricase, digits: [A5]}\npairs: {n: 20}",
         "s.yaml:7:16: expected n of at least "),
        ("patch: {node: S8L0H1, variable: D2.tricase, digits: [A5]}\npairs: [15+45]",
         "s.yaml:7:13: expected a pair like 77711+22711 -> 44444+55555, found 15+45; write source -> base"),
        ("patch: {node: S8L0H1, variable: D2.tricase, digits: [A5]}\npairs: {n: 800}\nexpect: {may_change: [A5]}",
         "s.yaml:8:27: expected digits that need not follow, found A5; drop it"),
        ("keep: {heads: S8L0M}\nquestions: {n: 900}",
         "s.yaml:6:19: expected some heads, found S8L0M; name nodes of that kind"),
        ("keep: {heads: L0}\nquestions: {n: 20}", "s.yaml:7:20: expected n of at least "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, text, message):
    assert refused(tmp_path, text).startswith(message)


# keep


def test_keep_is_the_ablation_of_all_the_others(tmp_path, bench):
    kept = read(tmp_path, "keep: {heads: [S12-S16L0, S11L0H1], digits: [A3, A2]}\nquestions: {n: 900, seed: 4}")
    cut = {str(node) for node in all_nodes(kept.shape) if node.kind == "head"}
    cut -= {f"S{step}L0H{head}" for step in range(12, 17) for head in range(3)} | {"S11L0H1"}
    assert {str(node) for node in kept.nodes} == cut
    texts = ", ".join(sorted(cut))
    ablated = read(tmp_path, f"ablate: [{texts}]\nquestions: {{n: 900, seed: 4}}\n"
                   "expect: {fails: [], may_fail: [A5, A4, A1, A0]}")  # fmt: skip
    found, expected = judge(kept, bench), judge(ablated, bench)
    assert found.comparisons == expected.comparisons
    assert found.verdict == expected.verdict


def test_all_that_anything_reads_is_enough_and_nothing_is_not(tmp_path, bench):
    live = "[S0-S16L0, S11-S16L1]"
    enough = read(tmp_path, f"keep: {{heads: {live}, mlps: {live}}}\nquestions: {{n: 900}}\nby_construction: true")
    assert judge(enough, bench).verdict == "by construction"
    nothing = judge(read(tmp_path, "keep: {heads: S17L0}\nquestions: {n: 900}"), bench)
    assert nothing.verdict == "refuted"
    assert "only S17L0 (3 kept, 105 cut)" in record_of(nothing)["target"]


def test_a_kind_that_is_not_named_is_left_alone(tmp_path):
    claim = read(tmp_path, "keep: {mlps: [S8-S16L0M, S11-S16L1M]}\nquestions: {n: 900}")
    assert {node.kind for node in claim.nodes} == {"mlp"}
    assert set(claim.nodes) == set(read_nodes(["S0-S7M", "S17M", "S8-S10L1M"], claim.shape))
