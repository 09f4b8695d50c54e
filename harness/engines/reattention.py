"""Recompute the attention of one layer, for interventions that changed the residual stream at its input.

A :class:`Change` is the input of the layer: the steps at which the residual stream differs from the clean run, and
its values there under each intervention of a batch. All interventions of a batch change the same steps of the same
questions, so they share the products of the clean run.

A head adds to the residual stream a weighted mean of ``v W_O`` over the keys. So ``v W_O`` is computed once per
clean run, and an intervention needs ``W_O`` only at keys whose values have changed, not at every query step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from harness.engines.transformer import Layer, Sizes, Weights, by_head, projected, side_by_side, split_heads


@dataclass(frozen=True)
class Change:
    """The steps at which the residual stream differs from the clean run, and its values under each intervention."""

    steps: tuple[int, ...]
    resid: Float[Tensor, "prompt change step d_model"]

    def at(self, steps: Sequence[int]) -> Change:
        """Return this change restricted to `steps`."""
        both = tuple(step for step in steps if step in self.steps)
        return Change(both, self.resid[:, :, index_among(both, self.steps, self.resid.device)])

    def over(self, steps: Sequence[int], clean: Float[Tensor, "prompt step d"]) -> Tensor:
        """Return the stream at `steps`: changed values where there are some, else `clean`; one row if none changed."""
        if not self.steps:
            return clean[:, None]
        whole = clean[:, None].repeat(1, self.resid.shape[1], 1, 1)
        whole[:, :, index_among(self.steps, steps, clean.device)] = self.resid
        return whole


class Reattention:
    """The attention of one layer, where some queries, keys and values have changed."""

    def __init__(self, block: Weights, clean: Layer, first: int, sizes: Sizes) -> None:
        self.block, self.clean, self.first, self.sizes = block, clean, first, sizes
        self.device = clean.resid_in.device
        self.q, self.k = (split_heads(part, sizes).contiguous() for part in (clean.q, clean.k))
        self.added = _multiplied_out(by_head(clean.v, sizes), block["attn.W_O"])
        self.scores = torch.einsum("nhqd,nhkd->nhqk", self.q, self.k) / math.sqrt(sizes.d_head)
        self.keys_values, self.queries = (side_by_side(block, which) for which in ("KV", "Q"))  # made once

    def mid(
        self, steps: Sequence[int], moved: Change, heads: Sequence[Mapping[int, Mapping[int, Tensor]]]
    ) -> Float[Tensor, "prompt change step d_model"]:
        """Return the residual stream after attention at `steps`, given the changed input `moved`.

        `heads` has the replacement values for the heads' ``z``, for each change: step → head → value.
        """
        cuts = [
            (change, steps.index(step), head, value)
            for change, by_step in enumerate(heads)
            for step, values in by_step.items()
            if step in steps
            for head, value in values.items()
        ]
        there, W_O = moved.at(steps), self.block["attn.W_O"]
        keys = index_of(moved.steps, 0, self.device)
        both = projected(self.block, moved.resid, *self.keys_values)
        k, v = (by_head(part, self.sizes) for part in both.chunk(2, -1))
        pattern = self._pattern(steps, there, keys, k)
        for change, place, head, _ in cuts:
            pattern[:, change, head, place] = 0
        other = pattern[..., keys].clone()  # clone: if `keys` is a slice, this is a view
        pattern[..., keys] = 0
        mid = self._mixed(pattern, other, v)
        mid += there.over(steps, take(self.clean.resid_in, steps, self.first)) + self.block["attn.b_O"]
        for change, place, head, value in cuts:
            mid[:, change, place] += value @ W_O[head]
        return mid

    def _pattern(
        self, steps: Sequence[int], there: Change, keys: slice | Tensor,
        k: Float[Tensor, "prompt change changed_key head d"],
    ) -> Float[Tensor, "prompt change head query key"]:  # fmt: skip
        """Return the attention pattern at `steps`, given the changed stream `there` and the changed keys `k`."""
        asked, root = index_of(steps, self.first, self.device), math.sqrt(self.sizes.d_head)
        scores = self.scores[:, None, :, asked].repeat(1, k.shape[1], 1, 1, 1)
        columns = torch.einsum("nhqd,nckhd->nchqk", self.q[:, :, asked], k) / root
        if there.steps:
            q = by_head(projected(self.block, there.resid, *self.queries), self.sizes)
            here = index_among(there.steps, steps, self.device)
            scores[:, :, :, here] = torch.einsum("ncqhd,nhkd->nchqk", q, self.k) / root
            columns[:, :, :, here] = torch.einsum("ncqhd,nckhd->nchqk", q, k) / root
        scores[..., keys] = columns
        return scores.masked_fill_(_later(tuple(steps), self.k.shape[2], self.device), -math.inf).softmax(-1)

    def _mixed(
        self,
        same: Float[Tensor, "prompt change head query key"],
        other: Float[Tensor, "prompt change head query changed_key"],
        v: Float[Tensor, "prompt change changed_key head d"],
    ) -> Float[Tensor, "prompt change query d_model"]:
        """Return what all heads add: `same` is the pattern on clean values, `other` on the changed values `v`."""
        n, changes, _, queries, _ = same.shape
        by_query, others = (pattern.transpose(2, 3).flatten(3) for pattern in (same, other))
        mixed = (by_query.flatten(1, 2) @ self.added).view(n * changes, queries, -1)
        mixed.baddbmm_(others.flatten(0, 1), _multiplied_out(v.flatten(0, 1), self.block["attn.W_O"]))
        return mixed.view(n, changes, queries, -1)


def _multiplied_out(
    v: Float[Tensor, "row key head d_head"], out: Float[Tensor, "head d_head d"]
) -> Float[Tensor, "row head_key d"]:
    """Return ``v W_O``, computed with one product per head."""
    rows, keys, heads, _ = v.shape
    by_head = v.flatten(0, 1).transpose(0, 1) @ out
    return by_head.view(heads, rows, keys, -1).transpose(0, 1).reshape(rows, heads * keys, -1)


def index_of(steps: Sequence[int], first: int, device: torch.device) -> slice | Tensor:
    """Return the index of `steps` in a tensor that begins at step `first`: a slice if they are consecutive."""
    if not steps:
        return slice(0, 0)
    if list(steps) == list(range(steps[0], steps[0] + len(steps))):
        return slice(steps[0] - first, steps[0] - first + len(steps))
    return _index(tuple(step - first for step in steps), device)


def index_among(some: Sequence[int], steps: Sequence[int], device: torch.device) -> slice | Tensor:
    """Return the index of the steps `some` within `steps`."""
    return index_of([steps.index(step) for step in some], 0, device)


def take(value: Float[Tensor, "prompt step d"], steps: Sequence[int], first: int) -> Tensor:
    """Return `value` at `steps`; its step axis begins at step `first`."""
    return value[:, index_of(steps, first, value.device)]


@lru_cache(maxsize=256)
def _later(steps: tuple[int, ...], keys: int, device: torch.device) -> Tensor:
    """Return the causal mask: which keys come after each query step."""
    return torch.tensor([[key > step for key in range(keys)] for step in steps], device=device)


@lru_cache(maxsize=256)
def _index(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, device=device)
