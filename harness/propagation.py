"""How a change goes through the layers of a model whose clean run is known: only what it reaches is computed anew.

What is passed on from layer to layer is a :class:`Change`: the steps at which the residual stream is not the
clean run's, and what it is there.
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
from harness.nodes import Node
from harness.outcome import Outcome, outcome_of
from harness.transformer import (
    Layer,
    Weights,
    block_of,
    first_step,
    mlp,
    projected,
    run_layers,
    side_by_side,
    split_heads,
    unembed,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Where a residual stream differs from the clean run's, and what it is there."""

    steps: tuple[int, ...]
    resid: Float[Tensor, "question step d_model"]


class CleanRun:
    """The clean run of one chunk of questions, and what becomes of it under interventions."""

    def __init__(self, fixture: Fixture, tokens: Int[Tensor, "question pos"]) -> None:
        start = time.perf_counter()
        self.recipe, self.device = fixture.recipe, fixture.device
        self.weights: Weights = fixture.weights
        tokens = tokens.to(fixture.device)
        self.layers = list(run_layers(fixture.weights, tokens, fixture.recipe))
        self.truth = answers(tokens, fixture.layout)
        self._attention: dict[int, _Attention] = {}
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
            before = _with(moved, attending, _take(clean.resid_in, attending, first))
            replaced = {attending.index(step): given for step, given in heads.items() if step in attending}
            mids.append(before + self._attention_of(i)(attending, moved, replaced))
        for some, cut in _alike({step: cut for step, cut in heads.items() if step not in attending}):
            mids.append(_take(clean.resid_mid, some, first) + self._cut(block, clean.z, some, cut, first))
            steps += some
        if alone := [step for step in mlps if step not in steps]:
            mids.append(_take(clean.resid_mid, alone, first))
            steps += alone

        out = [(steps, self._mlp(block, torch.cat(mids, 1), steps, mlps))] if steps else []
        out += [([step], value[:, None].expand(len(self.truth), 1, -1)) for step, value in streams.items()]
        return Change(tuple(s for some, _ in out for s in some), torch.cat([resid for _, resid in out], 1))

    def _attention_of(self, i: int) -> _Attention:
        """Return what recomputes the attention of layer `i`, made when first needed: a clean run alone needs none."""
        if i not in self._attention:
            self._attention[i] = _Attention(i, self.layers[i], self)
        return self._attention[i]

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
    """The attention of one layer, for queries, keys and values some of which have changed.

    What a head adds to the stream is a mean of ``v W_O`` over the keys, so the clean run's are multiplied out once,
    and an intervention needs W_O only where values have changed: not at every step that asks.
    """

    def __init__(self, i: int, clean: Layer, run: CleanRun) -> None:
        self.block, self.recipe = block_of(run.weights, i), run.recipe
        self.first, self.device = first_step(i, run.recipe), run.device
        self.q, self.k, v = (split_heads(part, run.recipe).contiguous() for part in (clean.q, clean.k, clean.v))
        self.added = self._added(v)
        self.scores = self._scores(self.q, self.k)
        self.keys_values, self.queries = (side_by_side(self.block, which) for which in ("KV", "Q"))  # once for all

    def _scores(self, q: Tensor, k: Tensor) -> Float[Tensor, "question head query key"]:
        return q @ k.transpose(-1, -2) / math.sqrt(self.recipe.d_head)

    def __call__(
        self, steps: Sequence[int], moved: Change, replaced: Mapping[int, Mapping[int, Tensor]]
    ) -> Float[Tensor, "question step d_model"]:
        """Return what all heads add at `steps` when the stream that enters has moved.

        `replaced` is what stands for the ``z`` of heads there: place among `steps` → head → value.
        """
        keys = _places(moved.steps, 0, self.device)
        k, v = (split_heads(part, self.recipe) for part in
                projected(self.block, moved.resid, *self.keys_values).chunk(2, -1))  # fmt: skip
        places = _places(steps, self.first, self.device)
        q, scores = self.q[:, :, places], self.scores[:, :, places]
        if asking := [step for step in steps if step in moved.steps]:
            theirs = moved.resid[:, _places([moved.steps.index(step) for step in asking], 0, self.device)]
            anew = split_heads(projected(self.block, theirs, *self.queries), self.recipe)
            here = _places([steps.index(step) for step in asking], 0, self.device)
            q, scores = q.clone(), scores.clone()
            q[:, :, here], scores[:, :, here] = anew, self._scores(anew, self.k)
        scores = scores.clone()
        scores[..., keys] = self._scores(q, k)
        unseen = _later(tuple(steps), self.recipe.layout.n_ctx - 1, self.device)
        pattern = scores.masked_fill(unseen, -math.inf).softmax(-1)
        for place, head in ((place, head) for place, values in replaced.items() for head in values):
            pattern[:, head, place] = 0
        changed = pattern[..., keys].clone()  # `keys` may be a slice, and this a view
        pattern[..., keys] = 0
        added = _by_query(pattern) @ self.added + self.block["attn.b_O"]
        added += _by_query(changed) @ self._added(v)
        for place, values in replaced.items():
            for head, value in values.items():
                added[:, place] += value @ self.block["attn.W_O"][head]
        return added

    def _added(self, v: Float[Tensor, "question head key d"]) -> Float[Tensor, "question head_key d_model"]:
        """Return ``v W_O``, with one product for each head."""
        n, heads, keys, _ = v.shape
        by_head = v.transpose(0, 1).flatten(1, 2) @ self.block["attn.W_O"]
        return by_head.view(heads, n, keys, -1).transpose(0, 1).flatten(1, 2)


def _by_query(pattern: Float[Tensor, "question head query key"]) -> Float[Tensor, "question query head_key"]:
    return pattern.transpose(1, 2).flatten(2)


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
