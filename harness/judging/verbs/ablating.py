"""What ``ablate`` and ``keep`` share: counts of each answer token, and the loss, compared with the expectation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

from harness.base.errors import HarnessError, MeasurementError, Problem
from harness.base.intervals import exact_interval
from harness.judging.answers import Ablated
from harness.judging.measurement import Measurement, TokenCount, mean_loss
from harness.judging.movement import movement_of
from harness.judging.requests import Ablation, Request, ablation_of
from harness.judging.untested import Untested, unmoved, unseen
from harness.judging.verb import Verb
from harness.judging.verbs.metric_bounds import compare_metrics
from harness.judging.verdict import (
    Comparison,
    Controls,
    Expects,
    Finding,
    Verdict,
    opposite,
    require_accuracy,
    straddled,
    unmeasured,
    verdict_of,
)
from harness.judging.worth.controls import CONTROL_N, CONTROL_SEED, left_out_rows, not_tried, to_run
from harness.specs.methods import METHODS
from harness.specs.metrics import MetricBound
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import Questions, Sample

if TYPE_CHECKING:
    from harness.judging.bench import Workbench

Counts = Sequence[TokenCount]
H = TypeVar("H", bound=Hypothesis)


class AblatingVerb(Verb[H]):
    """What ``ablate`` and ``keep`` share."""

    keeps = False  # whether the claim's tokens stay right, so that a sibling tells by what fails

    def requests(self, claim: H) -> Sequence[Request]:
        """Return the claim's ablation, and those of its siblings for a claim with `only_here`."""
        siblings = claim.siblings if claim.expect.only_here else {}
        beside = (ablation_of(claim, nodes=nodes, details=False) for nodes in siblings.values())
        return [ablation_of(claim), *beside]

    def compare(self, claim: H, answers: Sequence[Ablated]) -> tuple[Measurement, tuple[Comparison, ...]]:
        """Return the measurement, and a comparison for each answer token, for the loss and for each sibling."""
        if claim.reach and not answers[0].reaches:
            expected = f"a {claim.shape.task.nouns.prompt} in which {claim.target} comes before an answer"
            fix = "name a position from which it can be read"
            raise MeasurementError(Problem(expected, "none", fix, claim.path, claim.line, 1))
        own, *others = (answer.measurement for answer in answers)
        names = claim.siblings if claim.expect.only_here else ()
        beside = {name: other.tokens for name, other in zip(names, others, strict=True)}
        near_ties = sum(count.near_ties for count in own.tokens if count.token in claim.compared)
        own = replace(own, near_ties=near_ties)
        return own, self.comparisons(claim, own, beside)

    def untested(self, claim: H, answers: Sequence[Ablated], bench: Workbench) -> Iterator[Untested]:
        """Yield why nothing was tested: no value moved, no token could have failed, or no other way was there."""
        expect, found = claim.expect, answers[0]
        compared = [count for count in found.measurement.tokens if count.token in claim.compared]
        if not claim.acts:
            yield from unseen(compared)
        elif expect.fails and found.decided >= set(claim.compared):
            yield Untested("only way", claim.compared)
        yield from unmoved(movement_of(ablation_of(claim), bench))

    def comparisons(
        self, claim: H, m: Measurement, siblings: Mapping[str, Counts] | None = None
    ) -> tuple[Comparison, ...]:
        """Return the comparisons of a claim with what was measured.

        Raises:
            MeasurementError: the clean model is not accurate enough, a token was never right in the clean run, or one
                that the nodes cannot reach has changed.
        """
        require_accuracy(claim, m.clean_accuracy, m.n)
        metrics = compare_metrics(
            claim.expect.metrics if claim.reach else (), m.metrics, claim.confidence, census=claim.questions.census
        )
        tokens = m.tokens if claim.expect.counts else ()
        beside = (self.compare_sibling(claim, name, counts) for name, counts in (siblings or {}).items())
        return (*(_compare_token(claim, token) for token in tokens), *_compare_loss(claim, m), *metrics, *beside)

    def compare_sibling(self, claim: H, name: str, counts: Counts) -> Comparison:
        """Return the row of a sibling; it is contradicted if the sibling shows the same effect as the claim's nodes.

        Same effect for `ablate`: all tokens in `fails` fail. For `keep`: all stay right with one more node ablated.
        """
        fail = not self.keeps
        telling = [count for count in counts if count.token in claim.telling]
        findings = {_found(claim, count, fail)[2] if count.asked else "undecided" for count in telling}
        too: Finding = (
            "contradicted" if "contradicted" in findings else "undecided" if "undecided" in findings else "holds"
        )
        # The row shows the token that separates the sibling best from the claim's nodes.
        best = (min if fail else max)(telling, key=lambda count: count.wrong / max(count.asked, 1))
        low, high, _ = _found(claim, best, fail) if best.asked else (None, None, None)
        return Comparison(
            subject=name, kind="fails", expects="unlike" if fail else "needed", finding=opposite(too), token=best.token,
            value=best.wrong / max(best.asked, 1), k=best.wrong, n=best.asked, low=low, high=high,
            threshold=straddled(too, low, high, _threshold(claim, fail)),
        )  # fmt: skip

    def without_siblings(self, claim: H) -> H:
        """Return the claim without its condition that it is so only here."""
        return replace(claim, expect=replace(claim.expect, only_here=False))

    def control_requests(self, claim: H) -> Sequence[Request]:
        """Return the ablations of the controls: values put back, the claim's nodes and its siblings, other methods."""
        asked = self.control_questions(claim)
        back = Ablation(claim.ref, claim.nodes, "itself", asked, asked, details=False)
        sets = [claim.nodes, *claim.siblings.values()] if claim.siblings else []
        ranked = (ablation_of(claim, nodes=nodes, questions=asked, details=False) for nodes in sets)
        methods = (ablation_of(claim, method=method, details=False) for method in METHODS)
        return [back, *ranked, *methods, *([] if self.keeps else self.left_out_requests(claim))]

    def controls(self, claim: H, put_back: int, answers: Sequence[Ablated | HarnessError]) -> Controls:
        """Return what the controls showed."""
        asked = replace(claim, questions=self.control_questions(claim))
        names = ["", *claim.siblings] if claim.siblings else []
        ranked = [self._ranked(asked, name, found) for name, found in zip(names, answers, strict=False)]
        left = answers[len(names) :]
        by_method = (self._by_method(claim, found) for found in left[: len(METHODS)])
        methods = dict(zip(METHODS, by_method, strict=True))
        out = () if self.keeps else self.left_out(claim, left[len(METHODS) :])
        ranked_by = ranked[0].value if ranked and not ranked[0].absent and not self.keeps else None
        return Controls(put_back, ranked_by, tuple(ranked[1:]), methods, out, 0 if self.keeps else not_tried(claim))

    def left_out_requests(self, claim: H) -> Sequence[Request]:
        """Return the ablation of the others for each node that may be spare; for `keep`, those of its siblings."""
        sets = claim.siblings if self.keeps else to_run(claim, claim.fails)
        asked = self.control_questions(claim)
        return [ablation_of(claim, nodes=nodes, questions=asked, details=False) for nodes in sets.values()]

    def left_out(self, claim: H, answers: Sequence[Ablated | HarnessError]) -> tuple[Comparison, ...]:
        """Return for each node whether the others alone have the claimed effect; for `keep`, the rows of siblings."""
        asked = replace(claim, questions=self.control_questions(claim))
        if self.keeps:
            return tuple(self._ranked(asked, *one) for one in zip(claim.siblings, answers, strict=True))
        names = to_run(claim, claim.fails)
        found = {name: self._spare(asked, name, answer) for name, answer in zip(names, answers, strict=True)}
        return left_out_rows(claim, "fails", found)

    def _spare(self, asked: H, name: str, found: Ablated | HarnessError) -> Comparison:
        """Return the row of a node that was left out: "contradicted" if all that the claim expects still comes out."""
        if isinstance(found, HarnessError):
            return unmeasured(name, "fails", "needed", found)
        high = [row for row in _compare_loss(asked, found.measurement) if row.at_least is not None]
        rows = [replace(row, finding=opposite(row.finding)) for row in high]
        rows += _metrics_gone(asked, found.measurement, [bound for bound in asked.expect.metrics if bound.acts])
        if asked.fails:
            rows.append(self.compare_sibling(asked, name, found.measurement.tokens))
        return replace(_most_telling(rows), subject=name)

    def _ranked(self, asked: H, name: str, found: Ablated | HarnessError) -> Comparison:
        if isinstance(found, HarnessError):
            return unmeasured(name, "fails", "needed" if self.keeps else "unlike", found)
        if self.keeps:  # is a kept node needed for one of the tokens, or one of the metrics?
            rows = _metrics_gone(asked, found.measurement, asked.expect.metrics)
            counted = [self.compare_sibling(asked, name, found.measurement.tokens)] if asked.expect.counts else []
            return replace(_most_telling([*counted, *rows]), subject=name)
        return self.compare_sibling(asked, name, found.measurement.tokens)

    def _by_method(self, claim: H, found: Ablated | HarnessError) -> Verdict | Literal["error"]:
        """Return the verdict by another method, on what it found."""
        alone = self.without_siblings(claim)
        return (
            "error"
            if isinstance(found, HarnessError)
            else verdict_of(alone, self.comparisons(alone, found.measurement))
        )

    def control_questions(self, claim: H) -> Questions:
        """Return the questions of the controls: of a sample, fewer, which all claims with its description share."""
        asked = claim.questions
        return replace(asked, auto=False, n=CONTROL_N, seed=CONTROL_SEED) if isinstance(asked, Sample) else asked


