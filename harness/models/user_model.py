"""Build a model with a user's function (``model: mymodule:build``), and check the model before it is used.

The function gets the verified tensors, the device and the fixture's directory. It returns a TransformerLens bridge.
The bridge must have all hook points that a claim can name (heads, attention patterns, MLPs and residual streams),
with the shapes that the engine expects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.base.errors import FixtureError, Problem
from harness.base.own_code import calling, load_object
from harness.base.text import shorten
from harness.specs.fixtures.recipe import OwnModel, Recipe
from harness.tasks.questions import Sample

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TRIED = 2  # prompts in the trial run of a model


def build_user_model(recipe: Recipe, tensors: Mapping[str, Tensor], device: torch.device) -> TransformerBridge:
    """Return the frozen model that the recipe's function builds from `tensors`.

    Raises:
        FixtureError: user code is not allowed, the code fails, or the model does not match the recipe.
    """
    assert isinstance(recipe.model, OwnModel)  # other models are built here
    reference = recipe.model.model
    build, file = load_object("model", reference, recipe.directory)
    if not callable(build):
        raise FixtureError(Problem(f"a function {reference}", type(build).__name__, "write one", file))
    with calling(file, f"{reference} of {len(tensors)} tensors"):
        model: Any = build(dict(tensors), device, Path(recipe.directory))
    _check_sizes(model, recipe, recipe.model, file)
    with calling(file, f"the model of {reference}"):
        # boot_transformers does not move a model that it is given, whatever device it is told.
        model.to(device, print_details=False)
        model.eval()
        model.requires_grad_(False)
    _try_out(model, recipe, device, reference, file)
    bridge: TransformerBridge = model
    return bridge


def _check_sizes(model: Any, recipe: Recipe, own: OwnModel, file: str) -> None:
    for name in ("cfg", "run_with_hooks", "hook_dict"):
        if not hasattr(model, name):
            expected = f"a TransformerLens bridge, which has `{name}`, from {own.model}"
            raise FixtureError(Problem(expected, type(model).__name__, "return one", file))
    for key in ("n_layers", "n_heads"):
        told, built = getattr(own, key), getattr(model.cfg, key, None)
        if told != built:
            place = str(recipe.directory / "recipe.yaml")
            raise FixtureError(Problem(f"{key}: {built}, as {own.model} builds it", str(told), "correct it", place))


@torch.inference_mode()
def _try_out(model: Any, recipe: Recipe, device: torch.device, reference: str, file: str) -> None:
    """Refuse a model if logits or hook points are missing or lack the shape that the engine expects."""
    task, n_layers, n_heads = recipe.task, recipe.model.n_layers, recipe.model.n_heads
    prompts = task.batch_for(Sample(TRIED, 0))
    tokens = prompts.tokens[:, : int(prompts.lengths.min())].to(device)  # of the same length: no token is missing
    steps = tokens.shape[1]
    head = (TRIED, steps, n_heads)
    points: dict[str, tuple[int, ...]] = {
        f"blocks.{layer}.attn.hook_z": (*head, model.cfg.d_head) for layer in range(n_layers)
    }
    for layer in range(n_layers):
        points[f"blocks.{layer}.attn.hook_pattern"] = (TRIED, n_heads, steps, steps)
        for name in ("hook_mlp_out", "hook_resid_post"):
            points[f"blocks.{layer}.{name}"] = (TRIED, steps, model.cfg.d_model)
    seen: dict[str, tuple[int, ...]] = {}

    def looking(name: str) -> Any:
        def look(value: Tensor, hook: object) -> None:
            seen[name] = tuple(value.shape)

        return look

    with calling(file, f"the model of {reference} on {TRIED} {task.nouns.prompts}"):
        missing = [name for name in points if name not in model.hook_dict]
        logits = None if missing else model.run_with_hooks(tokens, fwd_hooks=[(name, looking(name)) for name in points])
    if missing:
        raise FixtureError(Problem(f"the hook point {missing[0]} in the model", "none", "name it so", file))
    wanted = (TRIED, steps, task.d_vocab)
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != wanted:
        fix = "build a model of the task's vocabulary"
        raise FixtureError(Problem(f"logits of shape {wanted} from the model", shorten(found), fix, file))
    for name, shape in points.items():
        if seen.get(name) != shape:
            what = f"{name} of shape {shape}"
            raise FixtureError(
                Problem(what, shorten(seen.get(name, "that it does not fire")), "change the model", file)
            )
