"""Load a language model by reference: verified files → a TransformerBridge that has proved what its hooks mean.

A model is loaded once in a process, whatever it is asked.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import FixtureError, NotImportedError, Problem
from harness.base.text import shorten
from harness.models.proof import Proof, Source, ask_source, prove
from harness.specs.fixtures.files import MODEL, FixtureRef, missing_weights
from harness.specs.fixtures.references import ModelReference
from harness.tasks.prompts.tokens import fingerprint

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

BLOCK = 1 << 24  # bytes that are hashed at a time


@dataclass(frozen=True)
class LoadedModel:
    """A language model, and what loading it took and showed."""

    bridge: TransformerBridge
    proof: Proof
    hash_seconds: float
    load_seconds: float


def load_reference(ref: FixtureRef, model: ModelReference, device: torch.device) -> LoadedModel:
    """Return the model that `ref` refers to, after checking its files' sha256; the same object for every task.

    Raises:
        NotImportedError: it was not fetched.
        FixtureError: a file, the tokenizer or a size is not as pinned, it cannot be loaded, or a hook means another
            thing than its name says.
    """
    where = model.location(ref.directory)
    if where is None or not model.tokenizer_path(ref.directory).is_file():
        raise NotImportedError(missing_weights(ref))
    return _load(_Key(model), ref.directory / MODEL, where, model.tokenizer_path(ref.directory), device)


class _Key:
    """Compares references by their content, as a cache key."""

    def __init__(self, model: ModelReference) -> None:
        self.model, self.text = model, model.model_dump_json()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=2)
def _load(key: _Key, file: Path, where: Path, tokenizer: Path, device: torch.device) -> LoadedModel:
    model, begun = key.model, time.perf_counter()
    for name, sha256 in model.files.items():
        if (found := sha256_of(where / name)) != sha256:
            expected, fix = f"{name} of sha256 {sha256}", "fetch it again, or check where it comes from"
            raise FixtureError(Problem(expected, f"sha256 {found}", fix, str(where / name)))
    if others := _unpinned(model, where):
        fix = "add their sha256, or leave them out"
        raise FixtureError(Problem("no weights or config but those in `files`", ", ".join(others), fix, str(where)))
    hashed = time.perf_counter()
    bridge, source = boot(model, where, tokenizer, device)
    check_sizes(bridge, model, file)
    proof = prove(bridge, source, str(file))
    return LoadedModel(bridge, proof, hashed - begun, time.perf_counter() - hashed)


def _unpinned(model: ModelReference, where: Path) -> list[str]:
    """Return the files that the source library might read beside those that are pinned."""
    if model.gguf:
        return []
    there = {path.name for pattern in ("*.safetensors", "*.index.json", "config.json") for path in where.glob(pattern)}
    return sorted(there - model.files.keys())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        FixtureError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise FixtureError(Problem("a readable file", error.strerror or str(error), "check it", str(path))) from None
    return digest.hexdigest()


def boot(model: ModelReference, where: Path, tokenizer: Path, device: torch.device) -> tuple[TransformerBridge, Source]:
    """Return the bridge of the model in the directory `where`, and what it said before. Nothing is downloaded.

    Raises:
        FixtureError: the tokenizer is not as pinned, or transformers or TransformerLens cannot load the model.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    random_state = torch.get_rng_state()
    try:
        words: Any = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer))  # type: ignore[no-untyped-call]
    except Exception as error:  # the library raises a bare Exception
        raise FixtureError(Problem("a tokenizer", shorten(error, 200), "fetch it again", str(tokenizer))) from None
    if (found := fingerprint(words.backend_tokenizer)) != model.tokenizer:
        fix = "it cuts texts otherwise than the one that was pinned: fetch it again, or pin it anew"
        raise FixtureError(Problem(f"a tokenizer of sha256 {model.tokenizer}", f"sha256 {found}", fix, str(tokenizer)))
    dtype = getattr(torch, model.dtype)
    # Never a pickle, nor the repository's own code.
    given: dict[str, Any] = {"gguf_file": model.gguf} if model.gguf else {"use_safetensors": True}
    try:
        source: Any = AutoModelForCausalLM.from_pretrained(
            str(where),
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=False,
            **given,
        )
        said = ask_source(source.to(device), device)
        words.add_special_tokens({"pad_token": words.convert_ids_to_tokens(0)})  # the bridge asks for one
        bridge: TransformerBridge = TransformerBridge.boot_transformers(
            str(where), hf_model=source, tokenizer=words, device=device, dtype=dtype
        )
    except ImportError as error:
        fix = "install what reads it: pip install 'mechanistic-harness[lm]'"
        raise FixtureError(Problem("a model that can be read here", shorten(error, 200), fix, str(where))) from None
    except Exception as error:  # whatever the libraries say of a file or an architecture
        found = shorten(" ".join(str(error).split()) or type(error).__name__, 400)
        raise FixtureError(Problem("a causal language model", found, "check the files", str(where))) from None
    finally:
        torch.set_rng_state(random_state)
    bridge.eval()
    bridge.requires_grad_(False)
    return bridge, said


def check_sizes(bridge: Any, model: ModelReference, file: Path) -> None:
    """Refuse a model whose sizes are not those that its reference says."""
    for name in ("n_layers", "n_heads", "d_vocab"):
        said, built = getattr(model, name), getattr(bridge.cfg, name)
        if said != built:
            raise FixtureError(Problem(f"{name}: {built}, as the model has", str(said), "correct it", str(file)))
