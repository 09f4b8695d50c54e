"""``patch`` with ``from``: activation patching. Nodes take the values that they have on a counterpart of each prompt.

If they carry the answer, the counterpart's answer is preferred to the prompt's own. Both are known, so every metric is
of the one against the other: logit_diff is the counterpart's best logit less the prompt's own best.

Source: Vig et al. 2020, "Causal Mediation Analysis"; Heimersheim and Nanda 2024, "How to use and interpret activation
patching", whose denoising this is, with each prompt in the place of the corrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.judging.answers import Ablated
from harness.judging.measurement import Measurement
from harness.judging.movement import movement_of
from harness.judging.requests import Ablation, CleanAnswers, Request, ablation_of
from harness.judging.untested import Untested, unmoved
from harness.judging.verb import Mutant, Verb
from harness.judging.verbs.metric_bounds import compare_metrics
from harness.judging.verbs.metrics import success_rate
from harness.judging.verdict import Comparison, Controls, opposite, require_accuracy, unmeasured
from harness.judging.worth.controls import CONTROL_N, CONTROL_SEED, left_out_rows, not_tried, to_run
from harness.judging.worth.mutants import moves, without_each
from harness.specs.siblings import Nodes, write_nodes
from harness.specs.verbs.patch_from import PatchFrom
from harness.tasks.questions import Counterparts, Sample

if TYPE_CHECKING:
    from harness.judging.bench import Workbench


class PatchFromVerb(Verb[PatchFrom]):
    """``patch`` with ``from``: nodes carry the answer of a counterpart."""

    def requests(self, claim: PatchFrom) -> Sequence[Request]:
        """Return the patching, and the clean answers to the prompts and to their counterparts."""
        theirs = Counterparts(claim.questions, claim.counterpart, claim.seed)
        return [patching_of(claim), CleanAnswers(claim.ref, claim.questions), CleanAnswers(claim.ref, theirs)]

    def compare(self, claim: PatchFrom, answers: Sequence[Any]) -> tuple[Measurement, tuple[Comparison, ...]]:
        """Return the measurement, with the clean success on the prompts, and a comparison for each expectation.

        Raises:
            MeasurementError: the clean model does not do what is studied, on the prompts or on their counterparts.
        """
        found, own, theirs = answers
        success = [success_rate(one.clean, one.prompts, one.fixture.task) for one in (own, theirs)]
        for rate, which in zip(success, ("", f"the {claim.counterpart} of "), strict=True):
            require_accuracy(claim, rate, len(own.prompts), which)
        measured = replace(found.measurement, clean_accuracy=success[0], near_ties=0)  # no argmax is compared
        return measured, tuple(_compared(claim, found))

    def untested(self, claim: PatchFrom, answers: Sequence[Ablated], bench: Workbench) -> Iterator[Untested]:
        """Yield why nothing was tested: it followed before, had no other way than the nodes, or no value moved."""
        if answers[0].decided >= set(claim.shape.task.answer_tokens):
            yield Untested("only way", claim.shape.task.answer_tokens)
        before = float((answers[0].measurement.metrics["prefers"].clean >= 1).double().mean())
        if before > (least := claim.follows.at_least or 0.0):
            yield Untested("already", value=before, least=least)
        yield from unmoved(movement_of(ablation_of(claim), bench))

    def control_requests(self, claim: PatchFrom) -> Sequence[Request]:
        """Return the ablation that puts values back, and the patching of the nodes and of all siblings."""
        asked = _controlled(claim)
        back = Ablation(claim.ref, claim.nodes, "itself", asked.questions, asked.questions, details=False)
        sets = [claim.nodes, *claim.siblings.values()] if claim.siblings else []
        return [back, *(patching_of(asked, nodes) for nodes in sets), *self.left_out_requests(claim)]

    def controls(self, claim: PatchFrom, put_back: int, answers: Sequence[Ablated | HarnessError]) -> Controls:
        """Return what the controls showed."""
        asked, names = _controlled(claim), ["", *claim.siblings] if claim.siblings else []
        rows = [_beside(asked, name, found) for name, found in zip(names, answers, strict=False)]
        ranked_by = rows[0].value if rows and not rows[0].absent else None
        out = self.left_out(claim, answers[len(names) :])
        return Controls(put_back, ranked_by, tuple(rows[1:]), {}, out, not_tried(claim))

    def left_out_requests(self, claim: PatchFrom) -> Sequence[Request]:
        """Return the patching of the others for each node that may be spare."""
        return [patching_of(_controlled(claim), nodes) for nodes in to_run(claim, ()).values()]

    def left_out(self, claim: PatchFrom, answers: Sequence[Ablated | HarnessError]) -> tuple[Comparison, ...]:
        """Return for each node whether the others alone carry the answer."""
        asked, names = _controlled(claim), to_run(claim, ())
        rows = {name: _beside(asked, name, found) for name, found in zip(names, answers, strict=True)}
        return left_out_rows(claim, "share", {name: replace(row, expects="needed") for name, row in rows.items()})

    def mutants(self, claim: PatchFrom) -> Iterator[Mutant]:
        """Yield the claim with other nodes, with one less, and with their own values."""
        for kind, nodes in (*moves(claim.nodes, claim.shape), *without_each(claim.nodes)):
            there = replace(claim, nodes=nodes, ablate=(write_nodes(nodes),))
            if there.reach:
                yield Mutant(kind, there)
        yield Mutant("no-op", replace(claim, method="itself"))


VERB = PatchFromVerb()


def patching_of(claim: PatchFrom, nodes: Nodes | None = None) -> Ablation:
    """Return what a claim asks for, of its nodes or of others: judged by the counterpart's answer."""
    return replace(ablation_of(claim, nodes=nodes, details=False), questions=claim.judged_on)


def _controlled(claim: PatchFrom) -> PatchFrom:
    asked = claim.questions
    fewer = replace(asked, auto=False, n=CONTROL_N, seed=CONTROL_SEED) if isinstance(asked, Sample) else asked
    return replace(claim, gate=0.0, questions=fewer)


def _compared(claim: PatchFrom, found: Ablated) -> Iterator[Comparison]:
    rows = compare_metrics(
        claim.expect.metrics, found.measurement.metrics, claim.confidence, census=claim.questions.census
    )
    yield replace(next(rows), subject="follows")
    yield from rows


def _beside(claim: PatchFrom, name: str, found: Ablated | HarnessError) -> Comparison:
    """Return the row of a sibling: if the answer follows it as well, it is contradicted."""
    if isinstance(found, HarnessError):
        return unmeasured(name, "share", "unlike", found)
    row = next(_compared(claim, found))
    return replace(row, subject=name, expects="unlike", at_least=None, finding=opposite(row.finding))