def _metrics_gone(h: Hypothesis, m: Measurement, bounds: Sequence[MetricBound]) -> list[Comparison]:
    """Return a row for each expectation of a metric, which holds if that does not come out any more."""
    rows = compare_metrics(bounds, m.metrics, h.confidence, census=h.questions.census)
    return [replace(row, finding=opposite(row.finding)) for row in rows]


def _most_telling(rows: Sequence[Comparison]) -> Comparison:
    """Return that row which says most clearly that a node is needed."""
    telling = min(rows, key=lambda row: ("holds", "undecided", "contradicted").index(row.finding))
    return replace(telling, expects="needed")


def _compare_token(h: Hypothesis, count: TokenCount) -> Comparison:
    should_fail = count.token in h.expect.fails
    low, high = None, None
    if count.token not in h.reach:
        finding: Finding = "by construction"
        if count.wrong:
            raise MeasurementError(
                Problem(
                    f"{count.token} untouched, which {h.target} cannot reach", f"{count.wrong} failures",
                    "this is a defect of the engine or of the model's masking; please report it", h.path, h.line, 1,
                )
            )  # fmt: skip
    elif count.token in h.expect.may_fail:
        finding = "not compared"
    elif count.asked == 0:
        found = f"0 of {count.excluded} right"
        raise MeasurementError(
            Problem(
                f"{h.shape.task.nouns.prompts} whose clean run gets {count.token} right", found, "ask others",
                h.path, h.line, 1,
            )
        )  # fmt: skip
    else:
        low, high, finding = _found(h, count, should_fail)
    expects, at_least, at_most = _expectation(h, count.token)
    return Comparison(
        subject=count.token, kind="fails", expects=expects, at_least=at_least, at_most=at_most, finding=finding,
        value=count.wrong / count.asked if count.asked else 0.0, k=count.wrong, n=count.asked, low=low, high=high,
        excluded=count.excluded, threshold=straddled(finding, low, high, _threshold(h, should_fail)),
    )  # fmt: skip


