"""Roles, claims of several training runs, and what moved: on runs whose inside is known, and differs only in numbers.

The second run is the planted model with its heads in another order, so that every role is known in both.
"""

from __future__ import annotations

import json
import re
import shutil
from fractions import Fraction

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from planted import RECIPE, planted_weights
from several import ASKED, GROUP, IDLE, KNOWN, SIZES, read, write_run
from tiny import refusal, write_tiny

from harness import __version__
from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.base.intervals import exact_interval
from harness.cli import main
from harness.exploring.role_search import locate, roles_file, to_markdown
from harness.judging.across import share_of
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import named_nodes, record_of
from harness.judging.verdict import row_of
from harness.reporting.failure import failure_text
from harness.reporting.report import VERSION
from harness.reporting.summary import tokens_seen
from harness.reporting.words import expected, observed
from harness.specs.claim import Absent, AcrossRuns
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import read_roles, shape_of, write_roles
from harness.specs.nodes import read_nodes
from harness.specs.siblings import write_nodes
from harness.tasks.addition.roles import role_queries
from harness.tasks.addition.task import Addition

pytestmark = pytest.mark.usefixtures("one_thread")

# Where the roles are.


@pytest.mark.parametrize("name", ["run_s0", "run_s1"])
def test_the_roles_are_found_where_they_were_planted_though_no_head_has_one_alone(runs, name):
    found = {row.sought.name: row for row in locate(FixtureRef(name, runs), Workbench("cpu"), n=60, confirm=400)}
    assert {role: write_nodes(row.nodes) for role, row in found.items()} == KNOWN[name]
    for row in found.values():
        assert row.evidence.follow == 1
        assert row.evidence.low > 0.97
        assert row.evidence.agreeing_change == 0
        assert max(share for nodes, share in row.tried.items() if len(nodes) == 1) < 0.95
        assert [(write_nodes(nodes), share < 0.9) for nodes, share in row.rivals] == [
            (IDLE[name][row.sought.name], True)
        ]
    assert "2 of 2 placed" in to_markdown(name, list(found.values()))


def test_what_no_heads_carry_is_not_placed_and_says_why(copied):
    weights = planted_weights()
    weights["blocks.0.attn.W_O"][1] = 0  # the second digit is copied no more: nothing is answered right by its doing
    weights["blocks.0.mlp.b_in"] += 100
    shutil.rmtree(copied / "run_s0")
    write_tiny(copied, "run_s0", weights=weights, **SIZES)
    found = locate(FixtureRef("run_s0", copied), Workbench("cpu"), n=40, confirm=100)
    assert [row.evidence for row in found] == [None, None]
    file = roles_file(found, "0" * 64)
    assert file.roles == {}
    assert set(file.unplaced) == {"base_add.A0", "carry.A1"}
    assert all(file.unplaced.values())


def test_the_sought_roles_cover_every_digit_once():
    task = Addition(5)
    roles = list(role_queries(5))
    assert tuple(roles) == task.roles
    assert [role.name for role in roles if role.role == "base_add"] == [f"base_add.A{k}" for k in (4, 3, 2, 1, 0)]
    assert [role.name for role in roles if role.role == "carry"] == [f"carry.A{k}" for k in (5, 4, 3, 2, 1)]
    cascades = {role.place: role.tokens for role in roles if role.role == "tricase"}
    assert cascades["D0"] == ("A5", "A4", "A3", "A2")
    assert cascades["D3"] == ("A5",)
    assert len(cascades) == 4
    assert all(set(role.tokens) <= set(role.variable.answer_tokens(task)) for role in roles)


def test_the_command_writes_a_file_that_is_read_back_and_not_written_over(copied, capsys):
    path = copied / "run_s2" / "roles.yaml"
    assert main(["locate", "run_s2", "--n", "40", "--confirm", "200", "--fixtures", str(copied)]) == 0
    assert "2 of 2 placed" in capsys.readouterr().out
    found = read_roles(FixtureRef("run_s2", copied))
    assert found.roles == {"base_add": {"A0": "S4L0H0+H1"}, "carry": {"A1": "S3L0H0+H1"}}
    assert found.evidence["base_add.A0"].pairs == 200
    assert found.unplaced == {}
    assert shape_of(FixtureRef("run_s2", copied)).roles["carry.A1"] == read_nodes("S3L0H0+H1", RECIPE.shape)
    before = path.read_bytes()
    assert main(["locate", "run_s2", "--fixtures", str(copied)]) == 2
    assert f"expected no roles file yet, found {path}" in capsys.readouterr().err
    assert main(["locate", "run_s2", "--dry-run", "--n", "20", "--confirm", "50", "--fixtures", str(copied)]) == 0
    assert path.read_bytes() == before
    assert main(["locate", "run_s2", "--n", "0", "--fixtures", str(copied)]) == 2
    assert main(["locate", "nobody", "--fixtures", str(copied)]) == 2


