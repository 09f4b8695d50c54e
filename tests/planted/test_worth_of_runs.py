"""Controls and mutants of claims about several training runs, whose inside is known: each run's, and what they come to."""

from __future__ import annotations

from fractions import Fraction

import pytest
from several import ASKED, GROUP, KNOWN, read

from harness.judging.across import RunsControls
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.records import record_of
from harness.judging.verdict import Comparison, Controls, row_of
from harness.judging.worth.controls import CONTROL_N
from harness.judging.worth.mutants import mutants_of
from harness.judging.worth.mutation_score import gather_mutants, judge_mutants
from harness.reporting.failure import failure_text, run_controls
from harness.reporting.page import render
from harness.reporting.report import markdown
from harness.reporting.summary import not_specific, shown_verdict, summary_line
from harness.reporting.words import comparisons_in_short
from harness.specs.siblings import write_nodes

pytestmark = pytest.mark.usefixtures("one_thread")


def controlled(tmp_path, text, runs):
    result = judge(read(tmp_path, GROUP + text, runs), Workbench("cpu"), controls=True)
    return result, record_of(result)


def test_each_run_is_controlled_and_the_claim_is_specific_where_all_are(runs, tmp_path):
    """Of two heads that are both needed, each pair with one of them does it too; of the carry, the pair alone."""
    carry = 'patch: {node: "[carry.A1]", variable: D0.tricase, digits: [A1]}\npairs: {n: 1000}\n'
    result, record = controlled(tmp_path, carry, runs)
    assert (result.verdict, result.controls.specific, not_specific(record)) == ("supported", True, False)
    assert record["controls"] == {
        "runs": 2, "put_back": CONTROL_N, "specific": True, "compared": 2, "specific_runs": 2, "open": 0, "needed": 2,
        "held": 2, "ranked": 2, "first": 2, "same": {}, "methods": {}, "spare": {}, "variables": {"D0.T1": 0},
    }  # fmt: skip
    assert [run_controls(record, name) for name in KNOWN] == ["rank 1 of 6; specific"] * 2
    assert "specific in 2 of the 2 runs that it holds of (2 needed); rank 1 in 2 of 2" in failure_text(record)
    assert "not told apart from: D0.T1 (told apart in 0 of 2 runs)" in failure_text(
        record
    )  # nothing comes into D0: all that A1 needs


@pytest.mark.slow
def test_a_claim_is_supported_and_not_specific_where_too_few_runs_are(runs, tmp_path):
    """Either copying head breaks A0: head 1 copies in both runs, and has one partner in each; head 0 of s1 is idle."""
    cut = "ablate: S4L0H1\n" + ASKED + "expect: {fails: [A0]%s}"
    result, record = controlled(tmp_path, cut % "", runs)
    assert (result.verdict, not_specific(record)) == ("supported", True)
    assert record["controls"]["same"] == {"S4L0H0": 1, "S4L0H2": 1}
    assert record["controls"]["methods"] == {"mean": 2, "zero": 2, "resample": 2}
    assert (record["controls"]["specific_runs"], record["controls"]["needed"]) == (0, 2)
    assert shown_verdict(record) == "supported, not specific"
    assert summary_line([record]).endswith("1 of the supported not specific")
    alone = {name: judge(member, Workbench("cpu"), controls=True).controls
             for name, member in zip(KNOWN, read(tmp_path, GROUP + cut % "", runs).members, strict=True)}  # fmt: skip
    for name, controls in alone.items():  # each run's controls are those of the claim of that run
        assert record["measurement"]["by_run"][name]["controls"]["rank"] == controls.rank
        assert next(row.subject for row in controls.same) in run_controls(record, name)
    table = markdown([record])
    assert "S4L0H0 (in 1), S4L0H2 (in 1)" in table
    assert "specific in 0 of 2" in table
    assert table.count("supported in 2 of 2") == 3
    assert "so do, or can be spared: S4L0H2" in render([record])


@pytest.mark.slow
@pytest.mark.parametrize(("at_least", "specific"), [("1/2", True), ("2/2", False)])
def test_the_share_that_the_claim_needs_is_the_share_that_must_be_specific(copied, tmp_path, at_least, specific):
    """What s0 keeps it needs; s1 keeps its idle head 0 as well, which can be spared."""
    (copied / "run_s1" / "roles.yaml").write_text("version: 1\nroles: {base_add: {A0: S4L0H0+H1+H2}}\n", "utf-8")
    keep = 'keep: {heads: "[base_add.A0]", digits: [A0]}\n' + ASKED + f"expect: {{at_least: {at_least}}}"
    result, record = controlled(tmp_path, keep, copied)
    assert (result.verdict, result.controls.specific, not_specific(record)) == ("supported", specific, not specific)
    assert record["controls"]["same"] == {"S4L0H0": 1}
    assert [run_controls(record, name) for name in KNOWN] == ["specific", "so do, or can be spared: S4L0H0 (A0 0/1500)"]


@pytest.mark.parametrize(
    ("findings", "at_least", "expected"),
    [
        (["holds"] * 7 + ["contradicted"] * 2, "7/9", True),
        (["holds"] * 6 + ["contradicted"] * 3, "7/9", False),
        (["holds"] * 6 + ["contradicted"] * 2 + ["undecided"], "7/9", None),
        (["holds"] * 7 + ["undecided"] * 2, "7/9", True),
        (["holds"] * 6 + [None] * 3, "1/1", True),  # only runs in which there are siblings tell
        ([None] * 9, "1/1", None),
    ],
)  # fmt: skip
def test_whether_a_claim_is_specific_follows_from_its_runs(findings, at_least, expected):
    def controls(finding):
        row = Comparison(
            subject="S1L0H0", kind="fails", expects="unlike", token="A0", k=1, n=2, value=0.5, finding=finding
        )  # fmt: skip
        return Controls(200, 1.0, () if finding is None else (row,), {})

    by_run = {f"run{i}": controls(finding) for i, finding in enumerate(findings)}
    assert RunsControls(by_run, frozenset(by_run), Fraction(at_least)).specific is expected


