"""The rooms: imports go one way, other rooms use what a room exports, and what must be light is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

HARNESS = ROOT / "harness"
# A room imports only from itself and from the rooms before it.
ROOMS = [
    "base",
    "tasks",
    "specs",
    "models",
    "engines",
    "training",
    "judging",
    "exploring",
    "reporting",
    "cli",
    "plugin",
]
# These and all that they import do without torch; so do the modules in LIGHT.
LIGHT_ROOMS = ["base", "specs", "reporting", "cli", "plugin"]
LIGHT = [
    "tasks.positions", "tasks.questions", "tasks.contract", "tasks.registry", "tasks.user_task", "tasks.checked_task",
    "tasks.checked_positions", "tasks.family", "tasks.own_tasks", "tasks.where", "tasks.addition.layout",
    "tasks.addition.strata", "tasks.addition.variables", "tasks.addition.question_sets", "tasks.addition.series",
    "tasks.addition.roles", "tasks.addition.where", "tasks.addition.task", "tasks.addition.family", "training.card",
    "judging.records", "judging.verdict",
]  # fmt: skip
MOST_LINES = 300
LONGER: set[str] = set()  # modules that may have more, each with its reason


def modules(root=HARNESS):
    """Return every module below a directory by its dotted name, those of rooms without ``harness.``."""
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in sorted(root.rglob("*.py"))}


def imports(path, *, for_types=False):
    """Return the dotted names that a file imports from the harness, wherever in it; those for types alone if asked."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if not for_types and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("harness.") for alias in node.names if alias.name.startswith("harness"))
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "harness":
            parts = node.module.split(".")[1:]
            for alias in node.names:
                name = [*parts, alias.name]
                yield ".".join(
                    name if (HARNESS.joinpath(*name).with_suffix(".py")).exists() or len(name) < 2 else parts
                )
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: write `from harness.…`"


def exported(package):
    """Return the names in a package's ``__all__``."""
    tree = ast.parse((HARNESS / package / "__init__.py").read_text("utf-8"))
    found = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    return set(ast.literal_eval(found[0])) if found else set()


def wrong_imports(room, path):
    """Return what a module of `room` imports from a room that comes later, or that its room does not export."""
    for name in imports(path):
        other, *inside = name.split(".")
        if other not in ROOMS or other == room:
            continue
        if ROOMS.index(other) > ROOMS.index(room):
            yield f"{name}: {other} comes after {room}"
        for depth, module in enumerate(inside):
            package = "/".join([other, *inside[:depth]])
            if module not in exported(package):
                yield f"{name}: not in __all__ of {package}"
                break


def test_every_module_is_in_a_room():
    assert {path.name for path in HARNESS.iterdir() if path.suffix == ".py"} == {"__init__.py"}
    assert {path.name for path in HARNESS.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_those_before_it_and_what_they_export(room):
    wrong = {name: list(wrong_imports(room, path)) for name, path in modules(HARNESS / room).items()}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def circle_in(graph):
    """Return modules that import each other in a circle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle_not_even_for_types():
    known = modules()
    graph = {name: {n for n in imports(path, for_types=True) if n in known} for name, path in known.items()}
    assert sum(map(len, graph.values())) > 300  # they were found at all
    assert circle_in(graph) == []
    assert circle_in({**graph, "base.errors": {"cli.command"}}) != []


def test_this_check_can_fail(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "def f():\n    from harness.cli.command import main\n    from harness.engines import cone\n", "utf-8"
    )
    assert list(wrong_imports("judging", bad)) == [
        "cli.command: cli comes after judging", "cli.command: not in __all__ of cli", "engines.cone: not in __all__ of engines",
    ]  # fmt: skip
    bad.write_text(
        "from harness.tasks.addition.sampling import f\nfrom harness.base.errors import HarnessError\n", "utf-8"
    )
    assert list(wrong_imports("engines", bad)) == ["tasks.addition.sampling: not in __all__ of tasks"]


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_exports_is_there_and_a_line_says_what_it_is_for(room):
    package = HARNESS / room
    for name in exported(room) if room not in ("cli", "plugin") else ():
        assert (package / f"{name}.py").exists() or (package / name / "__init__.py").exists(), name
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
    assert len(said.splitlines()) == 1


def modules_after(statement):
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.slow
def test_reading_specs_imports_no_torch_and_this_test_can_fail():
    light = [name for name in modules() if name.split(".")[0] in LIGHT_ROOMS and not name.endswith("__main__")] + LIGHT
    loaded = modules_after("; ".join(f"import harness.{name.removesuffix('.__init__')}" for name in light))
    assert {"harness.specs.spec_files", "harness.reporting.page"} <= loaded
    assert not loaded & {"torch", "numpy", "scipy", "pandas", "transformer_lens"}
    assert "torch" in modules_after("import harness.tasks.addition.arithmetic")


def test_only_the_plugin_imports_pytest():
    found = {
        name.split(".")[0]
        for name, path in modules().items()
        if re.search(r"^\s*(import|from) _?pytest\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert found == {"plugin"}


def test_a_module_is_not_a_heap():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert {name for name, n in lines.items() if n > MOST_LINES} == LONGER, lines


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_handful_of_modules(room):
    """Packages inside of a room count by themselves."""
    counts = {
        directory: len([path for path in directory.glob("*.py") if path.name != "__init__.py"])
        for directory in {path.parent for path in Path(HARNESS / room).rglob("*.py")}
    }
    assert all(5 <= n <= 15 for n in counts.values()), counts
