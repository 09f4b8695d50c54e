"""Recipe and weights → a TransformerBridge. Tensors have TransformerLens's names (``blocks.0.attn.W_Q``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.specs.fixtures.recipe import OwnModel, Recipe

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def expected_tensors(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight in a model of this recipe."""
    sizes, task = recipe.transformer, recipe.task
    heads, model, head, mlp = sizes.n_heads, sizes.d_model, sizes.d_head, sizes.d_mlp
    vocab, context = task.d_vocab, task.n_ctx
    block: dict[str, tuple[int, ...]] = {
        "ln1.w": (model,), "ln1.b": (model,), "ln2.w": (model,), "ln2.b": (model,),
        "attn.W_Q": (heads, model, head), "attn.W_K": (heads, model, head), "attn.W_V": (heads, model, head),
        "attn.W_O": (heads, head, model), "attn.b_Q": (heads, head), "attn.b_K": (heads, head),
        "attn.b_V": (heads, head), "attn.b_O": (model,),
        "mlp.W_in": (model, mlp), "mlp.b_in": (mlp,), "mlp.W_out": (mlp, model), "mlp.b_out": (model,),
    }  # fmt: skip
    return {
        "embed.W_E": (vocab, model),
        "pos_embed.W_pos": (context, model),
        **{f"blocks.{i}.{name}": shape for i in range(sizes.n_layers) for name, shape in block.items()},
        "ln_final.w": (model,),
        "ln_final.b": (model,),
        "unembed.W_U": (model, vocab),
        "unembed.b_U": (vocab,),
    }


def check_tensors(tensors: Mapping[str, Tensor], recipe: Recipe, where: object) -> None:
    """Refuse weights that differ from the recipe in name or shape, or that are not float32 and finite.

    A recipe whose model is code does not say which tensors it needs: its weights only have to be dense and finite.

    Raises:
        FixtureError: with a line for each tensor that is missing, unknown, of another shape or type, or not finite.
    """
    if isinstance(recipe.model, OwnModel):  # only the user's code knows which tensors it needs
        expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        floats = {name: tensor.dtype == torch.float32 for name, tensor in tensors.items()}
    else:
        expected = expected_tensors(recipe)
        floats = dict.fromkeys(expected, True)
    problems = []
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            problems.append(Problem(f"the tensor {name}", "none", "check the recipe and the checkpoint", str(where)))
        elif tuple(tensor.shape) != shape:
            found = f"shape {tuple(tensor.shape)}"
            problems.append(Problem(f"{name} of shape {shape}", found, "check the recipe's sizes", str(where)))
        elif tensor.layout != torch.strided or tensor.is_meta:
            problems.append(Problem(f"{name} as a dense tensor", f"a {tensor.layout}", "convert it", str(where)))
        elif floats[name] and tensor.dtype != torch.float32:
            problems.append(Problem(f"{name} in float32", str(tensor.dtype), "convert it", str(where)))
        elif not bool(torch.isfinite(tensor).all()):
            problems.append(Problem(f"finite numbers in {name}", "nan or infinity", "retrain it", str(where)))
    for name in sorted(tensors.keys() - expected.keys()):
        problems.append(Problem("only tensors that the recipe has", name, "check the recipe", str(where)))
    if problems:
        raise FixtureError(*problems)


def build_model(recipe: Recipe, tensors: Mapping[str, Tensor], device: torch.device) -> TransformerBridge:
    """Return a frozen TransformerBridge with these weights, without a tokenizer. Nothing is downloaded."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.conversion_utils import convert_tl_checkpoint
    from transformer_lens.model_bridge import TransformerBridge

    task, sizes = recipe.task, recipe.transformer
    config = TransformerBridgeConfig(
        d_model=sizes.d_model, d_head=sizes.d_head, n_layers=sizes.n_layers, n_heads=sizes.n_heads,
        n_ctx=task.n_ctx, d_mlp=sizes.d_mlp, d_vocab=task.d_vocab, d_vocab_out=task.d_vocab,
        act_fn=sizes.act_fn, normalization_type=sizes.normalisation, seed=recipe.run.seed,
    )  # fmt: skip
    random_state = torch.get_rng_state()
    # `boot_native` is attached at import time, so type checkers cannot see it.
    model: TransformerBridge = TransformerBridge.boot_native(config, device=device)  # type: ignore[attr-defined]
    torch.set_rng_state(random_state)  # booting seeds torch's global generator: undo that
    model.load_state_dict(convert_tl_checkpoint(dict(tensors), model.cfg), strict=True)  # type: ignore[no-untyped-call]
    model.eval()
    model.requires_grad_(False)
    return model


def resolve_device(name: str) -> torch.device:
    """Return the device `name`; ``auto`` is the first GPU, or the CPU if there is none. TF32 is switched off.

    Raises:
        HarnessError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HarnessError.of("a device auto, cpu or cuda[:N]", name, "choose one of them") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            found = f"{name}, with {torch.cuda.device_count()} GPUs visible"
            raise HarnessError.of("a device of this machine", found, "choose cpu")
        # Matrix products in full float32, because verdicts must not depend on the device.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    elif device.type != "cpu" or device.index:
        raise HarnessError.of("a device auto, cpu or cuda[:N]", name, "choose one of them")
    return device


def device_name(device: torch.device) -> str:
    """Return the name of the device: ``cpu``, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