def test_a_misspelt_key_of_a_roles_file_is_told_in_a_line(copied):
    (copied / "run_s0" / "roles.yaml").write_text("version: 1\nrolls: {}", "utf-8")
    said = refusal(FixtureError, shape_of, FixtureRef("run_s0", copied))
    assert "expected a known key, found rolls; did you mean 'roles'?" in said
    assert "roles.yaml:2:" in said


def test_of_a_roles_file_of_a_newer_format_only_that_is_told(copied):
    path = copied / "run_s0" / "roles.yaml"
    path.write_text("version: 2\nrolls: {base_add: S4L0H0}\n", "utf-8")
    expected = f"expected version 1, the newest that harness {__version__} reads, found 2; install a newer harness"
    assert refusal(FixtureError, shape_of, FixtureRef("run_s0", copied)) == f"{path}:1:10: {expected}"


def test_a_roles_file_is_written_as_it_is_read(copied):
    found = read_roles(FixtureRef("run_s0", copied))
    (copied / "run_s0" / "roles.yaml").write_text(write_roles(found, "A heading,\nof two lines."), "utf-8")
    assert read_roles(FixtureRef("run_s0", copied)) == found


# One claim of several runs.


def seen(result, i):
    record = record_of(result)
    return observed(record["comparisons"][i], record)


def test_a_role_holds_of_both_runs_where_a_head_number_holds_of_one(runs, tmp_path):
    by_role = read(tmp_path, GROUP + 'ablate: "[base_add.A0]"\n' + ASKED + "expect: {fails: [A0]}", runs)
    # Both heads of s0; of s1, one of the two and the idle one.
    by_number = read(tmp_path, GROUP + "keep: {heads: S3-S4L0H0+H1}\n" + ASKED, runs)
    assert isinstance(by_role, AcrossRuns)
    assert by_role.models == ("run_s0", "run_s1")
    held, other = judge(by_role, Workbench("cpu")), judge(by_number, Workbench("cpu"))
    assert (held.verdict, held.status) == ("supported", "passed")
    assert [(row.subject, expected(row_of(row)), row.finding) for row in held.comparisons[:2]] == [
        ("run_s0", "S4L0H0+H1", "holds"), ("run_s1", "S4L0H1+H2", "holds")
    ]  # fmt: skip
    assert other.verdict == "refuted"
    assert [row.finding for row in other.comparisons] == ["holds", "contradicted", "contradicted"]
    low, high = exact_interval(1, 2, 0.99)
    assert (other.comparisons[-1].k, other.comparisons[-1].n) == (1, 2)
    assert (other.comparisons[-1].low, other.comparisons[-1].high) == (
        low,
        high,
    )
    assert tokens_seen(record_of(other)) == "1/2 runs, not run_s1"


def test_the_share_that_is_expected_decides(runs, tmp_path):
    text = GROUP + "keep: {heads: S3-S4L0H0+H1}\n" + ASKED + "expect: {at_least: %s}"
    assert judge(read(tmp_path, text % "1/2", runs), Workbench("cpu")).verdict == "supported"
    assert judge(read(tmp_path, text % "2/2", runs), Workbench("cpu")).verdict == "refuted"


@pytest.mark.parametrize(
    ("verdicts", "absent", "at_least", "expected"),
    [
        (["supported"] * 7 + ["refuted"], 0, "7/8", ("supported", 7, 8, 7)),
        (["supported"] * 6 + ["refuted"] * 2, 0, "7/8", ("refuted", 6, 8, 7)),
        (["supported"] * 6 + ["inconclusive"] * 2, 0, "7/8", ("inconclusive", 6, 8, 7)),
        (["supported"] * 8, 1, "7/8", ("supported", 8, 9, 8)),  # of nine, eight are more than seven eighths
        (["supported"] * 7, 1, "1/1", ("inconclusive", 7, 8, 8)),  # its role was not found in one
        (["by construction"] * 3, 0, "1/1", ("by construction", 0, 0, 0)),
        (["by construction", "supported"], 0, "1/1", ("supported", 1, 1, 1)),  # only those that could fail count
    ],
)
def test_the_verdict_follows_from_the_runs(runs, tmp_path, verdicts, absent, at_least, expected):
    import dataclasses

    claim = read(tmp_path, GROUP + "ablate: S4L0H0\n" + ASKED + "expect: {fails: [A0]}", runs)
    missing = tuple(Absent(f"gone{i}", "not placed", elsewhere=False) for i in range(absent))
    claim = dataclasses.replace(claim, absent=missing, at_least=Fraction(at_least))
    share = share_of(claim, {f"run{i}": verdict for i, verdict in enumerate(verdicts)})
    assert (share.verdict, share.holds, share.runs, share.needed) == expected


