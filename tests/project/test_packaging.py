"""What is in the wheel and in the source distribution, built here from what git would have; no network is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes

import pytest
from paths import ROOT

pytestmark = pytest.mark.slow
pytest.importorskip("setuptools", minversion="77")  # the build backend that pyproject.toml asks for
BUILD = "from setuptools import build_meta as b; print(b.build_sdist('dist')); print(b.build_wheel('dist'))"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The directory with both distributions, and what building them said."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file() and not path.is_symlink():
            shutil.copy(path, source)
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("harness", "tests", "hypotheses"):
        shutil.copytree(ROOT / name, source / name, ignore=left_out)
    (source / "fixtures" / "f").mkdir(parents=True)
    (source / "fixtures" / "f" / "recipe.yaml").write_text("version: 1\n", "utf-8")
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return source / "dist", done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built[0].glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_nothing_about_the_build_is_deprecated_or_missing(built):
    assert "Deprecat" not in built[1]
    assert "absent from the `packages`" not in built[1]


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel):
    files = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "harness").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == there
    assert {"harness/py.typed", "harness/hypothesis.schema.json", "harness/reporting/data/page.html.jinja"} <= files


def test_the_wheel_says_what_pyproject_says(wheel):
    information = {name.split("/", 1)[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/harness/reporting/data/LICENSES.txt"} <= information.keys()
    entries = wheel.read(information["entry_points.txt"]).decode()
    assert "harness = harness.cli:main" in entries
    assert "[pytest11]\nharness.plugin = harness.plugin" in entries
    said = message_from_bytes(wheel.read(information["METADATA"]))
    assert said["License-Expression"] == "MIT"
    assert said["Description-Content-Type"] == "text/markdown"
    plain = [line for line in said.get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.match(r"[\w.]+", line)[0] for line in plain}
    assert {"torch", "pytest", "transformer_lens"} <= {name.replace("-", "_") for name in names}
    assert all(re.search(r"[<>=]", line) for line in plain)
    assert not any(word in line for line in plain for word in ("ruff", "mypy", "xdist", "twine"))


def test_the_versions_are_one(wheel):
    import harness

    assert f"mechanistic_harness-{harness.__version__}.dist-info/METADATA" in wheel.namelist()


def test_a_wheel_can_be_built_of_the_source_distribution(built, wheel):
    (path,) = built[0].glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {name for name in wheel.namelist() if name.startswith("harness/")} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "pyproject.toml"} <= names
    assert not {name.split("/")[0] for name in names} & {"tests", "fixtures", "hypotheses", "reports"}
