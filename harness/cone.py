"""The fast engine: recompute only what an intervention can reach, its cone.

Attention is causal, so a change at step s of a layer leaves everything at earlier steps as it is. A head cut
at S8 of the first of two layers costs one MLP at S8, and in the last layer one more key and value, and the six
steps that predict an answer digit; in the last layer a cut costs one MLP at one step; where nothing reads a
node, it costs nothing. Everything else is the clean run's, which all interventions on the same questions share::

    layer 0   . . . . . . . . # . . . . . . . .      #: the MLP, anew
    layer 1   o o o o o o o o * o o # # # # # #      *: a key and a value, anew;  o: the clean run's keys and values
             S0              S8    S11         S16

What flows through the layers is a :class:`Change`: the steps at which the residual stream is not the clean
run's, and what it is there. Exact: no approximation is made, and tests hold every kind of node, method and
number of layers against the reference engine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.addition import answers
from harness.fixtures import Fixture
from harness.interventions import Intervention
from harness.nodes import Node, all_nodes, reach
from harness.outcome import Outcome, batches, join, outcome_of
from harness.recipe import Recipe
from harness.transformer import (
    Layer,
    Weights,
    answer_logits,
    attention_out,
    block_of,
    first_step,
    mlp,
    queries_keys_values,
    run_layers,
    split_heads,
    unembed,
)  # fmt: skip

CHUNK_BYTES = 300e6  # what the clean run of one chunk of questions may keep in memory
CHUNK = 512  # questions at most: more make no matrix product faster


@dataclass(frozen=True)
class Change:
    """Where a residual stream differs from the clean run's, and what it is there."""

    steps: tuple[int, ...]
    resid: Float[Tensor, "question step d_model"]


def refusal(fixture: Fixture) -> str | None:
    """Return why this engine cannot run a fixture's model, or None if it can."""
    recipe = fixture.recipe
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
        clean = _CleanRun(fixture, tokens[questions])
        for given, change, found in zip(interventions, live, parts, strict=True):
            found.append(clean.under(change, questions) if given.nodes else clean.outcome)
    return [join(found) for found in parts]


@torch.inference_mode()
def capture(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], nodes: Iterable[Node], chunk: int | None = None
) -> dict[Node, Float[Tensor, "question d"]]:
    """Return the clean values of those of `nodes` that anything reads, on every question.

    Raises:
        MeasurementError: no questions.
    """
    wanted = [node for node in sorted(set(nodes)) if reach([node], fixture.shape)]
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    for layers in _chunks(fixture, tokens, chunk):
        for node in wanted:
            found[node].append(_value(node, layers[node.layer], fixture.recipe).clone())
    return {node: torch.cat(values) for node, values in found.items()}


