"""The fast engine: it recomputes only the cone of an intervention, that is, what the intervention can reach.

Attention is causal, so a change at step s does not affect earlier steps. All interventions on the same prompts
share one clean run, and everything outside the cone is taken from it. The cost of an intervention on one head:

- at S8 in the first of two layers: one MLP at S8; in the last layer a new key and value at S8, and the
  steps that predict an answer token;
- in the last layer: one MLP at one step;
- nothing, if no answer token depends on the node.

::

    layer 0   . . . . . . . . # . . . . . . . .      #: MLP recomputed
    layer 1   o o o o o o o o * o o # # # # # #      *: key and value recomputed;  o: the clean run's keys and values
             S0              S8    S11         S16

The engine makes no approximation. Tests compare every kind of node, method and number of layers with the
reference engine. ``harness/engines/propagation.py`` carries a change through the layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.engines.groups import Group, groups, in_order_of, names_in, order_of, shared_steps, summed
from harness.engines.interventions import Intervention
from harness.engines.predictions import Outcome, batches, join
from harness.engines.propagation import CleanRun
from harness.engines.transformer import Layer, Sizes, answer_logits, first_step, sizes_of, split_heads
from harness.models.fixtures import Fixture
from harness.specs.fixtures.recipe import Recipe, Transformer
from harness.specs.node_sets import nodes_with_means
from harness.specs.nodes import Kind, Node, reach
from harness.tasks.batch import Batch

CHUNK_BYTES = 300e6  # memory limit for the clean run of one chunk of prompts
CHUNK = 512  # most prompts in a chunk: more do not make the matrix products faster


def refusal(fixture: Fixture) -> str | None:
    """Return the reason why this engine cannot run a fixture's model, or None if it can."""
    model = fixture.recipe.model
    if not isinstance(model, Transformer):
        return "a model by reference" if fixture.shape.asks else "a model that code builds"
    if model.act_fn not in ("relu", "gelu"):
        return f"the activation {model.act_fn}"
    return None if model.normalisation == "LN" else f"the normalisation {model.normalisation}"


@torch.inference_mode()
def run(
    fixture: Fixture,
    batch: Batch,
    interventions: Sequence[Intervention],
    chunk: int | None = None,
    *,
    kl: bool = False,
) -> list[Outcome]:
    """Return the outcome of each intervention on all prompts; an intervention without nodes is the clean run.

    Results are on the CPU. At most `chunk` prompts are in memory at a time; the default is :func:`chunk_of`.

    Raises:
        MeasurementError: there are no prompts, or they lack a position.
    """
    parts: list[list[Outcome]] = [[] for _ in interventions]
    rows = []
    for group in groups(fixture, batch, names_in(node for change in interventions for node in change.values)):
        rows.append(group.rows)
        live = [_live(group.bound(change), group) for change in interventions]
        sizes = sizes_of(fixture.recipe, group.asked)
        for prompts in batches(len(group), chunk or chunk_of(fixture.recipe)):
            clean = CleanRun(fixture, group.batch[prompts], sizes, kl=kl)
            outcomes = clean.under(live, prompts)
            for given, outcome, found in zip(interventions, outcomes, parts, strict=True):
                found.append(outcome if given.nodes else clean.outcome)
    order = order_of(rows)
    return [join(found, order) for found in parts]


