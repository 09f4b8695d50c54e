"""Nothing outside of a family's folder imports it, or says its words: the core knows prompts and answer tokens."""

from __future__ import annotations

import ast
import re

import pytest
from paths import ROOT

HARNESS = ROOT / "harness"
FAMILY = HARNESS / "tasks" / "addition"
# The words of addition, whole or as a part of a name.
WORDS = re.compile(
    r"digit|addend|cascade|tri_?-?case|sum_?-?9|base_add|carry_in|n_digits|\baddition\b|\bUC1\b|\bUS9\b|\bMC1\b|\bBA\b",
    re.IGNORECASE,
)
# What may stand in the core, line by line: names that files of format 1 have, and plain English about characters.
ALLOWED = {
    "tasks/registry.py": [r'"addition": "harness\.tasks\.addition\.family:FAMILY"'],
    "specs/verbs/patch.py": [r'alias="digits"', r"`digits` follow at more than", r'\("patch", "digits", i\)'],
    "specs/verbs/keep.py": [r'alias="digits"'],
    "specs/fixtures/roles.py": [r'alias="digits"', "letters and digits", "quoted, else digits alone would be a number"],
    "specs/fixtures/pins.py": [r'alias="digits_right_(teacher_forced|free_running)"'],
    "specs/templates.py": [r"\{step: S12, digit: A4\}"],
    "reporting/words.py": [r'found\["digits"\] = \[\{"digit": row\["token"\]'],
    "specs/keys.py": ["of letters, digits"],
    "specs/fixtures/files.py": ["of letters, digits"],
    "tasks/checked_positions.py": ["of letters, digits"],
    "training/curves.py": ["five significant digits"],
    "base/yamlfile.py": ["Python stops at 4,300 digits"],
}


def core():
    """Return every file of the harness outside of the family that holds our own text."""
    files = [path for path in HARNESS.rglob("*") if path.suffix in (".py", ".jinja", ".css", ".js")]
    return [path for path in files if FAMILY not in path.parents and not path.name.endswith(".min.js")]


def named(text, allowed=()):
    """Return the lines of a text that say one of the words, with what is allowed taken out."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        rest = line
        for pattern in allowed:
            rest = re.sub(pattern, "", rest)
        if WORDS.search(rest):
            found.append(f"{number}: {line.strip()}")
    return found


def imports_of(text):
    """Return what a module imports from the family's folder."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness.tasks.addition"):
            yield node.module
        if isinstance(node, ast.ImportFrom) and node.module == "harness.tasks":
            yield from (f"harness.tasks.{alias.name}" for alias in node.names if alias.name == "addition")
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("harness.tasks.addition"))


def test_nothing_outside_imports_the_family():
    files = [path for path in core() if path.suffix == ".py"]
    assert len(files) > 120
    found = {str(path.relative_to(HARNESS)): list(imports_of(path.read_text("utf-8"))) for path in files}
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_nothing_outside_says_its_words():
    found = {}
    for path in core():
        name = str(path.relative_to(HARNESS))
        found[name] = named(path.read_text("utf-8"), ALLOWED.get(name, ()))
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_there(name):
    text = (HARNESS / name).read_text("utf-8")
    for pattern in ALLOWED[name]:
        assert re.search(pattern, text), pattern


@pytest.mark.parametrize(
    "line",
    [
        "from harness.tasks.addition.layout import Layout", "answer_digits = ()", "# the longest cascade", "n_digits: int",
        "where.columns  # a tri-case", 'if kind == "base_add":', "the sub-tasks BA and UC1", "Addition(5)",
    ],
)  # fmt: skip
def test_these_checks_can_fail(line):
    assert named(line)
    assert not line.startswith("from") or list(imports_of(line))
    assert named(f"{line}  # of letters, digits", ["of letters, digits"])
    assert not named("a name of letters, digits", ["of letters, digits"])


def test_the_family_itself_is_whole():
    says = [path.name for path in FAMILY.glob("*.py") if named(path.read_text("utf-8"))]
    assert len(says) > 8
