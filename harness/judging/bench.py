"""The bench: runs what claims ask for, and shares models, questions, clean runs and replacement values among them.

Requests are gathered before the first one is answered. Ablations of the same model on the same questions are then
measured together, so that they share one clean run, chunk by chunk. The answers do not depend on which requests were
gathered, on their order, or on the chunks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.seeds import seed_for
from harness.engines.engine import Engine, engine_for, free_running
from harness.engines.groups import decided_answers, fixed_steps, reaches_an_answer, shared_steps
from harness.engines.interventions import CLEAN, Intervention
from harness.engines.predictions import Outcome
from harness.judging.answers import Ablated, Answered, Attended, Interchanged
from harness.judging.interchange import run_interchange
from harness.judging.measurement import Tally
from harness.judging.methods import replacement
from harness.judging.movement import NATURAL
from harness.judging.requests import Ablation, AttentionOf, CleanAnswers, Interchange, Request
from harness.models.fixtures import Fixture, load_fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.nodes import Node, reach
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.batch import Batch
from harness.tasks.donors import draw_donors
from harness.tasks.questions import Counterparts, Donors, Part, Questions, Source, Toward

VALUES_KEPT = 8  # question sets whose captured values are in memory
OUTCOMES_AT_ONCE = 2_000_000  # prompts × interventions whose outcomes are in memory together, some 250 MB


class Workbench:
    """Models, questions, reference means and measurements, shared by all claims."""

    def __init__(
        self,
        device: str = "auto",
        engine: str = "auto",
        chunk: int | None = None,
        before_loading: Callable[[FixtureRef], None] = lambda ref: None,
    ) -> None:
        self.device, self.chunk, self.choice = device, chunk, engine
        self.before_loading = before_loading  # for example trains missing weights; called once for each fixture
        self._failed: dict[FixtureRef, HarnessError] = {}
        self._prepared: set[FixtureRef] = set()
        self._gathered: dict[Ablation, bool] = {}  # in order; whether details are wanted
        self._wanted: dict[tuple[FixtureRef, Source], dict[Node, None]] = {}  # values; the keys are an ordered set
        self._values: dict[tuple[FixtureRef, Source], tuple[frozenset[Node], dict[Node, Tensor]]] = {}
        self._heads: dict[tuple[FixtureRef, Questions], dict[Node, None]] = {}  # attention; an ordered set
        self._attended: dict[tuple[FixtureRef, Questions], tuple[Outcome, dict[Node, Tensor]]] = {}
        self._found: dict[Ablation, Ablated | HarnessError] = {}
        # Claims on the same prompts: those that will ask other draws of a reference, and whether also to be refuted.
        self._alike: dict[tuple[FixtureRef, Questions], list[tuple[Hypothesis, bool]]] = {}
        # Bounded, so that a long run's memory does not grow with its number of question sets.
        self.fixture = lru_cache(maxsize=16)(self._load)
        self.prompts = lru_cache(maxsize=64)(self._prompts)
        self.means = lru_cache(maxsize=512)(self._means)  # small: one value a node; draws and runs take turns
        self.clean = lru_cache(maxsize=128)(self._clean)

    def _load(self, ref: FixtureRef) -> Fixture:
        if failed := self._failed.get(ref):
            raise failed
        try:
            if ref not in self._prepared:
                self._prepared.add(ref)
                self.before_loading(ref)
            return load_fixture(ref.name, ref.root, self.device, ref.task)
        except HarnessError as error:
            self._failed[ref] = error
            raise

    def _prompts(self, ref: FixtureRef, source: Source) -> Batch:
        if isinstance(source, Counterparts):
            return self.prompts(ref, source.of).counterparts(source.name, seed_for("counterparts", source.seed))
        if isinstance(source, Toward):
            return self.prompts(ref, source.counterparts.of).toward(self.prompts(ref, source.counterparts))
        if isinstance(source, Donors):
            return draw_donors(self.prompts(ref, source.of), source.reference, source.seed, self.fixture(ref).task)
        if isinstance(source, Part):
            whole = self.prompts(ref, source.of)
            return whole[torch.tensor(Part.rows(len(whole)))]
        return self.fixture(ref).task.batch_for(source)

    def _means(self, ref: FixtureRef, reference: Source) -> dict[Node, Tensor]:
        return self.engine(ref).capture_means(self.fixture(ref), self.prompts(ref, reference), self.chunk)

    def _clean(self, ref: FixtureRef, questions: Source) -> Outcome:
        return self.run(ref, self.prompts(ref, questions), [CLEAN])[0].check(ref.name)

    def fixed_steps(self, ref: FixtureRef) -> frozenset[int]:
        """Return the steps at which all prompts of the fixture's task have the same token."""
        return fixed_steps(self.prompts(ref, NATURAL))

    def engine(self, ref: FixtureRef) -> Engine:
        """Return the engine that runs the fixture."""
        return engine_for(self.fixture(ref), self.choice)[0]

    def engine_name(self, ref: FixtureRef) -> str:
        """Return what a report calls that engine; of a model by reference, also what loading it proved."""
        proof = f"; {self.fixture(ref).loaded.proof}" if ref.task else ""
        return engine_for(self.fixture(ref), self.choice)[1] + proof

    def capture(
        self, ref: FixtureRef, prompts: Batch, nodes: Iterable[Node]
    ) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt d"]]]:
        """Return the clean outcome on these prompts, and the clean values of nodes, at least of those that are read."""
        return self.engine(ref).capture(self.fixture(ref), prompts, nodes, self.chunk)

    def run(self, ref: FixtureRef, prompts: Batch, changes: Sequence[Intervention], kl: bool = False) -> list[Outcome]:
        """Return what the fixture answers under each intervention."""
        return self.engine(ref).run(self.fixture(ref), prompts, changes, self.chunk, kl=kl)

    def values(self, ref: FixtureRef, source: Source, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Return the clean values of `nodes` on every prompt, at least of those that reach an answer token.

        The values of other gathered nodes are captured in the same run.

        Raises:
            MeasurementError: no questions, or a hook that did not fire.
        """
        where, nodes = (ref, source), tuple(nodes)
        wanted = self._wanted.setdefault(where, {})
        wanted.update(dict.fromkeys(nodes))
        if where not in self._values or not self._values[where][0].issuperset(nodes):
            prompts = self.prompts(ref, source)
            together = _in_all(prompts, wanted) | set(nodes)
            _, found = self.capture(ref, prompts, together)
            self._values[where] = frozenset(together), found
            while len(self._values) > VALUES_KEPT:
                del self._values[next(iter(self._values))]
        found = self._values[where][1]
        return {node: found[node] for node in nodes if node in found}

    def gather(self, requests: Iterable[Request]) -> None:
        """Remember what will be asked, so that it is run together; nothing is run yet."""
        for request in requests:
            if isinstance(request, Ablation):
                self._gathered[request] = request.details or self._gathered.get(request, False)
                for source in (request.captured_from, Part(request.asked), NATURAL):
                    if source is not None:
                        self._wanted.setdefault((request.model, source), {}).update(dict.fromkeys(request.nodes))
            elif isinstance(request, AttentionOf):
                heads = self._heads.setdefault((request.model, request.questions), {})
                heads.update(dict.fromkeys(request.nodes))

    def gather_draws(self, claim: Hypothesis, *, refuting: bool) -> None:
        """Remember that a claim may ask other draws of its reference; without `refuting`, only if it is supported."""
        self._alike.setdefault((claim.ref, claim.questions), []).append((claim, refuting))

    def take_alike(self, ref: FixtureRef, questions: Questions) -> list[tuple[Hypothesis, bool]]:
        """Return, once, the remembered claims on these prompts."""
        return self._alike.pop((ref, questions), [])

    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Return the answer to each request.

        Raises:
            FixtureError: a model cannot be loaded.
            MeasurementError: no questions, no donors, a hook that did not fire, or a logit that is not finite.
            HarnessError: pairs of questions that say nothing.
        """
        self.gather(requests)
        return [self._answer(request) for request in requests]

    def tried(self, requests: Sequence[Request]) -> list[Any]:
        """Return the answer to each request, or in its place the error that it came to."""
        self.gather(requests)
        found: list[Any] = []
        for request in requests:
            try:
                found.append(self._answer(request))
            except HarnessError as error:
                found.append(error)
        return found

    def _answer(self, request: Request) -> Ablated | Attended | Answered | Interchanged:
        match request:
            case Ablation():
                return self.measure(request)
            case AttentionOf():
                return self._attention(request)
            case CleanAnswers():
                return self._answers(request)
            case Interchange():
                return run_interchange(request, self)

    def _answers(self, request: CleanAnswers) -> Answered:
        ref, questions = request.model, request.questions
        fixture, prompts, clean = self.fixture(ref), self.prompts(ref, questions), self.clean(ref, questions)
        predicted = clean.predicted
        if request.free_running:
            predicted = free_running(self.engine(ref), fixture, prompts, predicted, self.chunk)
        return Answered(fixture, prompts, clean, predicted)

    def _attention(self, request: AttentionOf) -> Attended:
        where = (request.model, request.questions)
        fixture, prompts = self.fixture(request.model), self.prompts(*where)
        if where not in self._attended or not self._attended[where][1].keys() >= set(request.nodes):
            together = _in_all(prompts, self._heads[where]) | set(request.nodes)
            self._attended[where] = self.engine(request.model).attention(fixture, prompts, together, self.chunk)
        clean, patterns = self._attended[where]
        return Attended(fixture, prompts, clean.check(fixture.name), {node: patterns[node] for node in request.nodes})

    def measure(self, ablation: Ablation) -> Ablated:
        """Return what was counted when the nodes of `ablation` were cut, all at once or one at a time.

        All gathered ablations of the same model on the same questions are measured with it. Patterns, cases and
        examples may be missing unless the request asks for `details`.

        Raises:
            FixtureError: the model cannot be loaded.
            MeasurementError: no questions, no donors, a hook that did not fire, or a logit that is not finite.
        """
        found = self._found.get(ablation)
        if found is None or (ablation.details and isinstance(found, Ablated) and not found.measurement.detailed):
            self.gather([ablation])
            self._found.pop(ablation, None)
            alike = (ablation.model, ablation.questions)
            group = [other for other in self._gathered if (other.model, other.questions) == alike]
            group = [ablation, *(other for other in group if other != ablation and other not in self._found)]
            try:
                self._found |= self._measure_together(group)
            except Exception:  # a hook that did not fire, or no memory: find out which ablation caused it
                if len(group) == 1:
                    raise
                self._found |= self._measure_together([ablation])
            found = self._found[ablation]
        if isinstance(found, HarnessError):
            raise found
        return found

    def _measure_together(self, group: Sequence[Ablation]) -> dict[Ablation, Ablated | HarnessError]:
        """Return the answers to ablations of one model on the same questions."""
        start, ref = time.perf_counter(), group[0].model
        fixture, prompts = self.fixture(ref), self.prompts(ref, group[0].questions)
        found: dict[Ablation, Ablated | HarnessError] = {}
        kl = any("kl" in ablation.metrics for ablation in group)
        changes: list[tuple[Ablation, str, Intervention]] = []
        for ablation in group:
            try:
                make = replacement(ablation, self, prompts)
                changes += [(ablation, name, make(nodes)) for nodes, name in _groups(ablation, fixture)]
            except HarnessError as error:
                found[ablation] = error
        tallies: dict[Ablation, Tally] = {}
        seconds = dict.fromkeys(group, 0.0)
        clean_seconds = 0.0
        at_once = max(1, OUTCOMES_AT_ONCE // len(prompts)) if len(prompts) else 1
        for first in range(0, max(1, len(changes)), at_once):
            part = changes[first : first + at_once]
            clean, *outcomes = self.run(ref, prompts, [CLEAN, *(change for _, _, change in part)], kl=kl)
            clean_seconds += clean.seconds
            if not tallies:
                tallies = {one: Tally(prompts, fixture.task, clean, one.metrics) for one in group}
            for (ablation, name, _), outcome in zip(part, outcomes, strict=True):
                seconds[ablation] += outcome.seconds
                try:
                    clean.check(fixture.name)
                    tallies[ablation].add(outcome.check(fixture.name), name)
                except HarnessError as error:
                    found[ablation] = error
        clean.check(fixture.name)
        # On a GPU an outcome's seconds are those to launch it; the whole time is shared out in that proportion.
        took = time.perf_counter() - start
        whole = clean_seconds + sum(seconds.values())
        for ablation in group:
            if ablation not in found:
                share = clean_seconds / len(group) + seconds[ablation]
                measurement = tallies[ablation].finish(details=self._gathered.get(ablation, True))
                reaches = reaches_an_answer(ablation.nodes, prompts, fixture.shape)
                sets = [(node,) for node in ablation.nodes] if ablation.one_at_a_time else [ablation.nodes]
                decided = decided_answers(sets, fixture, prompts, self.fixed_steps(ref))
                found[ablation] = Ablated(measurement, took * share / whole, reaches, decided)
        return found


def _in_all(prompts: Batch, nodes: Iterable[Node]) -> set[Node]:
    """Return the nodes that every prompt has: another claim's step that some prompt lacks is that claim's error."""
    shared = shared_steps(prompts)
    return {node for node in nodes if node.step < shared}


def _groups(ablation: Ablation, fixture: Fixture) -> Iterator[tuple[tuple[Node, ...], str]]:
    if not ablation.one_at_a_time:
        yield ablation.nodes, ""
        return
    for node in ablation.nodes:
        if reach([node], fixture.shape):  # a node that reaches no answer token leaves the clean run as it is
            yield (node,), str(node)
