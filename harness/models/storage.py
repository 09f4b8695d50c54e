"""Write the files of a fixture: all or none, under a lock. ``harness/models/fixtures.py`` loads fixtures.

`write_fixture` refuses to overwrite weights; `replace_fixture_files` replaces them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import torch as safetensors
from torch import Tensor

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.files import remove_parts, write_together
from harness.specs.fixtures.files import (
    CARD,
    LOCK,
    PIN,
    RECIPE,
    ROLES,
    WEIGHTS,
    FixtureRef,
    check_name,
    fixture_directory,
)
from harness.specs.fixtures.pins import Pin


def lock(directory: Path) -> FileLock:
    """Return the lock that a process holds while it writes a fixture; the system releases it if the process dies."""
    return FileLock(directory / LOCK)


def write_fixture(directory: Path, recipe_text: str, tensors: Mapping[str, Tensor], pin: Pin, card: str) -> None:
    """Write all files of a fixture that has no weights yet, or none of them.

    Raises:
        FixtureError: the fixture has weights already, or the directory cannot be written.
    """
    # Make the content of all files before writing the first, so that a failure leaves nothing behind.
    recipe = recipe_text.encode()
    files = {RECIPE: recipe, CARD: card.encode(), WEIGHTS: serialise(tensors)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with lock(directory):
            remove_parts(directory)
            refuse_existing(directory, recipe, files[WEIGHTS])
            replace_fixture_files(directory, files, pin)
    except OSError as error:
        raise unwritable(directory, error) from None


def replace_fixture_files(directory: Path, files: Mapping[str, bytes], pin: Pin) -> None:
    """Replace a fixture's files. The old pin is removed first, and the new pin is written last.

    So a pin on disk always matches the weights, even if the process is killed at any moment.

    Raises:
        OSError: the files could not be written; nothing has changed.
    """
    made = (pin.model_dump_json(indent=2, exclude_none=True, by_alias=True) + "\n").encode()
    write_together({directory / name: content for name, content in {**files, PIN: made}.items()}, directory / PIN)


def replace_roles(ref: FixtureRef, text: str, *, force: bool) -> Path:
    """Write the roles file of a fixture and return its path. An existing file is replaced only with `force`.

    Raises:
        HarnessError: there is no such fixture, or a roles file exists, which somebody may have edited.
        FixtureError: the file cannot be written.
    """
    path = fixture_directory(ref) / ROLES
    if os.path.lexists(path) and not force:
        raise HarnessError.of("no roles file yet", str(path), "write over it with --force")
    try:
        write_together({path: text.encode()})  # replaces a link itself, not the file it points to
    except OSError as error:
        raise unwritable(path.parent, error) from None
    return path


def unwritable(directory: Path, error: OSError) -> FixtureError:
    """Return the error for a directory that cannot be written."""
    return FixtureError(
        Problem("a directory that can be written", error.strerror or str(error), "check it", str(directory))
    )


def refuse_existing(directory: Path, recipe: bytes, weights: bytes | None = None) -> None:
    """Refuse to overwrite a pin, weights or another recipe. A model card may be overwritten together with its weights.

    A weights file with exactly the bytes `weights` is accepted if there is no pin: a process wrote it, and was killed
    before it wrote the pin. If `weights` is None (not known yet), any weights file without a pin is accepted.

    Raises:
        FixtureError: the directory has a pin, other weights or another recipe, or is a link.
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
    """Return `tensors` as the bytes of a safetensors file."""
    return bytes(safetensors.save({name: tensor.contiguous() for name, tensor in tensors.items()}))
