"""``learn``, a claim about the order in which losses fall in training: its spec keys, claim class and parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from harness.base.intervals import least_n
from harness.base.text import did_you_mean
from harness.base.validation import Strict
from harness.specs.claim import Claim
from harness.specs.keys import (
    ClaimModel,
    Text,
)
from harness.specs.parsing import (
    ClaimParser,
    as_text,
)


class LearnedFirstModel(Strict):
    """Which losses fall for good below a bound first: each of `first` before each of `before`."""

    first: list[Text] = Field(min_length=1, description="series of the learning curves, as their first row names them")
    before: list[Text] = Field(min_length=1, description="series that fall later")
    below: Annotated[float, Field(gt=0)] = Field(description="nats per token, mean over 20 steps")


class ShareModel(Strict):
    """In how many training runs."""

    share_above: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="of training runs like these")


class LearnModel(ClaimModel):
    """A claim about the order in which training runs learn."""

    learn: LearnedFirstModel = Field(description="which losses fall before which")
    expect: ShareModel = Field(ShareModel(), description="in how many training runs")


@dataclass(frozen=True, kw_only=True)
class Learn(Claim):
    """A claim about training runs: each loss of `first` falls below a bound for good before each of `before`."""

    verb: ClassVar[str] = "learn"
    first: tuple[str, ...]  # series of the learning curves
    before: tuple[str, ...]
    below: float  # nats per token
    group: tuple[str, ...]
    group_text: str  # as written in the spec
    share_above: float  # the order holds in more than this share of training runs

    @property
    def comparisons(self) -> int:
        """How many comparisons share the confidence."""
        return 1

    @property
    def observable(self) -> tuple[str, ...]:
        """The share of runs in which the losses fall in order."""
        return ("runs",)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The group."""
        return (self.group,)

    @property
    def models(self) -> tuple[str, ...]:
        """The fixtures whose training runs are tested."""
        return self.group

    @property
    def target(self) -> str:
        """Which series come first, and before which."""
        return f"{', '.join(self.first)} before {', '.join(self.before)} in {self.group_text or self.fixture}"

    @property
    def how(self) -> str:
        """The data that is examined: always ``learning curves``."""
        return "learning curves"

    @property
    def expected(self) -> str:
        """What is expected, in short: ``in > 50% of training runs``."""
        return f"in > {100 * self.share_above:g}% of training runs"


class LearnParser(ClaimParser):
    """Parses ``learn``."""

    model = LearnModel
    names_nodes = False

    def read(self, model: LearnModel) -> Learn:
        """Return the claim for one validated spec entry."""
        series = self.shape.task.series
        known = [name for name in self.shape.task.loss_names if name not in series.never]
        for key, names in (("first", model.learn.first), ("before", model.learn.before)):
            for i, name in enumerate(names):
                if name not in known:
                    self._report(("learn", key, i), "a loss of the learning curves", name, did_you_mean(name, known))
        if both := set(model.learn.first) & set(model.learn.before):
            self._report(("learn", "before"), "other losses than in `first`", sorted(both)[0], "drop it")
        claim = Learn(
            **self.common(model), questions=None, gate=0.0, first=tuple(dict.fromkeys(model.learn.first)),
            before=tuple(dict.fromkeys(model.learn.before)), below=model.learn.below,
            group=self.group_of(model.fixtures, "fixtures"), group_text=as_text(model.fixtures),
            share_above=model.expect.share_above,
        )  # fmt: skip
        needed = least_n(1, fail_rate=claim.share_above, intact_rate=None)
        if len(claim.group) < needed:
            expected = f"at least {needed:g} training runs, or the claim cannot be settled"
            self._report("fixtures", expected, str(len(claim.group)), "name more, or claim a smaller share")
        return claim
