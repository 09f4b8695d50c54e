"""The fast engine: it recomputes only the cone of an intervention, that is, what the intervention can reach.

Attention is causal, so a change at step s does not affect earlier steps. All interventions on the same questions
share one clean run, and everything outside the cone is taken from it. The cost of an intervention on one head:

- at S8 in the first of two layers: one MLP at S8; in the last layer a new key and value at S8, and the six
  steps that predict an answer digit;
- in the last layer: one MLP at one step;
- nothing, if no answer digit depends on the node.

::

    layer 0   . . . . . . . . # . . . . . . . .      #: MLP recomputed
    layer 1   o o o o o o o o * o o # # # # # #      *: key and value recomputed;  o: the clean run's keys and values
             S0              S8    S11         S16

The engine makes no approximation. Tests compare every kind of node, method and number of layers with the
reference engine. ``harness/engines/propagation.py`` carries a change through the layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.engines.interventions import Intervention
from harness.engines.predictions import Outcome, batches, join
from harness.engines.propagation import CleanRun
from harness.engines.transformer import Layer, Sizes, answer_logits, first_step, sizes_of, split_heads
from harness.models.fixtures import Fixture
from harness.specs.nodes import Kind, Node, all_nodes, reach
from harness.specs.recipe import Recipe, UserModelRecipe
from harness.tasks.answers import answers

CHUNK_BYTES = 300e6  # memory limit for the clean run of one chunk of questions
CHUNK = 512  # most questions in a chunk: more do not make the matrix products faster


def refusal(fixture: Fixture) -> str | None:
    """Return the reason why this engine cannot run a fixture's model, or None if it can."""
    recipe = fixture.recipe
    if isinstance(recipe, UserModelRecipe):
        return "a model that code builds"
    if recipe.act_fn not in ("relu", "gelu"):
        return f"the activation {recipe.act_fn}"
    return None if recipe.normalisation == "LN" else f"the normalisation {recipe.normalisation}"


@torch.inference_mode()
def run(
    fixture: Fixture,
    tokens: Int[Tensor, "question pos"],
    interventions: Sequence[Intervention],
    chunk: int | None = None,
) -> list[Outcome]:
    """Return the outcome of each intervention on all questions; an intervention without nodes is the clean run.

    Results are on the CPU. At most `chunk` questions are in memory at a time; the default is :func:`chunk_of`.

    Raises:
        MeasurementError: there are no questions.
    """
    live = [_live(change, fixture) for change in interventions]
    parts: list[list[Outcome]] = [[] for _ in interventions]
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        clean = CleanRun(fixture, tokens[questions])
        outcomes = clean.under(live, questions)
        for given, outcome, found in zip(interventions, outcomes, parts, strict=True):
            found.append(outcome if given.nodes else clean.outcome)
    return [join(found) for found in parts]


@torch.inference_mode()
def capture(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "question d"]]]:
    """Return the clean outcome, and the clean values of all `nodes` that can reach an answer digit, on every question.

    Raises:
        MeasurementError: there are no questions.
    """
    wanted = [node for node in sorted(set(nodes)) if reach([node], fixture.shape)]
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    outcomes, sizes = [], sizes_of(fixture.recipe)
    for clean in _chunks(fixture, tokens, chunk):
        outcomes.append(clean.outcome)
        for node in wanted:
            found[node].append(_value(node, _whole(clean.layers, node.layer, node.kind), sizes).clone())
    return join(outcomes), {node: torch.cat(values) for node, values in found.items()}


