"""Data flows one way, and what must be light is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from paths import ROOT

# A module imports only from those above it. What stands before `pairs` imports no torch, but TENSORS do.
ORDER = [
    "errors", "files", "positions", "layout", "series", "question_sets", "variables", "selection", "addition", "causal", "sampling", "tasks", "permission", "task", "own_code", "brought_positions", "brought", "nodes", "variants", "yamlfile", "strict", "recipe", "places", "pins", "each",
    "intervals", "spec_model", "reference", "roles", "hypothesis", "observations", "across", "reader", "intervention_reader", "observation_reader", "across_reader", "spec", "pairs", "curves", "models", "transformer", "training", "built", "fixtures", "interventions",
    "outcome", "hooked", "reattention", "propagation", "cone", "engines", "accuracy", "card", "plots", "hub", "importing", "making", "reproducing", "measurement", "verdict", "workbench", "patching", "answering", "attending", "learning", "controls",
    "records", "runs", "evaluate", "mutants", "nodemap", "coverage", "checking", "minimal", "drafting", "sweep", "patterns", "pattern_pictures", "pattern_page", "circuits", "circuit_pictures", "describing", "failure", "report", "drawing", "mapdrawing", "excerpt", "broken", "page", "writing", "locate", "diff", "findings", "machines", "cli_fixtures", "cli_checking", "cli_looking", "cli_roles", "cli_claims", "cli",
    "gpus", "scheduling", "pytest_asked", "pytest_reporting", "pytest_options", "pytest_plugin",
]  # fmt: skip
TENSORS = {"addition", "causal", "sampling"}  # imported by `tasks.py` where tensors are wanted
HARNESS = ROOT / "harness"
TORCH_FREE = [
    *(module for module in ORDER[: ORDER.index("pairs")] if module not in TENSORS),
    "card",
    "records",
    "failure",
    "report",
    "drawing",
    "mapdrawing",
    "excerpt",
    "broken",
    "page",
    "writing",
    "machines",
    "cli_fixtures",
    "cli_checking",
    "cli_roles",
    "cli_claims",
    "diff",
    "findings",
    "cli_looking",
    "cli",
    "gpus",
    "scheduling",
    "pytest_asked",
    "pytest_options",
    "pytest_reporting",
    "pytest_plugin",
]


def imports(path):
    """Return the harness modules that a file imports, wherever in it; not those it only names in annotations."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "harness":
            yield from [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]


def test_every_module_has_its_place():
    assert sorted(path.stem for path in HARNESS.glob("*.py")) == sorted([*ORDER, "__init__"])


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_those_above_it(module):
    above = ORDER[: ORDER.index(module)]
    assert set(imports(HARNESS / f"{module}.py")) - {"__version__"} <= set(above)


def test_this_check_can_fail(tmp_path):
    bad = tmp_path / "errors.py"
    bad.write_text("def f():\n    from harness.cli import main\n", "utf-8")
    assert list(imports(bad)) == ["cli"]


def modules_after(statement):
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_reading_specs_imports_no_torch_and_this_test_can_fail():
    loaded = modules_after("import harness; " + "; ".join(f"import harness.{name}" for name in TORCH_FREE))
    assert "harness.spec" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "pandas", "transformer_lens"}
    assert "torch" in modules_after("import harness.addition")


def test_only_the_plugin_imports_pytest():
    texts = {path.stem: path.read_text("utf-8") for path in HARNESS.glob("*.py")}
    found = {module for module, text in texts.items() if re.search(r"^\s*(import|from) pytest\b", text, re.M)}
    assert found == {"pytest_asked", "pytest_options", "pytest_reporting", "pytest_plugin"}


MOST_LINES = 350  # what modules should stay near is 100 to 250


def test_a_module_is_not_a_heap():
    """The keys of specs, one model for each, are a table."""
    lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in HARNESS.glob("*.py")}
    assert {module for module, n in lines.items() if n > MOST_LINES} <= {"spec_model"}, lines
