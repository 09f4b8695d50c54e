"""From counts to verdicts: every way a comparison can come out, on counts made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from harness.errors import MeasurementError
from harness.hypothesis import Expect, Hypothesis
from harness.layout import Layout
from harness.measurement import DigitCount, Measurement
from harness.nodes import Shape, read_nodes
from harness.selection import NamedSet, Sample
from harness.verdict import decide

SHAPE = Shape(2, 3, Layout(5))
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
        DigitCount(d, n - excluded.get(d, 0), wrong.get(d, 0), excluded.get(d, 0), 0.0, 0.0)
        for d in SHAPE.layout.answer_digits
    )
    return Measurement(
        n=n, clean_accuracy=clean_accuracy, clean_loss=0.0, loss=sum(losses) / n, losses=torch.tensor(losses), digits=digits,
        patterns={}, cases={}, by_node={}, examples={},
    )  # fmt: skip


def findings(h, m):
    return {row.what: row.finding for row in decide(h, m)[1]}


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


def test_digits_out_of_reach_hold_by_construction_and_take_no_confidence():
    h = claim("S16L1H0", questions=SAMPLE, fails=("A0",))
    rows = {row.what: row for row in decide(h, measured(A0=900))[1]}
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


def test_digits_the_clean_run_gets_wrong_do_not_count():
    h = claim(fails=("A5",), fail_rate=0.5)
    verdict, rows = decide(h, measured(10, A5=4, excluded={"A5": 3}))
    assert verdict == "supported"  # 4 of 7
    assert [(row.observed, row.excluded) for row in rows if row.what == "A5"] == [("4/7", 3)]
    with pytest.raises(MeasurementError, match="questions whose clean run gets A5 right, found 0 of 10 right"):
        decide(h, measured(10, excluded={"A5": 10}))


@pytest.mark.parametrize(
    ("questions", "losses", "bounds", "finding"),
    [
        (CENSUS, [0.01] * 10, {"loss_below": 0.02}, "holds"),
        (CENSUS, [0.03] * 10, {"loss_below": 0.02}, "contradicted"),
        (CENSUS, [0.03] * 10, {"loss_above": 0.02}, "holds"),
        (CENSUS, [0.02] * 10, {"loss_above": 0.02}, "contradicted"),
        (SAMPLE, [0.01, 0.011] * 500, {"loss_below": 0.02}, "holds"),
        (SAMPLE, [0.0, 0.038] * 500, {"loss_below": 0.02}, "undecided"),
        (SAMPLE, [0.03, 0.031] * 500, {"loss_below": 0.02}, "contradicted"),
        (SAMPLE, [0.03, 0.031] * 500, {"loss_above": 0.02}, "holds"),
        (SAMPLE, [0.01, 0.011] * 500, {"loss_above": 0.02}, "contradicted"),
    ],
)
def test_the_mean_loss_has_bounds(questions, losses, bounds, finding):
    h = claim(questions=questions, **bounds)
    assert findings(h, measured(len(losses), losses))["loss"] == finding


def test_a_loss_that_cannot_change_is_by_construction():
    h = claim("S17", loss_below=0.02)
    assert findings(h, measured())["loss"] == "by construction"
    assert decide(h, measured())[0] == "by construction"
    assert decide(h, measured(losses=[0.5] * 1000))[0] == "refuted"


def test_intervals_of_one_claim_are_wider_than_a_single_one():
    many = decide(claim(questions=SAMPLE), measured(A3=10))[1]
    one = decide(claim("S16L1H0", questions=SAMPLE), measured(A0=10))[1]
    wide, narrow = next(r for r in many if r.what == "A3"), next(r for r in one if r.what == "A0")
    assert wide.low < narrow.low < narrow.high < wide.high
