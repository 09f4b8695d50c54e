"""Proves that the hooks of a language model mean what their names say, before anything is measured by them.

On a few random prompts: the logits equal those of the source library's own forward pass; in each block, what attention
and MLP wrote, added to the stream before, is the stream after; each hook that a claim uses moves the logits; and
putting back a node's own value changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.base.errors import FixtureError, Problem

PROMPTS, LENGTH, SEED = 2, 8, 7
FEW = 4  # tokens of the prompt on which each hook alone must move the logits: one run for each hook
MOVES = 1e-6  # rounding alone moves logits by less: of their largest value
# Of the largest value that is compared: float32 has 24 bits, and sums over a thousand numbers lose some of them.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


@dataclass(frozen=True)
class Proof:
    """How far the equalities were off, as a share of the largest value compared."""

    parity: float  # the bridge's logits and those of the source library
    sums: float  # of what the blocks write and the stream behind them
    put_back: float  # the logits with every node's own value put back

    def __str__(self) -> str:
        most = max(self.parity, self.sums, self.put_back)
        within = f"{10 ** math.ceil(math.log10(most)):.0e}" if most else "0"
        return f"logits and sums of the stream within {within} of the source library's"


class Source(NamedTuple):
    """What the source library's own model says, before the bridge puts its own modules into it."""

    tokens: Tensor
    logits: Tensor


@torch.inference_mode()
def ask_source(model: Any, device: torch.device) -> Source:
    """Return the logits of a few random prompts."""
    generator, size = torch.Generator().manual_seed(SEED), int(model.get_input_embeddings().num_embeddings)
    tokens = torch.randint(size, (PROMPTS, LENGTH), generator=generator).to(device)
    return Source(tokens, model(tokens).logits)


@torch.inference_mode()
def prove(bridge: Any, source: Source, where: str) -> Proof:
    """Return how far the equalities are off.

    Raises:
        FixtureError: one of them does not hold; the error names the hook.
    """
    tokens, most = source.tokens, TOLERANCE[bridge.cfg.dtype]
    clean = bridge(tokens)
    parity = _off(source.logits, clean)
    if not parity <= most:
        raise _wrong(f"logits within {most:g} of the source library's", f"{parity:.2g} off", where)
    seen = _captured(bridge, tokens)
    sums = _sums(bridge, seen, most, where)
    put_back = _put_back(bridge, tokens, clean, seen, most, where)
    return Proof(parity, sums, put_back)


def hook_points(layer: int) -> tuple[str, ...]:
    """Return the hook points of a layer whose values claims replace."""
    return tuple(f"blocks.{layer}.{name}" for name in ("attn.hook_z", "hook_mlp_out", "hook_resid_post"))


def _captured(bridge: Any, tokens: Tensor) -> dict[str, Tensor]:
    names = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post", "attn.hook_z")
    wanted = [f"blocks.{layer}.{name}" for layer in range(bridge.cfg.n_layers) for name in names]
    seen: dict[str, Tensor] = {}

    def record(value: Tensor, hook: Any) -> None:
        seen[hook.name] = value.clone()

    there = [name for name in wanted if name in bridge.hook_dict]
    bridge.run_with_hooks(tokens, fwd_hooks=[(name, record) for name in there])
    return {name: seen[bridge.hook_dict[name].name] for name in there if bridge.hook_dict[name].name in seen}


def _sums(bridge: Any, seen: dict[str, Tensor], most: float, where: str) -> float:
    worst = 0.0
    for layer in range(bridge.cfg.n_layers):
        at = f"blocks.{layer}."
        for name in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"):
            if at + name not in seen:
                raise _wrong(f"the hook {at}{name} to fire", "that it does not", where)
        before, after = seen[at + "hook_resid_pre"], seen[at + "hook_resid_post"]
        attention, mlp = seen[at + "hook_attn_out"], seen[at + "hook_mlp_out"]
        off = _off(after, before + attention + mlp)
        if not off <= most:
            named = _culprit(before, attention, mlp, after, at, most)
            raise _wrong("resid_pre + attn_out + mlp_out = resid_post", f"{off:.2g} off at {named}", where)
        worst = max(worst, off)
    return worst


def _culprit(before: Tensor, attention: Tensor, mlp: Tensor, after: Tensor, at: str, most: float) -> str:
    """Return which hook holds the stream too, if one of them does."""
    if _off(after, mlp) <= most:
        return f"{at}hook_mlp_out, which includes the residual stream"
    if _off(after - mlp, attention) <= most:
        return f"{at}hook_attn_out, which includes the residual stream"
    return f"{at}hook_resid_post"


def _put_back(bridge: Any, tokens: Tensor, clean: Tensor, seen: dict[str, Tensor], most: float, where: str) -> float:
    worst = 0.0
    names = [name for layer in range(bridge.cfg.n_layers) for name in hook_points(layer)]
    for name in names:
        if name not in seen:
            raise _wrong(f"the hook {name} to fire", "that it does not", where)
    own = bridge.run_with_hooks(tokens, fwd_hooks=[(name, _with(seen[name])) for name in names])
    worst = _off(clean, own)
    if not worst <= most:
        raise _wrong("the same logits with every node's own value put back", f"{worst:.2g} off", where)
    few = tokens[:1, :FEW]
    before = bridge(few)[:, -1]  # of the same shape: rounding may depend on it
    for name in names:  # an edit that goes nowhere would make every claim "not needed" true
        value = seen[name][:1, :FEW].clone()
        value[:, -1] = 0
        if not _off(before, bridge.run_with_hooks(few, fwd_hooks=[(name, _with(value))])[:, -1]) > MOVES:
            raise _wrong(f"the logits to move when {name} is set to 0", "that they stay the same", where)
    return worst


def _with(value: Tensor) -> Any:
    def replace(old: Tensor, hook: Any) -> Tensor:
        return value

    return replace


def _off(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, as a share of the largest value."""
    scale = float(one.abs().max())
    return float((one - other).abs().max()) / (scale or 1.0)


def _wrong(expected: str, found: str, where: str) -> FixtureError:
    return FixtureError(Problem(expected, found, "the bridge of this architecture cannot be trusted", where))
