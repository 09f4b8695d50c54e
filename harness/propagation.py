"""How a change goes through the layers of a model whose clean run is known: only what it reaches is computed anew.

Interventions that change the same nodes but for their heads go together, as one change of several: their questions
are the same, and products of many rows are faster than many of few.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.addition import answers
from harness.fixtures import Fixture
from harness.interventions import Intervention
from harness.nodes import Node
from harness.outcome import Outcome, outcome_of
from harness.reattention import Change, Reattention, index_among, index_of, take
from harness.transformer import Weights, block_of, first_step, mlp, run_layers, sizes_of, unembed

GROUP_BYTES = 100e6  # what interventions that go together may take in memory; one alone may take more


class CleanRun:
    """The clean run of one chunk of questions, and what becomes of it under interventions."""

    def __init__(self, fixture: Fixture, tokens: Int[Tensor, "question pos"]) -> None:
        start = time.perf_counter()
        self.sizes, self.device = sizes_of(fixture.recipe), fixture.device
        self.weights: Weights = fixture.weights
        tokens = tokens.to(fixture.device)
        self.layers = list(run_layers(fixture.weights, tokens, self.sizes))
        self.truth = answers(tokens, fixture.layout)
        self._attention: dict[int, Reattention] = {}
        outcome = outcome_of(unembed(fixture.weights, self.layers[-1].resid_post), self.truth)
        self.outcome = replace(outcome, seconds=time.perf_counter() - start)

    def under(self, changes: Sequence[Intervention], questions: slice) -> list[Outcome]:
        """Return the outcome under each of `changes`, whose rows for this chunk are those of `questions`.

        Those that go together share their time in equal parts.
        """
        outcomes = [replace(self.outcome, seconds=0.0)] * len(changes)
        for alike in self._alike(changes):
            start = time.perf_counter()
            found = list(self._under([changes[i] for i in alike], questions))
            seconds = (time.perf_counter() - start) / len(alike)
            for i, outcome in zip(alike, found, strict=True):
                outcomes[i] = replace(outcome, seconds=seconds)
        return outcomes

    def _alike(self, changes: Sequence[Intervention]) -> Iterator[list[int]]:
        """Yield, few enough to go together, which changes are of nodes that differ in nothing but their heads."""
        groups: dict[frozenset[tuple[int, str, int]], list[int]] = {}
        for i, change in enumerate(changes):
            if change.nodes:
                groups.setdefault(frozenset((n.layer, n.kind, n.step) for n in change.nodes), []).append(i)
        for places, group in groups.items():
            most = max(1, int(GROUP_BYTES / self._bytes({step for _, _, step in places})))
            yield from (group[start : start + most] for start in range(0, len(group), most))

    def _bytes(self, steps: Collection[int]) -> float:
        """Return what an intervention at `steps` may take in memory: at steps that it moves, and at those that ask."""
        sizes, last = self.sizes, self.sizes.steps
        deep = sizes.n_layers > 2  # what moves is all that stands later, not the steps alone
        moving, asking = (last - min(steps),) * 2 if deep else (len(steps), sizes.steps - sizes.asking)
        at_one_that_moves = (2 * sizes.n_heads + 4) * sizes.d_model
        at_one_that_asks = 3 * sizes.n_heads * last + 4 * sizes.d_model
        return 4.0 * len(self.truth) * (moving * at_one_that_moves + asking * at_one_that_asks)

    def _under(self, changes: Sequence[Intervention], questions: slice) -> Iterator[Outcome]:
        """Yield the outcomes under changes that go together: what steps the first of them moves, all of them move."""
        moved = None
        for layer in range(self.sizes.n_layers):
            here = [{n: change.at(n, questions) for n in change.nodes if n.layer == layer} for change in changes]
            if moved or here[0]:
                moved = self._through(layer, moved, here)
        assert moved is not None  # they have nodes
        digits = index_of(moved.steps, self.sizes.asking, self.device)
        truth = self.truth[:, None, digits].expand(-1, len(changes), -1)
        after, before = outcome_of(unembed(self.weights, moved.resid), truth), self.outcome
        for i in range(len(changes)):
            whole = Outcome(before.predicted.clone(), before.true_logit.clone(), before.loss.clone())
            whole.predicted[:, digits], whole.true_logit[:, digits] = after.predicted[:, i], after.true_logit[:, i]
            whole.loss[:, digits] = after.loss[:, i]
            yield whole

    def _through(self, i: int, moved: Change | None, here: Sequence[Mapping[Node, Tensor]]) -> Change:
        """Return what leaves layer `i` differently, given what enters it differently and the nodes replaced in it."""
        clean, first, last = self.layers[i], first_step(i, self.sizes), self.sizes.steps
        streams = {node.step: self._stacked(node, here) for node in here[0] if node.kind == "resid"}
        mlps = {n.step: self._stacked(n, here) for n in here[0] if n.kind == "mlp" and n.step not in streams}
        heads = [_by_step(replaced, streams) for replaced in here]

        # The stream between attention and MLP, by why it changed: all heads read something else, some are
        # replaced, or the MLP alone is. A stream that is replaced itself needs none of it.
        attending = [s for s in range(max(first, min(moved.steps)), last) if s not in streams] if moved else []
        steps: list[int] = list(attending)
        mids = []
        if moved and attending:
            mids.append(self._attention_of(i).mid(attending, moved, heads))
        if cut := [step for step in heads[0] if step not in attending]:
            mids.append(torch.stack([self._cut(i, {step: those[step] for step in cut}) for those in heads], 1))
            steps += cut
        if alone := [step for step in mlps if step not in steps]:
            mids.append(take(clean.resid_mid, alone, first)[:, None].expand(-1, len(here), -1, -1))
            steps += alone

        out = [(steps, self._mlp(i, _joined(mids), steps, mlps))] if steps else []
        out += [([step], value[:, :, None]) for step, value in streams.items()]
        return Change(tuple(s for some, _ in out for s in some), _joined([resid for _, resid in out]))

    def _stacked(self, node: Node, here: Sequence[Mapping[Node, Tensor]]) -> Float[Tensor, "question change d"]:
        """Return what `node` gets under each change."""
        return torch.stack([replaced[node].expand(len(self.truth), -1) for replaced in here], 1)

    def _attention_of(self, i: int) -> Reattention:
        """Return what recomputes the attention of layer `i`, made when first needed: a clean run alone needs none."""
        if i not in self._attention:
            block = block_of(self.weights, i)
            self._attention[i] = Reattention(block, self.layers[i], first_step(i, self.sizes), self.sizes)
        return self._attention[i]

    def _cut(self, i: int, cuts: Mapping[int, Mapping[int, Tensor]]) -> Float[Tensor, "question step d_model"]:
        """Return the stream behind the attention at the steps of `cuts`, where the ``z`` of some heads are replaced."""
        clean, first, d, steps = self.layers[i], first_step(i, self.sizes), self.sizes.d_head, list(cuts)
        W_O = block_of(self.weights, i)["attn.W_O"]
        mid = take(clean.resid_mid, steps, first).clone()
        for some, cut in _same_heads(cuts):
            before, there = take(clean.z, some, first), index_among(some, steps, self.device)
            for head, values in cut.items():
                after = torch.stack([value.expand(len(self.truth), d) for value in values], 1)
                mid[:, there] += (after - before[..., head * d : (head + 1) * d]) @ W_O[head]
        return mid

    def _mlp(
        self, i: int, mid: Float[Tensor, "question change step d_model"], steps: Sequence[int],
        replaced: Mapping[int, Tensor],
    ) -> Float[Tensor, "question change step d_model"]:  # fmt: skip
        """Return the stream after the MLP at each of `steps`, computed but where it is replaced."""
        computed = [place for place, step in enumerate(steps) if step not in replaced]
        if len(computed) == len(steps):
            return mid + mlp(mid, block_of(self.weights, i), self.sizes)
        post = mid.clone()
        if computed:
            there = index_of(computed, 0, self.device)
            post[:, :, there] += mlp(mid[:, :, there], block_of(self.weights, i), self.sizes)
        for place, step in enumerate(steps):
            if step in replaced:
                post[:, :, place] += replaced[step]
        return post


def _joined(parts: Sequence[Float[Tensor, "question change step d"]]) -> Float[Tensor, "question change step d"]:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 2)


def _by_step(replaced: Mapping[Node, Tensor], streams: Mapping[int, Tensor]) -> dict[int, dict[int, Tensor]]:
    """Return what heads get, step → head → value, where the stream itself is not replaced."""
    heads: dict[int, dict[int, Tensor]] = {}
    for node, value in replaced.items():
        if node.kind == "head" and node.step not in streams:
            heads.setdefault(node.step, {})[node.head] = value
    return heads


def _same_heads(cuts: Mapping[int, Mapping[int, Tensor]]) -> Iterable[tuple[list[int], dict[int, list[Tensor]]]]:
    """Yield the steps at which the same heads are cut, together, with each head's values step by step."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for step, cut in cuts.items():
        groups.setdefault(tuple(sorted(cut)), []).append(step)
    for heads, steps in groups.items():
        yield steps, {head: [cuts[step][head] for step in steps] for head in heads}
