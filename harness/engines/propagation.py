"""Carry interventions through the layers, given the clean run: only what a change reaches is recomputed.

Interventions whose nodes differ only in their heads are computed as one batch. They share their prompts, and one
matrix product with many rows is faster than many products with few rows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from harness.engines.interventions import Intervention
from harness.engines.predictions import ALWAYS, Outcome, log_probs_of, outcome_from, outcome_of
from harness.engines.reattention import Change, Reattention, index_among, index_of, take
from harness.engines.transformer import Sizes, Weights, at_asked, block_of, first_step, mlp, run_layers, unembed
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node
from harness.tasks.batch import Batch, TokenSets

GROUP_BYTES = 100e6  # memory limit for a batch of interventions; a single one may take more


class CleanRun:
    """The clean run of one chunk of prompts that are alike; :meth:`under` gives its outcomes under interventions."""

    def __init__(self, fixture: Fixture, prompts: Batch, sizes: Sizes, *, kl: bool = False) -> None:
        start = time.perf_counter()
        self.sizes, self.device = sizes, fixture.device
        self.weights: Weights = fixture.weights
        self.prompts = prompts.to(fixture.device)
        self.layers = list(run_layers(fixture.weights, self.prompts.tokens, sizes))
        self._attention: dict[int, Reattention] = {}
        logits = unembed(fixture.weights, at_asked(self.layers[-1].resid_post, sizes))
        self.log_probs = log_probs_of(logits) if kl else None
        outcome = outcome_of(logits, self.prompts.right, self.prompts.wrong, self.log_probs)
        self.outcome = replace(outcome, seconds=time.perf_counter() - start)

    def under(self, changes: Sequence[Intervention], prompts: slice) -> list[Outcome]:
        """Return the outcome under each of `changes`; `prompts` says which of their rows belong to this chunk.

        The time of a batch is divided equally among its changes.
        """
        outcomes = [replace(self.outcome, seconds=0.0)] * len(changes)
        for alike in self._alike(changes):
            start = time.perf_counter()
            found = list(self._under([changes[i] for i in alike], prompts))
            seconds = (time.perf_counter() - start) / len(alike)
            for i, outcome in zip(alike, found, strict=True):
                outcomes[i] = replace(outcome, seconds=seconds)
        return outcomes

    def _alike(self, changes: Sequence[Intervention]) -> Iterator[list[int]]:
        """Yield batches (as indices) of changes that differ only in their heads, small enough for memory."""
        groups: dict[frozenset[tuple[int, str, int]], list[int]] = {}
        for i, change in enumerate(changes):
            if change.nodes:
                groups.setdefault(frozenset((n.layer, n.kind, n.step) for n in change.nodes), []).append(i)
        for places, group in groups.items():
            most = max(1, int(GROUP_BYTES / self._bytes({step for _, _, step in places})))
            yield from (group[start : start + most] for start in range(0, len(group), most))

    def _bytes(self, steps: Collection[int]) -> float:
        """Return the most bytes that an intervention at `steps` needs: at the steps it changes and the query steps."""
        sizes, last = self.sizes, self.sizes.steps
        deep = sizes.n_layers > 2  # then all later steps change too, not only `steps`
        moving, asking = (last - min(steps),) * 2 if deep else (len(steps), sizes.steps - sizes.asking)
        at_one_that_moves = (2 * sizes.n_heads + 4) * sizes.d_model
        at_one_that_asks = 3 * sizes.n_heads * last + 4 * sizes.d_model
        return 4.0 * len(self.prompts) * (moving * at_one_that_moves + asking * at_one_that_asks)

    def _under(self, changes: Sequence[Intervention], prompts: slice) -> Iterator[Outcome]:
        """Yield the outcome under each change of one batch; all changes of a batch affect the same steps."""
        moved = None
        for layer in range(self.sizes.n_layers):
            here = [{n: change.at(n, prompts) for n in change.nodes if n.layer == layer} for change in changes]
            if moved or here[0]:
                moved = self._through(layer, moved, here)
        assert moved is not None  # each change has a node
        yield from self._outcomes(moved, len(changes))

    def _outcomes(self, moved: Change, n: int) -> Iterator[Outcome]:
        """Yield the outcome under each of `n` changes, given how the output of the last layer differs."""
        places = [place for place, step in enumerate(self.sizes.asked) if step in moved.steps]
        answers = index_of(places, 0, self.device)

        def here(sets: TokenSets) -> TokenSets:
            """Return the sets of the answers that may differ, for each change."""
            weights = None if sets.weights is None else sets.weights[:, None, answers].expand(-1, n, -1, -1)
            return TokenSets(sets.ids[:, None, answers].expand(-1, n, -1, -1), weights)

        right, wrong = self.prompts.right, self.prompts.wrong
        clean = None if self.log_probs is None else self.log_probs[:, None, answers]
        resid = moved.at([self.sizes.asked[place] for place in places]).resid
        after = outcome_of(unembed(self.weights, resid), here(right), None if wrong is None else here(wrong), clean)

        def whole(before: Tensor, changed: Tensor) -> Tensor:
            found = before[:, None].repeat_interleave(n, 1)
            found[:, :, answers] = changed
            return found

        always = [whole(getattr(self.outcome, name), getattr(after, name)) for name in ALWAYS]
        kl = None if self.outcome.kl is None or after.kl is None else whole(self.outcome.kl, after.kl)
        for i in range(n):
            yield outcome_from([value[:, i] for value in always], None if kl is None else kl[:, i])

    def _through(self, i: int, moved: Change | None, here: Sequence[Mapping[Node, Tensor]]) -> Change:
        """Return how the output of layer `i` differs, given the changed input `moved` and the nodes replaced in it."""
        clean, first, last = self.layers[i], first_step(i, self.sizes), self.sizes.steps
        streams = {node.step: self._stacked(node, here) for node in here[0] if node.kind == "resid"}
        mlps = {n.step: self._stacked(n, here) for n in here[0] if n.kind == "mlp" and n.step not in streams}
        heads = [_by_step(replaced, streams) for replaced in here]

        # The residual stream between attention and MLP, by the reason for its change: the input of all heads has
        # changed, some heads are replaced, or only the MLP is. Where the stream itself is replaced, none is needed.
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

    def _stacked(self, node: Node, here: Sequence[Mapping[Node, Tensor]]) -> Float[Tensor, "prompt change d"]:
        """Return the replacement values of `node` under each change."""
        return torch.stack([replaced[node].expand(len(self.prompts), -1) for replaced in here], 1)

    def _attention_of(self, i: int) -> Reattention:
        """Return the `Reattention` of layer `i`, made on first use because a clean run alone needs none."""
        if i not in self._attention:
            block = block_of(self.weights, i)
            self._attention[i] = Reattention(block, self.layers[i], first_step(i, self.sizes), self.sizes)
        return self._attention[i]

    def _cut(self, i: int, cuts: Mapping[int, Mapping[int, Tensor]]) -> Float[Tensor, "prompt step d_model"]:
        """Return the residual stream after attention at the steps of `cuts`, where some heads' ``z`` are replaced."""
        clean, first, d, steps = self.layers[i], first_step(i, self.sizes), self.sizes.d_head, list(cuts)
        W_O = block_of(self.weights, i)["attn.W_O"]
        mid = take(clean.resid_mid, steps, first).clone()
        for some, cut in _same_heads(cuts):
            before, there = take(clean.z, some, first), index_among(some, steps, self.device)
            for head, values in cut.items():
                after = torch.stack([value.expand(len(self.prompts), d) for value in values], 1)
                mid[:, there] += (after - before[..., head * d : (head + 1) * d]) @ W_O[head]
        return mid

    def _mlp(
        self, i: int, mid: Float[Tensor, "prompt change step d_model"], steps: Sequence[int],
        replaced: Mapping[int, Tensor],
    ) -> Float[Tensor, "prompt change step d_model"]:  # fmt: skip
        """Return the residual stream after the MLP at each of `steps`; the MLP's output is computed or `replaced`."""
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


def _joined(parts: Sequence[Float[Tensor, "prompt change step d"]]) -> Float[Tensor, "prompt change step d"]:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 2)


def _by_step(replaced: Mapping[Node, Tensor], streams: Mapping[int, Tensor]) -> dict[int, dict[int, Tensor]]:
    """Return the heads' replacement values, step → head → value, at steps whose residual stream is not replaced."""
    heads: dict[int, dict[int, Tensor]] = {}
    for node, value in replaced.items():
        if node.kind == "head" and node.step not in streams:
            heads.setdefault(node.step, {})[node.head] = value
    return heads


def _same_heads(cuts: Mapping[int, Mapping[int, Tensor]]) -> Iterable[tuple[list[int], dict[int, list[Tensor]]]]:
    """Yield groups of steps at which the same heads are replaced, with each head's values in step order."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for step, cut in cuts.items():
        groups.setdefault(tuple(sorted(cut)), []).append(step)
    for heads, steps in groups.items():
        yield steps, {head: [cuts[step][head] for step in steps] for head in heads}
