"""Loads and calls Python code that a recipe names, if the user allowed it. Imports no torch.

pytest's ini key ``harness_allow_code`` gives the permission, and so does ``--allow-code`` on the command line. The
permission holds for one process; a process that starts another one must pass it on.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.files import once_per_version
from harness.base.text import did_you_mean, shorten

_granted = [False]


def allow_code(allowed: bool = True) -> bool:
    """Allow or forbid running code that a recipe names; return the previous setting."""
    before, _granted[0] = _granted[0], allowed
    return before


def require_permission(key: str, reference: str, where: object) -> None:
    """Refuse to go on if a recipe names code and the user has not allowed it.

    Raises:
        FixtureError: code is not allowed; the error says which setting allows it.
    """
    if not _granted[0]:
        fix = "it runs code: set harness_allow_code = true for pytest, or give --allow-code to harness"
        raise FixtureError(Problem("nothing that runs code", f"{key}: {reference}", fix, str(where)))


Value = TypeVar("Value")
REFERENCE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
_beside: set[str] = set()  # modules that user code imported from its own directories


def load_object(key: str, reference: str, directory: Path) -> tuple[object, str]:
    """Return the object that `reference` (`key` of the recipe in `directory`) names, and the file that defines it.

    Raises:
        FixtureError: code is not allowed, or the file does not exist, cannot be imported, or lacks the name.
    """
    recipe = directory / "recipe.yaml"
    require_permission(key, reference, recipe)
    module_name, _, name = reference.partition(":")
    module, file = _module(module_name, directory, recipe)
    if not hasattr(module, name):
        known = [other for other in vars(module) if not other.startswith("_")]
        raise FixtureError(Problem(f"{name} in it, which {recipe} names", "none", did_you_mean(name, known), file))
    return getattr(module, name), file


def file_of(reference: str, directory: Path) -> tuple[Path, Path] | None:
    """Return the directory and the file that `reference` names; None if it names an installed module."""
    relative = _relative(reference.partition(":")[0])
    return next(((p, p / relative) for p in (directory, directory.parent) if (p / relative).is_file()), None)


def _relative(module: str) -> Path:
    return Path(*module.split(".")).with_suffix(".py")


def _module(name: str, directory: Path, recipe: Path) -> tuple[ModuleType, str]:
    if beside := file_of(name, directory):
        place, path = beside
        return _load_file(path, (place.absolute(), directory.parent.absolute())), str(path)
    with calling(str(recipe), f"{name} imports"):
        if _is_importable(name):
            module = importlib.import_module(name)
            return module, getattr(module, "__file__", None) or name
    places = f"{directory}, {directory.parent} or on the import path"
    raise FixtureError(Problem(f"a file {_relative(name)} in {places}", "none", "write it there", str(recipe)))


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return False
        raise  # the module exists, but a module that it imports does not


@once_per_version(64)
def _load_file(path: Path, places: Sequence[Path]) -> ModuleType:
    """Return the module in a file; it may import files from `places`."""
    # Two fixtures may have files of the same name, so a module is registered by its path.
    name = f"harness_own_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, written = list(sys.path), sys.dont_write_bytecode
    _forget_namesakes(places)
    known = set(sys.modules)
    sys.modules[name] = module
    try:
        sys.path[:0], sys.dont_write_bytecode = [str(place) for place in places], True  # write no bytecode beside it
        with calling(str(path), "importing it"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path[:], sys.dont_write_bytecode = before, written
        _beside.update({key for key in sys.modules.keys() - known if _file_in(key, places)})
    return module


def _file_in(name: str, places: Sequence[Path]) -> Path | None:
    """Return the file in one of the places from which a module of this plain name is imported, or None."""
    found = ((place / f"{name}.py", place / name / "__init__.py") for place in places)
    return next((file for files in found for file in files if file.is_file()), None)


def _forget_namesakes(places: Sequence[Path]) -> None:
    """Remove modules that another fixture imported under the name of a file in `places`, so that this file is found."""
    for name in sorted(_beside & sys.modules.keys()):
        here, there = _file_in(name, places), sys.modules[name].__file__
        if here is not None and not (there and here.samefile(there)):
            for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[key]


@contextmanager
def calling(file: str, what: str) -> Iterator[None]:
    """Turn any exception of a user's code into one line that names the file, the line, and the call (`what`).

    Raises:
        FixtureError: for any exception except the harness's own.
    """
    try:
        yield
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() in user code would end the run as if it had succeeded
        frames, here = traceback.extract_tb(error.__traceback__), Path(file).absolute()
        own = [frame.lineno for frame in frames if Path(frame.filename).absolute() == here]
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