@torch.inference_mode()
def capture_means(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value, over the questions, of every node that anything reads.

    Sums are kept in float64, so that the mean does not depend on how questions fall into chunks.

    Raises:
        MeasurementError: no questions.
    """
    live = [node for node in all_nodes(fixture.shape) if reach([node], fixture.shape)]
    sums: dict[Node, Tensor] = {}
    for layers in _chunks(fixture, tokens, chunk):
        for node in live:
            total = _value(node, layers[node.layer], fixture.recipe).sum(0, dtype=torch.float64)
            sums[node] = sums[node] + total if node in sums else total
    return {node: (total / len(tokens)).float() for node, total in sums.items()}


@torch.inference_mode()
def generate(
    fixture: Fixture, tokens: Int[Tensor, "question pos"], chunk: int | None = None
) -> Int[Tensor, "question digit"]:
    """Return the answers of the free-running model: each digit it says is what it reads next."""
    layout, recipe = fixture.layout, fixture.recipe
    parts = []
    for questions in batches(len(tokens), chunk or chunk_of(recipe)):
        context = tokens[questions].to(fixture.device, copy=True)
        for i, step in enumerate(range(layout.answer_start, layout.n_ctx)):
            context[:, step] = answer_logits(fixture.weights, context, recipe)[:, i].argmax(-1)
        parts.append(answers(context, layout))
    return torch.cat(parts).cpu()


def chunk_of(recipe: Recipe) -> int:
    """Return how many questions a chunk has: what fits into :data:`CHUNK_BYTES`, at most :data:`CHUNK`."""
    steps = recipe.layout.n_ctx - 1
    at_a_step = len(Layer._fields) * recipe.d_model + recipe.n_heads * steps
    in_mlp = steps * 2 * recipe.d_mlp  # at one layer at a time
    return max(1, min(CHUNK, int(CHUNK_BYTES / 4 / (recipe.n_layers * steps * at_a_step + in_mlp))))


def _live(change: Intervention, fixture: Fixture) -> Intervention:
    """Return the part of `change` that anything reads, on the fixture's device."""
    values = {n: v.to(fixture.device) for n, v in change.values.items() if reach([n], fixture.shape)}
    return Intervention(values, None if change.donors is None else change.donors.to(fixture.device))


def _chunks(fixture: Fixture, tokens: Tensor, chunk: int | None) -> Iterable[list[Layer]]:
    for questions in batches(len(tokens), chunk or chunk_of(fixture.recipe)):
        yield list(run_layers(fixture.weights, tokens[questions].to(fixture.device), fixture.recipe))


def _value(node: Node, layer: Layer, recipe: Recipe) -> Float[Tensor, "question d"]:
    place = node.step - first_step(node.layer, recipe)
    if node.kind == "head":
        return layer.z[:, place, node.head * recipe.d_head : (node.head + 1) * recipe.d_head]
    return (layer.mlp_out if node.kind == "mlp" else layer.resid_post)[:, place]


class _CleanRun:
    """The clean run of one chunk of questions, and what becomes of it under interventions."""

    def __init__(self, fixture: Fixture, tokens: Int[Tensor, "question pos"]) -> None:
        start = time.perf_counter()
        self.recipe, self.device = fixture.recipe, fixture.device
        self.weights: Weights = fixture.weights
        tokens = tokens.to(fixture.device)
        self.layers = list(run_layers(fixture.weights, tokens, fixture.recipe))
        self.truth = answers(tokens, fixture.layout)
        # Nothing comes before layer 0 that could change, so its attention is never recomputed.
        self.attention = [_Attention(i, layer, self) for i, layer in enumerate(self.layers) if i > 0]
        outcome = outcome_of(unembed(fixture.weights, self.layers[-1].resid_post), self.truth)
        self.outcome = replace(outcome, seconds=time.perf_counter() - start)

    def under(self, change: Intervention, questions: slice) -> Outcome:
        """Return the outcome under `change`, whose rows for this chunk are those of `questions`."""
        start, moved = time.perf_counter(), None
        for layer in range(self.recipe.n_layers):
            here = {node: change.at(node, questions) for node in change.nodes if node.layer == layer}
            if here or moved:
                moved = self._through(layer, moved, here)
        if moved is None:
            return replace(self.outcome, seconds=0.0)
        first = first_step(self.recipe.n_layers - 1, self.recipe)
        digits = _places(moved.steps, first, self.device)
        after = outcome_of(unembed(self.weights, moved.resid), self.truth[:, digits])
        before = self.outcome
        whole = Outcome(before.predicted.clone(), before.true_logit.clone(), before.loss.clone())
        whole.predicted[:, digits], whole.true_logit[:, digits] = after.predicted, after.true_logit
        whole.loss[:, digits] = after.loss
        return replace(whole, seconds=time.perf_counter() - start)

    def _through(self, i: int, moved: Change | None, here: Mapping[Node, Tensor]) -> Change:
        """Return what leaves layer `i` differently, given what enters it differently and the nodes replaced in it."""
        clean, first = self.layers[i], first_step(i, self.recipe)
        block = block_of(self.weights, i)
        streams = {node.step: value for node, value in here.items() if node.kind == "resid"}
        mlps = {node.step: value for node, value in here.items() if node.kind == "mlp" and node.step not in streams}
        heads: dict[int, dict[int, Tensor]] = {}
        for node, value in here.items():
            if node.kind == "head" and node.step not in streams:
                heads.setdefault(node.step, {})[node.head] = value

        # The stream between attention and MLP, by why it changed: all heads read something else, some are
        # replaced, or the MLP alone is. A stream that is replaced itself needs none of it.
        last = self.recipe.layout.n_ctx - 1
        attending = [s for s in range(max(first, min(moved.steps)), last) if s not in streams] if moved else []
        steps: list[int] = list(attending)
        mids = []
        if moved and attending:
            z = self.attention[i - 1](attending, moved)
            for place, step in enumerate(attending):
                for head, value in heads.get(step, {}).items():
                    z[:, place, head * self.recipe.d_head : (head + 1) * self.recipe.d_head] = value
            before = _with(moved, attending, _take(clean.resid_in, attending, first))
            mids.append(before + attention_out(block, z))
        for some, cut in _alike({step: cut for step, cut in heads.items() if step not in attending}):
            mids.append(_take(clean.resid_mid, some, first) + self._cut(block, clean.z, some, cut, first))
            steps += some
        if alone := [step for step in mlps if step not in steps]:
            mids.append(_take(clean.resid_mid, alone, first))
            steps += alone

        out = [(steps, self._mlp(block, torch.cat(mids, 1), steps, mlps))] if steps else []
        out += [([step], value[:, None].expand(len(self.truth), 1, -1)) for step, value in streams.items()]
        return Change(tuple(s for some, _ in out for s in some), torch.cat([resid for _, resid in out], 1))

    def _cut(
        self, block: Weights, z: Tensor, steps: Sequence[int], cut: Mapping[int, Sequence[Tensor]], first: int
    ) -> Tensor:
        """Return how replacing the ``z`` of some heads, given head by head and step by step, changes the stream."""
        d, before = self.recipe.d_head, _take(z, steps, first)
        change = torch.zeros((), device=self.device)
        for head, values in cut.items():
            after = torch.stack([value.expand(len(self.truth), d) for value in values], 1)
            change = change + (after - before[..., head * d : (head + 1) * d]) @ block["attn.W_O"][head]
        return change

    def _mlp(self, block: Weights, mid: Tensor, steps: Sequence[int], replaced: Mapping[int, Tensor]) -> Tensor:
        """Return the stream after the MLP at each of `steps`, computed but where it is replaced."""
        computed = [place for place, step in enumerate(steps) if step not in replaced]
        if len(computed) == len(steps):
            return mid + mlp(mid, block, self.recipe)
        post = mid.clone()
        if computed:
            places = _places(computed, 0, self.device)
            post[:, places] += mlp(mid[:, places], block, self.recipe)
        for place, step in enumerate(steps):
            if step in replaced:
                post[:, place] += replaced[step]
        return post


class _Attention:
    """The attention of one layer, for queries, keys and values some of which have changed."""

    def __init__(self, i: int, clean: Layer, run: _CleanRun) -> None:
        self.block, self.recipe, self.clean = block_of(run.weights, i), run.recipe, clean
        self.first, self.device = first_step(i, run.recipe), run.device
        self.q, self.k, self.v = (split_heads(part, run.recipe).contiguous() for part in (clean.q, clean.k, clean.v))
        self.scores = self._scores(self.q, self.k)

    def _scores(self, q: Tensor, k: Tensor) -> Float[Tensor, "question head query key"]:
        return q @ k.transpose(-1, -2) / math.sqrt(self.recipe.d_head)

    def __call__(self, steps: Sequence[int], moved: Change) -> Float[Tensor, "question step d_model"]:
        """Return all heads' ``z`` at `steps`, side by side, when the stream that enters has moved."""
        keys = _places(moved.steps, 0, self.device)
        k, v = (split_heads(part, self.recipe) for part in
                queries_keys_values(self.block, moved.resid, "KV").chunk(2, -1))  # fmt: skip
        places = _places(steps, self.first, self.device)
        q, scores = self.q[:, :, places], self.scores[:, :, places]
        if asking := [step for step in steps if step in moved.steps]:
            theirs = moved.resid[:, _places([moved.steps.index(step) for step in asking], 0, self.device)]
            anew = split_heads(queries_keys_values(self.block, theirs, "Q"), self.recipe)
            here = _places([steps.index(step) for step in asking], 0, self.device)
            q, scores = q.clone(), scores.clone()
            q[:, :, here], scores[:, :, here] = anew, self._scores(anew, self.k)
        scores = scores.clone()
        scores[..., keys] = self._scores(q, k)
        pattern = scores.masked_fill(self._unseen(tuple(steps)), -math.inf).softmax(-1)
        changed = pattern[..., keys].clone()  # `keys` may be a slice, and this a view
        pattern[..., keys] = 0
        return (pattern @ self.v + changed @ v).transpose(1, 2).flatten(2)

    def _unseen(self, steps: tuple[int, ...]) -> Tensor:
        return _later(steps, self.recipe.layout.n_ctx - 1, self.device)


@lru_cache(maxsize=256)
def _later(steps: tuple[int, ...], keys: int, device: torch.device) -> Tensor:
    """Return which keys stand after each of the querying steps."""
    return torch.tensor([[key > step for key in range(keys)] for step in steps], device=device)


def _places(steps: Sequence[int], first: int, device: torch.device) -> slice | Tensor:
    """Return where `steps` stand in a tensor that begins at step `first`: a slice where they are in a row."""
    if list(steps) == list(range(steps[0], steps[0] + len(steps))):
        return slice(steps[0] - first, steps[0] - first + len(steps))
    return _index(tuple(step - first for step in steps), device)


@lru_cache(maxsize=256)
def _index(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, device=device)


def _take(value: Float[Tensor, "question step d"], steps: Sequence[int], first: int) -> Tensor:
    return value[:, _places(steps, first, value.device)]


def _with(moved: Change, steps: Sequence[int], clean: Float[Tensor, "question step d_model"]) -> Tensor:
    """Return the stream at `steps`: what it moved to, else the clean run's."""
    both = [step for step in steps if step in moved.steps]
    if not both:
        return clean
    whole = clean.clone()
    places = _places([steps.index(step) for step in both], 0, clean.device)
    whole[:, places] = moved.resid[:, _places([moved.steps.index(step) for step in both], 0, clean.device)]
    return whole


def _alike(cuts: Mapping[int, Mapping[int, Tensor]]) -> Iterable[tuple[list[int], dict[int, list[Tensor]]]]:
    """Yield the steps at which the same heads are cut, together, with each head's values step by step."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for step, cut in cuts.items():
        groups.setdefault(tuple(sorted(cut)), []).append(step)
    for heads, steps in groups.items():
        yield steps, {head: [cuts[step][head] for step in steps] for head in heads}
