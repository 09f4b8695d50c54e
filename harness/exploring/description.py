"""A readable description of a fixture's model: shape, weights, hook points, circuits and accuracy (Part 12)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.base.text import markdown_table
from harness.engines.hooks import hook_point
from harness.exploring.circuits import circuits, norms
from harness.models.bridge import expected_tensors
from harness.models.fixtures import Fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import Pin, read_pin
from harness.specs.fixtures.recipe import Transformer
from harness.specs.fixtures.references import ModelReference
from harness.specs.nodes import Node, Shape
from harness.tasks.positions import Positions
from harness.tasks.questions import Sample
from harness.training.card import accuracy_table

# The TransformerLens config fields to show, which the notebook names too; all others have their default values.
_CONFIG = (
    "n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab", "n_ctx", "act_fn", "normalization_type", "eps",
    "attention_dir", "positional_embedding_type", "dtype", "seed",
)  # fmt: skip
_LAYER = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True)
class Product:
    """One circuit (a weight product), without its matrix."""

    name: str  # W_E·W_V·W_O·W_in, or W_out·W_U
    of: str  # a head, L0H2, or an MLP, L0M
    shape: tuple[int, ...]
    norm: float  # Frobenius


@dataclass(frozen=True)
class Description:
    """The result of :func:`describe`, as plain values; :func:`to_markdown` and notebooks display it."""

    fixture: str
    weights_sha256: str
    nodes: Shape
    config: dict[str, str]
    shapes: dict[str, tuple[int, ...]]  # of every weight
    norms: dict[str, tuple[float, ...]]  # Frobenius, per weight; one per head if split by head
    hooks: dict[str, tuple[int, ...]]  # hook point that fires → shape of its value, for one prompt
    silent: tuple[str, ...]  # hook points that do not fire in this model as it is built
    circuits: tuple[Product, ...]
    pin: Pin | None  # None of a model by reference
    reference: dict[str, str]  # of a model by reference: where it is from, and what loading it showed

    def _repr_markdown_(self) -> str:
        return to_markdown(self)


def describe(fixture: Fixture, fixtures: str | Path = "fixtures") -> Description:
    """Return the description of the model of `fixture`, which was loaded from the directory `fixtures`.

    Raises:
        FixtureError: the pin of the fixture cannot be read.
    """
    by_reference = isinstance(fixture.recipe.model, ModelReference)
    own = not isinstance(fixture.recipe.model, Transformer)  # only the model's own code knows its tensors
    weights = fixture.weights
    if by_reference:
        weights = dict(fixture.model.original_model.named_parameters())
    elif not own:  # in the order of computation
        weights = {name: fixture.weights[name] for name in expected_tensors(fixture.recipe)}
    config = fixture.model.cfg
    values = hook_values(fixture)
    products: list[Product] = []
    for layer in range(0 if own else fixture.shape.n_layers):
        made = circuits(fixture, layer)
        parts = [("W_E·W_V·W_O·W_in", f"L{layer}H{head}", matrix) for head, matrix in enumerate(made.neurons)]
        parts += [("W_out·W_U", f"L{layer}M", made.logits)]
        products += [Product(name, of, tuple(m.shape), float(m.double().norm())) for name, of, m in parts]
    return Description(
        fixture=fixture.name,
        weights_sha256=fixture.weights_sha256,
        config={name: str(getattr(config, name)) for name in _CONFIG if hasattr(config, name)},
        nodes=fixture.shape,
        shapes={name: tuple(weight.shape) for name, weight in weights.items()},
        norms={} if own else norms(weights),
        hooks={name: tuple(value.shape) for name, value in values.items()},
        silent=tuple(sorted(set(fixture.model.hook_dict) - set(values))),
        circuits=tuple(products),
        pin=None if by_reference else read_pin(FixtureRef(fixture.name, Path(fixtures))),
        reference=_reference(fixture) if by_reference else {},
    )


def _reference(fixture: Fixture) -> dict[str, str]:
    """Return where a model by reference is from, its files, and what it proved when it was loaded."""
    model, loaded = fixture.recipe.model, fixture.loaded
    assert isinstance(model, ModelReference)
    return {
        "source": model.source, **{f"sha256 of {name}": sha256 for name, sha256 in model.files.items()},
        "before each prompt": model.prepend or "nothing",
        "logits, off from the source library's own": f"{loaded.proof.parity:.1e}",
        "what the blocks write, off from the stream behind": f"{loaded.proof.sums:.1e}",
        "logits with every value put back, off from the clean ones": f"{loaded.proof.put_back:.1e}",
        "hashed in, loaded in": f"{loaded.hash_seconds:.1f} s, {loaded.load_seconds:.1f} s",
    }  # fmt: skip


@torch.inference_mode()
def hook_values(fixture: Fixture) -> dict[str, Tensor]:
    """Return the value at every hook point that fires on one prompt, from TransformerLens's cache."""
    prompts = fixture.task.batch_for(Sample(1, 0))
    _, cache = fixture.model.run_with_cache(prompts.tokens[:, : int(prompts.lengths[0])].to(fixture.device))
    return {name: cache[name] for name in cache}


