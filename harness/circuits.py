"""What a model's weights are: their norms, and the products of them that the notebook computes (Part 12).

The products leave out layer norms, biases, positions and everything between: they say what a head could carry to an
MLP's neurons if it looked at a token, and what a neuron adds straight to the logits, not what the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from harness.errors import HarnessError
from harness.fixtures import Fixture
from harness.recipe import BuiltRecipe


@dataclass(frozen=True)
class Circuits:
    """The products of one layer's weights, float32, on the fixture's device."""

    layer: int
    neurons: Float[Tensor, "head vocab d_mlp"]  # W_E·W_V·W_O·W_in, the notebook's W_neur
    logits: Float[Tensor, "d_mlp vocab"]  # W_out·W_U, the notebook's W_logit


def circuits(fixture: Fixture, layer: int = 0) -> Circuits:
    """Return what each token's embedding gives each neuron of a layer through each head, and each neuron each logit.

    The notebook leaves the vocabulary's last token out; here all of them are in.

        >>> circuits(load_fixture("quick_d5_l2_s0")).neurons.shape  # doctest: +SKIP
        torch.Size([3, 13, 384])
    """
    if isinstance(fixture.recipe, BuiltRecipe):
        fix = "look at its weights in Python"
        raise HarnessError.of("a model whose weights have TransformerLens's names", fixture.recipe.model, fix)
    weights = fixture.weights
    embedded, out = weights["embed.W_E"], weights["unembed.W_U"]
    block = {name: weights[f"blocks.{layer}.{name}"] for name in ("attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_out")}
    neurons = embedded @ block["attn.W_V"] @ block["attn.W_O"] @ block["mlp.W_in"]
    return Circuits(layer, neurons, block["mlp.W_out"] @ out)


def norms(weights: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Return the Frobenius norm of every weight: of a head's own weights, one for each head."""
    found = {}
    for name, weight in weights.items():
        by_head = ".attn." in name and not name.endswith("b_O")
        parts = weight if by_head else [weight]
        found[name] = tuple(float(part.double().norm()) for part in parts)
    return found
