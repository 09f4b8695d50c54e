"""Mutants of claims whose truth was put into the weights: those that hold as well survive, all others are killed."""

from __future__ import annotations

import pytest
from planted import planted_weights, read
from tiny import write_tiny

from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.worth.coverage import COVERAGE_N, coverage_of, map_nodes
from harness.judging.worth.mutants import mutants_of
from harness.judging.worth.mutation_score import gather_mutants, judge_mutants
from harness.specs.fixtures.files import FixtureRef

pytestmark = pytest.mark.usefixtures("one_thread")

# What is claimed; which mutants are killed; which hold as well.
MUTATED = {
    "a-head": (
        "ablate: S4L0H0\nquestions: {sample}\nexpect: {{fails: [A0]}}",
        {"layer+1", "step-1", "no-op", "drop A0"}, {"head+1"},
    ),
    "an-MLP": (
        "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}",
        {"layer+1", "step-1", "no-op", "drop A1", "digit-1", "add A0"}, set(),
    ),
    # The clean loss is 0.19, and 0.67 without this MLP.
    "what-says-little": (
        "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [], may_fail: [A1], loss_above: 0.3}}",
        {"layer+1", "step-1", "step+1", "no-op", "add A0"}, {"add A1"},
    ),
    "nothing": ("ablate: S3L0H2\nquestions: {all}\nexpect: {{fails: []}}", {"wider", "add A1", "add A0"}, set()),
    "a-stream-unused": (
        "ablate: S1L0R\nquestions: {all}\nexpect: {{fails: []}}", {"add A1", "add A0"}, {"wider"},
    ),
    "what-suffices": (
        "keep: {{heads: S3-S4L0H0+H1}}\nquestions: {sample}",
        {"head+1", "layer+1", "step-1", "step+1", "keep nothing", *(f"without S{s}L0H{h}" for s in (3, 4) for h in (0, 1))},
        set(),
    ),
    "what-suffices-for-A1": (
        "keep: {{heads: S3L0H0+H1, digits: [A1]}}\nquestions: {sample}",
        {"head+1", "layer+1", "step-1", "step+1", "keep nothing", "add A0", "without S3L0H0", "without S3L0H1"}, set(),
    ),
    "what-carries": (
        "patch: {{node: S3-S4L0M, variable: D0.T1, digits: [A1, A0]}}\npairs: {{n: 700}}",
        {"step-1", "layer+1", "no-op", "drop A1", "drop A0", "without S4L0M"}, set(),  # S4 alone cannot reach A1
    ),
    "one-node-too-many": (
        "ablate: [S3L0M, S3L0H2]\nquestions: {sample}\nexpect: {{fails: [A1]}}",
        {"layer+1", "step-1", "no-op", "drop A1", "digit-1", "add A0", "without S3L0M"}, {"without S3L0H2"},
    ),
    "a-loss-and-one-node-too-many": (
        "ablate: [S3L0M, S3L0H2]\nquestions: {sample}\nexpect: {{fails: [], may_fail: [A1], loss_above: 0.3}}",
        {"layer+1", "step-1", "step+1", "no-op", "add A0", "without S3L0M"}, {"add A1", "without S3L0H2"},
    ),
    "a-node-that-nothing-reads": (
        "ablate: [S3L0M, S5L1M]\nquestions: {sample}\nexpect: {{fails: [A1]}}",
        {"step-1", "no-op", "drop A1", "digit-1", "add A0"}, {"without S5L1M"},
    ),
    "more-than-suffices": (
        "keep: {{heads: [S3-S4L0H0+H1, S4L0H2]}}\nquestions: {all}",
        {"layer+1", "step-1", "step+1", "keep nothing", *(f"without S{s}L0H{h}" for s in (3, 4) for h in (0, 1))},
        {"without S4L0H2"},
    ),
    "where-it-looks": (
        "attend: {{node: S3L0H0, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}",
        {"head+1", "layer+1", "to+1"}, {"step+1", "step-1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "killed", "surviving"), MUTATED.values(), ids=MUTATED)
def test_what_does_not_hold_is_killed(tmp_path, fixtures, bench, text, killed, surviving):
    (claim,) = read(tmp_path, fixtures, text)
    assert judge(claim, bench).verdict == "supported"
    gather_mutants(claim, bench, [])
    found = judge_mutants(claim, bench, [])
    assert set(found.killed) == killed
    assert {survivor.kind for survivor in found.survivors} == surviving
    assert found.stale == ()


def test_no_mutant_is_the_claim_and_no_two_are_alike(tmp_path, fixtures):
    for claim in read(tmp_path, fixtures, *(text for text, _, _ in MUTATED.values())):
        mutants = [mutant.claim for mutant in mutants_of(claim, ["other"])]
        assert claim not in mutants
        assert all(mutant not in mutants[:i] for i, mutant in enumerate(mutants))


def test_a_survivor_may_have_a_reason_and_a_reason_must_have_a_survivor(tmp_path, fixtures, bench):
    text = (
        "ablate: S4L0H0\nquestions: {sample}\nexpect: {{fails: [A0]}}\nsurvivors: {{head+1: both are needed, no-op: x}}"
    )
    (claim,) = read(tmp_path, fixtures, text)
    found = judge_mutants(claim, bench, [])
    assert [(survivor.kind, survivor.reason) for survivor in found.survivors] == [("head+1", "both are needed")]
    assert found.stale == ("no-op",)


def test_that_it_holds_where_nothing_is_done_has_no_excuse(tmp_path, fixtures, bench):
    text = (
        "ablate: S4L0H0\nquestions: {sample}\n"
        "expect: {{fails: [], may_fail: [A1, A0], loss_above: 1.0e-9}}\nsurvivors: {{no-op: a loss is never 0}}"
    )
    (claim,) = read(tmp_path, fixtures, text)
    found = judge_mutants(claim, bench, [])
    assert ("no-op", None) in [(survivor.kind, survivor.reason) for survivor in found.survivors]


def test_of_too_many_nodes_it_is_said_that_none_was_left_out(tmp_path, fixtures, bench):
    (claim,) = read(tmp_path, fixtures, "ablate: S0-S5\nquestions: {all}\nexpect: {{fails: [A1, A0]}}")
    assert len([mutant for mutant in mutants_of(claim) if mutant.kind.startswith("without")]) == 6
    (claim,) = read(
        tmp_path, fixtures, "ablate: [S0-S5L0, S0-S5L1H0+H1]\nquestions: {all}\nexpect: {{fails: [A1, A0]}}"
    )
    found = judge_mutants(claim, bench, [])
    assert found.not_tried == found.as_dict()["not_tried"] == 36
    assert not [kind for kind in found.killed if kind.startswith("without")]


@pytest.mark.slow
def test_other_weights_kill_what_is_so_of_these_alone(tmp_path, fixtures):
    """The other model has the two copying heads in each other's place, and adds just as well."""
    weights = planted_weights()
    swapped = {
        name: w[[1, 0, 2]] if name.startswith("blocks.0.attn") and w.shape[:1] == (3,) else w
        for name, w in weights.items()
    }
    sizes = {"n_digits": 1, "n_layers": 2, "n_heads": 3, "d_model": 72, "d_mlp": 200}
    write_tiny(tmp_path, "planted", weights=weights, **sizes)
    write_tiny(tmp_path, "swapped", weights=swapped, **sizes)
    looks, cut = read(
        tmp_path, tmp_path,
        "attend: {{node: S3L0H0, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}",
        "ablate: S4L0H0\nquestions: {sample}\nexpect: {{fails: [A0]}}",
    )  # fmt: skip
    bench = Workbench("cpu")
    assert "weights" in judge_mutants(looks, bench, ["swapped"]).killed
    survivor = next(s for s in judge_mutants(cut, bench, ["swapped"]).survivors if s.kind == "weights")
    assert survivor.about == "S4L0H0 of swapped"


def test_coverage_finds_the_nodes_that_do_all_and_those_that_are_not_named(fixtures, bench):
    swept = map_nodes(FixtureRef("planted", fixtures), bench, COVERAGE_N)
    found = coverage_of(swept, {"S3L0H0", "S3L0H1", "S3L0M", "S0L0H2"}, {"S3L0M", "S0L0H2"})
    assert set(found.matter) == {"S3L0H0", "S3L0H1", "S3L0M", "S4L0H0", "S4L0H1", "S4L0M"}
    assert found.named == {"S3L0H0", "S3L0H1", "S3L0M"}
    assert list(found.missing) == ["S4L0H0", "S4L0H1", "S4L0M"]
    assert found.share == 0.5
    assert found.alone == {"S3L0M"}
    assert str(found) == (
        "planted: 3 of the 6 nodes that matter are named by a supported claim that needs them (50%), "
        "1 by one of a single node (16.7%)"
    )
