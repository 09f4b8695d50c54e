"""Name → verified model. The only module that writes below ``fixtures/``.

Weights are read once, and the bytes that were hashed are the bytes that are parsed. A pinned fixture
without its weights is an error, never a reason to make new ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from harness.built import build_own
from harness.errors import FixtureError, HarnessError, Problem
from harness.files import remove_parts, write_together
from harness.models import build_model, check_tensors, resolve_device
from harness.nodes import Node, Shape
from harness.pins import Pin, code_hashes, read_pin, recipe_hash
from harness.places import CARD, LOCK, PIN, RECIPE, ROLES, WEIGHTS, check_name, fixture_directory, recipe_of
from harness.positions import Positions
from harness.recipe import BuiltRecipe, Recipe
from harness.tasks import AnyTask, task_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Fixture:
    """A model whose weights are the pinned ones."""

    name: str
    recipe: Recipe
    weights_sha256: str
    weights: Mapping[str, Tensor]  # on `device`, under TransformerLens's names
    device: torch.device

    @cached_property
    def model(self) -> TransformerBridge:
        """The weights as a TransformerBridge, made when first asked for: TransformerLens takes seconds to import."""
        if isinstance(self.recipe, BuiltRecipe):
            return build_own(self.recipe, self.weights, self.device)
        return build_model(self.recipe, self.weights, self.device)

    @cached_property
    def code(self) -> dict[str, str]:
        """The sha256 of each file of one's own code, as :func:`harness.pins.code_hashes` found them first."""
        return code_hashes(self.recipe)

    @property
    def layout(self) -> Positions:
        """The task's token positions."""
        return self.recipe.layout

    @property
    def task(self) -> AnyTask:
        """The task: its questions, cases and variables."""
        return task_of(self.layout)

    @property
    def shape(self) -> Shape:
        """Which nodes the model has."""
        return self.recipe.shape

    def width(self, node: Node) -> int:
        """Return the number of components of a node's value."""
        sizes = self.model.cfg if isinstance(self.recipe, BuiltRecipe) else self.recipe
        return int(sizes.d_head if node.kind == "head" else sizes.d_model)


def load_fixture(name: str, fixtures: str | Path = "fixtures", device: str = "auto") -> Fixture:
    """Return the fixture `name` below the directory `fixtures`, its weights checked against the pinned sha256.

    Raises:
        HarnessError: no such fixture, or no such device.
        FixtureError: the weights are missing, altered, stale, or not those of the recipe.
    """
    root = Path(fixtures)
    recipe, pin = recipe_of(name, root), read_pin(name, root)
    tensors = read_weights(root / name / WEIGHTS, pin, recipe)
    return fixture_of(name, recipe, pin.weights_sha256, tensors, resolve_device(device))


def fixture_of(
    name: str, recipe: Recipe, weights_sha256: str, tensors: Mapping[str, Tensor], device: torch.device
) -> Fixture:
    """Return the fixture that these weights, checked already, make on `device`."""
    weights = {key: tensor.detach().to(device) for key, tensor in tensors.items()}
    return Fixture(name, recipe, weights_sha256, weights, device)


def read_weights(path: Path, pin: Pin, recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors in the file at `path`, after checking that they are the pinned ones.

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
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch has not
        raise FixtureError(
            Problem("a safetensors file", str(error), "import the checkpoint again", str(path))
        ) from None
    check_tensors(tensors, recipe, path)
    return tensors


def lock(directory: Path) -> FileLock:
    """Return the lock that whoever writes a fixture's files holds; the system takes it from a process that dies."""
    return FileLock(directory / LOCK)


def write_fixture(directory: Path, recipe_text: str, tensors: Mapping[str, Tensor], pin: Pin, card: str) -> None:
    """Write the files of a fixture that has no weights yet: all of them or none.

    Raises:
        FixtureError: the fixture has weights already, or the directory cannot be written.
    """
    # Everything is made before anything is written.
    recipe = recipe_text.encode()
    files = {RECIPE: recipe, CARD: card.encode(), WEIGHTS: serialise(tensors)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with lock(directory):
            remove_parts(directory)
            refuse_existing(directory, recipe, files[WEIGHTS])
            put(directory, files, pin)
    except OSError as error:
        raise unwritable(directory, error) from None


def put(directory: Path, files: Mapping[str, bytes], pin: Pin) -> None:
    """Put a fixture's files in the place of those that are there; the pin goes first and comes last.

    So whatever moment a process is killed at, a pin that is there is true of the weights.

    Raises:
        OSError: they could not be written; nothing has changed.
    """
    made = (pin.model_dump_json(indent=2, exclude_none=True) + "\n").encode()
    write_together({directory / name: content for name, content in {**files, PIN: made}.items()}, directory / PIN)


def put_roles(name: str, fixtures: Path, text: str, *, force: bool) -> Path:
    """Write the roles file of the fixture `name`, and return its path; one that is there only with `force`.

    Raises:
        HarnessError: no such fixture, or a roles file that somebody may have edited.
        FixtureError: it cannot be written.
    """
    path = fixture_directory(name, fixtures) / ROLES
    if os.path.lexists(path) and not force:
        raise HarnessError.of("no roles file yet", str(path), "write over it with --force")
    try:
        write_together({path: text.encode()})  # in the place of a link, not where that leads
    except OSError as error:
        raise unwritable(path.parent, error) from None
    return path


def unwritable(directory: Path, error: OSError) -> FixtureError:
    """Return what to say of a directory that cannot be written."""
    return FixtureError(
        Problem("a directory that can be written", error.strerror or str(error), "check it", str(directory))
    )


def refuse_existing(directory: Path, recipe: bytes, weights: bytes | None = None) -> None:
    """Refuse to write over weights, or over another recipe; a card is remade with the weights that it describes.

    Without a pin, `weights` themselves may be there: a process that put them there was killed before it pinned them.
    While it is not known what is to be written, None, any may.

    Raises:
        FixtureError: there are some.
    """
    check_name(directory.name)
    for name in (PIN, WEIGHTS):
        path = directory / name
        same = name == WEIGHTS and (weights is None or (path.is_file() and path.read_bytes() == weights))
        if os.path.lexists(path) and not same:
            fix = "choose another name, or remove it yourself"
            raise FixtureError(Problem("a fixture without weights", f"{name} already there", fix, str(directory)))
    if (directory / RECIPE).exists() and (directory / RECIPE).read_bytes() != recipe:
        fix = "choose another name, or import by that recipe"
        raise FixtureError(Problem(f"no {RECIPE}, or the one that was named", "another", fix, str(directory)))
    if directory.is_symlink():
        raise FixtureError(Problem("a directory", "a link", "choose another name", str(directory)))


def serialise(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the safetensors file of `tensors`."""
    return bytes(safetensors.save({name: tensor.contiguous() for name, tensor in tensors.items()}))
