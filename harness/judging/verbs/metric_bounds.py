"""Comparisons of metrics with what a claim expects of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from harness.base.errors import MeasurementError
from harness.base.intervals import exact_interval, mean_interval_within, median_interval, normal_interval
from harness.judging.verbs.metrics import Measured, Values
from harness.judging.verdict import Comparison, straddled, within_bounds
from harness.specs.metrics import LIMITS, MetricBound


def compare_metrics(
    bounds: Sequence[MetricBound], found: Mapping[str, Measured], confidence: float, *, census: bool
) -> Iterator[Comparison]:
    """Yield a comparison for each expectation; a census has no intervals."""
    for bound in bounds:
        clean, after = found[bound.metric]
        if bound.is_share:
            yield _share(bound, clean, after, confidence, census=census)
        else:
            yield _value(bound, clean, after, confidence, census=census)


def _share(bound: MetricBound, clean: Values, after: Values, confidence: float, *, census: bool) -> Comparison:
    of = torch.ones_like(after, dtype=torch.bool)
    if bound.what == "falls":
        hit = after < clean
    elif bound.what == "rises":
        hit = after > clean
    elif bound.what == "fails":  # of those that the clean run gets right: what it gets wrong cannot be lost
        of = clean >= 1
        hit = of & (after < 1)
    elif bound.metric in ("right", "prefers"):
        hit = after >= 1  # of several tokens, each
    else:
        hit = after > (bound.value or 0.0)
    k, n = int(hit.sum()), int(of.sum())
    low, high = (None, None) if census else exact_interval(k, n, confidence)
    value = k / n if n else 0.0
    finding = within_bounds(value, low, high, bound.at_least, bound.at_most) if n else "undecided"
    return Comparison(
        subject=bound.subject, kind="share", finding=finding, value=value, k=k, n=n, low=low, high=high,
        at_least=bound.at_least, at_most=bound.at_most, excluded=len(of) - n,
        threshold=straddled(finding, low, high, bound.at_least, bound.at_most),
    )  # fmt: skip


def _value(bound: MetricBound, clean: Values, after: Values, confidence: float, *, census: bool) -> Comparison:
    low: float | None = None
    high: float | None = None
    if bound.what == "median":
        value = float(after.median())
        if not census:
            low, high = median_interval(after.tolist(), confidence)
    elif bound.what == "mean":
        value = float(after.mean())
        if not census and bound.metric in LIMITS:
            least, most = LIMITS[bound.metric]
            low, high = mean_interval_within(after.tolist(), confidence, most - least)
        elif not census:
            low, high = normal_interval(value, float(after.std()) / math.sqrt(len(after)), confidence)
    else:  # a ratio of means; its error by the delta method
        _require_positive(bound, clean, confidence, census=census)
        value = float(after.mean() / clean.mean())
        if not census:
            off = (after - value * clean) / clean.mean()
            low, high = normal_interval(value, float(off.std()) / math.sqrt(len(off)), confidence)
    finding = within_bounds(value, low, high, bound.at_least, bound.at_most)
    return Comparison(
        subject=bound.subject, kind=bound.what, finding=finding, value=value, low=low, high=high,  # type: ignore[arg-type]
        at_least=bound.at_least, at_most=bound.at_most, approximate=bound.approximate and not census,
        threshold=straddled(finding, low, high, bound.at_least, bound.at_most),
    )  # fmt: skip


def _require_positive(bound: MetricBound, clean: Values, confidence: float, *, census: bool) -> None:
    """Check that a clean mean is one of which shares can be kept.

    Raises:
        MeasurementError: it is not above 0, or too near to tell.
    """
    mean = low = float(clean.mean())
    if not census:
        low = normal_interval(mean, float(clean.std()) / math.sqrt(len(clean)), confidence)[0]
    if not low > 0:
        expected = f"a clean mean of {bound.metric} above 0, for {bound.subject}"
        raise MeasurementError.of(expected, f"{mean:.3g}", "claim a median, or on what share it falls")