def _found(h: Hypothesis, count: TokenCount, should_fail: bool) -> tuple[float | None, float | None, Finding]:
    """Return the interval of a token's failure rate (None for a census) and the finding."""
    if h.questions.census:
        return None, None, _census(should_fail, count.wrong, count.wrong / count.asked, h)
    low, high = exact_interval(count.wrong, count.asked, h.confidence)
    return low, high, _sample(should_fail, low, high, h)


def _census(should_fail: bool, wrong: int, rate: float, h: Hypothesis) -> Finding:
    if should_fail:
        threshold = h.expect.fail_rate
        holds = wrong > 0 if threshold is None else rate > threshold
    else:
        threshold = h.expect.intact_rate
        holds = wrong == 0 if threshold is None else rate < threshold
    return "holds" if holds else "contradicted"


def _sample(should_fail: bool, low: float, high: float, h: Hypothesis) -> Finding:
    threshold = _threshold(h, should_fail)
    assert threshold is not None  # a sample always has both rates
    above, below = low > threshold, high < threshold
    if above == below:
        return "undecided"
    return "holds" if above == should_fail else "contradicted"


def _threshold(h: Hypothesis, should_fail: bool) -> float | None:
    return h.expect.fail_rate if should_fail else h.expect.intact_rate


def _expectation(h: Hypothesis, token: str) -> tuple[Expects, float | None, float | None]:
    """Return what is expected of a token, and the bounds of its failure rate."""
    if token in h.expect.may_fail:
        return "free", None, None
    rate = _threshold(h, token in h.expect.fails)
    if token in h.expect.fails:
        return "some" if rate is None else "bounds", rate, None
    return "none" if rate is None else "bounds", None, rate


def _compare_loss(h: Hypothesis, m: Measurement) -> Iterator[Comparison]:
    """Compare the mean loss with its bounds; one interval serves both."""
    if not h.expect.says_loss:
        return
    value, low, high = mean_loss(m.losses, h.loss_cap, h.confidence if h.reach else None)
    for bound, wanted_below in ((h.expect.loss_below, True), (h.expect.loss_above, False)):
        if bound is None:
            continue
        below = (value if high is None else high) < bound
        above = (value if low is None else low) > bound
        finding: Finding = "undecided"
        if not h.reach:  # the loss equals that of the clean run, so that decides the claim
            finding = "by construction" if (below if wanted_below else above) else "contradicted"
        elif above != below or low is None:
            finding = "holds" if (below if wanted_below else above) else "contradicted"
        yield Comparison(
            subject="loss", kind="loss", at_least=None if wanted_below else bound,
            at_most=bound if wanted_below else None, finding=finding, value=value, low=low, high=high,
            threshold=straddled(finding, low, high, bound), cap=h.loss_cap,
        )  # fmt: skip