@pytest.mark.slow
def test_only_the_runs_that_a_claim_holds_of_tell_whether_it_is_specific(runs, tmp_path):
    """Heads 0 and 1 are all that s0 needs, and s1 does without neither of heads 1 and 2."""
    keep = "keep: {heads: S3-S4L0H0+H1}\n" + ASKED + "expect: {at_least: 1/2}"
    result, record = controlled(tmp_path, keep, runs)
    assert result.verdict == "supported"
    assert (record["controls"]["compared"], record["controls"]["specific"]) == (1, True)
    assert record["controls"]["methods"]["mean"] == 1


def test_a_claim_of_several_runs_that_only_looks_has_no_controls(runs, tmp_path):
    result, record = controlled(tmp_path, 'attend: {node: "[carry.A1]", to: [D0, "D\'0"]}\n' + ASKED +
                                "expect: {mass_at_least: 0.9}", runs)  # fmt: skip
    assert (result.controls, record["controls"]) == (None, None)


@pytest.mark.slow
def test_planned_or_not_the_controls_of_runs_are_the_same(runs, tmp_path):
    claim = read(tmp_path, GROUP + "ablate: S4L0H1\n" + ASKED + "expect: {fails: [A0]}", runs)
    planned = Workbench("cpu")
    gather([claim], planned, controls=True)
    assert judge(claim, planned, controls=True).controls == judge(claim, Workbench("cpu"), controls=True).controls


def seen(survivor):
    return comparisons_in_short({"verb": "across"}, [row_of(row) for row in survivor.comparisons])


def mutated(tmp_path, text, runs):
    claim, bench = read(tmp_path, GROUP + text, runs), Workbench("cpu")
    assert judge(claim, bench).verdict == "supported"
    gather_mutants(claim, bench, [])
    return judge_mutants(claim, bench, ["run_s2"])


@pytest.mark.slow
def test_a_mutant_is_killed_by_one_run_and_survives_where_it_holds_of_all(runs, tmp_path):
    """Head 1 copies in both runs. One further on is idle in s0, and copies in s1; one before copies in s0 alone."""
    found = mutated(tmp_path, "ablate: S4L0H1\n" + ASKED + "expect: {fails: [A0]}", runs)
    assert {"head+1", "head-1", "layer+1", "step-1", "no-op", "drop A0"} == set(found.killed)
    assert found.survivors == ()
    some = mutated(tmp_path, "ablate: S4L0H1\n" + ASKED + "expect: {fails: [A0], at_least: 1/2}", runs)
    assert {survivor.kind: seen(survivor) for survivor in some.survivors} == {
        "head+1": "1/2 runs", "head-1": "1/2 runs",
    }  # fmt: skip


@pytest.mark.slow
def test_the_nodes_of_a_role_are_moved_where_each_run_has_them_and_tried_in_the_next_run(runs, tmp_path):
    """Cut heads 0 and 1 of s0: one further on is its head 2 too; of s1, heads 1 and 2, whose next is no head."""
    claim = read(tmp_path, GROUP + 'ablate: "[base_add.A0]"\n' + ASKED + "expect: {fails: [A0]}", runs)
    changed = {mutant.kind: mutant.claim for mutant in mutants_of(claim)}
    assert {kind: [(m.fixture, write_nodes(m.nodes)) for m in changed[kind].members] for kind in ("head+1", "head-1")} == {
        "head+1": [("run_s0", "S4L0H1+H2")], "head-1": [("run_s1", "S4L0H0+H1")],
    }  # fmt: skip
    assert [(m.fixture, write_nodes(m.nodes)) for m in changed["weights"].members] == [
        ("run_s1", "S4L0H0+H1"), ("run_s0", "S4L0H1+H2")
    ]  # fmt: skip
    # Half of the pair is enough to break the digit, so each of these holds as well.
    text = (
        'ablate: "[base_add.A0]"\n'
        + ASKED
        + "expect: {fails: [A0]}\nsurvivors: {weights: one of two is enough, no-op: x}"
    )
    found = mutated(tmp_path, text, runs)
    assert {s.kind: (s.reason, seen(s)) for s in found.survivors} == {
        "head+1": (None, "1/1 runs"), "head-1": (None, "1/1 runs"), "weights": ("one of two is enough", "2/2 runs"),
        "without S4L0H0": (None, "1/1 runs"), "without S4L0H1": (None, "2/2 runs"), "without S4L0H2": (None, "1/1 runs"),
    }  # fmt: skip
    assert found.stale == ("no-op",)
    about = next(s.about for s in found.survivors if s.kind == "weights")
    assert about == "[base_add.A0], each in the next run's weights of run_s[01]"
    # It is not enough to carry what both carry.
    carry = 'patch: {node: "[carry.A1]", variable: D0.tricase, digits: [A1]}\npairs: {n: 1000}\n'
    assert {"weights", "head+1", "head-1"} <= set(mutated(tmp_path, carry, runs).killed)


def test_a_claim_that_names_no_role_is_of_other_weights_already(runs, tmp_path):
    claim = read(tmp_path, GROUP + "ablate: S4L0H1\n" + ASKED + "expect: {fails: [A0]}", runs)
    assert "weights" not in {mutant.kind for mutant in mutants_of(claim, ["run_s2"])}
