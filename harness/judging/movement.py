"""How far an intervention moves the values that it replaces, in units of their natural spread over prompts.

An intervention that moves nothing tests nothing: a mean over the asked prompts themselves, say. Mean ablation mostly
moves a value by about one spread, resampling by about 1.4. A node whose value is the same in all prompts has no spread
to be moved by. It carries nothing, and that is a fact of the model, not of the intervention. Noise is as large as the
spread of a value's components says.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from harness.base.seeds import seed_for
from harness.engines import interventions
from harness.engines.groups import shared_steps
from harness.engines.interventions import Intervention
from harness.judging.methods import Replacement, Values, replacement, with_value
from harness.judging.requests import Ablation
from harness.specs.fixtures.files import FixtureRef
from harness.specs.nodes import Node
from harness.specs.siblings import Nodes
from harness.tasks.batch import Batch
from harness.tasks.questions import MOST_IN_PART, Part, Sample

NATURAL = Sample(MOST_IN_PART, seed_for("spread"))  # the prompts over which a node's spread is taken
ROUNDING = 1e-5  # of a value's size: a smaller spread is rounding


def movement_of(ablation: Ablation, bench: Values) -> dict[Node, float]:
    """Return how far each node is moved that has a value: root mean square over the asked prompts, in spreads.

    Raises:
        MeasurementError: the values that replace the nodes' cannot be found.
    """
    prompts = bench.prompts(ablation.model, ablation.questions)
    clean = bench.values(ablation.model, Part(ablation.asked), ablation.nodes)
    change = replacement(ablation, bench, prompts)(tuple(clean))
    rows = torch.tensor(Part.rows(len(prompts)))
    return moved(change, rows, clean, spreads(ablation.model, tuple(clean), bench))


def moved(
    change: Intervention, rows: Tensor, clean: Mapping[Node, Float[Tensor, "prompt d"]], spread: Mapping[Node, float]
) -> dict[Node, float]:  # fmt: skip
    """Return how far each node's `clean` value on the prompts `rows` is moved, in spreads.

    Nodes without a known spread, or one that is rounding, are left out.
    """
    found = {}
    for node, before in clean.items():
        if node not in change.values:
            continue
        after = change.values[node] if change.donors is None else change.values[node][change.donors[rows]]
        if after.shape[-1] < before.shape[-1]:  # one value for each of several positions
            after = after.repeat(1, before.shape[-1] // after.shape[-1])
        if (usual := spread.get(node, 0.0)) > ROUNDING * _size(before):
            found[node] = _size(after[..., : before.shape[-1]].to(before.device) - before) / usual
    return found


def noise(ablation: Ablation, bench: Values, prompts: Batch) -> Replacement:
    """Return noise: every value becomes its own plus normal noise, of `sigma` times the value's own spread.

    The spread is the root mean square over the value's components, of their distances from the mean over random prompts
    of the task. Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", which adds noise of three
    times their standard deviation to the subject's embeddings.
    """
    source = ablation.captured_from
    assert source is not None  # the method captures
    values, fixture = bench.values(ablation.model, source, ablation.nodes), bench.fixture(ablation.model)
    natural = bench.values(ablation.model, NATURAL, ablation.nodes)
    own, noisy = torch.arange(len(prompts)), {}
    for node in with_value(ablation.nodes, values, fixture):
        generator = torch.Generator().manual_seed(seed_for(f"noise at {node}", ablation.seed))
        value = values[node].cpu()
        each = _of_a_component(natural[node])
        noisy[node] = value + ablation.sigma * each * torch.randn(value.shape, generator=generator)
    return lambda nodes: interventions.resample({node: noisy[node] for node in nodes if node in noisy}, own)


def spreads(ref: FixtureRef, nodes: Nodes, bench: Values) -> dict[Node, float]:
    """Return the root mean square distance of each node's value from its mean, over random prompts of the task.

    A node at a step that some of these prompts lack has none.
    """
    shared = shared_steps(bench.prompts(ref, NATURAL))
    values = bench.values(ref, NATURAL, [node for node in nodes if node.step < shared])
    return {node: _size(rows - rows.double().nanmean(0)) for node, rows in values.items()}


def _of_a_component(rows: Float[Tensor, "prompt d"]) -> float:
    """Return the standard deviation of a value's components over prompts, pooled; NaN is where a prompt has none."""
    off = rows.double() - rows.double().nanmean(0)
    return float(off.square().nanmean().sqrt())


def _size(values: Float[Tensor, "prompt d"]) -> float:
    """Return the root mean square of the values' lengths; at positions that shorter prompts lack, they are NaN."""
    return float(torch.linalg.vector_norm(values.double().nan_to_num(0.0), dim=-1).square().mean().sqrt())