def test_runs_share_the_error_so_that_all_their_intervals_hold_together(runs, tmp_path):
    claim = read(tmp_path, GROUP + "ablate: S4L0H0\n" + ASKED + "expect: {fails: [A0]}", runs)
    alone = read(tmp_path, "ablate: S4L0H0\n" + ASKED + "expect: {fails: [A0]}", runs)
    assert [member.error for member in claim.members] == [alone.error / 2] * 2
    assert claim.members[0].confidence > alone.confidence


def test_a_role_that_was_not_found_is_open_and_one_elsewhere_is_refuted(copied, tmp_path):
    text = "version: 1\nroles: {carry: {A1: S3L0H1+H2}}\nunplaced: {base_add.A0: nothing follows}\n"
    (copied / "run_s1" / "roles.yaml").write_text(text, "utf-8")
    claim = read(tmp_path, GROUP + 'ablate: "[base_add.A0]"\n' + ASKED + "expect: {fails: [A0]}", copied)
    result = judge(claim, Workbench("cpu"))
    assert result.verdict == "inconclusive"
    assert seen(result, 1) == "not placed"
    elsewhere = read(tmp_path, GROUP + 'ablate: "S3L0[base_add]"\n' + ASKED + "expect: {fails: [A1]}", copied)
    result = judge(elsewhere, Workbench("cpu"))
    assert result.verdict == "refuted"
    assert seen(result, 0) == "S4L0H0, S4L0H1 in S3L0[base_add]"


def test_the_other_verbs_are_asked_of_each_run_too(runs, tmp_path):
    patch = 'patch: {node: "[carry.A1]", variable: D0.tricase, digits: [A1]}\npairs: {n: 1000}\n'
    assert judge(read(tmp_path, GROUP + patch, runs), Workbench("cpu")).verdict == "supported"
    attend = 'attend: {node: "[carry.A1]", to: [D0, "D\'0"]}\n' + ASKED + "expect: {mass_at_least: 0.9}"
    result = judge(read(tmp_path, GROUP + attend, runs), Workbench("cpu"))
    assert result.verdict == "supported"
    assert seen(result, 0).startswith("mass 1.000")
    assert named_nodes([record_of(result)]) == {"run_s0": set(), "run_s1": set()}  # whose credit was not asked for
    record = record_of(judge(read(tmp_path, GROUP + patch, runs), Workbench("cpu"), credit=True))
    assert named_nodes([record]) == {"run_s0": {"S3L0H0", "S3L0H1"}, "run_s1": {"S3L0H1", "S3L0H2"}}
    assert named_nodes([record], alone=True) == {"run_s0": set(), "run_s1": set()}


