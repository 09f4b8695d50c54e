"""``harness import``: make a fixture from an old or published checkpoint, and record provenance and accuracy."""

from __future__ import annotations

import errno
import hashlib
import io
import zipfile
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.text import is_plain, shorten
from harness.models.bridge import check_tensors, resolve_device
from harness.models.fixtures import fixture_of
from harness.models.hub import download
from harness.models.storage import refuse_existing, serialise, write_fixture
from harness.specs.fixtures.files import RECIPE, FixtureRef, check_name, fixture_directory, recipe_of
from harness.specs.fixtures.pins import Pin, Provenance, recipe_hash
from harness.specs.fixtures.recipe import load_recipe
from harness.training.accuracy import measure_accuracy
from harness.training.card import model_card

# Buffers of the old HookedTransformer that hold no weights.
_BUFFERS = (".mask", ".IGNORE")


def import_checkpoint(
    checkpoint: Path,
    recipe_path: Path,
    name: str,
    fixtures: Path,
    *,
    source: str | None = None,
    note: str = "",
    device: str = "cpu",
) -> Pin:
    """Make the fixture `name` from an old HookedTransformer state dict (``.pth``) or a safetensors file.

    Nothing in the checkpoint is executed. Existing weights or another recipe are never overwritten. `source` says
    where the checkpoint comes from; the default is its file name.

    Raises:
        SpecError: the recipe is wrong.
        FixtureError: the checkpoint does not hold exactly the recipe's weights, or the fixture already has weights.
    """
    check_name(name)
    recipe = load_recipe(recipe_path)
    recipe_bytes = recipe_path.read_bytes()
    where = resolve_device(device)
    directory = fixtures / name
    if recipe.references and recipe_path.resolve() != (directory / RECIPE).resolve():
        fix = f"put it there: its code is sought beside {directory / RECIPE}"
        raise FixtureError(Problem("a recipe that names code in its fixture's directory", str(recipe_path), fix))
    refuse_existing(directory, recipe_bytes)
    if not is_plain(note):
        raise HarnessError.of("a note of printable text", shorten(note), "rewrite it")
    raw = _read(checkpoint)
    found = {key: tensor for key, tensor in _tensors(raw, checkpoint).items() if not key.endswith(_BUFFERS)}
    check_tensors(found, recipe, checkpoint)
    # Give each tensor its own memory: tensors of a checkpoint may share memory, which safetensors cannot store.
    tensors = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in found.items()}
    weights = serialise(tensors)
    refuse_existing(directory, recipe_bytes, weights)
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    fixture = fixture_of(name, recipe, weights_sha256, tensors, where)
    pin = Pin(
        version=1,
        name=name,
        weights_sha256=weights_sha256,
        recipe_sha256=recipe_hash(recipe),
        provenance=Provenance(
            source=source or checkpoint.name, source_sha256=hashlib.sha256(raw).hexdigest(), note=note
        ),
        measured=measure_accuracy(fixture),
    )
    write_fixture(directory, recipe_bytes.decode(), tensors, pin, model_card(recipe, pin))
    return pin


def import_published(ref: FixtureRef, *, note: str = "", device: str = "cpu") -> Pin:
    """Make a fixture from the published weights that its recipe names; download them if needed.

    Raises:
        FixtureError: the recipe names no published weights, they cannot be downloaded, or their sha256 is wrong.
    """
    directory, recipe = fixture_directory(ref), recipe_of(ref)
    if recipe.hub is None:
        problem = Problem("the key `hub`", "none", "name a repository and file", str(directory / RECIPE))
        raise FixtureError(problem)
    refuse_existing(directory, (directory / RECIPE).read_bytes(), b"")  # any weights there stop it before the download
    checkpoint = download(recipe.hub, ref)
    source = f"{recipe.hub.repo}/{recipe.hub.file} ({recipe.hub.revision}) on the Hugging Face hub"
    return import_checkpoint(
        checkpoint, directory / RECIPE, ref.name, ref.root, source=source, note=note, device=device
    )


def _read(checkpoint: Path) -> bytes:
    try:
        if checkpoint.exists() and not checkpoint.is_file():
            raise OSError(errno.EINVAL, "not a file")
        return checkpoint.read_bytes()
    except OSError as error:
        raise FixtureError(
            Problem("a readable checkpoint", error.strerror or str(error), "check the path", str(checkpoint))
        ) from None


def _tensors(raw: bytes, checkpoint: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint. A pickle is read only by torch's restricted unpickler."""
    try:
        if checkpoint.suffix == ".safetensors":
            return safetensors.load(raw)
        is_zip = zipfile.is_zipfile(io.BytesIO(raw))  # torch does not check the checksums
        if is_zip and (damaged := zipfile.ZipFile(io.BytesIO(raw)).testzip()):
            raise ValueError(f"{damaged} is damaged")
        loaded = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # a reader may raise anything for a file that is no checkpoint
        if type(error).__name__ == "UnpicklingError":  # by name: its module is not imported here
            refused = (line for line in str(error).splitlines() if "GLOBAL" in line)
            found = next(refused, "a pickle that is more than tensors")
            fix = "nothing was executed; get a clean checkpoint"
            raise FixtureError(Problem("a file that holds only tensors", found, fix, str(checkpoint))) from None
        found = f"what cannot be read as one ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        raise FixtureError(Problem("a state dict", found, "check that the file is whole", str(checkpoint))) from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise FixtureError(
            Problem(
                "a state dict: names and tensors",
                type(loaded).__name__,
                "save model.state_dict()",
                str(checkpoint),
            )
        )
    return {str(key): value for key, value in loaded.items()}