def to_markdown(found: Description, pictures: Sequence[str] = ()) -> str:
    """Return the description as Markdown; `pictures` are the file names of the drawn circuits, if any."""
    task = found.nodes.task
    node = {kind: hook_point(Node(0, 0, kind)).removeprefix("blocks.0.") for kind in ("head", "mlp", "resid")}
    numbers = sum(torch.Size(size).numel() for size in found.shapes.values())
    weight_rows = [(name, _size(found.shapes[name]), _norm(found.norms.get(name, ()))) for name in found.shapes]
    hook_rows = [(name, _size((task.nouns.prompt, *size[1:])), layers) for name, size, layers in by_layer(found.hooks)]
    parts = [
        f"# {found.fixture}", "",
        f"Weights sha256 `{found.weights_sha256}`, {numbers:,} numbers.", "",
        "## Config", "",
        markdown_table(list(found.config.items()), ["", ""]), "",
        *(["## Source", "", markdown_table(list(found.reference.items()), ["", ""]), ""] if found.reference else []),
        "## Steps", "",
        *_steps(task), "",
        "## Weights", "",
        "The norm is Frobenius's, the root of the sum of squares; of a head's own weights, head by head.", "",
        markdown_table(weight_rows, ["weight", "shape", "norm"]), "",
        "## Hook points", "",
        f"What `model.run_with_cache` gives. A head of a claim is a part of `{node['head']}`, an MLP `{node['mlp']}`, "
        f"the residual stream after a layer `{node['resid']}`.", "",
        markdown_table(hook_rows, ["hook point", "shape", "layers L"]), "",
        f"{len(found.silent)} more do not fire as the model is built: "
        + ", ".join(f"`{name}`" for name, _, _ in by_layer(dict.fromkeys(found.silent, ()))) + ".", "",
        *_circuits(found, pictures),
        "## Accuracy", "",
        *_accuracy(found.pin, task),
    ]  # fmt: skip
    return "\n".join(parts)


def _circuits(found: Description, pictures: Sequence[str]) -> list[str]:
    if not found.circuits:
        return []
    rows = [(made.name, made.of, _size(made.shape), _norm([made.norm])) for made in found.circuits]
    return [
        "## Circuits", "",
        "Products of weights, as in the notebook: what a head could carry from a token's embedding to the neurons of "
        "its layer's MLP, and what a neuron adds straight to the logits. Layer norms, biases, positions and later "
        "layers are left out; in layers after the first, so is everything that comes before them.", "",
        markdown_table(rows, ["circuit", "of", "shape", "norm"]), "",
        *(part for picture in pictures for part in (f"![Circuits]({picture})", "")),
    ]  # fmt: skip


def by_layer(hooks: Mapping[str, tuple[int, ...]]) -> list[tuple[str, tuple[int, ...], str]]:
    """Return rows (`blocks.L.…`, shape, layers): one row for all layers in which a hook point has the same shape."""
    grouped: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, size in hooks.items():
        match = _LAYER.match(name)
        key = (_LAYER.sub("blocks.L.", name, count=1), size)
        grouped.setdefault(key, []).extend([match[1]] if match else [])
    return [(name, size, ", ".join(layers)) for (name, size), layers in grouped.items()]


def _steps(task: Positions) -> list[str]:
    if not task.names:
        return [f"{task.nouns.prompts.capitalize()} differ in length: {task.n_ctx} tokens at most."]
    return [markdown_table([task.names], [f"S{step}" for step in range(task.n_ctx)])]


def _accuracy(pin: Pin | None, task: Positions) -> list[str]:
    if pin is None:
        return [f"None is pinned: `answer` claims say how it answers the {task.nouns.prompts} of {task.title}.", ""]
    if not pin.measured:
        return ["None was measured when the weights were pinned.", ""]
    nouns = task.nouns
    said = f"Of random {nouns.prompts}, when the weights were pinned; "
    said += f"a {nouns.token}'s cell is its share of right answers, "
    return [f"{said}teacher-forced / free-running where they differ.", "", accuracy_table(pin, task), ""]


def _size(shape: Sequence[object]) -> str:
    return " × ".join(map(str, shape))


def _norm(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
