"""What an `xfail` may expect: how ranges are written, and what counts as moved."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from harness.base.ranges import ObservedRange, Range, limits_of, ranges_of
from harness.specs.claim import Move, Xfail


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        (["5%", "12%"], 0.05, 0.12),
        ("5% to 12%", 0.05, 0.12),
        ([0.05, 0.12], 0.05, 0.12),
        (["1/20", "3/25"], 0.05, 0.12),
        ("2/9", 2 / 9, 2 / 9),
        (0, 0, 0),
        ("1.4 to 2.05", 1.4, 2.05),
        (["-3%", "2.5%"], -0.03, 0.025),
    ],
)
def test_a_range_is_written_in_numbers_percentages_or_fractions(written, low, high):
    TypeAdapter(ObservedRange).validate_python(written)
    (found,) = ranges_of({"A4": written})
    assert (found.subject, found.low, found.high) == ("A4", pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    "written",
    [True, None, [], [1], [1, 2, 3], "", "5%%", "5 to", "1/0", "5%-12%", ["a", 1], {}, float("nan"), "9" * 50],
)
def test_what_is_no_range_is_refused(written):
    with pytest.raises(ValueError, match=r"expected|range"):
        TypeAdapter(ObservedRange).validate_python(written)


def test_a_range_is_closed_and_a_fraction_is_the_count_that_it_says():
    (due,) = ranges_of({"A4": ["5%", "12%"]})
    assert 0.05 in due
    assert 0.12 in due
    assert 0.0499 not in due
    assert 0.1201 not in due
    for n in range(1, 50):
        for k in range(n + 1):
            (exact,) = ranges_of({"A4": f"{k}/{n}"})
            assert k / n in exact
            assert (k + 1) / n not in exact


def test_another_verdict_a_value_out_of_range_and_a_subject_without_a_row_are_moves():
    known = Xfail("r", "refuted", (Range("A4", 0.05, 0.12), Range("A3", 0.5, 0.5), Range("loss", 1.0, 2.0)))
    assert known.moves("refuted", {"A4": 0.12, "A3": 0.5, "loss": 1.5, "A2": 1.0}) == ()
    assert known.moves("inconclusive", {"A4": 0.13, "A3": 0.5}) == (
        Move("", "refuted", "inconclusive"),
        Move("A4", (0.05, 0.12), 0.13),
        Move("loss", (1.0, 2.0), None),
    )
    assert Xfail("r").moves("inconclusive", {}) == ()  # as before there were ranges


def test_only_a_loss_has_no_largest_value():
    assert limits_of("loss") is limits_of("run_s0 loss") is None
    assert limits_of("gain") == (-1, 1)
    assert limits_of("A4") == limits_of("training runs") == (0, 1)
