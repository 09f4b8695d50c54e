"""Claims that hold without having been tested, on the model whose inside is known, and how far values are moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted import planted_weights, read
from several import SIZES
from tiny import write_tiny

from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.movement import movement_of
from harness.judging.records import record_of
from harness.judging.requests import ablation_of
from harness.judging.untested import MOVED
from harness.judging.worth.mutation_score import judge_mutants
from harness.reporting.failure import failure_text
from harness.specs.claim import Xfail
from harness.specs.nodes import read_nodes

SAME = "questions: [3+4, 3+4]\nreference: [3+4]"
VACUOUS = {
    "the reference is the question": (f"ablate: S3L0H0\n{SAME}\nexpect: {{{{fails: []}}}}", "unmoved"),
    "and it is said to fail": (f"ablate: S3L0H0\n{SAME}\nexpect: {{{{fails: [A1]}}}}", "unmoved"),
    "of two questions with the same first digit": (
        "ablate: S3L0H0\nquestions: [3+4, 3+8]\nreference: [3+1, 3+2]\nexpect: {{fails: []}}", "unmoved"),
    "what is kept is all that varies": (
        "keep: {{heads: [S3L0H0, S3L0H1, S4L0H0, S4L0H1]}}\nquestions: [3+4, 3+8]\nreference: [3+4]", None),
    "one answer": ("ablate: S0L1M\nquestions: [1+2, 2+1, 3+0]\nexpect: {{fails: []}}", "by construction"),
    "the same tens": ("ablate: S2L0H2\nmethod: zero\nquestions: [1+2, 2+1, 3+0]\nexpect: {{fails: []}}", "constant"),
    "the same answers are right": (
        "answer: [A1]\nquestions: {{n: 300, where: {{columns: {{D0: \"<9\"}}}}}}\nexpect: {{accuracy_at_least: 0.9}}",
        "constant"),
    "the last stream": ("ablate: S3L1R\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.35}}", "only way"),
    "all that there is at the equals sign": (
        "ablate: [S3L0, S3L1]\nquestions: {sample}\nexpect: {{fails: [A1], may_fail: [A0]}}", "only way"),
    "the last stream carries the sum": (
        "patch: {{node: S3L1R, variable: D0.carry, digits: [A1]}}\npairs: {{n: 800}}", "only way"),
    "no more than chance": (
        "attend: {{node: S3L0H2, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.2}}", "uniform"),
    "no less than chance": (
        "attend: {{node: S3L0H2, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_most: 0.3}}", "uniform"),
}  # fmt: skip
TESTED = {
    "a step before the last layer": "ablate: S3L0R\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "the MLP alone": "ablate: S3L0M\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "the last stream, and the others stay": (
        "ablate: [S3L1R, S1L0M]\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.35}}"),
    "one question that fails": "ablate: S4L0M\nmethod: zero\nquestions: [3+4]\nexpect: {{fails: [A0]}}",
    "all at the equals sign, and the units stay": (
        "ablate: [S3L0, S3L1]\nquestions: {sample}\nexpect: {{fails: [A1]}}"),
    "a head that never varies": "ablate: S3L0H2\nquestions: {sample}\nexpect: {{fails: []}}",
    "a head that looks at one step": (
        "attend: {{node: S3L0H0, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.9}}"),
    "a head that does not look there": (
        "attend: {{node: S3L0H0, to: [\"D'0\"]}}\nquestions: {sample}\nexpect: {{mass_at_most: 0.1}}"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "why"), VACUOUS.values(), ids=VACUOUS)
def test_what_was_not_tested_is_vacuous(fixtures, tmp_path, bench, text, why):
    (claim,) = read(tmp_path, fixtures, text)
    result = judge(claim, bench)
    if why in (None, "by construction"):
        assert result.untested == ()
        assert result.verdict == (why or "supported")
        return
    assert result.verdict == "vacuous"
    assert why in {reason.why for reason in result.untested} <= {why, "constant"}
    assert result.status == "failed"
    assert "\nNothing was tested: " in failure_text(record_of(result))
    assert judge(replace(claim, xfail=Xfail("nothing is tested", "vacuous")), bench).status == "xfailed"


@pytest.mark.parametrize("text", TESTED.values(), ids=TESTED)
def test_what_was_tested_is_supported(fixtures, tmp_path, bench, text):
    result = judge(read(tmp_path, fixtures, text)[0], bench)
    assert (result.verdict, result.untested) == ("supported", ())


def test_a_model_that_is_mostly_wrong_cannot_show_that_nothing_is_lost(tmp_path):
    weights = planted_weights()
    weights["blocks.0.mlp.W_out"][::3] = 0  # some pairs of digits are not known
    write_tiny(tmp_path, "planted", weights=weights, **SIZES)
    text = "ablate: S4L0H2\nquestions: {{n: 8000}}\ngate: 0\nexpect: {{fails: [], may_fail: [A1]}}"
    (claim,) = read(tmp_path, tmp_path, text)
    assert judge(claim, Workbench("cpu")).verdict == "supported"
    weights["blocks.0.mlp.W_out"][:] = 0
    write_tiny(tmp_path / "b", "planted", weights=weights, **SIZES)
    result = judge(read(tmp_path, tmp_path / "b", text)[0], Workbench("cpu"))
    assert result.verdict == "vacuous"
    assert {reason.why for reason in result.untested} == {"unlearned", "constant"}  # 0 is right on a tenth


def test_two_untrained_groups_have_nothing_to_lose(tmp_path):
    weights = write_tiny(tmp_path, "planted", **SIZES)
    write_tiny(tmp_path, "other", weights={name: -value for name, value in weights.items()}, **SIZES)
    text = "answer: whole\nfixtures: [planted]\nthan: [other]\nquestions: {{n: 8000}}\nexpect: {{gain_at_most: 0.05}}"
    result = judge(read(tmp_path, tmp_path, text)[0], Workbench("cpu"))
    assert (result.verdict, [reason.why for reason in result.untested]) == ("vacuous", ["nothing to lose"])


def test_how_far_values_are_moved_in_known_cases(fixtures, tmp_path, bench):
    """A head that copies one of ten digits: its spread is √0.9, to its mean; another digit is √2 away, zero is 1."""
    (claim,) = read(tmp_path, fixtures, "ablate: S3L0H0\nquestions: {{n: 4000, seed: 2}}\nexpect: {{fails: [A1]}}")
    (node,) = claim.nodes
    for method, far in (("mean", 1.0), ("zero", (1 / 0.9) ** 0.5), ("resample", 2**0.5), ("itself", 0.0)):
        moved = movement_of(replace(ablation_of(claim), method=method), bench)
        assert moved[node] == pytest.approx(far, abs=0.06)
    still = read_nodes("S3L0H2", claim.shape)
    assert movement_of(replace(ablation_of(claim), nodes=still), bench) == {}


def test_a_mutant_that_does_nothing_is_killed_or_told(fixtures, tmp_path, bench):
    """Nobody asks of mutants whether they were tested: one at which nothing is done must show as a survivor."""
    (claim,) = read(tmp_path, fixtures, TESTED["the MLP alone"])
    assert "no-op" in judge_mutants(claim, bench, []).killed


def test_the_threshold_is_far_from_what_interventions_do(fixtures, tmp_path, bench):
    """Of every head and MLP of the model that varies: nothing comes near a hundredth of its spread."""
    nodes = read_nodes(["L0", "L1"], read(tmp_path, fixtures, TESTED["the MLP alone"])[0].shape)
    (claim,) = read(tmp_path, fixtures, TESTED["the MLP alone"])
    for method in ("mean", "zero", "resample"):
        moved = movement_of(replace(ablation_of(claim), nodes=nodes, method=method), bench)
        assert min(moved.values()) > 50 * MOVED
