"""What is expected of metrics, compared with values that are written here."""

from __future__ import annotations

import pytest
import torch

from harness.base.errors import MeasurementError
from harness.judging.verbs.metric_bounds import compare_metrics
from harness.judging.verbs.metrics import Measured
from harness.specs.metrics import MetricBound


def compared(bound, clean, after, *, census=False):
    values = Measured(torch.tensor(clean).double(), torch.tensor(after).double())
    (row,) = compare_metrics([bound], {bound.metric: values}, 0.99, census=census)
    return row


KEPT = MetricBound("logit_diff", "kept", at_least=0.8)


@pytest.mark.parametrize("census", [False, True])
def test_what_is_kept_is_a_share_of_a_mean_above_0(census):
    assert compared(KEPT, [4.0, 5.0, 6.0] * 40, [3.9, 4.9, 5.9] * 40, census=census).finding == "holds"
    for clean in ([-0.5, -0.4, -0.6], [0.0, 0.0, 0.0], [-3.0, 3.0, 0.0]):
        with pytest.raises(MeasurementError, match="expected a clean mean of logit_diff above 0, for logit_diff kept"):
            compared(KEPT, clean * 40, [-4.5] * 120, census=census)


def test_a_mean_that_may_be_0_is_told_by_its_interval():
    with pytest.raises(MeasurementError, match="above 0"):
        compared(KEPT, [-3.0, 3.1] * 60, [1.0] * 120)


def test_of_several_tokens_each_must_be_right():
    bound = MetricBound("right", "above", at_least=0.9, value=0.5)
    row = compared(bound, [1.0] * 100, [0.6] * 100)
    assert (row.k, row.n, row.finding) == (0, 100, "contradicted")
    assert compared(bound, [1.0] * 100, [1.0] * 100).finding == "holds"


@pytest.mark.parametrize(
    ("metric", "at_least", "acts"),
    [("kl", None, False), ("loss", None, False), ("kl", 0.5, True), ("prob", None, True)],
)
def test_what_says_that_something_changes(metric, at_least, acts):
    assert MetricBound(metric, "median", at_least=at_least, at_most=None if at_least else 0.1).acts == acts
