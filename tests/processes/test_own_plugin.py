"""A stranger's project with a task file of his own: pytest trains, judges and reports, where code is allowed."""

from __future__ import annotations

import json
import sys
from hashlib import sha256

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from own import write_own

# pytester forgets modules that a run inside this process imports; compiled ones like the above must not be
# imported twice, so they are imported before.
from harness.base.own_code import allow_code

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = """\
version: 1
fixture: own
hypotheses:
  - id: sorts
    claim: It puts two letters in order.
    answer: whole
    questions: {n: 600, stratify: case}
    expect: {accuracy_at_least: 0.98}
  - id: low-is-at-S2
    claim: The MLP at S2 has a part in the lower letter.
    ablate: S2L0M
    method: resample
    questions: {n: 800}
    expect: {fails: [low]}
"""


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("CI", raising=False)
    pytester.mkdir("claims").joinpath("a.yaml").write_text(SPEC, "utf-8")
    write_own(pytester.path / "fixtures")
    return pytester


def ini(project, allowed):
    project.makeini(
        f"[pytest]\nharness_paths = claims\nharness_allow_code = {allowed}\naddopts = -p no:cacheprovider\n"
    )


def test_his_model_is_trained_and_his_claims_are_judged(project):
    ini(project, "true")
    before = allow_code(False)
    result = project.runpytest("claims", "--harness-device=cpu", "--harness-html=reports/page.html", "--harness-mutate")
    result.assert_outcomes(passed=2)
    body = json.loads((project.path / "reports" / "hypotheses.json").read_text("utf-8"))
    assert [claim["verdict"] for claim in body["claims"]] == ["supported", "supported"]
    assert [claim["engine"] for claim in body["claims"]] == ["cone", "cone"]
    page = (project.path / "reports" / "page.html").read_text("utf-8")
    assert "S2L0M" in page
    code = {"own/letters.py": sha256((project.path / "fixtures/own/letters.py").read_bytes()).hexdigest()}
    assert [claim["code"] for claim in body["claims"]] == [code, code]
    path, digest = next(iter(code.items()))
    assert f"own code `{path}`, sha256 `{digest}`" in (project.path / "reports/hypotheses.md").read_text("utf-8")
    assert f"<dt>own code</dt><dd>{path} sha256 {digest}</dd>" in page
    before_json = json.dumps(body).replace(digest, "0" * 64)
    project.path.joinpath("before.json").write_text(before_json, "utf-8")
    told = project.run(sys.executable, "-m", "harness.cli", "diff", "before.json", "reports/hypotheses.json")
    told.stdout.fnmatch_lines(f"*own/letters.py: code 000000000000 → {digest[:12]}*")
    assert not allow_code(before)  # what held before the run held again


def test_without_the_key_nothing_of_his_is_run(project):
    ini(project, "false")
    result = project.runpytest("claims", "--harness-device=cpu")
    result.assert_outcomes(errors=1)
    said = "*expected nothing that runs code, found task: letters:task; it runs code: set harness_allow_code = true *"
    result.stdout.fnmatch_lines([said])
    assert not list((project.path / "fixtures" / "own").glob("model*"))


def test_the_permission_holds_in_xdists_workers(project):
    ini(project, "true")
    result = project.runpytest_subprocess("claims", "--harness-device=cpu", "-n", "1")
    result.assert_outcomes(passed=2)
