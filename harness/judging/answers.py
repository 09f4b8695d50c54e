"""Answers: what came out of each kind of request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from harness.engines.predictions import Outcome
from harness.judging.measurement import Measurement
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.batch import Batch
from harness.tasks.pairs import Drawn


@dataclass(frozen=True)
class Ablated:
    """The measurement of an ablation, and its time in seconds: its own, and its share of what it had in common."""

    measurement: Measurement
    seconds: float
    reaches: bool = True  # whether one of the nodes can change an answer of one of the prompts
    decided: frozenset[str] = frozenset()  # answer tokens to which the nodes are the only way


class Answered(NamedTuple):
    """What a clean model answered."""

    fixture: Fixture
    prompts: Batch
    clean: Outcome  # teacher-forced
    predicted: Int[Tensor, "prompt answer"]  # free-running, where that was asked for


class Attended(NamedTuple):
    """The clean run, and the attention pattern of each head at its positions."""

    fixture: Fixture
    prompts: Batch
    clean: Outcome
    patterns: dict[Node, Float[Tensor, "prompt index key"]]


class Interchanged(NamedTuple):
    """The clean runs of sources and bases, and the bases under each interchange intervention."""

    fixture: Fixture
    drawn: Drawn
    source: Outcome
    base: Outcome
    agreeing: Outcome  # of the first set, with sources in which the variable agrees
    differing: list[Outcome]  # of each set
    moves: dict[Node, float]  # how far the first set's values are moved there, in spreads
    decided: frozenset[str]  # answer tokens to which the first set is the only way
