"""A claim that is known not to hold fails when it moves; and what a report saw is written into the specs."""

from __future__ import annotations

import json
import shutil

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from several import ASKED, GROUP, read, write_run

from harness.cli import main
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.reporting.diff import compare_reports
from harness.reporting.failure import failure_text
from harness.reporting.page import render
from harness.reporting.report import markdown
from harness.specs.spec_files import load_file

pytestmark = pytest.mark.usefixtures("one_thread")

# Head 0 serves A1 in run_s0, where A1 fails on 44% of the prompts without it, not on 99%. In run_s1 it does nothing.
TOO_MUCH = f"ablate: S3L0H0\n{ASKED}expect: {{fails: [A1], fail_rate: 0.99}}\n"
SPEC = """\
# What is not so.
version: 1
fixture: run_s0
hypotheses:
  - id: too-much
    claim: Without head 0 A1 is hardly ever right.
    ablate: S3L0H0
    questions: {n: 1500, seed: 3}
    expect: {fails: [A1], fail_rate: 0.99}
    xfail: {reason: it is guessed}  # now and then

  - id: holds
    claim: Head 0 serves A1.
    ablate: S3L0H0
    questions: {n: 1500, seed: 3}
    expect: {fails: [A1]}

  - id: "in-{step}"
    claim: In both runs head 0 serves its digit.
    each:
      - {step: S3, digit: A1, fixtures: "run_s[01]"}  # the tens
      - step: S4
        digit: A0
        fixtures: "run_s[013]"
    ablate: "{step}L0H0"
    questions: {n: 1500, seed: 3}
    expect: {fails: ["{digit}"]}
    fixtures: "{fixtures}"
    xfail:
      reason: In the second run it does nothing.

  - id: "at-{step}"
    claim: Head 0 serves all that is further.
    each: [{step: S3, digit: A1}, {step: S4, digit: A0}]
    ablate: "{step}L0H0"
    questions: {n: 1500, seed: 3}
    expect: {fails: ["{digit}"], fail_rate: 0.99}
    xfail: {reason: as above}

  - id: holds-after-all
    claim: Head 0 serves A1.
    ablate: S3L0H0
    questions: {n: 1500, seed: 3}
    expect: {fails: [A1]}
    xfail: {reason: who knows}
"""


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")


def judged(tmp_path, runs, bench, text):
    found = judge(read(tmp_path, text, runs), bench)
    return found, record_of(found)


def test_a_claim_whose_counts_move_out_of_their_range_fails_though_it_is_still_refuted(copied, tmp_path):
    text = f"{TOO_MUCH}xfail: {{reason: r, verdict: refuted, observed: {{A1: [40%, 50%]}}}}\n"
    before, old = judged(tmp_path, copied, Workbench("cpu"), text)
    assert (before.verdict, before.status, old["xfail_moves"]) == ("refuted", "xfailed", [])
    assert old["xfail_expects"] == {"verdict": "refuted", "observed": {"A1": [0.4, 0.5]}}

    shutil.rmtree(copied / "run_s0")
    write_run(copied, "run_s0", [2, 1, 0], roles=False)  # the same weights, but its heads stand in another order
    after, new = judged(tmp_path, copied, Workbench("cpu"), text)
    assert (after.verdict, after.status) == ("refuted", "failed")
    assert new["xfail_moves"] == [{"subject": "A1", "expected": (0.4, 0.5), "observed": 0.0}]
    line = "A1: expected 40% to 50%, observed 0%"
    assert f"\n  {line}\n" in failure_text(new)
    assert "Known: r; expected: refuted, A1 40% to 50%." in markdown([new])
    assert "refuted (not as its xfail expects)" in markdown([new])
    assert f"Not as expected there: {line}." in render([new])
    lines = list(compare_reports({"k": old}, {"k": new}).lines())
    assert f"  a: not as its xfail expects any more ({line})" in lines

    without, _ = judged(tmp_path, copied, Workbench("cpu"), f"{TOO_MUCH}xfail: {{reason: r}}\n")
    assert without.status == "xfailed"  # a reason alone lets it pass, as before


def test_another_verdict_than_the_expected_one_fails(runs, tmp_path, bench):
    found, record = judged(tmp_path, runs, bench, f"{TOO_MUCH}xfail: {{reason: r, verdict: inconclusive}}\n")
    assert (found.verdict, found.status) == ("refuted", "failed")
    assert "\n  verdict: expected inconclusive, observed refuted\n" in failure_text(record)


def test_a_claim_that_holds_after_all_is_told_as_before(runs, tmp_path, bench):
    text = f"ablate: S3L0H0\n{ASKED}expect: {{fails: [A1]}}\nxfail: {{reason: r, observed: {{A1: [0%, 1%]}}}}\n"
    found, record = judged(tmp_path, runs, bench, text)
    assert (found.verdict, found.status, record["xfail_moves"]) == ("supported", "xpassed", [])


