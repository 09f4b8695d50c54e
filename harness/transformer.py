"""The transformer in plain torch, for training: only what the answer's logits depend on is computed.

Weights are a dict under TransformerLens's names. It is the function that TransformerLens computes, without
what never reaches an answer digit:

- the last token is read by nothing;
- in the last layer, queries and the MLP matter only at the steps that predict an answer digit;
- before layer 0 a step's residual stream depends on its own token alone, so queries, keys and values of
  that layer are computed once per step and token of the vocabulary and then looked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.models import expected_tensors
from harness.recipe import Recipe

EPSILON = 1e-5  # of a layer norm; TransformerLens's default
Weights = Mapping[str, Tensor]


def initial_weights(recipe: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """Return float32 weights to start training from: biases 0, layer norms 1, each ``W_`` normal.

    The standard deviation is ``0.8 / sqrt(d_model)``. With ``init: transformer_lens`` that of what is added to
    the residual stream, ``W_O`` and ``W_out``, is smaller by ``sqrt(2 * n_layers)``, as TransformerLens 4 has
    it; with ``init: notebook`` it is not, as TransformerLens 1 to 3 had it.
    """
    spread = 0.8 / math.sqrt(recipe.d_model)
    smaller = 1 / math.sqrt(2 * recipe.n_layers) if recipe.init == "transformer_lens" else 1.0
    weights = {}
    for name, shape in expected_tensors(recipe).items():
        kind = name.rpartition(".")[2]
        if kind.startswith("W_"):
            scale = spread * (smaller if kind in ("W_O", "W_out") else 1.0)
            weights[name] = torch.randn(shape, generator=generator) * scale
        else:
            weights[name] = torch.ones(shape) if kind == "w" else torch.zeros(shape)
    return weights


def answer_logits(
    weights: Weights, tokens: Int[Tensor, "question pos"], recipe: Recipe
) -> Float[Tensor, "question digit vocab"]:
    """Return the logits at the steps that predict the answer digits, highest digit first."""
    layout = recipe.layout
    steps = layout.n_ctx - 1
    predicting = slice(layout.answer_start - 1, steps)
    embedded = weights["embed.W_E"] + weights["pos_embed.W_pos"][:steps, None]  # step, token, d_model
    rows = tokens[:, :steps] + layout.d_vocab * torch.arange(steps, device=tokens.device)
    table = embedded.flatten(0, 1)
    last = recipe.n_layers - 1
    resid = functional.embedding(rows[:, predicting] if last == 0 else rows, table)
    for layer in range(recipe.n_layers):
        block = {name: weights[f"blocks.{layer}.{name}"] for name in _BLOCK}
        if layer == 0:
            qkv = functional.embedding(rows, _queries_keys_values(block, table, "QKV"))
            q, k, v = qkv.chunk(3, dim=-1)
        else:
            k, v = _queries_keys_values(block, resid, "KV").chunk(2, dim=-1)
            resid = resid[:, predicting] if layer == last else resid
            q = _queries_keys_values(block, resid, "Q")
        if layer == 0 and last == 0:
            q = q[:, predicting]
        resid = resid + _attend(q, k, v, block, recipe)
        resid = resid + _mlp(resid, block, recipe)
    normed = _layer_norm(resid, weights["ln_final.w"], weights["ln_final.b"])
    return normed @ weights["unembed.W_U"] + weights["unembed.b_U"]


_BLOCK = (
    "ln1.w", "ln1.b", "attn.W_Q", "attn.W_K", "attn.W_V", "attn.b_Q", "attn.b_K", "attn.b_V", "attn.W_O", "attn.b_O",
    "ln2.w", "ln2.b", "mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out",
)  # fmt: skip


def _queries_keys_values(block: Weights, resid: Float[Tensor, "... d_model"], which: str) -> Float[Tensor, "... d"]:
    """Return, side by side, the `which` ("QKV", "KV", "Q") of all heads."""
    normed = _layer_norm(resid, block["ln1.w"], block["ln1.b"])
    weight = torch.cat([block[f"attn.W_{letter}"].transpose(0, 1).flatten(1) for letter in which], dim=1)
    bias = torch.cat([block[f"attn.b_{letter}"].flatten() for letter in which])
    return normed @ weight + bias


def _attend(q: Tensor, k: Tensor, v: Tensor, block: Weights, recipe: Recipe) -> Float[Tensor, "question step d_model"]:
    """Return what the heads add to the stream; the last query stands at the last key's step."""
    heads = (recipe.n_heads, recipe.d_head)
    q, k, v = (part.reshape(*part.shape[:2], *heads).transpose(1, 2) for part in (q, k, v))
    n, m = q.shape[2], k.shape[2]
    seen = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
    z = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return z.transpose(1, 2).flatten(2) @ block["attn.W_O"].flatten(0, 1) + block["attn.b_O"]


def _mlp(resid: Float[Tensor, "question step d_model"], block: Weights, recipe: Recipe) -> Tensor:
    act = functional.relu if recipe.act_fn == "relu" else functional.gelu
    hidden = act(_layer_norm(resid, block["ln2.w"], block["ln2.b"]) @ block["mlp.W_in"] + block["mlp.b_in"])
    return hidden @ block["mlp.W_out"] + block["mlp.b_out"]


def _layer_norm(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(value, weight.shape, weight, bias, EPSILON)
