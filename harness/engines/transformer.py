"""The transformer in plain torch, for training and for the fast engine. It computes only what the answer depends on.

Weights are a dict with TransformerLens's names. The function is the one that TransformerLens computes, but work that
cannot affect an answer token is left out or shared:

- nothing reads what comes after the last step that predicts an answer;
- in the last layer, queries and the MLP matter only at the steps that predict an answer token;
- before layer 0, the residual stream at a step depends only on the step and its token. So the queries, keys and
  values of layer 0 are computed once per step and token of the vocabulary, and then looked up.

The fast engine (``harness/engines/cone.py``) recomputes parts of a run with the functions below. So the model's code
exists twice, here and in TransformerLens; tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.models.bridge import expected_tensors
from harness.specs.fixtures.recipe import Recipe

EPSILON = 1e-5  # for layer norm; TransformerLens's default
BLOCK_ROWS = 1024  # questions × steps that go through an MLP at once, on a CPU without gradients
Weights = Mapping[str, Tensor]


class Sizes(NamedTuple):
    """The sizes that the functions below need. Plain values, because a compiler can trace them but not a recipe."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    act_fn: str
    d_vocab: int
    steps: int  # all up to the last that is read
    asking: int  # the first step of the last layer that is read
    asked: tuple[int, ...]  # the steps that predict the answers


def sizes_of(recipe: Recipe, asked: Sequence[int] | None = None, reading: Collection[int] = ()) -> Sizes:
    """Return the sizes of a recipe's model on prompts whose answers are predicted at the steps `asked`.

    By default, those of all prompts of the task. The last layer is computed at all steps from the first to the last of
    `asked` and `reading`.
    """
    model, task = recipe.transformer, recipe.task
    steps = tuple(step - 1 for step in task.answer_steps) if asked is None else tuple(asked)
    last = max([*steps, *reading, 0])
    return Sizes(
        model.n_layers, model.n_heads, model.d_model, model.d_head, model.act_fn,
        task.d_vocab, last + 1, min([*steps, *reading, last]), steps,
    )  # fmt: skip


class Layer(NamedTuple):
    """What one layer computes: keys and values at every step, the rest only at the steps that are read later."""

    resid_in: Float[Tensor, "prompt step d_model"]  # the layer's input, at the steps that are read later
    q: Float[Tensor, "prompt step d_model"]  # all heads, concatenated
    k: Float[Tensor, "prompt key d_model"]
    v: Float[Tensor, "prompt key d_model"]
    z: Float[Tensor, "prompt step d_model"]  # all heads, concatenated
    resid_mid: Float[Tensor, "prompt step d_model"]
    mlp_out: Float[Tensor, "prompt step d_model"]
    resid_post: Float[Tensor, "prompt step d_model"]


def initial_weights(recipe: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """Return float32 weights to start training from: biases 0, layer norms 1, each ``W_`` normal.

    The standard deviation is ``0.8 / sqrt(d_model)``. With ``init: transformer_lens``, that of ``W_O`` and ``W_out``,
    which write to the residual stream, is divided by ``sqrt(2 * n_layers)``, as in TransformerLens 4. With
    ``init: notebook`` it is not, as in TransformerLens 1 to 3.
    """
    model = recipe.transformer
    spread = 0.8 / math.sqrt(model.d_model)
    smaller = 1 / math.sqrt(2 * model.n_layers) if model.init == "transformer_lens" else 1.0
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
    weights: Weights, tokens: Int[Tensor, "prompt pos"], sizes: Sizes
) -> Float[Tensor, "prompt answer vocab"]:
    """Return the logits at the steps that predict the answer tokens, in order."""
    *_, last = run_layers(weights, tokens, sizes)
    return unembed(weights, at_asked(last.resid_post, sizes))


def answer_logits_at(
    weights: Weights, tokens: Int[Tensor, "prompt pos"], at: Int[Tensor, "prompt answer"], sizes: Sizes
) -> Float[Tensor, "prompt answer vocab"]:
    """Return the logits at other steps `at` in each prompt; the tokens may be filled up with any token on the right."""
    *_, last = run_layers(weights, tokens, sizes)
    index = (at - sizes.asking).unsqueeze(-1).expand(-1, -1, sizes.d_model)
    return unembed(weights, last.resid_post.gather(1, index))


def at_asked(value: Float[Tensor, "prompt step d"], sizes: Sizes) -> Float[Tensor, "prompt answer d"]:
    """Return a value of the last layer at the steps that predict the answers."""
    if len(sizes.asked) == value.shape[1]:
        return value
    return value[:, [step - sizes.asking for step in sizes.asked]]


def first_step(layer: int, sizes: Sizes) -> int:
    """Return the first step at which a layer's output is read; the last such step is the same in every layer."""
    return sizes.asking if layer == sizes.n_layers - 1 else 0


