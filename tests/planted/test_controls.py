"""Controls of claims whose truth was put into the weights: heads 0 and 1 of layer 0 and its MLP do all, at S3 and S4."""

from __future__ import annotations

import pytest
from planted import read

from harness.base.errors import MeasurementError
from harness.engines import cone
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.records import record_of
from harness.judging.worth.controls import measure_controls
from harness.reporting.failure import controls_line, failure_text
from harness.reporting.summary import not_specific
from harness.tasks.positions import Nouns

pytestmark = pytest.mark.usefixtures("one_thread")

# What is claimed; whether nothing else does it; and what does.
CONTROLLED = {
    "a-head": ("ablate: S3L0H0\nquestions: {sample}\nexpect: {{fails: [A1]}}", False, {"S3L0H1"}),
    "two-heads": ("ablate: S3L0H0+H1\nquestions: {all}\nexpect: {{fails: [A1]}}", False, {"S3L0H0+H2", "S3L0H1+H2"}),
    "an-MLP": ("ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}", True, set()),
    "a-stream": ("ablate: S4L0R\nmethod: zero\nquestions: {all}\nexpect: {{fails: [A0]}}", True, set()),
    "what-suffices": ("keep: {{heads: S3-S4L0H0+H1}}\nquestions: {sample}", True, set()),
    "more-than-suffices": ("keep: {{heads: [S3-S4L0H0+H1, S4L0H2]}}\nquestions: {all}", False, {"S4L0H2"}),
    "more-than-suffices-for-a-sample": ("keep: {{heads: S3-S4L0H0+H1+H2}}\nquestions: {sample}", False, {"S3L0H2", "S4L0H2"}),
    "what-carries": ("patch: {{node: S3L0M, variable: D0.carry, digits: [A1]}}\npairs: {{n: 900}}", True, set()),
    "two-heads-carry": (
        "patch: {{node: S4L0H0+H1, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 900}}", True, set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "specific", "same"), CONTROLLED.values(), ids=CONTROLLED)
def test_controls_find_what_does_the_same(tmp_path, fixtures, bench, text, specific, same):
    (claim,) = read(tmp_path, fixtures, text)
    result = judge(claim, bench, controls=True)
    assert result.verdict == "supported"
    assert result.controls.specific is specific
    assert {row.subject for row in result.controls.same} == same
    assert all(row.finding != "undecided" for row in result.controls.siblings)
    assert (result.controls.rank is None) == (claim.verb == "keep")  # of which each sibling is one node more, no rival
    record = record_of(result)
    assert not_specific(record) is not specific
    assert all(name in failure_text(record) for name in same)


@pytest.mark.parametrize(("text", "specific", "same"), CONTROLLED.values(), ids=CONTROLLED)
def test_only_here_demands_that_nothing_else_does_it(tmp_path, fixtures, bench, text, specific, same):
    if "expect" in text:
        text = text.replace("]}}", "], only_here: true}}")
    else:
        text += "\nexpect: {{only_here: true}}"
    (claim,) = read(tmp_path, fixtures, text)
    result = judge(claim, bench)
    assert result.verdict == ("supported" if specific else "refuted")
    assert {row.subject for row in result.comparisons if row.sibling and row.finding == "contradicted"} == same
    assert "only here" in claim.expected or "each is needed" in claim.expected


