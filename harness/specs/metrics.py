"""Metrics of a prompt's answer, and what a claim may expect of them: keys of `expect`, and frozen data. No torch.

Differences of logits and losses have no bounds, so no interval of their mean is valid at every n. What a claim says by
default is exact: on what share of the prompts a metric falls, rises, or is above a value; and its median. A mean of
such a metric, and a ratio of means, may be claimed too, and is marked as approximate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from harness.base.validation import Strict
from harness.tasks.contract import AnyTask

Share = Annotated[float, Field(gt=0, lt=1)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Metric = Literal["right", "prefers", "logit_diff", "prob", "prob_diff", "loss", "kl"]
# What is compared: the share of prompts on which it falls, rises, is above a value, is lost; its median or mean; the
# mean as a share of the clean mean.
What = Literal["falls", "rises", "above", "fails", "median", "mean", "kept"]
SHARES = ("falls", "rises", "above", "fails")

METRICS: Mapping[str, str] = {
    "right": "whether the answer is right (of several tokens, what share)",
    "prefers": "whether the best right token has a larger logit than the best wrong one",
    "logit_diff": "the best right token's logit less the best wrong one's",
    "prob": "the probability of the right tokens together",
    "prob_diff": "the probability of the right tokens less that of the wrong ones",
    "loss": "minus the log of the right tokens' probability, nats",
    "kl": "how far the answer's distribution is from the clean run's, nats",
}
NEEDS_WRONG = ("prefers", "logit_diff", "prob_diff")
# The least and largest value of metrics that have them; a mean of these has a valid interval.
LIMITS: Mapping[str, tuple[float, float]] = {
    "right": (0, 1), "prefers": (0, 1), "prob": (0, 1), "prob_diff": (-1, 1),
}  # fmt: skip


class Above(Strict):
    """A value, and on what share of the prompts the metric is above it."""

    value: Number = Field(description="of the metric")
    on: Share = Field(description="share of the prompts")


class Values(Strict):
    """What is expected of a metric that is a number."""

    falls_on: Share | None = Field(
        None, description="it falls below the clean run's on more than this share of prompts"
    )
    rises_on: Share | None = Field(None, description="it rises above the clean run's on more than this share")
    falls_on_at_most: Share | None = Field(None, description="it falls on less than this share of prompts")
    above: Above | None = Field(None, description="it is above `value` on more than the share `on`")
    not_above: Above | None = Field(None, description="it is above `value` on less than the share `on`")
    median_at_least: Number | None = Field(None, description="its median")
    median_at_most: Number | None = Field(None, description="its median")
    mean_at_least: Number | None = Field(None, description="its mean; approximate, unless it is of probabilities")
    mean_at_most: Number | None = Field(None, description="its mean; approximate, unless it is of probabilities")
    kept_at_least: Number | None = Field(None, description="its mean, as a share of the clean mean; approximate")
    kept_at_most: Number | None = Field(None, description="its mean, as a share of the clean mean; approximate")


class Successes(Strict):
    """What is expected of a metric that is true or false of a prompt."""

    fails_on: Share | None = Field(None, description="lost on more than this share of prompts that had it")
    fails_on_at_most: Share | None = Field(None, description="lost on less than this share of prompts that had it")
    at_least: Share | None = Field(None, description="true of more than this share of all prompts")
    at_most: Share | None = Field(None, description="true of less than this share of all prompts")


_KEYS: dict[str, Any] = {
    metric: (
        (Successes if metric in ("right", "prefers") else Values) | None,
        Field(None, description=said),
    )
    for metric, said in METRICS.items()
}
MetricsModel = create_model("MetricsModel", __base__=Strict, __doc__="Expectations of metrics.", **_KEYS)


@dataclass(frozen=True)
class MetricBound:
    """One expectation: what is compared of a metric, and its bound."""

    metric: str
    what: What
    at_least: float | None = None
    at_most: float | None = None
    value: float | None = None  # of `above`

    @property
    def subject(self) -> str:
        """What a report calls it: ``logit_diff falls``, ``logit_diff > 0``."""
        if self.what == "above":
            return f"{self.metric} > {self.value:g}" if self.metric not in ("right", "prefers") else self.metric
        return f"{self.metric} {self.what}"

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the prompts, with an exact interval."""
        return self.what in SHARES

    @property
    def approximate(self) -> bool:
        """Whether no interval of it is valid at every n."""
        return self.what == "kept" or (self.what == "mean" and self.metric not in LIMITS)

    @property
    def acts(self) -> bool:
        """Whether it says that the intervention changes something."""
        if self.what in ("falls", "rises", "fails"):
            return self.at_least is not None
        return (self.at_least if self.metric in ("loss", "kl") else self.at_most) is not None

    @property
    def expected(self) -> str:
        """What is expected, in short: ``logit_diff falls on > 90%``."""
        least = [] if self.at_least is None else [(">" if self.is_share else "≥", self.at_least)]
        most = [] if self.at_most is None else [("<" if self.is_share else "≤", self.at_most)]
        percent = self.is_share or self.what == "kept"
        bounds = " and ".join(f"{sign} {100 * b:g}%" if percent else f"{sign} {b:g}" for sign, b in (*least, *most))
        return f"{self.subject}{' on' if self.is_share else ''} {bounds}"


_BOUNDS: tuple[tuple[str, What, str], ...] = (
    ("falls_on", "falls", "at_least"), ("falls_on_at_most", "falls", "at_most"), ("rises_on", "rises", "at_least"),
    ("fails_on", "fails", "at_least"), ("fails_on_at_most", "fails", "at_most"),
    ("median_at_least", "median", "at_least"), ("median_at_most", "median", "at_most"),
    ("mean_at_least", "mean", "at_least"), ("mean_at_most", "mean", "at_most"),
    ("kept_at_least", "kept", "at_least"), ("kept_at_most", "kept", "at_most"),
)  # fmt: skip


def bounds_of(model: object) -> Iterator[MetricBound]:
    """Yield the expectations that the keys of a validated `expect` say."""
    for metric in METRICS:
        said = getattr(model, metric, None)
        if said is None:
            continue
        for key, what, end in _BOUNDS:
            if (bound := getattr(said, key, None)) is not None:
                yield MetricBound(metric, what, **{end: bound})
        for key, end in (("above", "at_least"), ("not_above", "at_most")):
            if (above := getattr(said, key, None)) is not None:
                yield MetricBound(metric, "above", value=above.value, **{end: above.on})
        for end in ("at_least", "at_most"):
            if (bound := getattr(said, end, None)) is not None:
                yield MetricBound(metric, "above", value=0.5, **{end: bound})


def missing_of(bound: MetricBound, task: AnyTask, *, clean: bool, against: bool) -> tuple[str, str, str] | None:
    """Return why a metric cannot be asked of a task (expected, found, fix); None if it can.

    `clean`: there is no intervention to compare with a clean run; `against`: prompts have wrong answers anyway.
    """
    if bound.metric in NEEDS_WRONG and not (task.has_wrong or against):
        return f"a task with wrong answers, for {bound.metric}", task.title, "give the task `wrong`, or choose prob"
    if bound.metric == "kl" and bound.what in ("falls", "rises", "kept"):
        return "a bound on kl itself, which is 0 in the clean run", bound.subject, "write a median, or above"
    if clean and (bound.what in ("falls", "rises", "fails", "kept") or bound.metric == "kl"):
        return "what can be said of a clean run", bound.subject, "write above, or a median"
    return None