@torch.inference_mode()
def capture_means(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value over the questions, for every node that can reach an answer digit.

    Sums are in float64, so that the mean does not depend on how the questions are split into chunks.

    Raises:
        MeasurementError: there are no questions.
    """
    sums: dict[tuple[int, Kind], Tensor] = {}
    for clean in _chunks(fixture, tokens, chunk):
        for place in product(range(len(clean.layers)), _WHERE):
            total = _whole(clean.layers, *place).sum(0, keepdim=True, dtype=torch.float64)
            sums[place] = sums[place] + total if place in sums else total
    live = [node for node in all_nodes(fixture.shape) if reach([node], fixture.shape)]
    sizes = sizes_of(fixture.recipe)
    totals = {node: _value(node, sums[node.layer, node.kind], sizes)[0] for node in live}
    return {node: (total / len(tokens)).float() for node, total in totals.items()}


@torch.inference_mode()
def attention(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "question key"]]]:
    """Return the clean outcome, and each head's attention pattern at its step, both on the CPU.

    Each node in `nodes` must be able to reach an answer digit.

    Raises:
        MeasurementError: there are no questions.
    """
    sizes = sizes_of(fixture.recipe)
    found: dict[Node, list[Tensor]] = {node: [] for node in sorted(set(nodes))}
    outcomes = []
    for clean in _chunks(fixture, tokens, chunk):
        outcomes.append(clean.outcome)
        for node, patterns in found.items():
            layer = clean.layers[node.layer]
            q, k = (split_heads(part, sizes)[:, node.head] for part in (layer.q, layer.k))
            asking = q[:, node.step - first_step(node.layer, sizes), :, None]
            scores = (k[:, : node.step + 1] @ asking).squeeze(-1) / math.sqrt(sizes.d_head)
            patterns.append(functional.pad(scores.softmax(-1), (0, sizes.steps - node.step)))
    return join(outcomes), {node: torch.cat(patterns).cpu() for node, patterns in found.items()}


@torch.inference_mode()
def generate(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> Int[Tensor, "question digit"]:
    """Return the answers of the free-running model: each digit that it predicts becomes its next input token."""
    layout, sizes = fixture.layout, sizes_of(fixture.recipe)
    parts = []
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        context = tokens[questions].to(fixture.device, copy=True)
        for i, step in enumerate(range(layout.answer_start, layout.n_ctx)):
            context[:, step] = answer_logits(fixture.weights, context, sizes)[:, i].argmax(-1)
        parts.append(answers(context, layout))
    return torch.cat(parts).cpu()


def chunk_of(recipe: Recipe) -> int:
    """Return the number of questions in a chunk: as many as fit into :data:`CHUNK_BYTES`, at most :data:`CHUNK`."""
    steps = recipe.layout.n_ctx - 1
    by_head = (2 + recipe.n_heads) * recipe.d_model + recipe.n_heads * steps  # q, k, what heads add, and scores
    at_a_step = len(Layer._fields) * recipe.d_model + by_head
    in_mlp = steps * 2 * recipe.d_mlp  # needed for one layer at a time
    return max(1, min(CHUNK, int(CHUNK_BYTES / 4 / (recipe.n_layers * steps * at_a_step + in_mlp))))


def _live(change: Intervention, fixture: Fixture) -> Intervention:
    """Return `change` on the fixture's device, without the nodes that can reach no answer digit."""
    values = {n: v.to(fixture.device) for n, v in change.values.items() if reach([n], fixture.shape)}
    return Intervention(values, None if change.donors is None else change.donors.to(fixture.device))


def _chunks(fixture: Fixture, tokens: Tensor, chunk: int | None) -> Iterable[CleanRun]:
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        yield CleanRun(fixture, tokens[questions])


_WHERE: dict[Kind, str] = {"head": "z", "mlp": "mlp_out", "resid": "resid_post"}  # kind of node → field of `Layer`


def _whole(layers: Sequence[Layer], layer: int, kind: Kind) -> Float[Tensor, "question step d"]:
    value: Tensor = getattr(layers[layer], _WHERE[kind])
    return value


def _value(node: Node, whole: Float[Tensor, "question step d"], sizes: Sizes) -> Float[Tensor, "question d"]:
    """Return the node's part of `whole`, which holds all nodes of its kind in its layer."""
    value = whole[:, node.step - first_step(node.layer, sizes)]
    return value[:, node.head * sizes.d_head : (node.head + 1) * sizes.d_head] if node.kind == "head" else value
