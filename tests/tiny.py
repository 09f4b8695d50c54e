"""A model small enough to be made anew in every test: its recipe, random weights, fixture and old checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.yamlfile import parse_yaml
from harness.models.bridge import expected_tensors
from harness.models.storage import serialise, write_fixture
from harness.specs.claim import Claim
from harness.specs.fixtures.files import PIN, WEIGHTS
from harness.specs.fixtures.pins import Pin, Provenance, recipe_hash
from harness.specs.fixtures.recipe import Recipe, recipe_in
from harness.specs.spec_files import load_file

FIELDS = {
    "version": 1, "task": "addition", "n_digits": 2, "n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 16,
    "seed": 0, "steps": 1,
}  # fmt: skip

# What must not pass as weights of the tiny recipe: a tensor's name, what becomes of it, and what is said about it.
BAD_TENSORS: dict[str, tuple[str, Callable[[Tensor], Tensor | None], str]] = {
    "shape": (
        "blocks.1.mlp.W_in", lambda t: t.T.contiguous(),
        "expected blocks.1.mlp.W_in of shape (8, 16), found shape (16, 8); check the recipe's sizes",
    ),
    "rank": (
        "unembed.b_U", lambda t: t[None],
        "expected unembed.b_U of shape (13,), found shape (1, 13); check the recipe's sizes",
    ),
    "missing": (
        "ln_final.w", lambda t: None,
        "expected the tensor ln_final.w, found none; check the recipe and the checkpoint",
    ),
    "extra": (
        "blocks.2.ln1.w", lambda t: torch.zeros(8),
        "expected only tensors that the recipe has, found blocks.2.ln1.w; check the recipe",
    ),
    "float16": (
        "blocks.0.attn.W_Q", Tensor.half, "expected blocks.0.attn.W_Q in float32, found torch.float16; convert it",
    ),
    "float64": (
        "blocks.0.attn.b_O", Tensor.double, "expected blocks.0.attn.b_O in float32, found torch.float64; convert it",
    ),
    "int64": ("embed.W_E", Tensor.long, "expected embed.W_E in float32, found torch.int64; convert it"),
    "nan": (
        "pos_embed.W_pos", lambda t: t.index_fill(0, torch.tensor(3), torch.nan),
        "expected finite numbers in pos_embed.W_pos, found nan or infinity; retrain it",
    ),
    "infinity": (
        "blocks.1.attn.W_O", lambda t: t.index_fill(2, torch.tensor(7), -torch.inf),
        "expected finite numbers in blocks.1.attn.W_O, found nan or infinity; retrain it",
    ),
}  # fmt: skip

# What is no fixture's name, most of it because it would climb out of the directory.
BAD_NAMES = [
    "../outside", "tiny/../../outside", "/nowhere/outside", "..", ".", "", "tiny/", "./tiny", "ti\0ny", "tiny\n", ".tiny",
    "tiny.", "..\\outside", "x" * 65,
]  # fmt: skip


def recipe_text(**fields: object) -> str:
    """Return the tiny recipe as YAML, one field a line, with `fields` changed or added."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in (FIELDS | fields).items())


def recipe_of_fields(fields: Mapping[str, object]) -> Recipe:
    """Return the recipe of these keys."""
    return recipe_in(parse_yaml(json.dumps(fields), "recipe"), Path())


def make_recipe(**fields: object) -> Recipe:
    """Return the tiny recipe with `fields` changed or added."""
    return recipe_of_fields(FIELDS | fields)


def random_weights(recipe: Recipe, seed: int = 0) -> dict[str, Tensor]:
    """Return float32 weights of a model of this recipe, none of them zero.

    Embeddings are so small that the epsilon of a layer norm shows in the logits.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.02 if name in ("embed.W_E", "pos_embed.W_pos") else 0.6)
        for name, shape in expected_tensors(recipe).items()
    }


def spoil(weights: Mapping[str, Tensor], *kinds: str) -> dict[str, Tensor]:
    """Return the weights with these of the :data:`BAD_TENSORS` among them."""
    spoilt = dict(weights)
    for name, change, _ in (BAD_TENSORS[kind] for kind in kinds):
        changed = change(spoilt.pop(name, torch.empty(0)))
        if changed is not None:
            spoilt[name] = changed
    return spoilt


def write_tiny(
    fixtures: Path, name: str = "tiny", *, weights: Mapping[str, Tensor] | None = None, **fields: object
) -> dict[str, Tensor]:
    """Write a whole fixture of the tiny recipe and return its weights: `weights`, or random ones.

    The pin is true of whatever weights are given, so that wrong ones get past the sha256.
    """
    recipe = make_recipe(**fields)
    tensors = dict(random_weights(recipe) if weights is None else weights)
    pin = Pin(
        version=1,
        name=name,
        weights_sha256=hashlib.sha256(serialise(tensors)).hexdigest(),
        recipe_sha256=recipe_hash(recipe),
        provenance=Provenance(source="tiny.pth", source_sha256="0" * 64),
        measured=[],
    )
    write_fixture(fixtures / name, recipe_text(**fields), tensors, pin, "# tiny\n")
    return tensors


def read_claim(directory: Path, text: str, fixtures: Path, fixture: str) -> Claim:
    """Return the claim of a spec ``s.yaml`` that `text` makes of a fixture, all of it but its id and sentence."""
    path = directory / "s.yaml"
    claim = "".join(f"    {line}\n" for line in text.strip().splitlines())
    path.write_text(f"version: 1\nfixture: {fixture}\nhypotheses:\n  - id: a\n    claim: c\n{claim}", "utf-8")
    return load_file(path, fixtures, "s.yaml")[0]


def edit_pin(directory: Path, **changes: object) -> None:
    """Change values in a fixture's ``model.json``."""
    path = directory / PIN
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def pin_bytes(directory: Path, raw: bytes) -> None:
    """Make `raw` a fixture's weights, and the pin true of them."""
    (directory / WEIGHTS).write_bytes(raw)
    edit_pin(directory, weights_sha256=hashlib.sha256(raw).hexdigest())


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], *, legacy: bool = False) -> None:
    """Save weights as an old HookedTransformer's state dict, with the buffers that hold none.

    `legacy` is the format of torch before 1.6: pickles and raw storages in a row, no zip archive.
    """
    n_ctx = len(weights["pos_embed.W_pos"])
    buffers = {}
    for layer in range(sum(name.endswith("attn.W_Q") for name in weights)):
        buffers[f"blocks.{layer}.attn.mask"] = torch.ones(n_ctx, n_ctx, dtype=torch.bool).tril()
        buffers[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-torch.inf)
    torch.save(dict(weights) | buffers, path, _use_new_zipfile_serialization=not legacy)


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, links followed, with its bytes; empty if there is no directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refusal(kind: type[HarnessError], function: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return what the error says that the call must end in: of exactly this kind, a line for each problem."""
    with pytest.raises(HarnessError) as caught:
        function(*arguments, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert len(text.splitlines()) == len(caught.value.problems)
    return text


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: for tensors this small others only cost, and on a busy machine very much so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
