"""The model written out a second time, in float64 numpy: what TransformerLens and the engines are compared with.

Shares no code with the harness. Sizes are read off the weights, whose names are TransformerLens's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

Array = NDArray[np.float64]
# (step, layer, "head" | "mlp" | "resid", head), head 0 unless the kind is "head": `dataclasses.astuple` of a Node.
Key = tuple[int, int, str, int]

EPSILON = 1e-5  # of every layer norm
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    # What TransformerLens calls `gelu` is the exact one; the tanh approximation is its `gelu_new`.
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
}


class Result(NamedTuple):
    """What the model computed on each question."""

    logits: Array  # [question, step, vocab]
    values: dict[Key, Array]  # of every node, [question, d], as what comes after it read it: replaced where asked


def forward(
    weights: Mapping[str, ArrayLike],
    tokens: ArrayLike,
    act_fn: str = "relu",
    interventions: Mapping[Key, ArrayLike] | None = None,
) -> Result:
    """Run the model on `tokens` [question, step], with the nodes in `interventions` replaced.

    A replacement is [question or 1, d] and takes the place of a head's z (before W_O), of the MLP's output (with its
    bias, before it is added to the residual stream), or of the residual stream after the layer. All of them hold at
    once, and one at a node that the model has not is an error.
    """
    w = {name: np.asarray(weight, dtype=np.float64) for name, weight in weights.items()}
    tokens = np.asarray(tokens)
    given = dict(interventions or {})
    values: dict[Key, Array] = {}

    def settle(at: Array, key: Key) -> None:
        """Replace the node's value, which stands in `at` [question, d], where it is to be; note it in any case."""
        if key in given:
            at[:] = given[key]
        values[key] = at.copy()

    resid = w["embed.W_E"][tokens] + w["pos_embed.W_pos"]
    n_steps = tokens.shape[1]
    n_layers = sum(name.endswith("attn.W_Q") for name in w)
    future = np.triu(np.ones((n_steps, n_steps), dtype=bool), 1)
    for layer in range(n_layers):
        b = {name.split(".", 2)[2]: weight for name, weight in w.items() if name.startswith(f"blocks.{layer}.")}
        x = layer_norm(resid, b["ln1.w"], b["ln1.b"])
        attention = np.zeros_like(resid) + b["attn.b_O"]
        for head in range(len(b["attn.W_Q"])):
            q, k, v = (x @ b[f"attn.W_{part}"][head] + b[f"attn.b_{part}"][head] for part in "QKV")
            scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
            z = softmax(np.where(future, -np.inf, scores)) @ v
            for step in range(n_steps):
                settle(z[:, step], (step, layer, "head", head))
            attention += z @ b["attn.W_O"][head]
        resid = resid + attention

        x = layer_norm(resid, b["ln2.w"], b["ln2.b"])
        mlp = ACTIVATIONS[act_fn](x @ b["mlp.W_in"] + b["mlp.b_in"]) @ b["mlp.W_out"] + b["mlp.b_out"]
        for step in range(n_steps):
            settle(mlp[:, step], (step, layer, "mlp", 0))
        resid = resid + mlp
        for step in range(n_steps):
            settle(resid[:, step], (step, layer, "resid", 0))

    if unknown := given.keys() - values.keys():
        raise KeyError(f"the model has no nodes {sorted(unknown)}")
    return Result(layer_norm(resid, w["ln_final.w"], w["ln_final.b"]) @ w["unembed.W_U"] + w["unembed.b_U"], values)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Return `x` with mean 0 and variance 1 over its last axis, then scaled and shifted."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale + shift


def softmax(scores: Array) -> Array:
    """Return the shares that the scores of the last axis stand for."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
