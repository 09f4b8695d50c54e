"""``mymodule:name`` → what that Python file defines. Nothing is run without permission. Imports no torch.

The file is sought beside the recipe, then in the directory of the fixtures, then on the ordinary import path. Whatever
goes wrong inside of it is one line that names the file and, where it can be told, the line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from harness.errors import FixtureError, HarnessError, Problem, did_you_mean, shorten
from harness.permission import require_permission

Value = TypeVar("Value")
REFERENCE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


def load_object(key: str, reference: str, directory: Path) -> tuple[object, str]:
    """Return what the `key` of the recipe in `directory` refers to, and the file that it is defined in.

    Raises:
        FixtureError: code is not allowed, there is no such file, it cannot be imported, or lacks the name.
    """
    recipe = directory / "recipe.yaml"
    require_permission(key, reference, recipe)
    module_name, _, name = reference.partition(":")
    module, file = _module(module_name, directory, recipe)
    if not hasattr(module, name):
        known = [other for other in vars(module) if not other.startswith("_")]
        raise FixtureError(Problem(f"{name} in it, which {recipe} names", "none", did_you_mean(name, known), file))
    return getattr(module, name), file


def _module(name: str, directory: Path, recipe: Path) -> tuple[ModuleType, str]:
    relative = Path(*name.split(".")).with_suffix(".py")
    for place in (directory, directory.parent):
        if (place / relative).is_file():
            path = place / relative
            found = path.resolve().stat()
            return _load_file(path, (place, directory.parent), (found.st_mtime_ns, found.st_size)), str(path)
    try:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name)
    except ModuleNotFoundError:
        places = f"{directory}, {directory.parent} or on the import path"
        raise FixtureError(Problem(f"a file {relative} in {places}", "none", "write it there", str(recipe))) from None
    with calling(str(recipe), f"{name} imports"):
        module = importlib.import_module(name)
    return module, module.__file__ or name


@lru_cache(maxsize=64)
def _load_file(path: Path, places: Sequence[Path], stamp: object) -> ModuleType:
    """Return the module in a file as it was when it had this `stamp`; it may import what lies in `places`."""
    # Two fixtures may have files of one name: a module is registered by its path.
    name = f"harness_own_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, written = list(sys.path), sys.dont_write_bytecode
    sys.modules[name] = module
    try:
        sys.path[:0], sys.dont_write_bytecode = [str(place) for place in places], True  # nothing of ours beside it
        with calling(str(path), "importing it"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path[:], sys.dont_write_bytecode = before, written
    return module


@contextmanager
def calling(file: str, what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into one line that names the file, the line and `what` was done.

    Raises:
        FixtureError: for any exception but the harness's own.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = own[-1] if own else getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        found = f"{type(error).__name__}: {shorten(str(error).partition(chr(10))[0] or 'no message', 200)}"
        raise FixtureError(Problem(f"code that works ({what})", found, "correct it", file, line)) from error


def call(file: str, what: str, function: Callable[..., Value], *arguments: object) -> Value:
    """Return what a user's function returns.

    Raises:
        FixtureError: it raised.
    """
    with calling(file, what):
        return function(*arguments)
