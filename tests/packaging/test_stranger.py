"""The wheel in a stranger's project, beside the plugins that people have: the same verdicts whatever stands beside it.

`make package` installs the wheel with these plugins into an environment of its own and names its Python; in the
ordinary run of the tests there is none, and these are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import FIXTURES, ROOT

FIXTURE = "quick_d5_l2_s0"
ONE_BY_ONE = ["-p", "no:randomly", "-p", "no:cacheprovider"]
PROJECT = {
    "pyproject.toml": '[tool.pytest.ini_options]\nharness_paths = ["hypotheses"]\n',
    "own.py": "def double(n):\n    return 2 * n\n",
    "test_own.py": """\
from hypothesis import given, strategies
from own import double


@given(strategies.integers())
def test_double(n):
    assert double(n) == n + n
""",
    "hypotheses/first.yaml": f"""\
version: 1
fixture: {FIXTURE}
hypotheses:
  - id: a4-at-s12
    claim: Without the heads at S12, A4 breaks.
    ablate: S12L0
    questions: {{n: 1000, seed: 3}}
    expect: {{fails: [A4]}}
  - id: a4-always
    claim: Without them it is always wrong.
    ablate: S12L0
    questions: {{n: 1000, seed: 3}}
    expect: {{fails: [A4], fail_rate: 0.97}}
    xfail: {{reason: it guesses right now and then}}
""",
    "hypotheses/second.yaml": f"""\
version: 1
fixture: {FIXTURE}
hypotheses:
  - id: adds
    claim: It adds.
    answer: whole
    questions: {{n: 500, seed: 4}}
    expect: {{accuracy_at_least: 0.9}}
    tags: [quick]
  - id: cannot-add
    claim: It does not.
    answer: whole
    questions: {{n: 500, seed: 4}}
    expect: {{accuracy_at_most: 0.5}}
""",
}


@pytest.fixture(scope="module")
def python(pytestconfig):
    """The Python of an environment that the wheel was installed into."""
    named = pytestconfig.getoption("--packaged-python")
    if not named:
        pytest.skip("no environment with the wheel: make package")
    return Path(named).absolute()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that knows nothing of this repository but one fixture."""
    root = tmp_path_factory.mktemp("stranger")
    for name, text in PROJECT.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, "utf-8")
    shutil.copytree(FIXTURES / FIXTURE, root / "fixtures" / FIXTURE)
    return root


def run(python, project, *command):
    """Run a command of that environment in the project, without what this process knows of the checkout."""
    unknown = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "GITHUB_STEP_SUMMARY")
    environment = {name: value for name, value in os.environ.items() if name not in unknown}
    return subprocess.run(
        [python, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def judged(python, project, *options):
    """Return what a run of the project's tests reports, without its times, and what it printed."""
    report = project / "reports" / "hypotheses.json"
    report.unlink(missing_ok=True)
    done = run(python, project, "pytest", *options)
    assert done.returncode == 1, done.stdout + done.stderr  # one claim is refuted
    assert "2 passed, 1 xfailed" in done.stdout or "3 passed, 1 xfailed" in done.stdout, done.stdout
    body = json.loads(report.read_text("utf-8"))
    del body["command"]
    for claim in body["claims"]:
        del claim["seconds"]
    return body, done.stdout


@pytest.fixture(scope="module")
def alone(python, project):
    """What the claims come to with no neighbour at work."""
    body, _ = judged(python, project, *ONE_BY_ONE)
    return body


def test_it_runs_from_where_it_was_installed(python, project):
    done = run(python, project, "harness.cli", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: harness")
    where = run(python, project, "pip", "show", "-f", "mechanistic-harness").stdout
    assert "harness/reporting/data/page.html.jinja" in where
    assert "Editable project location" not in where
    assert str(ROOT) not in subprocess.run(
        [python, "-c", "import harness; print(harness.__path__)"], cwd=project, capture_output=True, text=True, check=True
    ).stdout.replace(str(python.parent.parent), "")  # fmt: skip


def test_its_claims_are_judged(alone):
    verdicts = {claim["id"]: (claim["verdict"], claim["status"]) for claim in alone["claims"]}
    assert verdicts == {
        "a4-at-s12": ("supported", "passed"), "a4-always": ("refuted", "xfailed"),
        "adds": ("supported", "passed"), "cannot-add": ("refuted", "failed"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["-p", "randomly", "--randomly-seed=7"], "Using --randomly-seed=7"),
        ([*ONE_BY_ONE, "-n", "2"], "2 workers"),
        ([*ONE_BY_ONE, "--html=page.html", "--self-contained-html"], "Generated html report"),
        ([*ONE_BY_ONE, "--cov=own"], "own.py       2      0   100%"),
        ([*ONE_BY_ONE, "--hypothesis-show-statistics"], "Hypothesis Statistics"),
        (
            ["--randomly-seed=3", "-n", "2", "--html=all.html", "--cov=own", "--hypothesis-show-statistics"],
            "coverage: platform",
        ),
    ],
    ids=["randomly", "xdist", "html", "cov", "hypothesis", "all at once"],
)
def test_beside_other_plugins_every_number_is_the_same(python, project, alone, options, shown):
    body, printed = judged(python, project, *options)
    assert shown in printed
    assert body == alone


def test_the_html_page_of_the_neighbour_shows_the_claims(python, project, alone):
    judged(python, project, *ONE_BY_ONE, "--html=claims.html", "hypotheses")
    page = (project / "claims.html").read_text("utf-8")
    assert all(f"::{claim['id']}" in page for claim in alone["claims"])


def test_the_page_is_written_with_what_the_wheel_brought(python, project, alone):
    judged(python, project, *ONE_BY_ONE, "--harness-html", "own.html")
    assert "cannot-add" in (project / "own.html").read_text("utf-8")
