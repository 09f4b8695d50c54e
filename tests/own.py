"""A task and a model of one's own, small enough to be made anew in every test: two letters, put in order."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.fixtures import serialise, write_fixture
from harness.models import expected_tensors
from harness.pins import Pin, Provenance, recipe_hash
from harness.recipe import load_recipe

TASK = """\
import torch

from harness import Task


class Sort(Task):
    vocabulary = "abcd="
    names = ("x", "y", "=", "low", "high")
    n_answer = 2
    cases = ("same", "up", "down")
    question_sets = {"twins": ["aa=", "bb="]}
    variables = {"least": ["low"]}

    def sample(self, n, generator, case=None):
        x, y = torch.randint(0, 4, (2, n), generator=generator)
        if case == "same":
            y = x
        elif case is not None:
            low, high = torch.rand(n, 4, generator=generator).argsort(1)[:, :2].sort(1).values.T
            x, y = (low, high) if case == "up" else (high, low)
        return torch.stack([x, y, torch.full_like(x, 4)], dim=1)

    def answer(self, questions):
        return questions[:, :2].sort(1).values

    def cases_of(self, questions):
        return [self.cases[(x != y) + (x > y)] for x, y, _ in questions.tolist()]

    def value_of(self, variable, questions):
        return questions[:, :2].amin(1)

    def answers_with(self, variable, values, questions):
        return torch.stack([values, questions[:, :2].amax(1)], dim=1)


task = Sort()
"""
RECIPE = """\
version: 1
task: letters:task
n_layers: 1
n_heads: 2
d_model: 16
d_mlp: 32
seed: 0
batch_size: 32
steps: 300
optimiser: {lr: 1.0e-2, weight_decay: 0.0, betas: [0.9, 0.95]}
"""
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
