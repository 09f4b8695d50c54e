"""Versions: the oldest and the newest that pyproject.toml allows.

`make versions` installs both, and runs this part of the tests with each; slow tests are left out. What came of it stands
in `tests/reliability/versions.json`. Where this was run, no build of torch for the CPU could be had but one, for Python
3.11: other versions of it were not run, nor was more, on a newer Python, than what needs no torch.
"""

from __future__ import annotations

import ast
import json
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from paths import ROOT

HERE = ROOT / "tests" / "reliability"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RESULTS = json.loads((HERE / "versions.json").read_text("utf-8"))
NAMES = {
    "ruamel": "ruamel.yaml",
    "PIL": "matplotlib",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "xdist": "pytest-xdist",
}


def normal(name):
    return name.lower().replace("_", "-")


def pins(path):
    lines = (line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return {normal(name): Version(version) for name, version in (line.split("==") for line in lines)}


OLDEST, NEWEST, PINNED = pins(HERE / "oldest.txt"), pins(HERE / "newest.txt"), pins(ROOT / "constraints.txt")
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["dev"]]]
RUN = [requirement for requirement in REQUIRED if normal(requirement.name) in OLDEST]
TOOLS = {text for extra in EXTRAS.values() for text in extra if normal(Requirement(text).name) in PINNED}


def bounds(requirement):
    """Return where a range begins and ends."""
    by = {part.operator: Version(part.version) for part in requirement.specifier}
    return by[">="], by["<"]


def after(version):
    """Return the next release that may break something: 3 of 2.1, and 0.10 of 0.9.2."""
    return Version(str(version.major + 1) if version.major else f"0.{version.minor + 1}")


@pytest.mark.parametrize("requirement", RUN, ids=lambda requirement: requirement.name)
def test_a_range_is_what_was_run(requirement):
    name = normal(requirement.name)
    assert bounds(requirement) == (OLDEST[name], after(NEWEST[name]))
    assert PINNED[name] in requirement.specifier


@pytest.mark.parametrize("text", sorted(TOOLS))
def test_what_an_extra_allows_is_what_is_pinned(text):
    requirement = Requirement(text)
    assert PINNED[normal(requirement.name)] in requirement.specifier


def test_what_has_a_range_is_in_the_runs():
    direct = [Requirement(text) for text in PROJECT["dependencies"]]
    assert {normal(requirement.name) for requirement in direct} <= OLDEST.keys() & NEWEST.keys()
    assert not [str(requirement) for requirement in direct if not requirement.specifier]


def test_every_import_is_declared():
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    declared = {normal(Requirement(text).name) for text in texts}
    found = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    outside = found - sys.stdlib_module_names - {"harness"}
    assert "torch" in outside
    assert {normal(NAMES.get(name, name)) for name in outside} <= declared


@pytest.mark.parametrize("name", RESULTS)
def test_what_was_run_came_out_right(name, figure):
    run = RESULTS[name]
    wanted = OLDEST if name == "oldest" else NEWEST
    had = {package: Version(version) for package, version in run["packages"].items()}
    named = [normal(requirement.name) for requirement in RUN if normal(requirement.name) in had]
    assert {package: had[package] for package in named} == {package: wanted[package] for package in named}
    assert ("torch" in had) == run["torch"]
    for part, counts in run["parts"].items():
        tried = counts["passed"] + counts["failed"]
        assert counts["passed"] > 0
        shown = f"Python {run['python']}, {counts['date']}" + f", {counts['skipped']} skipped" * (counts["skipped"] > 0)
        figure(f"{name}: `pytest {part}`", tried, counts["passed"], shown)
    assert [part for part, counts in run["parts"].items() if counts["failed"]] == []


@pytest.mark.parametrize("requirement", RUN, ids=lambda requirement: requirement.name)
def test_both_ends_of_a_range_were_run(requirement, figure):
    name = normal(requirement.name)
    ends = {"oldest": OLDEST[name], "newest": NEWEST[name]}
    right = [
        Version(RESULTS[end]["packages"][name]) == version
        and not any(p["failed"] for p in RESULTS[end]["parts"].values())
        for end, version in ends.items()
    ]
    figure(f"{requirement.name} {OLDEST[name]} and {NEWEST[name]}", 2, sum(right), f"allowed: {requirement.specifier}")
    assert all(right)
