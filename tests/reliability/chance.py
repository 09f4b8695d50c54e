"""Chance, for simulations: how many verdicts were false, and a bench that throws dice in place of a model's answers."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

from harness.base.intervals import exact_interval
from harness.judging.answers import Ablated
from harness.judging.bench import Workbench
from harness.judging.measurement import Measurement, TokenCount

CONFIDENCE = 0.99  # of what is said about a simulation


class Wrong(NamedTuple):
    """How many of the verdicts, or intervals, of a simulation were false."""

    wrong: int
    tried: int

    @property
    def counts(self):
        """How often something was tried, and how often it came out as it should."""
        return self.tried, self.tried - self.wrong

    @property
    def interval(self):
        """The exact interval of the share that is false."""
        return exact_interval(self.wrong, self.tried, CONFIDENCE)

    def within(self, promise):
        """Return whether the simulation may come from a rule that is false with a chance of `promise` at most."""
        return self.interval[0] <= promise

    def note(self, promise, *weaker):
        """Return what a report says; `weaker` are pairs of another rule and what came of it."""
        low, high = self.interval
        said = f"false {self.wrong / self.tried:.2%} [{low:.2%}, {high:.2%}], promised {promise:.2%} at most"
        others = (f"{name}: {other.wrong / other.tried:.1%}" for name, other in weaker)
        return "; ".join([said, *others])


def wrong(verdicts, false):
    """Return how many of the verdicts are one of those that are `false`."""
    verdicts = list(verdicts)
    return Wrong(sum(verdict in false for verdict in verdicts), len(verdicts))


def students(values, confidence, *_, **__):
    """Return Student's t interval, which holds for values that are normal."""
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def measured(tokens, n, failures, losses=None):
    """Return the measurement of an ablation with so many failures of each token, each right in all clean runs."""
    counts = tuple(TokenCount(token, n, int(k), 0, 0.0, 0.0) for token, k in zip(tokens, failures, strict=True))
    losses = torch.zeros(n) if losses is None else losses
    return Measurement(
        n=n, clean_accuracy=1.0, clean_loss=0.0, loss=float(losses.mean()), losses=losses, tokens=counts, patterns={},
        cases={}, by_node={}, examples={},
    )  # fmt: skip


class Dice(Workbench):
    """A bench whose ablations come out by chance; all else is that of the models below it.

    `chances` maps a request and a generator to the chance of each answer token to fail on a question, for one draw of a
    reference. Draws are asked the same prompts: the luck of these is the same for all, at its worst, so that a token
    which fails as often under two draws fails on as many. All stays until the dice are thrown again.
    """

    def __init__(self, chances, seed=0):
        super().__init__("cpu")
        self.chances, self.generator, self.thrown, self.luck = chances, np.random.default_rng(seed), {}, {}

    def throw(self):
        """Forget what came out."""
        self.thrown.clear()
        self.luck.clear()

    def gather(self, requests):
        """Gather nothing: nothing is run."""

    def answer(self, requests):
        """Return counts that are thrown."""
        return [self._thrown(request) for request in requests]

    def _thrown(self, request):
        if request not in self.thrown:
            task, n = self.fixture(request.model).task, request.questions.n
            prompts = (request.model, request.nodes, request.questions)
            if prompts not in self.luck:
                self.luck[prompts] = self.generator.random(len(task.answer_tokens))
            rates = self.chances(request, self.generator)
            failures = stats.binom.ppf(self.luck[prompts], n, rates).astype(int)
            self.thrown[request] = Ablated(measured(task.answer_tokens, n, failures), 0.0)
        return self.thrown[request]
