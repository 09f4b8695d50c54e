"""The fast engine: recompute only what an intervention can reach, its cone.

Attention is causal, so a change at step s of a layer leaves everything at earlier steps as it is. A head cut
at S8 of the first of two layers costs one MLP at S8, and in the last layer one more key and value, and the six
steps that predict an answer digit; in the last layer a cut costs one MLP at one step; where nothing reads a
node, it costs nothing. Everything else is the clean run's, which all interventions on the same questions share::

    layer 0   . . . . . . . . # . . . . . . . .      #: the MLP, anew
    layer 1   o o o o o o o o * o o # # # # # #      *: a key and a value, anew;  o: the clean run's keys and values
             S0              S8    S11         S16

Exact: no approximation is made, and tests hold every kind of node, method and number of layers against the
reference engine. How a change goes through the layers is in ``propagation.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.addition import answers
from harness.fixtures import Fixture
from harness.interventions import Intervention
from harness.nodes import Kind, Node, all_nodes, reach
from harness.outcome import Outcome, batches, join
from harness.propagation import CleanRun
from harness.recipe import BuiltRecipe, Recipe
from harness.transformer import Layer, Sizes, answer_logits, first_step, sizes_of, split_heads

CHUNK_BYTES = 300e6  # what the clean run of one chunk of questions may keep in memory
CHUNK = 512  # questions at most: more make no matrix product faster


def refusal(fixture: Fixture) -> str | None:
    """Return why this engine cannot run a fixture's model, or None if it can."""
    recipe = fixture.recipe
    if isinstance(recipe, BuiltRecipe):
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
    """Return what the model answers to the questions under each intervention; one of no nodes is the clean run.

    Results are on the CPU. At most `chunk` questions are in memory at a time, by default as many as fit well.

    Raises:
        MeasurementError: no questions.
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
    """Return the clean outcome, and the clean values of those of `nodes` that anything reads, on every question.

    Raises:
        MeasurementError: no questions.
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
    """Return the mean clean value, over the questions, of every node that anything reads.

    Sums are kept in float64, so that the mean does not depend on how questions fall into chunks.

    Raises:
        MeasurementError: no questions.
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
    """Return the clean outcome, and the attention patterns of heads that something reads, each at its step; on the CPU.

    Raises:
        MeasurementError: no questions.
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
    """Return the answers of the free-running model: each digit it says is what it reads next."""
    layout, sizes = fixture.layout, sizes_of(fixture.recipe)
    parts = []
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        context = tokens[questions].to(fixture.device, copy=True)
        for i, step in enumerate(range(layout.answer_start, layout.n_ctx)):
            context[:, step] = answer_logits(fixture.weights, context, sizes)[:, i].argmax(-1)
        parts.append(answers(context, layout))
    return torch.cat(parts).cpu()


def chunk_of(recipe: Recipe) -> int:
    """Return how many questions a chunk has: what fits into :data:`CHUNK_BYTES`, at most :data:`CHUNK`."""
    steps = recipe.layout.n_ctx - 1
    by_head = (2 + recipe.n_heads) * recipe.d_model + recipe.n_heads * steps  # q, k, what is added, and scores
    at_a_step = len(Layer._fields) * recipe.d_model + by_head
    in_mlp = steps * 2 * recipe.d_mlp  # at one layer at a time
    return max(1, min(CHUNK, int(CHUNK_BYTES / 4 / (recipe.n_layers * steps * at_a_step + in_mlp))))


def _live(change: Intervention, fixture: Fixture) -> Intervention:
    """Return the part of `change` that anything reads, on the fixture's device."""
    values = {n: v.to(fixture.device) for n, v in change.values.items() if reach([n], fixture.shape)}
    return Intervention(values, None if change.donors is None else change.donors.to(fixture.device))


def _chunks(fixture: Fixture, tokens: Tensor, chunk: int | None) -> Iterable[CleanRun]:
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        yield CleanRun(fixture, tokens[questions])


_WHERE: dict[Kind, str] = {"head": "z", "mlp": "mlp_out", "resid": "resid_post"}  # kind of node → field of a layer


def _whole(layers: Sequence[Layer], layer: int, kind: Kind) -> Float[Tensor, "question step d"]:
    value: Tensor = getattr(layers[layer], _WHERE[kind])
    return value


def _value(node: Node, whole: Float[Tensor, "question step d"], sizes: Sizes) -> Float[Tensor, "question d"]:
    """Return the node's part of what its layer computes for all nodes of its kind."""
    value = whole[:, node.step - first_step(node.layer, sizes)]
    return value[:, node.head * sizes.d_head : (node.head + 1) * sizes.d_head] if node.kind == "head" else value
