"""Language models small enough to be made in a test: random weights of three architectures, a tokenizer and prompts.

They are written as the libraries write them, and referred to by the harness as any model on disk is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, PreTrainedModel

from harness.models.fetching import refer
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.references import ModelReference

PARTS = {  # where the layers are; in a layer, what takes the heads' values, and what gives the MLP's
    "gpt2": ("transformer.h", "attn.c_proj", "mlp"),
    "llama": ("model.layers", "self_attn.o_proj", "mlp"),
    "neox": ("gpt_neox.layers", "attention.dense", "mlp"),
}
N_LAYERS, N_HEADS, D_MODEL, D_HEAD = 2, 4, 32, 8
NAMES = (" Mary", " John", " Tom", " Sara", " Paul", " Lisa", " Mark", " Anna")
PLACES = (" store", " park", " school")
TEMPLATES = {
    "ABBA": "When{IO} and{S as S1} went to the{place},{S as S2} gave a drink to",
    "BABA": "Then, when{S as S1} and{IO} went to the{place},{S as S2} gave a drink to",  # longer by two tokens
}
SPREAD = 0.3  # of the weights: large enough that each part of the model shows in the logits

PROMPTS = f"""
version: 1
values:
  name: [{", ".join(f'"{name}"' for name in NAMES)}]
  place: [{", ".join(f'"{place}"' for place in PLACES)}]
one_token: [name]
slots: {{IO: name, S: name, place: place}}
distinct: [[IO, S]]
templates:
  ABBA: "{TEMPLATES["ABBA"]}"
  BABA: "{TEMPLATES["BABA"]}"
answer: "{{IO}}"
wrong: "{{S}}"
positions: {{IO: IO, S1: S1, S2: S2, END: last}}
counterparts: {{abc: {{IO: other, S1: other, S2: other}}, swap: {{IO: S, S: IO}}}}
"""


def make_tokenizer() -> Tokenizer:
    """Return a byte-level BPE for which every word of the prompts is one token, its space included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = "".join(NAMES + PLACES) + " and went to the, gave a drink to when"
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator([words, f"When{words}", f"Then,{words}"] * 3, trainer)
    return tokenizer


def configs(d_vocab: int) -> Mapping[str, Any]:
    """Return a config of each architecture: usual blocks, grouped keys, parallel blocks."""
    wide = {"hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS, "num_attention_heads": N_HEADS}
    more = {"intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": d_vocab, "tie_word_embeddings": False}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return {
        "gpt2": GPT2Config(
            n_layer=N_LAYERS, n_head=N_HEADS, n_embd=D_MODEL, n_positions=64, vocab_size=d_vocab, **ends
        ),
        "llama": LlamaConfig(**wide, **more, **ends, num_key_value_heads=2),
        "neox": GPTNeoXConfig(**wide, **more, **ends, use_parallel_residual=True),
    }


KINDS = ("gpt2", "llama", "neox")


def make_model(kind: str, d_vocab: int, seed: int = 0) -> PreTrainedModel:
    """Return a random model in float32, its biases and norms random too."""
    from transformers import AutoModelForCausalLM

    config = configs(d_vocab)[kind]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if ("norm" in name or "ln_" in name) and name.endswith("weight") else 0.0
            parameter.copy_(around + SPREAD * torch.randn(parameter.shape, generator=generator))
    return model


def save_model(directory: Path, kind: str, seed: int = 0) -> PreTrainedModel:
    """Write a model and its tokenizer as a repository on the hub holds them; return the model."""
    tokenizer = make_tokenizer()
    model = make_model(kind, tokenizer.get_vocab_size(), seed)
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return model


def write_prompts(fixtures: Path) -> None:
    """Write the prompts file beside all fixtures."""
    (fixtures / "prompts").mkdir(parents=True, exist_ok=True)
    (fixtures / "prompts" / "ioi.yaml").write_text(PROMPTS, "utf-8")


def write_lm(fixtures: Path, kind: str, name: str = "") -> tuple[FixtureRef, ModelReference, PreTrainedModel]:
    """Write a model beside the fixtures and a fixture that refers to it; return all three."""
    ref = FixtureRef(name or kind, fixtures, "ioi")
    files = fixtures.parent / f"files-{ref.name}"
    model = save_model(files, kind)
    write_prompts(fixtures)
    return ref, refer(ref, f"path:{files}"), model


def asked(
    kind: str, model: Any, tokens: Tensor, cuts: Any, values: Any = None, d_head: int = D_HEAD
) -> tuple[Tensor, list[Tensor]]:
    """Return the last logits, and the clean values at the cuts; with `values`, put in their place.

    Each cut is (layer, part, positions); None for the positions is every one, and the part E is the embedding.
    """
    rows, seen, hooks = torch.arange(len(tokens)), [], []
    layers, projection, mlp = PARTS[kind]
    for i, (layer, part, at) in enumerate(cuts):
        block = model.get_input_embeddings() if part == "E" else model.get_submodule(f"{layers}.{layer}")
        span = slice(int(part[1]) * d_head, (int(part[1]) + 1) * d_head) if part[0] == "H" else slice(None)

        where = (slice(None), slice(None), span) if at is None else (rows, at, span)

        def edit(x: Tensor, i: int = i, where: Any = where) -> Tensor:
            seen.append(x[where].clone())
            x = x.clone()
            if values is not None:
                x[where] = values[i]
            return x

        def edit_output(module: Any, inputs: Any, output: Any, edit: Any = edit) -> Any:
            return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

        if part[0] == "H":
            module = block.get_submodule(projection)
            hooks.append(module.register_forward_pre_hook(lambda module, x, edit=edit: (edit(x[0]), *x[1:])))
        else:
            module = block.get_submodule(mlp) if part == "M" else block
            hooks.append(module.register_forward_hook(edit_output))
    with torch.no_grad():
        logits = model(tokens).logits[:, -1]
    for hook in hooks:
        hook.remove()
    return logits, seen


def places(tokens: Tensor, io: Tensor, s: Tensor) -> dict[str, Tensor]:
    """Return where the names stand, found by the tokens themselves."""
    second = (tokens == s[:, None]).long()
    end = torch.full_like(io, tokens.shape[1] - 1)
    last = tokens.shape[1] - 1 - second.flip(1).argmax(1)
    return {"IO": (tokens == io[:, None]).long().argmax(1), "S1": second.argmax(1), "S2": last, "END": end}


def by_length(batch: Any) -> dict[int, Tensor]:
    """Return which prompts have so many tokens before their answer."""
    groups = defaultdict(list)
    for row, length in enumerate(batch.places[:, 0].tolist()):
        groups[length].append(row)
    return {length: torch.tensor(rows) for length, rows in groups.items()}


def metrics(logits: Tensor, clean: Tensor, io: Tensor, s: Tensor) -> dict[str, Tensor]:
    """Return every metric of the logits at the end, as its definition says."""
    rows = torch.arange(len(logits))
    log, log_clean = logits.double().log_softmax(-1), clean.double().log_softmax(-1)
    diff = (logits[rows, io] - logits[rows, s]).double()
    return {
        "right": (logits.argmax(-1) == io).double(), "prefers": (diff > 0).double(), "logit_diff": diff,
        "prob": log[rows, io].exp(), "prob_diff": log[rows, io].exp() - log[rows, s].exp(), "loss": -log[rows, io],
        "kl": (log_clean.exp() * (log_clean - log)).sum(-1),
    }  # fmt: skip
