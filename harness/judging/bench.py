"""The workbench that all claims share: it makes models, questions, clean runs and replacement values only once.

Claims that are planned together and ask the same questions of the same model are measured together. So they share
one clean run, which is made chunk by chunk for any number of questions. The results do not depend on what was
planned, on its order or on the chunks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.engines import interventions
from harness.engines.engine import Choice, Engine, engine_for
from harness.engines.interventions import CLEAN, Intervention
from harness.engines.predictions import Outcome
from harness.judging.measurement import Measurement, Tally
from harness.models.fixtures import Fixture, load_fixture
from harness.specs.claim import How
from harness.specs.nodes import Node, reach
from harness.specs.verbs.ablate import Hypothesis
from harness.tasks.questions import Questions

VALUES_KEPT = 4  # question sets whose captured values stay in memory
OUTCOMES_AT_ONCE = 2_000_000  # questions × interventions whose outcomes are in memory at the same time, about 250 MB


@dataclass(frozen=True)
class Ablation:
    """One ablation to measure: a model, the nodes to ablate, the method, and the questions."""

    fixture: str
    fixtures: Path
    nodes: tuple[Node, ...]
    method: How
    reference: Questions
    questions: Questions
    seed: int = 0
    one_at_a_time: bool = False

    @property
    def captured_from(self) -> Questions | None:
        """The questions whose values the nodes get instead of their own; None for mean and zero ablation."""
        return {"resample": self.reference, "itself": self.questions}.get(self.method)

    @property
    def model(self) -> tuple[str, Path]:
        """The name of the fixture, and the directory of the fixtures."""
        return self.fixture, self.fixtures


def ablation_of(
    h: Hypothesis,
    *,
    nodes: tuple[Node, ...] | None = None,
    method: How | None = None,
    questions: Questions | None = None,
) -> Ablation:
    """Return the ablation that a claim asks for, or the same with other nodes, another method or other questions."""
    return Ablation(
        h.fixture, h.fixtures, h.nodes if nodes is None else nodes, method or h.method, h.reference,
        questions or h.questions, h.seed, h.one_at_a_time,
    )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A measurement and its cost in seconds, which includes its share of the work done together with others."""

    measurement: Measurement
    seconds: float


