"""Load a fixture: its name → a model with verified weights. ``harness/models/storage.py`` writes fixtures.

The weights file is read once: the bytes that are hashed are the bytes that are parsed. If a pinned fixture
lacks its weights, that is an error; new weights are never made instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from harness.base.errors import FixtureError, Problem
from harness.models.bridge import build_model, check_tensors, resolve_device
from harness.models.references import LoadedModel, load_reference
from harness.models.user_model import build_user_model
from harness.specs.fixtures.files import (
    RECIPE,
    WEIGHTS,
    FixtureRef,
    recipe_of,
)
from harness.specs.fixtures.pins import Pin, code_hashes, read_pin, recipe_hash
from harness.specs.fixtures.recipe import OwnModel, Recipe, Transformer
from harness.specs.fixtures.references import ModelReference
from harness.specs.nodes import Node, Shape
from harness.tasks.contract import AnyTask
from harness.tasks.prompts.family import prompts_files

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Fixture:
    """A model whose weights have the pinned sha256."""

    name: str
    recipe: Recipe
    weights_sha256: str
    weights: Mapping[str, Tensor]  # on `device`; keys are TransformerLens's names
    device: torch.device

    @cached_property
    def model(self) -> TransformerBridge:
        """The weights as a TransformerBridge, built on first use because TransformerLens takes seconds to import."""
        if isinstance(self.recipe.model, ModelReference):
            return self.loaded.bridge
        if isinstance(self.recipe.model, OwnModel):
            return build_user_model(self.recipe, self.weights, self.device)
        return build_model(self.recipe, self.weights, self.device)

    @property
    def loaded(self) -> LoadedModel:
        """A model by reference, loaded; what is asked of it makes no difference."""
        assert isinstance(self.recipe.model, ModelReference)  # whoever asks has refused the others
        ref = FixtureRef(self.name, self.recipe.directory.parent)
        return load_reference(ref, self.recipe.model, self.device)

    @cached_property
    def code(self) -> dict[str, str]:
        """The sha256 of each file of the user's code, or of the prompts file, by its path below the fixtures."""
        if isinstance(self.recipe.model, ModelReference):
            root = self.recipe.directory.parent
            path = prompts_files(self.recipe.directory).get(self.recipe.task_name)
            if path is None:  # it is not asked anything
                return {}
            return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()}
        return code_hashes(self.recipe)

    @cached_property
    def task(self) -> AnyTask:
        """What the model is asked."""
        return self.recipe.task

    @cached_property
    def shape(self) -> Shape:
        """The shape of the model, which says which nodes it has."""
        return self.recipe.shape

    def width(self, node: Node) -> int:
        """Return the size of a node's value: d_head for a head, else d_model."""
        sizes = self.recipe.model if isinstance(self.recipe.model, Transformer) else self.model.cfg
        return int(sizes.d_head if node.kind == "head" else sizes.d_model)


def load_fixture(name: str, fixtures: str | Path = "fixtures", device: str = "auto", task: str = "") -> Fixture:
    """Return the fixture `name` from the directory `fixtures`, after checking its weights against the pinned sha256.

    `task` is the name of the prompts that a model by reference is asked.

    Raises:
        HarnessError: there is no such fixture or device.
        FixtureError: the weights are missing, altered, stale, or not those of the recipe.
    """
    root = Path(fixtures)
    ref = FixtureRef(name, root, task)
    recipe = recipe_of(ref)
    if isinstance(recipe.model, ModelReference):
        found = Fixture(name, recipe, recipe.model.weights_sha256, {}, resolve_device(device))
        assert found.loaded  # here, so that what is wrong with it is told at once
        return found
    pin = read_pin(ref)
    tensors = read_weights(root / name / WEIGHTS, pin, recipe)
    return fixture_of(name, recipe, pin.weights_sha256, tensors, resolve_device(device))


def fixture_of(
    name: str, recipe: Recipe, weights_sha256: str, tensors: Mapping[str, Tensor], device: torch.device
) -> Fixture:
    """Return a fixture with these weights on `device`. The caller has checked the weights."""
    weights = {key: tensor.detach().to(device) for key, tensor in tensors.items()}
    return Fixture(name, recipe, weights_sha256, weights, device)


def read_weights(path: Path, pin: Pin, recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors in the file at `path`, after checking recipe and weights against `pin`.

    Raises:
        FixtureError: naming both hashes, or the tensor.
    """
    if pin.recipe_sha256 != recipe_hash(recipe):
        found = f"a recipe of sha256 {recipe_hash(recipe)}"
        again = f"train it again (harness train {pin.name} --fresh)" if pin.trained else "import the new one's weights"
        fix = f"the weights are stale: restore the recipe, or {again}"
        raise FixtureError(
            Problem(f"the recipe of sha256 {pin.recipe_sha256}", found, fix, str(path.with_name(RECIPE)))
        )
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        fix = "restore it from version control; pinned weights are never made anew"
        raise FixtureError(Problem(f"weights of sha256 {pin.weights_sha256}", "no such file", fix, str(path))) from None
    except OSError as error:
        raise FixtureError(Problem("a readable file", error.strerror or str(error), "check it", str(path))) from None
    found = hashlib.sha256(raw).hexdigest()
    if found != pin.weights_sha256:
        expected, what = f"weights of sha256 {pin.weights_sha256}", f"sha256 {found} ({len(raw)} bytes)"
        raise FixtureError(Problem(expected, what, "restore it from version control", str(path)))
    try:
        tensors = safetensors.load(raw)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch does not have
        raise FixtureError(
            Problem("a safetensors file", str(error), "import the checkpoint again", str(path))
        ) from None
    check_tensors(tensors, recipe, path)
    return tensors