def run_layers(weights: Weights, tokens: Int[Tensor, "prompt pos"], sizes: Sizes) -> Iterator[Layer]:
    """Yield what each layer computes on the questions in `tokens`."""
    steps = sizes.steps
    embedded = weights["embed.W_E"] + weights["pos_embed.W_pos"][:steps, None]  # step, token, d_model
    table = embedded.flatten(0, 1)
    rows = tokens[:, :steps] + sizes.d_vocab * torch.arange(steps, device=tokens.device)
    resid = table
    for layer in range(sizes.n_layers):
        block = block_of(weights, layer)
        read = slice(first_step(layer, sizes), steps)
        if layer == 0:
            looked_up = functional.embedding(rows, queries_keys_values(block, table, "QKV"))
            q, k, v = looked_up.chunk(3, dim=-1)
            q = q[:, read]
            resid = functional.embedding(rows[:, read], table)
        else:
            k, v = queries_keys_values(block, resid, "KV").chunk(2, dim=-1)
            resid = resid[:, read]
            q = queries_keys_values(block, resid, "Q")
        z = _attend(q, k, v, sizes)
        mid = resid + attention_out(block, z)
        out = mlp(mid, block, sizes)
        done = Layer(resid, q, k, v, z, mid, out, mid + out)
        resid = done.resid_post
        yield done


_BLOCK = (
    "ln1.w", "ln1.b", "attn.W_Q", "attn.W_K", "attn.W_V", "attn.b_Q", "attn.b_K", "attn.b_V", "attn.W_O", "attn.b_O",
    "ln2.w", "ln2.b", "mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out",
)  # fmt: skip


def block_of(weights: Weights, layer: int) -> dict[str, Tensor]:
    """Return the weights of one layer; the names lack the prefix ``blocks.N.``."""
    return {name: weights[f"blocks.{layer}.{name}"] for name in _BLOCK}


def queries_keys_values(block: Weights, resid: Float[Tensor, "... d_model"], which: str) -> Float[Tensor, "... d"]:
    """Return the queries, keys or values in `which` ("QKV", "KV", "Q") of all heads, concatenated."""
    return projected(block, resid, *side_by_side(block, which))


def side_by_side(block: Weights, which: str) -> tuple[Float[Tensor, "d_model d"], Float[Tensor, " d"]]:
    """Return the weights and biases of `which` ("QKV", "KV", "Q") of all heads, concatenated for one product."""
    weight = torch.cat([block[f"attn.W_{letter}"].transpose(0, 1).flatten(1) for letter in which], dim=1)
    return weight, torch.cat([block[f"attn.b_{letter}"].flatten() for letter in which])


def projected(block: Weights, resid: Float[Tensor, "... d_model"], weight: Tensor, bias: Tensor) -> Tensor:
    """Return queries, keys or values of `resid`; `weight` and `bias` are from :func:`side_by_side`."""
    return _affine(layer_norm(resid, block["ln1.w"], block["ln1.b"]), weight, bias)


def by_head(part: Float[Tensor, "... d_model"], sizes: Sizes) -> Float[Tensor, "... head d"]:
    """Return `part`, in which heads are concatenated, with an axis for heads."""
    return part.reshape(*part.shape[:-1], sizes.n_heads, sizes.d_head)


def split_heads(part: Float[Tensor, "prompt step d_model"], sizes: Sizes) -> Float[Tensor, "prompt head step d"]:
    """Return `part`, in which heads are concatenated, with an axis for heads before the axis for steps."""
    return by_head(part, sizes).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, sizes: Sizes) -> Float[Tensor, "prompt step d_model"]:
    """Return the ``z`` of all heads, concatenated. The last query and the last key are at the same step."""
    n, m = q.shape[1], k.shape[1]
    seen = torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
    q, k, v = (split_heads(part, sizes) for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


def attention_out(block: Weights, z: Float[Tensor, "prompt step d_model"]) -> Tensor:
    """Return what the heads add to the residual stream; `z` has all heads, concatenated."""
    return _affine(z, block["attn.W_O"].flatten(0, 1), block["attn.b_O"])


def mlp(resid: Float[Tensor, "prompt ... d_model"], block: Weights, sizes: Sizes) -> Tensor:
    """Return what the MLP adds to the residual stream.

    On a CPU without gradients, it is computed in blocks of questions, so that the hidden values stay in the cache.
    This makes the products of a long run a fifth faster.
    """
    blocks = min(len(resid), round(resid[..., 0].numel() / BLOCK_ROWS))  # of equal size: no small rest is left over
    if blocks > 1 and resid.device.type == "cpu" and not torch.is_grad_enabled():
        return torch.cat([mlp(part, block, sizes) for part in torch.tensor_split(resid, blocks)])
    normed = layer_norm(resid, block["ln2.w"], block["ln2.b"])
    hidden = _affine(normed, block["mlp.W_in"], block["mlp.b_in"])
    # A ReLU in place needs no extra memory. As max(x, -b) + b it would save a pass, but lose precision to a big bias.
    in_place = not torch.is_grad_enabled()
    hidden = functional.gelu(hidden) if sizes.act_fn == "gelu" else functional.relu(hidden, inplace=in_place)
    return _affine(hidden, block["mlp.W_out"], block["mlp.b_out"])


def unembed(weights: Weights, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """Return the logits for the output of the last layer."""
    normed = layer_norm(resid, weights["ln_final.w"], weights["ln_final.b"])
    return _affine(normed, weights["unembed.W_U"], weights["unembed.b_U"])


def _affine(value: Float[Tensor, "... n"], weight: Float[Tensor, "n m"], bias: Float[Tensor, " m"]) -> Tensor:
    """Return ``value @ weight + bias`` in one pass."""
    return functional.linear(value, weight.T, bias)


def layer_norm(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `value` normalised over its last axis, then scaled by `weight` and shifted by `bias`."""
    return functional.layer_norm(value, weight.shape, weight, bias, EPSILON)