# What is claimed; which nodes can be spared, each alone; which are needed, and so get credit.
LEFT_OUT = {
    "an-idle-head-beside": ("ablate: [S3L0M, S3L0H2]\nquestions: {sample}\nexpect: {{fails: [A1]}}", {"S3L0H2"}, {"S3L0M"}),
    "what-nothing-reads": ("ablate: [S3L0M, S5L1M]\nquestions: {sample}\nexpect: {{fails: [A1]}}", {"S5L1M"}, {"S3L0M"}),
    "one-at-a-time": (
        "ablate: [S3L0M, S3L0H2]\none_at_a_time: true\nquestions: {all}\nexpect: {{fails: [A1]}}", {"S3L0H2"}, {"S3L0M"},
    ),
    "two-that-do-the-same": (
        "ablate: S3L0H0+H1\nquestions: {all}\nexpect: {{fails: [A1]}}", {"S3L0H0", "S3L0H1"}, set(),
    ),
    "two-digits": (
        "ablate: S3-S4L0M\nquestions: {sample}\nexpect: {{fails: [A1, A0]}}", set(), {"S3L0M", "S4L0M"},
    ),
    "a-loss": (
        "ablate: [S3L0M, S3L0H2]\nquestions: {sample}\nexpect: {{fails: [], may_fail: [A1], loss_above: 0.3}}",
        {"S3L0H2"}, {"S3L0M"},
    ),
    "one-node": ("ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}", set(), {"S3L0M"}),
    "nothing-fails": ("ablate: S3-S4L0H2\nquestions: {sample}\nexpect: {{fails: []}}", set(), set()),
    "one-that-does-not-carry": (
        "patch: {{node: [S3L0M, S4L0H2], variable: D0.carry, digits: [A1]}}\npairs: {{n: 900}}", {"S4L0H2"}, {"S3L0M"},
    ),
    "two-that-carry": (
        "patch: {{node: S4L0H0+H1, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 900}}",
        set(), {"S4L0H0", "S4L0H1"},
    ),
    "where-it-looks": (
        "attend: {{node: S3L0H0, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}", set(), {"S3L0H0"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "spare", "needed"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_node_without_which_all_is_the_same_is_spare_and_gets_no_credit(
    tmp_path, fixtures, bench, text, spare, needed
):
    (claim,) = read(tmp_path, fixtures, text)
    result, alone = judge(claim, bench, controls=True, credit=True), judge(claim, Workbench("cpu"), credit=True)
    assert result.verdict == "supported"
    assert set(result.credited) == set(alone.credited) == needed
    if result.controls is not None:
        assert {row.subject for row in result.controls.spare} == spare
        assert result.controls.specific is not True or not spare
        assert not_specific(record_of(result)) or not spare
        line = controls_line(result.controls.as_dict(), Nouns())
        assert all(f"{node} (without it " in line or f"{node} (is read by nothing)" in line for node in spare)
        assert ("each alone can be spared" in line) == (len(spare) > 1)


def test_what_a_kept_node_is_needed_for_gets_it_credit(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, "keep: {{heads: [S3-S4L0H0+H1, S4L0H2]}}\nquestions: {all}")
    for controls in (False, True):
        assert judge(claim, bench, controls=controls, credit=True).credited == ("S3L0H0", "S3L0H1", "S4L0H0", "S4L0H1")


def test_cutting_all_of_a_model_gives_credit_to_none_of_its_nodes(tmp_path, fixtures, bench):
    """More nodes than are left out one by one; those that nothing reads are named all the same."""
    text = "ablate: [S0-S5L0, S0-S5L1]\nquestions: {all}\nexpect: {{fails: [A1, A0]}}"
    (claim,) = read(tmp_path, fixtures, text)
    result = judge(claim, bench, controls=True, credit=True)
    assert (result.verdict, result.credited, result.controls.not_tried) == ("supported", (), 48)
    assert {"S0L1M", "S5L0H0"} <= {row.subject for row in result.controls.spare} == set(map(str, claim.unread))
    record = record_of(result)
    assert "read by nothing: " in failure_text(record)
    assert "not tried, whether each of 48 nodes can be spared" in failure_text(record)


def test_the_rank_is_among_the_other_heads_and_steps(tmp_path, fixtures, bench):
    """Cut to its mean over all questions, which is no digit, either head breaks A1 on the 45 sums of ten and more."""
    claims = read(
        tmp_path, fixtures,
        "ablate: S3L0H0\nreference: {all}\nquestions: {all}\nexpect: {{fails: [A1]}}",
        "ablate: S3L0H2\nreference: {all}\nquestions: {all}\nexpect: {{fails: [A1]}}\nxfail: {{reason: unused}}",
        "ablate: S3L0H2\nquestions: {all}\nexpect: {{fails: []}}",
    )  # fmt: skip
    found = [measure_controls(claim, bench) for claim in claims]
    assert found[0].own == 0.45
    assert {row.subject: row.value for row in found[0].siblings} == {
        "S3L0H1": 0.45, "S3L0H2": 0.0, "S0L0H0": 0.0, "S1L0H0": 0.0, "S2L0H0": 0.0,
    }  # fmt: skip
    assert [controls.rank for controls in found] == [1, 3, None]
    assert found[2].specific is None


def test_a_sibling_that_is_undecided_leaves_open_whether_the_claim_is_specific(tmp_path, fixtures, bench):
    """Either head breaks A1 on 45% of all sums, which 1,500 questions tell from 40% and 200 do not."""
    text = "ablate: S3L0H0\nreference: {all}\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.4}}"
    result = judge(read(tmp_path, fixtures, text)[0], bench, controls=True)
    assert result.verdict == "supported"
    assert {row.subject for row in result.controls.siblings if row.finding == "undecided"} == {"S3L0H1"}
    assert result.controls.specific is None
    assert not_specific(record_of(result)) is False


def test_the_methods_stand_side_by_side(tmp_path, fixtures, bench):
    """Zeroed, no unit is on and A0 is 0, in nine of ten questions wrong; from another question, in nine of ten too."""
    (claim,) = read(tmp_path, fixtures, "ablate: S4L0H0\nquestions: {all}\nexpect: {{fails: [A0], fail_rate: 0.85}}")
    assert measure_controls(claim, bench).methods == {"mean": "supported", "zero": "supported", "resample": "supported"}
    (claim,) = read(tmp_path, fixtures, "ablate: S3L0H0\nquestions: {all}\nexpect: {{fails: [A1], fail_rate: 0.4}}")
    methods = measure_controls(claim, bench).methods
    assert methods["zero"] == "supported"
    assert methods["resample"] == "refuted"  # another digit's tens are often the same


def test_a_claim_that_only_looks_has_no_controls(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_least: 0.99}}")
    assert judge(claim, bench, controls=True).controls is None


@pytest.mark.parametrize(
    "text",
    [
        "ablate: S3L0H0\nquestions: {all}\nexpect: {{fails: [A1]}}",
        "patch: {{node: S3L0M, variable: D0.carry, digits: [A1]}}\npairs: {{n: 900}}",
    ],
)
def test_an_engine_that_does_not_put_back_what_it_took_is_found_out(tmp_path, fixtures, monkeypatch, text):
    honest = cone.capture

    def shifted(fixture, tokens, nodes, chunk=None):
        clean, values = honest(fixture, tokens, nodes, chunk)
        return clean, {node: value.roll(37, dims=0) for node, value in values.items()}

    (claim,) = read(tmp_path, fixtures, text)
    assert measure_controls(claim, Workbench("cpu")) is not None
    monkeypatch.setattr(cone, "capture", shifted)
    with pytest.raises(
        MeasurementError, match=r"s.yaml:4:1: expected nothing to change when .* a defect of the engine"
    ):
        measure_controls(claim, Workbench("cpu"))


@pytest.mark.slow
def test_planned_or_not_the_controls_are_the_same(tmp_path, fixtures, bench):
    claims = read(tmp_path, fixtures, *(text for text, _, _ in CONTROLLED.values()))
    planned = Workbench("cpu")
    gather(claims, planned, controls=True)
    assert [measure_controls(c, planned) for c in claims] == [measure_controls(c, Workbench("cpu")) for c in claims]


@pytest.mark.parametrize("name", ["hooks", "cone"])
def test_what_a_control_cannot_measure_changes_no_verdict(tmp_path, fixtures, name):
    """A reference of one question that is asked too: `resample` has no donor for it, which the claim does not need."""
    text = "ablate: S3L0M\nquestions: [1+2, 8+7, 9+9]\nreference: [1+2]\nexpect: {{fails: [A1]}}"
    (claim,) = read(tmp_path, fixtures, text)
    alone, controlled = (judge(claim, Workbench("cpu", name), controls=controls) for controls in (False, True))
    assert alone.verdict == controlled.verdict == "supported"
    assert alone.comparisons == controlled.comparisons
    assert controlled.controls.methods["resample"] == "error"
    assert "resample: error" in controls_line(controlled.controls.as_dict(), Nouns())
