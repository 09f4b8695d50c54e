"""Requests: what is to be run on a model, as data. The bench answers the requests of many claims together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from harness.specs.claim import How
from harness.specs.fixtures.files import FixtureRef
from harness.specs.methods import CORRUPT, EVERY_METHOD, NOISE
from harness.specs.siblings import Nodes
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.contract import AnyVariable
from harness.tasks.questions import Counterparts, Donors, Pairs, Questions, Source, Toward


@dataclass(frozen=True)
class Ablation:
    """What becomes of the answers to these questions if these nodes are ablated?"""

    model: FixtureRef
    nodes: Nodes
    method: How
    reference: Source  # whose activations replace the nodes' own; with `corrupt`, those of the counterparts
    questions: Questions | Toward
    seed: int = 0
    one_at_a_time: bool = False
    # False: counts and losses are enough. Two requests that differ in nothing else are one.
    details: bool = field(default=True, compare=False)
    metrics: tuple[str, ...] = ()  # beside counts and losses
    sigma: float = 0.0  # of noise

    @property
    def asked(self) -> Questions:
        """The prompts, whatever their answers are compared with."""
        return self.questions.counterparts.of if isinstance(self.questions, Toward) else self.questions

    @property
    def captured_from(self) -> Source | None:
        """The prompts whose values replace the nodes' own, one for each that is asked; None for other methods."""
        if self.method in ("itself", NOISE):
            return self.asked
        if not EVERY_METHOD[self.method].captures:
            return None
        reference = self.reference
        return Donors(self.asked, reference, self.seed) if isinstance(reference, Questions) else reference


def ablation_of(
    h: Hypothesis,
    *,
    nodes: Nodes | None = None,
    method: How | None = None,
    questions: Questions | None = None,
    details: bool = True,
) -> Ablation:
    """Return the ablation that a claim asks for, or the same with other nodes, another method or other questions."""
    asked, how = questions or h.questions, method or h.method
    reference = Counterparts(asked, h.counterpart, h.seed) if how == CORRUPT else h.reference
    return Ablation(
        h.ref, h.nodes if nodes is None else nodes, how, reference, asked, h.seed, h.one_at_a_time, details,
        tuple(dict.fromkeys(bound.metric for bound in h.expect.metrics)), h.sigma if how == NOISE else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class AttentionOf:
    """Where do these heads look, on these questions?"""

    model: FixtureRef
    questions: Questions
    nodes: Nodes


@dataclass(frozen=True)
class CleanAnswers:
    """What does the clean model answer; `free_running`: reading its own answer tokens?"""

    model: FixtureRef
    questions: Questions | Counterparts
    free_running: bool = False


@dataclass(frozen=True)
class Interchange:
    """What becomes of the answers to the base questions if each set of nodes takes its values from the sources?

    The first set is the claim's own. It also takes values from sources in which the variable agrees.
    """

    model: FixtureRef
    questions: Pairs
    variable: AnyVariable
    tokens: tuple[str, ...]
    sets: tuple[Nodes, ...]


Request = Ablation | AttentionOf | CleanAnswers | Interchange


def brief(requests: Iterable[Request]) -> list[Request]:
    """Return the requests without their wish for details."""
    return [replace(request, details=False) if isinstance(request, Ablation) else request for request in requests]