@pytest.mark.parametrize(
    ("observed", "status"),
    [("training runs: 1/2", "xfailed"), ("training runs: [0/2, 40%]", "failed"), ("run_s1: 1", "failed")],
)
def test_what_is_expected_of_several_runs_is_said_of_all_of_them(runs, tmp_path, bench, observed, status):
    text = f"ablate: S3L0H0\n{ASKED}{GROUP}expect: {{fails: [A1]}}\nxfail: {{reason: r, observed: {{{observed}}}}}\n"
    found, record = judged(tmp_path, runs, bench, text)
    assert (found.verdict, found.status) == ("refuted", status)
    assert {run["status"] for run in record["measurement"]["by_run"].values()} == {"xpassed", "xfailed"}


@pytest.fixture
def project(copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "claims").mkdir()
    write_run(copied, "run_s3", [0, 2, 1], roles=False)
    path = tmp_path / "claims" / "a.yaml"
    path.write_text(SPEC, "utf-8")

    def check():
        capsys.readouterr()
        assert main(["check", "claims", "--json", "--device=cpu"]) < 2, capsys.readouterr().err
        (tmp_path / "r.json").write_text(capsys.readouterr().out, "utf-8")
        return {one["id"]: one for one in json.loads((tmp_path / "r.json").read_text("utf-8"))["claims"]}

    return path, check


def test_what_a_report_saw_is_written_into_the_spec_and_nothing_else_changes(project, copied, capsys):
    path, check = project
    before = check()
    assert main(["xfail", "r.json", "claims"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"filled: claims/a.yaml::{name}" for name in ("too-much", "in-S3", "in-S4", "at-S3", "at-S4")),
        "left: claims/a.yaml::holds-after-all: supported in the report, xpassed",
    ]
    text = path.read_text("utf-8")
    put = [line for line in text.splitlines() if line not in SPEC.splitlines()]
    seen = next(row for row in before["too-much"]["comparisons"] if row["subject"] == "A1")
    low, high = seen["low"], seen["high"]
    (due,) = load_file(path, copied)[0].xfail.observed
    assert (due.subject, load_file(path, copied)[0].xfail.verdict) == ("A1", "refuted")
    assert low - 0.002 < due.low <= low < high <= due.high < high + 0.002
    assert put[1:] == [
        '      - {step: S3, digit: A1, fixtures: "run_s[01]", range: 1/2}  # the tens',
        "      - range: 2/3",
        "        step: S4",
        "      verdict: refuted",
        '      observed: {training runs: "{range}"}',
        put[6],
        put[7],
    ]
    assert put[7] == '    xfail: {verdict: refuted, observed: {"{row}": "{range}"}, reason: as above}'
    assert [claim.xfail.observed[0].subject for claim in load_file(path, copied)[4:6]] == ["A1", "A0"]
    assert "reason: it is guessed}  # now and then" in text
    assert [line for line in SPEC.splitlines() if line not in text.splitlines()] == [
        "    xfail: {reason: it is guessed}  # now and then",
        '      - {step: S3, digit: A1, fixtures: "run_s[01]"}  # the tens',
        "      - step: S4",
        "    each: [{step: S3, digit: A1}, {step: S4, digit: A0}]",
        "    xfail: {reason: as above}",
    ]
    after = check()
    assert {name: one["status"] for name, one in after.items()} == {name: one["status"] for name, one in before.items()}

    assert main(["xfail", "r.json"]) == 0  # those that say what is expected are left alone
    assert path.read_text("utf-8") == text

    shutil.rmtree(copied / "run_s0")
    write_run(copied, "run_s0", [2, 1, 0], roles=False)
    moved = check()
    assert moved["too-much"]["status"] == moved["at-S3"]["status"] == moved["in-S3"]["status"] == "failed"


def test_a_dry_run_writes_nothing_and_another_claim_is_not_filled(project, capsys):
    path, check = project
    check()
    assert main(["xfail", "r.json", "--dry-run"]) == 0
    assert "would be filled: claims/a.yaml::too-much" in capsys.readouterr().out
    assert path.read_text("utf-8") == SPEC
    path.write_text(SPEC.replace("id: too-much", "id: not-so-much"), "utf-8")
    assert main(["xfail", "r.json"]) == 0
    assert "left: claims/a.yaml::not-so-much: is not the claim that the report tells of" in capsys.readouterr().out
    assert main(["xfail", "r.json", "elsewhere"]) == 2
    assert (
        "expected spec files that the report tells of, found none; name one of claims/a.yaml" in capsys.readouterr().err
    )
