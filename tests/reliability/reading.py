"""Reads what is meant as a spec, a recipe, roles or a pin, in a process that gets little memory and little time."""

from __future__ import annotations

import resource
import signal
import tempfile
from pathlib import Path

from paths import FIXTURES

from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.specs.fixtures.files import PIN, RECIPE, ROLES, FixtureRef, recipe_of
from harness.specs.fixtures.pins import read_pin
from harness.specs.fixtures.recipe import load_recipe
from harness.specs.fixtures.roles import read_roles
from harness.specs.spec_files import load_file

MEMORY = 200 * 2**20  # bytes, above what the process has when it begins
SECONDS = 1.0  # of the processor's time, so that a busy machine makes no difference
SOUND = "version: 1\ntask: addition\nn_digits: 5\nn_layers: 2\nn_heads: 3\nd_model: 12\nd_mlp: 12\nseed: 0\nsteps: 1\n"


def limit() -> None:
    """Limit this process, for good: beyond the memory is a MemoryError, beyond the time a TimeoutError."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGVTALRM, _too_long)


def _too_long(signum: int, frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS:g} s")


def outcomes(kind: str, texts: list[bytes]) -> list[str]:
    """Return of each text ``read``, ``refused``, or what happened that must not happen."""
    with tempfile.TemporaryDirectory() as directory:
        return [_outcome(kind, text, Path(directory) / str(i)) for i, text in enumerate(texts)]


def _outcome(kind: str, text: bytes, directory: Path) -> str:
    directory.mkdir()
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        return "read" if _read(kind, text, directory) else "nothing was read"
    except HarnessError as error:
        due = SpecError if kind in ("spec", "recipe") else FixtureError
        wrong = _wrong(error, text) if type(error) is due else f"expected a {due.__name__}"
        return f"{error!r}: {wrong}" if wrong else "refused"
    except BaseException as error:  # each must be told, whatever it is
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _read(kind: str, text: bytes, directory: Path) -> object:
    """Return what the harness makes of a text that stands where one of its kind belongs."""
    name = {"spec": "s.yaml", "recipe": RECIPE, "recipe of a fixture": RECIPE, "roles": ROLES, "pin": PIN}[kind]
    if kind != "spec":
        (directory / RECIPE).write_text(SOUND, "utf-8")
    path = directory / name
    path.write_bytes(text)
    match kind:
        case "spec":
            return load_file(path, FIXTURES)
        case "recipe":
            return load_recipe(path)
        case "recipe of a fixture":
            return recipe_of(FixtureRef(directory.name, directory.parent))
        case "roles":
            return read_roles(FixtureRef(directory.name, directory.parent))
        case _:
            return read_pin(FixtureRef(directory.name, directory.parent))


def _wrong(error: HarnessError, text: bytes) -> str:
    """Return what is wrong with a refusal: a place outside of the file, more than a line, or nothing to do."""
    lines = text.decode("utf-8", "replace").splitlines() or [""]
    for problem in error.problems:
        if not (problem.expected and problem.found and problem.fix and problem.where):
            return f"not all is told: {problem}"
        if len(str(problem).splitlines()) != 1 or not str(problem).isprintable():
            return f"more than a line of text: {problem!r}"
        if problem.line is not None and not 1 <= problem.line <= len(lines) + 1:
            return f"no such line: {problem}"
    return ""
