"""From counts to verdicts: every way a comparison can come out, on counts made by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from harness.base.errors import MeasurementError
from harness.base.intervals import betting_interval, exact_interval, n_to_settle
from harness.judging.measurement import Measurement, TokenCount
from harness.judging.verb import verb_named
from harness.judging.verdict import Comparison, Controls, row_of, settling_n, straddled, verdict_of, within_bounds
from harness.judging.worth.mutants import mutants_of
from harness.reporting.words import expected, observed, subject
from harness.specs.nodes import Shape, read_nodes
from harness.specs.verbs.ablating import Expect, Hypothesis
from harness.specs.verbs.keep import Keep
from harness.tasks.addition.task import Addition
from harness.tasks.questions import NamedSet, Sample

SHAPE = Shape(2, 3, Addition(5))
CENSUS, SAMPLE = NamedSet("varied"), Sample(1000, 0)


def claim(ablate="S11L0H0", questions=CENSUS, fails=(), may_fail=(), **rates):
    defaults = (
        {"fail_rate": None, "intact_rate": None} if questions.census else {"fail_rate": 0.05, "intact_rate": 0.01}
    )
    return Hypothesis(
        id="x", claim="x", source="", fixture="f", ablate=(ablate,), nodes=read_nodes(ablate, SHAPE),
        one_at_a_time=False, method="mean", reference=SAMPLE, seed=0, questions=questions,
        expect=Expect(fails, may_fail, **{**defaults, **rates}), gate=0.99, by_construction=False, xfail=None,
        tags=(), shape=SHAPE, fixtures=Path("fixtures"), path="s.yaml", line=4, index=0, key="s.yaml::x",
    )  # fmt: skip


def measured(n=1000, losses=None, clean_accuracy=1.0, excluded=None, **wrong):
    excluded = excluded or {}
    losses = losses or [0.0] * n
    digits = tuple(
        TokenCount(d, n - excluded.get(d, 0), wrong.get(d, 0), excluded.get(d, 0), 0.0, 0.0)
        for d in SHAPE.task.answer_tokens
    )
    return Measurement(
        n=n, clean_accuracy=clean_accuracy, clean_loss=0.0, loss=sum(losses) / n, losses=torch.tensor(losses), tokens=digits,
        patterns={}, cases={}, by_node={}, examples={},
    )  # fmt: skip


def decide(h, m, siblings=None):
    rows = verb_named(h.verb).comparisons(h, m, siblings)
    return verdict_of(h, rows), rows


def compare_sibling(h, name, counts):
    return verb_named(h.verb).compare_sibling(h, name, counts)


def findings(h, m):
    return {row.subject: row.finding for row in decide(h, m)[1]}


@pytest.mark.parametrize(
    ("h", "m", "verdict"),
    [
        # a census: at least once, and never
        (claim(fails=("A5",)), measured(7, A5=1), "supported"),
        (claim(fails=("A5",)), measured(7), "refuted"),
        (claim(fails=("A5",)), measured(7, A5=7, A0=1), "refuted"),
        (claim(fails=("A5",), may_fail=("A0",)), measured(7, A5=7, A0=1), "supported"),
        (claim(), measured(7), "supported"),
        (claim(), measured(7, A1=1), "refuted"),
        # a census with rates: strictly more, strictly less, no interval
        (claim(fails=("A5",), fail_rate=0.5), measured(10, A5=6), "supported"),
        (claim(fails=("A5",), fail_rate=0.5), measured(10, A5=5), "refuted"),
        (claim(intact_rate=0.2), measured(10, A5=1), "supported"),
        (claim(intact_rate=0.2), measured(10, A5=2), "refuted"),
        # a sample: intervals
        (claim(questions=SAMPLE), measured(), "supported"),
        (claim(questions=SAMPLE), measured(A3=10), "inconclusive"),
        (claim(questions=SAMPLE), measured(A3=40), "refuted"),
        (claim(questions=SAMPLE, fails=("A5",)), measured(A5=500), "supported"),
        (claim(questions=SAMPLE, fails=("A5",)), measured(A5=55), "inconclusive"),
        (claim(questions=SAMPLE, fails=("A5",)), measured(A5=10), "refuted"),
        (claim(questions=SAMPLE, fails=("A5",)), measured(), "refuted"),
        # one digit is enough to refute, whatever the others are
        (claim(questions=SAMPLE, fails=("A5",)), measured(A5=55, A0=400), "refuted"),
        (claim(questions=SAMPLE, fails=("A5",)), measured(A5=400, A0=8), "inconclusive"),
    ],
)  # fmt: skip
def test_verdicts(h, m, verdict):
    assert decide(h, m)[0] == verdict


def test_of_a_census_each_digit_holds_or_is_contradicted():
    found = findings(claim(fails=("A5", "A4")), measured(7, A5=1, A0=1))
    assert found == {
        "A5": "holds", "A4": "contradicted", "A3": "holds", "A2": "holds", "A1": "holds", "A0": "contradicted",
    }  # fmt: skip


def test_digits_out_of_reach_hold_by_construction_and_take_no_confidence():
    h = claim("S16L1H0", questions=SAMPLE, fails=("A0",))
    rows = {row.subject: row for row in decide(h, measured(A0=900))[1]}
    assert h.comparisons == 1
    assert [rows[d].finding for d in ("A5", "A1", "A0")] == ["by construction", "by construction", "holds"]
    assert rows["A5"].low is None


def test_a_claim_only_about_digits_out_of_reach_is_by_construction():
    assert decide(claim("S17"), measured())[0] == "by construction"


def test_a_digit_out_of_reach_that_changes_is_a_defect_not_a_verdict():
    with pytest.raises(MeasurementError, match="A5 untouched, which S16L1H0 cannot reach, found 1 failures"):
        decide(claim("S16L1H0", fails=("A0",)), measured(A5=1, A0=3))


def test_a_badly_trained_model_refutes_nothing():
    with pytest.raises(MeasurementError, match=r"clean accuracy of at least 0\.99 on these questions, found 0\.9800"):
        decide(claim(), measured(clean_accuracy=0.98))
    lenient = dataclasses.replace(claim(), gate=0.9)
    assert decide(lenient, measured(clean_accuracy=0.98))[0] == "supported"
    assert decide(claim(), measured(clean_accuracy=0.99))[0] == "supported"  # the gate itself is enough


def test_digits_the_clean_run_gets_wrong_do_not_count():
    h = claim(fails=("A5",), fail_rate=0.5)
    verdict, rows = decide(h, measured(10, A5=4, excluded={"A5": 3}))
    assert verdict == "supported"  # 4 of 7
    assert [(row.k, row.n, row.excluded) for row in rows if row.subject == "A5"] == [(4, 7, 3)]
    with pytest.raises(MeasurementError, match="questions whose clean run gets A5 right, found 0 of 10 right"):
        decide(h, measured(10, excluded={"A5": 10}))


@pytest.mark.parametrize(
    ("questions", "losses", "bounds", "finding"),
    [
        (CENSUS, [0.01] * 10, {"loss_below": 0.02}, "holds"),
        (CENSUS, [0.03] * 10, {"loss_below": 0.02}, "contradicted"),
        (CENSUS, [0.03] * 10, {"loss_above": 0.02}, "holds"),
        (CENSUS, [0.5] * 8, {"loss_above": 0.5}, "contradicted"),
        (CENSUS, [0.5] * 8, {"loss_below": 0.5}, "contradicted"),
        (CENSUS, [0.0] * 9 + [30.0], {"loss_below": 2.9}, "contradicted"),  # not capped
        (SAMPLE, [0.01, 0.011] * 500, {"loss_below": 0.02}, "undecided"),
        (SAMPLE, [0.01, 0.011] * 500, {"loss_below": 0.05}, "holds"),
        (SAMPLE, [0.0] * 999 + [1e6], {"loss_below": 0.05}, "holds"),  # capped
        (SAMPLE, [0.0, 0.038] * 500, {"loss_below": 0.02}, "undecided"),
        (SAMPLE, [0.03, 0.031] * 500, {"loss_below": 0.02}, "contradicted"),
        (SAMPLE, [0.03, 0.031] * 500, {"loss_above": 0.02}, "holds"),
        (SAMPLE, [0.01, 0.011] * 500, {"loss_above": 0.05}, "contradicted"),
        (SAMPLE, [1e6] * 4 + [0.0] * 996, {"loss_above": 0.02}, "undecided"),
    ],
)
def test_the_mean_loss_has_bounds(questions, losses, bounds, finding):
    h = claim(questions=questions, **bounds)
    assert findings(h, measured(len(losses), losses))["loss"] == finding


def test_of_a_sample_each_loss_counts_as_no_more_than_guessing_costs():
    losses, cap = [0.1] * 900 + [40.0] * 100, math.log(13)
    (row,) = (
        r for r in decide(claim(questions=SAMPLE, loss_below=0.5), measured(losses=losses))[1] if r.kind == "loss"
    )
    assert (row.subject, row.cap, row.value) == ("loss", cap, pytest.approx(0.09 + 0.1 * cap))
    assert (row.low, row.high) == pytest.approx(
        betting_interval([min(loss, cap) for loss in losses], claim(questions=SAMPLE, loss_below=0.5).confidence, cap)
    )
    assert (subject(row_of(row)), *words(row)) == ("capped loss", "< 0.5 nats, cap 2.56", "0.346")
    (row,) = (r for r in decide(claim(loss_below=0.5), measured(losses=losses))[1] if r.kind == "loss")
    assert (subject(row_of(row)), row.cap, row.low, row.value) == ("loss", None, None, pytest.approx(4.09))
    assert [claim(questions=q, loss_below=0.5).expected.split("; ")[-1] for q in (SAMPLE, CENSUS)] == [
        "capped loss < 0.5", "loss < 0.5",
    ]  # fmt: skip


def test_a_loss_that_cannot_change_is_by_construction():
    h = claim("S17", loss_below=0.02)
    assert findings(h, measured())["loss"] == "by construction"
    assert decide(h, measured())[0] == "by construction"
    assert decide(h, measured(losses=[0.5] * 1000))[0] == "refuted"
    above = claim("S17", loss_above=0.02)
    assert findings(above, measured(losses=[0.5] * 1000))["loss"] == "by construction"
    assert findings(above, measured())["loss"] == "contradicted"


def test_intervals_of_one_claim_are_wider_than_a_single_one():
    many = decide(claim(questions=SAMPLE), measured(A3=10))[1]
    one = decide(claim("S16L1H0", questions=SAMPLE), measured(A0=10))[1]
    wide, narrow = next(r for r in many if r.subject == "A3"), next(r for r in one if r.subject == "A0")
    assert wide.low < narrow.low < narrow.high < wide.high


def words(row):
    return expected(row_of(row)), observed(row_of(row))


def rows_of(h, m, siblings=None):
    return {row.subject: row for row in decide(h, m, siblings)[1]}


def test_a_row_tells_what_was_expected_what_was_seen_and_of_how_many():
    h = claim(questions=SAMPLE, fails=("A5",), may_fail=("A2",), loss_below=0.5, loss_above=0.3)
    found = rows_of(h, measured(losses=[0.125, 0.25] * 500, A5=55, A2=3, A3=10))
    told = {what: (*words(row), row.finding, row.n, row.threshold) for what, row in found.items()}
    assert told == {
        "A5": ("fails > 5%", "55/1000", "undecided", 1000, 0.05),
        "A4": ("fails < 1%", "0/1000", "holds", 1000, None),
        "A3": ("fails < 1%", "10/1000", "undecided", 1000, 0.01),
        "A2": ("may fail", "3/1000", "not compared", 1000, None),
        "A1": ("fails < 1%", "0/1000", "holds", 1000, None),
        "A0": ("fails < 1%", "0/1000", "holds", 1000, None),
        "loss": ("> 0.3 nats, cap 2.56", "0.188", "contradicted", None, None),
    }
    assert found["A5"].value == 0.055
    below, above = (row for row in decide(h, measured(losses=[0.125, 0.25] * 500))[1] if row.subject == "loss")
    assert (*words(below), below.value, below.finding) == ("< 0.5 nats, cap 2.56", "0.188", 0.1875, "holds")
    assert below.low < 0.1875 < below.high
    assert (below.low, below.high) == (above.low, above.high)
    exact = [expected(row_of(row)) for row in decide(claim(fails=("A5",)), measured(7, A5=1))[1]]
    assert exact == ["fails", *["never fails"] * 5]


def test_a_digit_nobody_was_asked_about_but_that_may_fail_has_no_rate():
    h = claim(may_fail=("A5",))
    assert rows_of(h, measured(10, excluded={"A5": 10}))["A5"].value == 0


def test_an_undecided_loss_says_which_bound_it_straddles():
    (row,) = (
        row for row in decide(claim(questions=SAMPLE, loss_below=0.02), measured(losses=[0.0, 0.038] * 500))[1]
        if row.subject == "loss"
    )  # fmt: skip
    assert (row.finding, row.threshold) == ("undecided", 0.02)


def test_as_many_questions_as_would_settle_a_capped_loss_do():
    h, losses = claim(questions=SAMPLE, loss_below=0.02), [0.0] * 995 + [3.0] * 5
    rows = decide(h, measured(losses=losses))[1]
    assert findings(h, measured(losses=losses))["loss"] == "undecided"
    n = settling_n(h, rows, 1000)
    assert 1000 < n < 1_000_000
    again = losses * math.ceil(n / 1000)
    assert findings(h, measured(len(again), again))["loss"] == "holds"


def test_what_cannot_be_judged_is_told_with_its_place():
    with pytest.raises(MeasurementError) as error:
        decide(claim("S16L1H0", fails=("A0",)), measured(A5=1, A0=3))
    assert str(error.value) == (
        "s.yaml:4:1: expected A5 untouched, which S16L1H0 cannot reach, found 1 failures; "
        "this is a defect of the engine or of the model's masking; please report it"
    )
    with pytest.raises(MeasurementError) as error:
        decide(claim(), measured(10, excluded={"A5": 10}))
    assert str(error.value) == (
        "s.yaml:4:1: expected questions whose clean run gets A5 right, found 0 of 10 right; ask others"
    )
    with pytest.raises(MeasurementError) as error:
        decide(claim(), measured(clean_accuracy=0.98))
    assert str(error.value) == (
        "s.yaml:4:1: expected a clean accuracy of at least 0.99 on these questions, found 0.9800; "
        "train f further, or set `gate` if the claim is about a model that fails here"
    )


def counts(asked=1000, **wrong):
    return [TokenCount(digit, asked, wrong.get(digit, 0), 0, 0.0, 0.0) for digit in SHAPE.task.answer_tokens]


@pytest.mark.parametrize(
    ("questions", "wrong", "finding", "seen", "threshold"),
    [
        (CENSUS, {"A5": 3, "A4": 1}, "contradicted", "A4 1/1000", None),  # it does it too
        (CENSUS, {"A5": 3}, "holds", "A4 0/1000", None),
        (CENSUS, {}, "holds", "A5 0/1000", None),
        (SAMPLE, {"A5": 500, "A4": 400}, "contradicted", "A4 400/1000", None),
        (SAMPLE, {"A5": 500, "A4": 55}, "undecided", "A4 55/1000", 0.05),
        (SAMPLE, {"A5": 500, "A4": 1}, "holds", "A4 1/1000", None),
        (SAMPLE, {"A5": 1, "A4": 55}, "holds", "A5 1/1000", None),
    ],
)
def test_a_sibling_that_does_it_too_contradicts(questions, wrong, finding, seen, threshold):
    h = claim(questions=questions, fails=("A5", "A4"))
    row = compare_sibling(h, "S11L0H1", counts(**wrong, A3=900))
    assert (row.subject, row.finding, *words(row)) == ("S11L0H1", finding, "does not do it too", seen)
    assert (row.sibling, row.kind, row.n, row.threshold) == (True, "fails", 1000, threshold)
    assert row.value == int(seen.split()[1].split("/")[0]) / 1000
    assert (row.low is None) == questions.census
    if not questions.census:
        assert (row.low, row.high) == exact_interval(round(row.value * 1000), 1000, h.confidence)


@pytest.mark.parametrize(
    ("questions", "wrong", "finding", "seen"),
    [
        (CENSUS, {"A5": 3, "A4": 1}, "holds", "A5 3/1000"),  # without the node it fails: it is needed
        (CENSUS, {}, "contradicted", "A5 0/1000"),
        (SAMPLE, {"A4": 500}, "holds", "A4 500/1000"),
        (SAMPLE, {"A4": 10}, "undecided", "A4 10/1000"),
    ],
)
def test_a_node_without_which_the_digits_stay_right_is_not_needed(questions, wrong, finding, seen):
    base = claim(questions=questions)
    h = Keep(
        **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)}, tokens=("A5", "A4"), kept=()
    )
    row = compare_sibling(h, "S11L0H1", counts(**wrong, A3=900))
    assert (row.finding, *words(row)) == (finding, "is needed", seen)
    assert row.threshold == (0.01 if finding == "undecided" else None)


def test_a_sibling_nobody_could_be_asked_about_decides_nothing():
    row = compare_sibling(claim(fails=("A5",)), "S11L0H1", counts(0))
    assert (row.finding, row.value, row.low, row.high, row.n) == ("undecided", 0, None, None, 0)


def test_siblings_stand_below_the_digits_in_the_verdict():
    h = claim(fails=("A5",))
    verdict, rows = decide(h, measured(7, A5=1), {"S11L0H1": counts(7, A5=1)})
    assert (verdict, rows[-1].subject) == ("refuted", "S11L0H1")


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most", "finding"),
    [
        (0.4, 0.6, 0.3, None, "holds"), (0.4, 0.6, 0.4, None, "holds"), (0.4, 0.6, 0.5, None, "undecided"),
        (0.4, 0.6, 0.6, None, "undecided"), (0.4, 0.6, 0.7, None, "contradicted"), (0.4, 0.6, None, 0.7, "holds"),
        (0.4, 0.6, None, 0.5, "undecided"), (0.4, 0.6, None, 0.3, "contradicted"), (0.4, 0.6, 0.3, 0.7, "holds"),
        (0.4, 0.6, 0.3, 0.5, "undecided"), (0.4, 0.6, 0.7, 0.9, "contradicted"), (None, None, 0.5, None, "holds"),
        (None, None, 0.51, None, "contradicted"), (None, None, None, 0.49, "contradicted"),
    ],
)  # fmt: skip
def test_an_interval_within_bounds_outside_or_across(low, high, at_least, at_most, finding):
    assert within_bounds(0.5, low, high, at_least, at_most) == finding


def test_the_bound_that_an_undecided_interval_straddles():
    assert straddled("undecided", 0.4, 0.6, None, 0.3, 0.5) == 0.5
    assert straddled("undecided", 0.4, 0.6, 0.4) == 0.4
    assert straddled("undecided", 0.4, 0.6, 0.6) == 0.6
    assert straddled("undecided", 0.4, 0.6, 0.7, None) is None
    assert straddled("holds", 0.4, 0.6, 0.5) is None
    assert straddled("undecided", None, 0.6, 0.5) is None
    assert straddled("undecided", 0.4, None, 0.5) is None


def test_the_number_of_questions_that_would_settle_a_claim():
    h = claim(questions=SAMPLE, fails=("A5",))
    rows = rows_of(h, measured(A5=60, A3=7))
    each = {
        digit: n_to_settle(row.value, row.low, row.high, 1000, row.threshold, h.confidence, rate=True)
        for digit, row in rows.items()
        if row.finding == "undecided"
    }
    assert set(each) == {"A5", "A3"}
    assert settling_n(h, rows.values(), 7) == max(each.values()) > min(each.values())
    assert settling_n(h, [rows["A3"]], 7) == each["A3"]
    assert settling_n(h, [rows["A4"]], 7) is None  # decided already
    exactly_there = dataclasses.replace(rows["A5"], value=0.05)
    assert settling_n(h, [exactly_there, rows["A3"]], 7) is None
    loss = Comparison(subject="loss", kind="loss", value=1.0, low=0.8, high=1.2, finding="undecided", threshold=1.1)
    assert settling_n(h, [loss], 100) == 400  # of no rate: of all the questions


def test_a_row_as_json_has_every_field_and_no_infinity():
    row = Comparison(subject="loss", kind="loss", finding="undecided", value=1.0, low=0.5, high=math.inf)
    assert row_of(row) == {**dataclasses.asdict(row), "low": 0.5, "high": None, "sibling": False}
    assert row_of(dataclasses.replace(row, expects="unlike", high=2.0))["sibling"] is True


def test_controls_as_json_have_every_sibling_and_what_follows_from_them():
    beside = Comparison(subject="S1L0H1", kind="fails", expects="unlike", finding="contradicted", value=0.9, k=9, n=10)
    assert Controls(200, 0.5, (beside,), {"mean": "supported"}).as_dict() == {
        "put_back": 200, "own": 0.5, "rank": 2, "specific": False, "siblings": [row_of(beside)],
        "methods": {"mean": "supported"}, "left_out": [], "not_tried": 0, "variables": [],
    }  # fmt: skip


def test_a_node_that_can_be_spared_takes_specific_away_and_an_open_one_leaves_it_open():
    beside = Comparison(subject="S1L0H1", kind="fails", expects="unlike", finding="holds", value=0.0, k=0, n=10)
    found = Controls(200, 0.5, (beside,), {})
    out = Comparison(subject="S1L0M", kind="fails", expects="needed", finding="holds", value=0.0, k=0, n=10)
    for finding, specific in (("holds", True), ("by construction", True), ("undecided", None), ("contradicted", False)):
        assert dataclasses.replace(found, left_out=(dataclasses.replace(out, finding=finding),)).specific is specific
    assert dataclasses.replace(found, not_tried=40).specific is None
    without_siblings = dataclasses.replace(
        found, siblings=(), left_out=(dataclasses.replace(out, finding="contradicted"),)
    )
    assert without_siblings.specific is False


@pytest.mark.parametrize(
    ("ablate", "wider"),
    [
        ("S8L0H1", "S8L0H1 S8L0R"), ("S8L0M", "S8L0M S8L0R"), ("S8", "S8L0R S9L0R"),
    ],
)  # fmt: skip
def test_where_nothing_should_fail_a_mutant_ablates_more(ablate, wider):
    """The stream where the nodes are; of a stream, that of the next step."""
    found = {mutant.kind: mutant.claim for mutant in mutants_of(claim(ablate))}
    assert found["wider"].nodes == read_nodes(wider.split(), SHAPE)
    assert "no-op" not in found
