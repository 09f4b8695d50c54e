"""The Markdown report: its links lead to the claims, and nothing in it but the times changes from run to run."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401

from harness.reporting.output import shortened

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


def test_a_job_summary_is_cut_to_what_github_takes_of_a_step(run, pytester):
    before = "x" * ((1 << 20) - 1500) + "\n"
    (pytester.path / "summary.md").write_text(before, "utf-8")
    path, summary = run("out")
    assert path.stat().st_size > 1500
    assert len(summary.encode()) <= 1 << 20
    added = summary.removeprefix(before)
    assert added.startswith("# Claims\n")
    assert re.search(r"\n\n\*Left out, as GitHub takes .* 1 MiB from a step: the last \d+ of \d+ lines\.\*\n$", added)


def test_wherever_a_report_is_cut_nothing_stays_open_and_all_lines_are_counted(run):
    path, _ = run("out")
    text = path.read_text("utf-8")
    lines = text.splitlines(keepends=True)
    assert {"```text\n", "</details>\n"} <= set(lines)
    ends = set()
    for room in range(len(text.encode())):
        cut = shortened(text, room)
        assert len(cut.encode()) <= room
        if not cut:
            continue
        kept, _, note = cut.rpartition("\n*Left out")
        assert text.startswith(kept)
        assert kept.count("```") % 2 == 0
        assert kept.count("<details>") == kept.count("</details>")
        left, of = map(int, re.findall(r"(\d+) of (\d+) lines", note)[0])
        assert (len(kept.splitlines()) + left, of) == (len(lines), len(lines))
        ends.add(len(kept.splitlines()))
    assert len(ends) > 10
    assert shortened(text, len(text.encode())) == text