def test_the_failure_names_the_run_and_its_questions(runs, tmp_path):
    result = judge(read(tmp_path, GROUP + "keep: {heads: S3-S4L0H0+H1}\n" + ASKED, runs), Workbench("cpu"))
    said = failure_text(record_of(result))
    assert "REFUTED" in said
    assert re.search(r"^run_s1 +holds +A1 [0-9]+/.* contradicted$", said, re.MULTILINE)
    assert "\n  run_s1: " in said
    assert "\n  run_s0: " not in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('ablate: "[base_add.A0]"\nquestions: ba\nexpect: {fails: [A0], at_least: 1/2}',
         "8:37: expected `fixtures` that at_least is a share of, found none; name them, or drop at_least"),
        ('ablate: "[base_ad.A0]"\nquestions: ba\nexpect: {fails: [A0]}', "found base_ad.A0; did you mean 'base_add.A0'?"),
        (GROUP + 'ablate: "[base_ad.A0]"\nquestions: ba\nexpect: {fails: [A0]}', "did you mean 'base_add.A0'?"),
        ('ablate: "S3[base_add.A0]"\nquestions: ba\nexpect: {fails: [A0]}',
         "expected nodes of base_add.A0 there, found S4L0H0, S4L0H1 in S3[base_add.A0]; write [base_add.A0]"),
        (GROUP + "ablate: S4L0H7\nquestions: ba\nexpect: {fails: [A0]}", "found H7 in S4L0H7 (asked of run_s0)"),
        (GROUP + "ablate: S4L0H0\nquestions: ba\nexpect: {fails: [A0], at_least: 9/8}", "a share of at most 1, like 7/8"),
        (GROUP + "ablate: S4L0H0\nquestions: ba\nexpect: {fails: [A0], at_least: most}", "expected a share like 7/8, found most"),
        ("fixtures: [run_s0]\nablate: S4L0H0\nquestions: ba\nexpect: {fails: [A0]}", "expected several fixtures, found run_s0"),
        ("fixtures: [nobody]\nablate: S4L0H0\nquestions: ba\nexpect: {fails: [A0]}", "found nobody"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_several_runs_is_told_in_a_line(runs, tmp_path, text, complaint):
    said = refusal(SpecError, read, tmp_path, text, runs)
    assert complaint in said
    assert said.startswith("s.yaml:")


# What moved, and what holds of which run.

SPEC = """\
version: 1
fixture: run_s0
hypotheses:
  - id: base-add
    claim: The base add is where its role is.
    fixtures: ["run_s[01]"]
    ablate: "[base_add.A0]"
    questions: {n: 1500, seed: 3}
    expect: {fails: [A0], may_fail: [A1]}
  - id: heads-0-and-1
    claim: Heads 0 and 1 are enough.
    fixtures: ["run_s[01]"]
    keep: {heads: S3-S4L0H0+H1}
    questions: {n: 1500, seed: 3}
    expect: {at_least: 1/2}
  - id: head-2-idle
    claim: Head 2 does nothing.
    ablate: S4L0H2
    questions: {n: 1500, seed: 3}
    expect: {fails: []}
"""


@pytest.fixture
def judged(pytester, copied, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    pytester.mkdir("claims")
    (pytester.path / "claims" / "a.yaml").write_text(SPEC, "utf-8")

    def run(name):
        pytester.runpytest("claims/", f"--harness-fixtures={copied}", f"--harness-report={name}")
        return pytester.path / f"{name}.json"

    return run


def test_a_report_does_not_differ_from_itself(judged, capsys):
    old = judged("old")
    capsys.readouterr()
    assert main(["diff", str(old), str(old)]) == 0
    assert capsys.readouterr().out.startswith("No difference")


@pytest.mark.slow
def test_after_retraining_the_difference_says_which_claim_was_lost_and_which_role_moved(judged, copied, capsys):
    old = judged("old")
    shutil.rmtree(copied / "run_s0")
    write_run(copied, "run_s0", order=[2, 1, 0], roles=False)
    text = "version: 1\nroles: {base_add: {A0: S4L0H1+H2}, carry: {A1: S3L0H1+H2}}\n"
    (copied / "run_s0" / "roles.yaml").write_text(text, "utf-8")
    new = judged("new")
    capsys.readouterr()
    assert main(["diff", str(old), str(new)]) == 1
    out = capsys.readouterr().out
    lost, _, rest = out.partition("\n\n")
    assert lost.splitlines()[0] == "No longer supported (2)"
    assert "heads-0-and-1: supported → refuted" in lost
    assert "run_s0 no digit fails → " in lost
    assert "head-2-idle: supported → refuted" in lost
    assert "base-add: run_s0 S4L0H0+H1 → S4L0H1+H2" in rest
    assert "run_s0: weights " in rest


def test_the_other_way_round_nothing_is_lost(judged, copied, capsys):
    old = judged("old")
    report = json.loads(old.read_text("utf-8"))
    report["claims"] = [claim for claim in report["claims"] if claim["id"] != "head-2-idle"]
    fewer = old.with_name("fewer.json")
    fewer.write_text(json.dumps(report), "utf-8")
    capsys.readouterr()
    assert main(["diff", str(fewer), str(old)]) == 0
    assert "head-2-idle: supported, not asked before" in capsys.readouterr().out
    assert main(["diff", str(old), str(fewer)]) == 1  # what is not asked any more is not seen to hold
    assert "head-2-idle: supported before, and not asked any more" in capsys.readouterr().out


def test_a_rate_moves_only_beyond_its_interval(judged, capsys):
    old = judged("old")
    report = json.loads(old.read_text("utf-8"))
    row = next(row for claim in report["claims"] if claim["id"] == "head-2-idle" for row in claim["comparisons"]
               if row["subject"] == "A0")  # fmt: skip
    assert row["value"] == 0
    for value, low, high, moved in ((0.002, 0.001, 0.006, False), (0.008, 0.0061, 0.01, True)):
        row |= {"value": value, "low": low, "high": high, "k": round(value * 1500)}
        changed = old.with_name("changed.json")
        changed.write_text(json.dumps(report), "utf-8")
        capsys.readouterr()
        assert main(["diff", str(old), str(changed)]) == 0
        assert ("Moved beyond its interval (1)" in capsys.readouterr().out) == moved


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"version": 1, "claims": []}'])
def test_what_is_no_report_is_told_in_a_line(tmp_path, capsys, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert main(["diff", str(path), str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"harness: {path}: expected a")


def test_a_report_of_a_newer_harness_is_no_reason_to_write_it_anew(tmp_path, capsys):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"version": VERSION + 1, "claims": {}}), "utf-8")
    expected = f"expected version {VERSION}, the newest that harness {__version__} reads, found {VERSION + 1}"
    for command in (["diff", str(path), str(path)], ["findings", str(path)]):
        assert main(command) == 2
        assert capsys.readouterr().err == f"harness: {path}: {expected}; install a newer harness\n"