class Workbench:
    """Models, questions, reference means and measurements, shared by all claims."""

    def __init__(
        self,
        device: str = "auto",
        engine: Choice = "auto",
        chunk: int | None = None,
        before_loading: Callable[[str, Path], None] = lambda name, fixtures: None,
    ) -> None:
        self.device, self.chunk, self.choice = device, chunk, engine
        self.before_loading = before_loading  # may train a missing model; called once per fixture, even if it fails
        self._failed: dict[tuple[str, Path], HarnessError] = {}
        self._prepared: set[tuple[str, Path]] = set()
        self._planned: dict[Ablation, bool] = {}  # in order; True: with patterns, cases and examples
        self._wanted: dict[tuple[str, Path, Questions], dict[Node, None]] = {}  # nodes to capture; ordered sets
        self._values: dict[tuple[str, Path, Questions], tuple[frozenset[Node], dict[Node, Tensor]]] = {}
        self._heads: dict[tuple[str, Path, Questions], dict[Node, None]] = {}  # planned heads; ordered sets
        self._attended: dict[tuple[str, Path, Questions], tuple[Outcome, dict[Node, Tensor]]] = {}
        self._found: dict[Ablation, Measured | HarnessError] = {}
        # The caches are bounded, so that memory does not grow with the number of question sets in a long run.
        self.fixture = lru_cache(maxsize=16)(self._load)
        self.tokens = lru_cache(maxsize=64)(self._tokens)
        self.means = lru_cache(maxsize=64)(self._means)  # small; claims about many runs alternate
        self.clean = lru_cache(maxsize=128)(self._clean)

    def _load(self, name: str, fixtures: Path) -> Fixture:
        if failed := self._failed.get((name, fixtures)):
            raise failed
        try:
            if (name, fixtures) not in self._prepared:
                self._prepared.add((name, fixtures))
                self.before_loading(name, fixtures)
            return load_fixture(name, fixtures, self.device)
        except HarnessError as error:
            self._failed[name, fixtures] = error
            raise

    def _tokens(self, name: str, fixtures: Path, questions: Questions) -> Int[Tensor, "question pos"]:
        return self.fixture(name, fixtures).task.tokens_for(questions)

    def _means(self, name: str, fixtures: Path, reference: Questions) -> dict[Node, Tensor]:
        tokens = self.tokens(name, fixtures, reference)
        return self.engine(name, fixtures).capture_means(self.fixture(name, fixtures), tokens, self.chunk)

    def _clean(self, name: str, fixtures: Path, questions: Questions) -> Outcome:
        return self.run(name, fixtures, self.tokens(name, fixtures, questions), [CLEAN])[0].check(name)

    def engine(self, name: str, fixtures: Path) -> Engine:
        """Return the engine that runs the fixture `name`."""
        return engine_for(self.fixture(name, fixtures), self.choice)[0]

    def engine_name(self, name: str, fixtures: Path) -> str:
        """Return the name of that engine in reports."""
        return engine_for(self.fixture(name, fixtures), self.choice)[1]

    def run(
        self, name: str, fixtures: Path, tokens: Int[Tensor, "question pos"], changes: Sequence[Intervention]
    ) -> list[Outcome]:
        """Return the outcomes of the fixture `name` on the questions in `tokens`, one for each intervention.

        Raises:
            MeasurementError: no questions, or a hook that did not fire.
        """
        return self.engine(name, fixtures).run(self.fixture(name, fixtures), tokens, changes, self.chunk)

    def attention(
        self, name: str, fixtures: Path, questions: Questions, node: Node
    ) -> tuple[Outcome, Float[Tensor, "question key"]]:
        """Return the clean outcome, and the attention pattern of a head at its step.

        The same run also finds the attention patterns of the other planned heads.

        Raises:
            MeasurementError: no questions, a hook that did not fire, or a logit that is not finite.
        """
        where = (name, fixtures, questions)
        planned = self._heads.setdefault(where, {})
        planned.setdefault(node)
        if where not in self._attended or node not in self._attended[where][1]:
            fixture, tokens = self.fixture(name, fixtures), self.tokens(name, fixtures, questions)
            self._attended[where] = self.engine(name, fixtures).attention(fixture, tokens, planned, self.chunk)
        clean, patterns = self._attended[where]
        return clean.check(name), patterns[node]

    def values(self, name: str, fixtures: Path, questions: Questions, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Return the clean values of `nodes` on every question, at least for the nodes that reach a digit.

        The same run also captures the values of the other planned nodes.

        Raises:
            MeasurementError: no questions, or a hook that did not fire.
        """
        where, nodes = (name, fixtures, questions), tuple(nodes)
        planned = self._wanted.setdefault(where, {})
        planned.update(dict.fromkeys(nodes))
        if where not in self._values or not self._values[where][0].issuperset(nodes):
            fixture, tokens = self.fixture(name, fixtures), self.tokens(name, fixtures, questions)
            _, found = self.engine(name, fixtures).capture(fixture, tokens, planned, self.chunk)
            self._values[where] = frozenset(planned), found
            while len(self._values) > VALUES_KEPT:
                del self._values[next(iter(self._values))]
        found = self._values[where][1]
        return {node: found[node] for node in nodes if node in found}

    def plan(self, ablations: Iterable[Ablation], *, details: bool = True) -> None:
        """Register ablations that will be measured later, with all details or as counts alone. Measures nothing."""
        for ablation in ablations:
            self._planned[ablation] = details or self._planned.get(ablation, False)
            if (source := ablation.captured_from) is not None:
                self._wanted.setdefault((*ablation.model, source), {}).update(dict.fromkeys(ablation.nodes))

    def plan_attention(self, name: str, fixtures: Path, questions: Questions, nodes: Iterable[Node]) -> None:
        """Register heads whose attention pattern will be asked for later."""
        self._heads.setdefault((name, fixtures, questions), {}).update(dict.fromkeys(nodes))

    def measure(self, ablation: Ablation, *, details: bool = True) -> Measured:
        """Return the counts under `ablation`, with its nodes ablated all at once or one at a time.

        All planned ablations of the same model on the same questions are measured together with it. Without
        `details`, patterns, cases and examples may be left out.

        Raises:
            FixtureError: the model cannot be loaded.
            MeasurementError: no questions, no donors, a hook that did not fire, or a logit that is not finite.
        """
        found = self._found.get(ablation)
        if found is None or (details and isinstance(found, Measured) and not found.measurement.detailed):
            self.plan([ablation], details=details)
            self._found.pop(ablation, None)
            alike = (ablation.model, ablation.questions)
            group = [other for other in self._planned if (other.model, other.questions) == alike]
            group = [ablation, *(other for other in group if other != ablation and other not in self._found)]
            try:
                self._found |= self._measure_together(group)
            except Exception:  # a hook did not fire, or out of memory: retry alone, to blame the right ablation
                if len(group) == 1:
                    raise
                self._found |= self._measure_together([ablation])
            found = self._found[ablation]
        if isinstance(found, HarnessError):
            raise found
        return found

    def _measure_together(self, group: Sequence[Ablation]) -> dict[Ablation, Measured | HarnessError]:
        """Return the measurements, or errors, of ablations of one model on the same questions."""
        start, model = time.perf_counter(), group[0].model
        fixture, tokens = self.fixture(*model), self.tokens(*model, group[0].questions)
        found: dict[Ablation, Measured | HarnessError] = {}
        changes: list[tuple[Ablation, str, Intervention]] = []
        for ablation in group:
            try:
                make = intervention_maker(ablation, self, tokens)
                changes += [(ablation, name, make(nodes)) for nodes, name in _groups(ablation, fixture)]
            except HarnessError as error:
                found[ablation] = error
        tallies: dict[Ablation, Tally] = {}
        seconds = dict.fromkeys(group, 0.0)
        clean_seconds = 0.0
        at_once = max(1, OUTCOMES_AT_ONCE // len(tokens)) if len(tokens) else 1
        for first in range(0, max(1, len(changes)), at_once):
            part = changes[first : first + at_once]
            clean, *outcomes = self.run(*model, tokens, [CLEAN, *(change for _, _, change in part)])
            clean_seconds += clean.seconds
            if not tallies:
                tallies = {ablation: Tally(tokens, fixture.layout, clean) for ablation in group}
            for (ablation, name, _), outcome in zip(part, outcomes, strict=True):
                seconds[ablation] += outcome.seconds
                try:
                    clean.check(fixture.name)
                    tallies[ablation].add(outcome.check(fixture.name), name)
                except HarnessError as error:
                    found[ablation] = error
        clean.check(fixture.name)
        # On a GPU, the seconds of an outcome are only its launch time. The total time is divided in that proportion.
        took = time.perf_counter() - start
        whole = clean_seconds + sum(seconds.values())
        for ablation in group:
            if ablation not in found:
                share = clean_seconds / len(group) + seconds[ablation]
                measurement = tallies[ablation].finish(details=self._planned.get(ablation, True))
                found[ablation] = Measured(measurement, took * share / whole)
        return found


def intervention_maker(
    ablation: Ablation, bench: Workbench, tokens: Int[Tensor, "question pos"]
) -> Callable[[Iterable[Node]], Intervention]:
    """Return a function that makes the intervention on given nodes for the questions in `tokens`."""
    fixture = bench.fixture(*ablation.model)
    if ablation.method == "zero":
        return lambda nodes: interventions.zero({node: fixture.width(node) for node in nodes})
    # Some engines have no value for a node that nothing reads. Such a node needs no intervention.
    if ablation.method == "mean":
        means = bench.means(*ablation.model, ablation.reference)
        return lambda nodes: interventions.mean([node for node in nodes if node in means], means)
    if ablation.method == "itself":
        donors, source = torch.arange(len(tokens)), ablation.questions
    else:
        reference, source = bench.tokens(*ablation.model, ablation.reference), ablation.reference
        donors = interventions.draw_donors(tokens, reference, fixture.layout, ablation.seed)
    values = bench.values(*ablation.model, source, ablation.nodes)
    return lambda nodes: interventions.resample({node: values[node] for node in nodes if node in values}, donors)


def _groups(ablation: Ablation, fixture: Fixture) -> Iterator[tuple[tuple[Node, ...], str]]:
    if not ablation.one_at_a_time:
        yield ablation.nodes, ""
        return
    for node in ablation.nodes:
        if reach([node], fixture.shape):  # a node that reaches no digit cannot change the outcome
            yield (node,), str(node)
