"""A model whose inside is known, because its weights are set by hand: it adds two digits, and every number follows.

Two layers of three heads for one-digit addition, ``S0 = D0, S1 = +, S2 = D'0, S3 = '=', S4 = A1, S5 = A0``:

- layer 0, head 0 copies the digit at S0, head 1 the one at S2, wherever they can see it; head 2 writes nothing;
- the MLP of layer 0 has one unit for each pair of digits at S3, which writes the tens of their sum, and one for each at
  S4, which writes the units: a unit is on if both digits and the step are there, else off;
- layer 1 writes nothing at all, and what the first layer wrote is read out.

The parts live in coordinates of their own, one-hot, so that every residual stream of the clean run has the same mean
and spread and a layer norm is a fixed scaling, which the weights undo. Where no unit is on, all logits are equal, and
the answer is 0 by a small bias.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from tiny import recipe_of_fields
from torch import Tensor

from harness.models.bridge import expected_tensors
from harness.specs.claim import Claim
from harness.specs.spec_files import load_file

FIELDS = {
    "version": 1, "task": "addition", "n_digits": 1, "n_layers": 2, "n_heads": 3, "d_model": 72, "d_mlp": 200,
    "seed": 0, "steps": 1,
}  # fmt: skip
RECIPE = recipe_of_fields(FIELDS)
TOKEN, STEP, FIRST, SECOND, OUT = 0, 13, 19, 29, 39  # where each part of the residual stream begins
PAIRS = [(x, y) for x in range(10) for y in range(10)]
ALL = "[" + ", ".join(f"{x}+{y}" for x, y in PAIRS) + "]"  # a census
SAMPLE = "{n: 1500, seed: 3}"


def scaling(ones: int) -> tuple[float, float]:
    """Return the mean, and the spread with LN's epsilon, of a stream that is 1 in `ones` coordinates and 0 elsewhere."""
    mean = ones / RECIPE.model.d_model
    return mean, math.sqrt(mean - mean**2 + 1e-5)


def planted_weights() -> dict[str, Tensor]:
    """Return the weights of the model, float32, under TransformerLens's names."""
    w = {name: torch.zeros(shape) for name, shape in expected_tensors(RECIPE).items()}
    for name in w:
        if name.endswith(".w"):
            w[name] += 1  # the layer norms
    for token in range(13):
        w["embed.W_E"][token, TOKEN + token] = 1
    for step in range(6):
        w["pos_embed.W_pos"][step, STEP + step] = 1

    # Heads: the query is the same everywhere, the key is large at one step, the value is the digit there.
    mean, spread = scaling(2)  # a token and a step
    for head, (target, place) in enumerate(((0, FIRST), (2, SECOND))):
        w["blocks.0.attn.b_Q"][head, 0] = 100
        w["blocks.0.attn.W_K"][head, STEP + target, 0] = 1
        for digit in range(10):
            w["blocks.0.attn.W_V"][head, TOKEN + digit, digit] = spread
            w["blocks.0.attn.b_V"][head, digit] = mean
            w["blocks.0.attn.W_O"][head, digit, place + digit] = 1

    # Units: a half above the threshold if all three are there, a half below if one is missing.
    mean, spread = scaling(4)
    for unit, (step, (x, y)) in enumerate((step, pair) for step in (3, 4) for pair in PAIRS):
        for place in (FIRST + x, SECOND + y, STEP + step):
            w["blocks.0.mlp.W_in"][place, unit] = spread
        w["blocks.0.mlp.b_in"][unit] = 3 * mean - 2.5
        written = (x + y) // 10 if step == 3 else (x + y) % 10
        w["blocks.0.mlp.W_out"][unit, OUT + written] = 2

    for digit in range(10):
        w["unembed.W_U"][OUT + digit, digit] = 1
    w["unembed.b_U"][0] = 0.01
    w["unembed.b_U"][10:] = -1  # what is no digit is never said
    return w


def read(tmp_path: Path, fixtures: Path, *texts: str) -> list[Claim]:
    """Return a claim for each text, in which ``{all}`` is a census of all questions and ``{sample}`` a sample."""
    path = tmp_path / "s.yaml"
    claims = ""
    for i, text in enumerate(texts):
        lines = text.format(all=ALL, sample=SAMPLE).splitlines()
        claims += f"  - id: c{i}\n    claim: c\n" + "".join(f"    {line}\n" for line in lines)
    path.write_text(f"version: 1\nfixture: planted\nhypotheses:\n{claims}", "utf-8")
    return load_file(path, fixtures, "s.yaml")
