"""A task and a model of one's own, small enough to be made anew in every test: two letters, put in order."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from paths import ROOT

from harness.models.bridge import expected_tensors
from harness.models.storage import serialise, write_fixture
from harness.specs.fixtures.pins import Pin, Provenance, recipe_hash
from harness.specs.fixtures.recipe import load_recipe

_PAGE = (ROOT / "docs" / "own-model.md").read_text("utf-8")
# The page's own example, so that what it shows is what is tested.
TASK, RECIPE, CLAIMS, *_ = re.findall(r"^```(?:python|yaml)\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
BUILD = """
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

def build(weights, device, directory):
    config = TransformerBridgeConfig(
        d_model=8, d_head=4, n_layers=1, n_heads=2, n_ctx=5, d_mlp=16, d_vocab=5, d_vocab_out=5,
        act_fn="relu", normalization_type="LN", seed=0,
    )
    model = TransformerBridge.boot_native(config, device=device)
    model.load_state_dict(weights)
    return model
"""
BUILT = "version: 1\ntask: letters:task\nmodel: letters:build\nn_layers: 1\nn_heads: 2\n"


def write_own(fixtures: Path, *, task: str = TASK, recipe: str = RECIPE, name: str = "own") -> Path:
    """Write a recipe, and the code that it names beside it; no weights. Return the fixture's directory."""
    directory = fixtures / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "letters.py").write_text(task, "utf-8")
    (directory / "recipe.yaml").write_text(recipe, "utf-8")
    return directory


def pin_random(directory: Path, seed: int = 0) -> None:
    """Give the fixture random weights, and pin them; code must be allowed."""
    from tiny import random_weights

    recipe = load_recipe(directory / "recipe.yaml")
    tensors = random_weights(recipe, seed)
    assert tensors.keys() == expected_tensors(recipe).keys()
    pin = Pin(
        version=1, name=directory.name, weights_sha256=hashlib.sha256(serialise(tensors)).hexdigest(),
        recipe_sha256=recipe_hash(recipe), provenance=Provenance(source="random", source_sha256="0" * 64), measured=[],
    )  # fmt: skip
    write_fixture(directory, (directory / "recipe.yaml").read_text("utf-8"), tensors, pin, "# own\n")