@torch.inference_mode()
def capture(
    fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt d"]]]:
    """Return the clean outcome, and the clean values of all `nodes` that can reach an answer token, on every prompt.

    Raises:
        MeasurementError: there are no prompts, or they lack a position.
    """
    wanted = [node for node in sorted(set(nodes)) if reach([node], fixture.shape)]
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    outcomes, rows = [], []
    for group in groups(fixture, batch, names_in(wanted)):
        rows.append(group.rows)
        there = {node: group.nodes(node) for node in wanted}
        for clean in _chunks(group, [at for nodes in there.values() for at in nodes], chunk):
            outcomes.append(clean.outcome)
            for node, places in there.items():
                values = [_value(at, _whole(clean.layers, at.layer, at.kind), clean.sizes) for at in places]
                found[node].append(torch.cat(values, dim=-1) if len(values) > 1 else values[0].clone())
    order = order_of(rows)
    return join(outcomes, order), {node: in_order_of(values, order) for node, values in found.items()}


@torch.inference_mode()
def capture_means(fixture: Fixture, batch: Batch, chunk: int | None = None) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value over the prompts, for every node that can reach an answer token.

    Sums are in float64, so that the mean does not depend on how the prompts are split into chunks.

    Raises:
        MeasurementError: there are no prompts.
    """
    every = nodes_with_means(fixture.shape, shared_steps(batch))
    live = [node for node in every if reach([node], fixture.shape)]
    totals: dict[Node, Tensor] = {}
    places_read = 0  # of all prompts together
    for group in groups(fixture, batch, names_in(live)):
        there = {node: group.nodes(node) for node in live}
        sums: dict[tuple[int, Kind], Tensor] = {}
        for clean in _chunks(group, [at for nodes in there.values() for at in nodes], chunk):
            for place in product(range(len(clean.layers)), _WHERE):
                total = _whole(clean.layers, *place).sum(0, keepdim=True, dtype=torch.float64)
                sums[place] = sums[place] + total if place in sums else total
        for node, nodes in there.items():
            total = summed(node, [_value(at, sums[at.layer, at.kind], clean.sizes)[0] for at in nodes])
            totals[node] = totals[node] + total if node in totals else total
        places_read += len(group) * (group.asked[-1] + 1)
    return {node: (total / (places_read if node.everywhere else len(batch))).float() for node, total in totals.items()}


@torch.inference_mode()
def attention(
    fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt index key"]]]:
    """Return the clean outcome, and each head's attention pattern at its positions, both on the CPU.

    Each node in `nodes` must be able to reach an answer token.

    Raises:
        MeasurementError: there are no prompts, or they lack a position.
    """
    wanted = sorted(set(nodes))
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    outcomes, rows = [], []
    for group in groups(fixture, batch, names_in(wanted)):
        rows.append(group.rows)
        there = {node: group.nodes(node) for node in wanted}
        for clean in _chunks(group, [at for nodes in there.values() for at in nodes], chunk):
            outcomes.append(clean.outcome)
            for node, kept in found.items():
                patterns = [_pattern(at, clean, batch.tokens.shape[1]) for at in there[node]]
                kept.append(torch.stack(patterns, dim=1).cpu())
    order = order_of(rows)
    return join(outcomes, order), {node: in_order_of(values, order) for node, values in found.items()}


@torch.inference_mode()
def generate(fixture: Fixture, batch: Batch, chunk: int | None = None) -> Int[Tensor, "prompt answer"]:
    """Return the answers of the free-running model: each token that it predicts becomes its next input token."""
    parts, rows = [], []
    for group in groups(fixture, batch):
        rows.append(group.rows)
        sizes = sizes_of(fixture.recipe, group.asked)
        for prompts in batches(len(group), chunk or chunk_of(fixture.recipe)):
            # An answer may stand just behind the end.
            context = functional.pad(group.tokens[prompts].to(fixture.device), (0, 1))
            for i, step in enumerate(group.asked):
                context[:, step + 1] = answer_logits(fixture.weights, context, sizes)[:, i].argmax(-1)
            parts.append(context[:, [step + 1 for step in group.asked]])
    return in_order_of(parts, order_of(rows)).cpu()


def chunk_of(recipe: Recipe) -> int:
    """Return the number of prompts in a chunk: as many as fit into :data:`CHUNK_BYTES`, at most :data:`CHUNK`."""
    model, steps = recipe.transformer, recipe.task.n_ctx - 1
    by_head = (2 + model.n_heads) * model.d_model + model.n_heads * steps  # q, k, what heads add, and scores
    at_a_step = len(Layer._fields) * model.d_model + by_head
    in_mlp = steps * 2 * model.d_mlp  # needed for one layer at a time
    return max(1, min(CHUNK, int(CHUNK_BYTES / 4 / (model.n_layers * steps * at_a_step + in_mlp))))


def _live(change: Intervention, group: Group) -> Intervention:
    """Return `change` on the fixture's device, without the nodes that can reach no answer token."""
    device = group.fixture.device
    values = {node: value.to(device) for node, value in change.values.items() if group.reaches(node)}
    return Intervention(values, None if change.donors is None else change.donors.to(device))


def _chunks(group: Group, nodes: Collection[Node], chunk: int | None) -> Iterator[CleanRun]:
    """Yield clean runs of a group's prompts, in which all of `nodes` have their values."""
    reading = {node.step for node in nodes if node.layer == group.fixture.shape.n_layers - 1}
    last = max((node.step for node in nodes), default=0)
    sizes = sizes_of(group.fixture.recipe, group.asked, {*reading, *([last] if last > group.asked[-1] else [])})
    for prompts in batches(len(group), chunk or chunk_of(group.fixture.recipe)):
        yield CleanRun(group.fixture, group.batch[prompts], sizes)


def _pattern(node: Node, clean: CleanRun, width: int) -> Float[Tensor, "prompt key"]:
    """Return the attention pattern of a head at a step, filled up with 0 to `width` keys."""
    layer, sizes = clean.layers[node.layer], clean.sizes
    q, k = (split_heads(part, sizes)[:, node.head] for part in (layer.q, layer.k))
    asking = q[:, node.step - first_step(node.layer, sizes), :, None]
    scores = (k[:, : node.step + 1] @ asking).squeeze(-1) / math.sqrt(sizes.d_head)
    return functional.pad(scores.softmax(-1), (0, width - 1 - node.step))


_WHERE: dict[Kind, str] = {"head": "z", "mlp": "mlp_out", "resid": "resid_post"}  # kind of node → field of `Layer`


def _whole(layers: Sequence[Layer], layer: int, kind: Kind) -> Float[Tensor, "prompt step d"]:
    value: Tensor = getattr(layers[layer], _WHERE[kind])
    return value


def _value(node: Node, whole: Float[Tensor, "prompt step d"], sizes: Sizes) -> Float[Tensor, "prompt d"]:
    """Return the node's part of `whole`, which holds all nodes of its kind in its layer."""
    value = whole[:, node.step - first_step(node.layer, sizes)]
    return value[:, node.head * sizes.d_head : (node.head + 1) * sizes.d_head] if node.kind == "head" else value
