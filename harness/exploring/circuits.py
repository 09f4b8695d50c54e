"""The norms of a model's weights, and the weight products (circuits) that the notebook computes (Part 12).

The products leave out layer norms, biases, positions and everything between. They show what a head could carry from a
token to the neurons of an MLP if it attended to that token, and what a neuron adds directly to the logits. They do not
show what the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from harness.base.errors import HarnessError
from harness.models.fixtures import Fixture
from harness.specs.fixtures.recipe import OwnModel


@dataclass(frozen=True)
class Circuits:
    """The products of one layer's weights, float32, on the fixture's device."""

    layer: int
    neurons: Float[Tensor, "head vocab d_mlp"]  # W_E·W_V·W_O·W_in, the notebook's W_neur
    logits: Float[Tensor, "d_mlp vocab"]  # W_out·W_U, the notebook's W_logit


def circuits(fixture: Fixture, layer: int = 0) -> Circuits:
    """Return a layer's circuits: token embedding → neuron through each head, and neuron → logit.

    The notebook leaves out the last token of the vocabulary; this function includes all tokens.

        >>> circuits(load_fixture("quick_d5_l2_s0")).neurons.shape  # doctest: +SKIP
        torch.Size([3, 13, 384])
    """
    if isinstance(fixture.recipe.model, OwnModel):
        fix = "look at its weights in Python"
        raise HarnessError.of("a model whose weights have TransformerLens's names", fixture.recipe.model.model, fix)
    weights = fixture.weights
    embedded, out = weights["embed.W_E"], weights["unembed.W_U"]
    block = {name: weights[f"blocks.{layer}.{name}"] for name in ("attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_out")}
    neurons = embedded @ block["attn.W_V"] @ block["attn.W_O"] @ block["mlp.W_in"]
    return Circuits(layer, neurons, block["mlp.W_out"] @ out)


def norms(weights: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Return the Frobenius norms of every weight: one per head if the weight is split by head, else one."""
    found = {}
    for name, weight in weights.items():
        by_head = ".attn." in name and not name.endswith("b_O")
        parts = weight if by_head else [weight]
        found[name] = tuple(float(part.double().norm()) for part in parts)
    return found