def test_the_findings_say_what_holds_of_every_run(judged, copied, tmp_path, capsys):
    report = judged("old")
    capsys.readouterr()
    assert main(["findings", str(report), "--fixtures", str(copied)]) == 0
    text = capsys.readouterr().out
    assert "## Holds of every run: 1 of 2 claims\n\n- The base add is where its role is (2/2; `base-add`)" in text
    assert "## Holds of some runs, not of others: 1 of 2 claims" in text
    low, high = exact_interval(1, 2, 0.99)
    assert f"| ●○ | 1/2 ({low:.0%} to {high:.0%}) |" in " ".join(text.split()).replace(" | ", " | ")
    assert "| base_add.A0 | S4L0H0+H1 | S4L0H1+H2 |" in " ".join(text.split())
    out = tmp_path / "f.md"
    assert main(["findings", str(report), "--fixtures", str(copied), "--out", str(out)]) == 0
    assert out.read_text("utf-8") == text


def test_a_role_may_be_at_a_place_without_a_number(judged, copied, capsys):
    report = judged("old")
    for name in ("run_s0", "run_s1"):
        path = copied / name / "roles.yaml"
        text = path.read_text("utf-8").replace(
            "\nroles:\n", "\nroles:\n  zero: {sign: S4L0H0, A1: S4L0H0, A0: S4L0H0}\n", 1
        )
        path.write_text(text, "utf-8")
    capsys.readouterr()
    assert main(["findings", str(report), "--fixtures", str(copied)]) == 0
    roles = re.findall(r"^\| (\S+\.\S+)", capsys.readouterr().out, re.MULTILINE)
    assert [role for role in roles if role.startswith("zero.")] == ["zero.A1", "zero.A0", "zero.sign"]


def test_a_report_without_such_claims_has_no_findings(judged, copied):
    report = json.loads(judged("old").read_text("utf-8"))
    from harness.reporting.findings import findings

    alone = [claim for claim in report["claims"] if claim["verb"] != "across"]
    assert "expected claims about several fixtures" in refusal(HarnessError, findings, alone, copied, "x")


@pytest.mark.slow
def test_the_page_draws_the_share_of_the_runs_and_no_rate_of_a_run(judged, pytester, copied):
    judged("old")
    pytester.runpytest("claims/", f"--harness-fixtures={copied}", "--harness-html=page.html")
    page = (pytester.path / "page.html").read_text("utf-8")
    section = page.split(
        'id="claim-claims-a.yaml-heads-0-and-1"' if "claim-claims" in page else "heads-0-and-1</span>"
    )[1]
    body = section.split("<tbody>")[1].split("</tbody>")[0]
    rows = {re.search(r'<th scope="row">([^<]+)', row)[1]: row for row in body.split("<tr>")[1:]}
    assert list(rows) == ["run_s0", "run_s1", "training runs"]
    assert ["<svg" in row for row in rows.values()] == [False, False, True]
    assert "all counted" not in body
    assert "1/2 <b>50%</b>" in rows["training runs"]
