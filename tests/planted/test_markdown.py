"""The Markdown report: its links lead to the claims, and nothing in it but the times changes from run to run."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = """\
version: 1
fixture: planted
hypotheses:
  - id: head-0
    claim: Head 0 at S3 serves A1.
    ablate: S3L0H0
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
  - id: head-2
    claim: Head 2 serves A1.
    ablate: S3L0H2
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
"""
_LINK = re.compile(r"\[([^]]+)\]\(([^)]+)#L(\d+)\)")


@pytest.fixture
def run(pytester, fixtures, monkeypatch):
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    pytester.mkdir("claims")
    (pytester.path / "claims" / "two words.yaml").write_text(SPEC, "utf-8")
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    def once(name):
        result = pytester.runpytest("claims/", f"--harness-fixtures={fixtures}", f"--harness-report={name}")
        assert result.ret == 1
        return (pytester.path / f"{name}.md"), summary.read_text("utf-8")

    return once


@pytest.mark.parametrize("name", ["out", "deep/er/out"])
def test_every_link_leads_to_the_line_of_its_claim(run, pytester, name):
    path, summary = run(name)
    links = _LINK.findall(path.read_text("utf-8"))
    # Each claim in the table; the one that is refuted again in the details.
    assert sorted(text for text, _, _ in links) == ["claims/two words.yaml:9", "head-0", "head-2"]
    for text, target, line in links:
        lines = (path.parent / unquote(target)).resolve().read_text("utf-8").splitlines()
        assert lines[int(line) - 1].strip() == f"- id: {'head-2' if text.endswith(':9') else text}"
    assert not _LINK.findall(summary)  # a job's summary stands elsewhere, and relative links would lead nowhere
    assert "`head-0`: Head 0 at S3 serves A1." in summary


def test_two_runs_differ_in_their_times_and_their_name_alone(run):
    first, second = (run(name)[0].read_text("utf-8") for name in ("one", "two"))
    without = [text.partition("<details><summary>Seconds per claim")[0] for text in (first, second)]
    assert without[0].replace("--harness-report=one", "--harness-report=two") == without[1]
    assert first.index("head-0") < first.index("head-2")
