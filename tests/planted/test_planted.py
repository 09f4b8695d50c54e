"""Claims whose truth was put into the weights: true ones come out supported, false ones refuted, and with the numbers
that follow from the construction; and random claims are seldom supported falsely."""

from __future__ import annotations

import pytest
from alarms import ask_random_claims
from planted import read

from harness.judging.evaluation import judge

TRUE = {
    # Cut a copying head or the MLP at a step and no unit is on: the answer is 0, wrong wherever it is not 0.
    "head-0-at-S3": "ablate: S3L0H0\nreference: {all}\nquestions: {all}\nexpect: {{fails: [A1], fail_rate: 0.449}}",
    "head-1-at-S3": "ablate: S3L0H1\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.35}}",
    "head-0-at-S4": "ablate: S4L0H0\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.8}}",
    "head-1-at-S4-zeroed": "ablate: S4L0H1\nmethod: zero\nquestions: {all}\nexpect: {{fails: [A0], fail_rate: 0.89}}",
    "mlp-at-S3": "ablate: S3L0M\nmethod: zero\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.35}}",
    "mlp-at-S4": "ablate: S4L0M\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.8}}",
    "both-steps": "ablate: S3-S4L0H0\nquestions: {sample}\nexpect: {{fails: [A1, A0], fail_rate: 0.3}}",
    "stream-at-S4": "ablate: S4L0R\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.8}}",
    "head-2-unused": "ablate: L0H2\nquestions: {sample}\nexpect: {{fails: []}}",
    "steps-0-2-unused": "ablate: S0-S2L0R\nquestions: {sample}\nexpect: {{fails: []}}",
    "layer-1-unused": "ablate: L1\nquestions: {sample}\nexpect: {{fails: []}}",
    "head-0-resampled": "ablate: S4L0H0\nmethod: resample\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.8}}",
    "one-step-suffices-for-A1": "keep: {{heads: S3L0H0+H1, mlps: S3L0M, digits: [A1]}}\nquestions: {sample}",
    "two-MLPs-suffice": "keep: {{mlps: S3-S4L0M}}\nquestions: {all}",
    "mlp-carries-the-carry": "patch: {{node: S3L0M, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "mlp-carries-the-tri-case": "patch: {{node: S3L0M, variable: D0.tricase, digits: [A1]}}\npairs: {{n: 700}}",
    "mlp-carries-the-base-add": "patch: {{node: S4L0M, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 700}}",
    "two-heads-carry-the-sum": "patch: {{node: S3L0H0+H1, variable: D0.T1, digits: [A1]}}\npairs: {{n: 700}}",
    "heads-carry-the-base-add": "patch: {{node: S4L0H0+H1, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 700}}",
    "head-1-looks-at-D'0": 'attend: {{node: S4L0H1, to: ["D\'0"]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}',
    "adds": "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_least: 0.99}}",
}
FALSE = {
    "head-0-breaks-A0": "ablate: S3L0H0\nquestions: {sample}\nexpect: {{fails: [A0], may_fail: [A1]}}",
    "head-0-at-S3-unused": "ablate: S3L0H0\nquestions: {sample}\nexpect: {{fails: []}}",
    "head-0-breaks-A1-always": "ablate: S3L0H0\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.5}}",
    "head-0-breaks-A1-in-46-of-100": "ablate: S3L0H0\nquestions: {all}\nexpect: {{fails: [A1], fail_rate: 0.45}}",
    "head-1-at-S4-always": "ablate: S4L0H1\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.95}}",
    "head-2-used": "ablate: S3L0H2\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "layer-1-used": "ablate: S4L1H0\nquestions: {sample}\nexpect: {{fails: [A0]}}",
    "mlp-1-used": "ablate: S3L1M\nquestions: {all}\nexpect: {{fails: [A1]}}",
    "step-0-used-late": "ablate: S0L0R\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "step-2-used-late": "ablate: S2L0M\nquestions: {sample}\nexpect: {{fails: [A1, A0]}}",
    "both-steps-break-A1-only": "ablate: S3-S4L0H0\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "one-head-suffices": "keep: {{heads: S3-S4L0H0}}\nquestions: {sample}",
    "one-step-suffices": "keep: {{heads: S3L0H0+H1}}\nquestions: {sample}",
    "no-MLP-needed": "keep: {{mlps: S5M}}\nquestions: {all}",
    "layer-1-suffices": "keep: {{heads: L1}}\nquestions: {sample}",
    "head-0-carries-the-sum": "patch: {{node: S3L0H0, variable: D0.T1, digits: [A1]}}\npairs: {{n: 700}}",
    "head-1-carries-the-carry": "patch: {{node: S3L0H1, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "head-2-carries-the-carry": "patch: {{node: S3L0H2, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "head-0-carries-the-base-add": "patch: {{node: S4L0H0, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 700}}",
    "mlp-at-S3-carries-the-base-add": "patch: {{node: S3L0M, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 700}}",
    "mlp-of-layer-1-carries": "patch: {{node: S3L1M, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "head-0-looks-at-D'0": 'attend: {{node: S3L0H0, to: ["D\'0"]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.1}}',
    "head-1-looks-nowhere": 'attend: {{node: S3L0H1, to: ["D\'0"]}}\nquestions: {sample}\nexpect: {{mass_at_most: 0.9}}',
    "does-not-add": "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_most: 0.9}}",
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("text", TRUE.values(), ids=TRUE)
def test_what_is_true_is_supported(tmp_path, fixtures, bench, text):
    result = judge(read(tmp_path, fixtures, text)[0], bench)
    assert result.verdict == "supported", result.comparisons


@pytest.mark.parametrize("text", FALSE.values(), ids=FALSE)
def test_what_is_false_is_refuted(tmp_path, fixtures, bench, text):
    result = judge(read(tmp_path, fixtures, text)[0], bench)
    assert result.verdict == "refuted", result.comparisons


@pytest.mark.parametrize(
    ("node", "method", "wrong"),
    [
        ("S3L0H0", "mean", (45, 0)), ("S3L0H1", "zero", (45, 0)), ("S3L0H0+H1", "mean", (45, 0)),
        ("S4L0H0", "mean", (0, 90)), ("S4L0M", "zero", (0, 90)), ("S3-S4L0M", "zero", (45, 90)),
        ("L0H2", "zero", (0, 0)), ("L1", "mean", (0, 0)), ("S0-S2L0R", "zero", (0, 0)), ("S3-S4L1R", "zero", (45, 90)),
    ],
)  # fmt: skip
def test_the_counts_are_those_of_arithmetic(tmp_path, fixtures, bench, node, method, wrong):
    """Of 100 questions 45 have a sum of ten or more, and 90 one that does not end in 0."""
    reference = "" if method == "zero" else "\nreference: {all}"
    text = f"ablate: {node}\nmethod: {method}{reference}\nquestions: {{all}}\nexpect: {{{{fails: [], may_fail: [A1]}}}}"
    measured = judge(read(tmp_path, fixtures, text)[0], bench).measurement
    assert tuple(digit.wrong for digit in measured.tokens) == wrong
    assert measured.clean_accuracy == 1


def test_interchange_of_one_head_gives_the_mixed_sum(tmp_path, fixtures, bench):
    """Head 0 carries one digit: what comes out is the source's D0 plus the base's D'0, which can be said beforehand."""
    claim = read(tmp_path, fixtures, FALSE["head-0-carries-the-base-add"])[0]
    result = judge(claim, bench)
    (a0,) = (row for row in result.comparisons if row.subject == "A0")
    # The claim wants the source's (x + y) mod 10; it comes out right by chance, where the two D'0 are alike.
    assert a0.low < 0.1 < a0.high


@pytest.mark.slow
def test_random_claims_are_seldom_supported_falsely_and_intervals_cover(tmp_path, fixtures, bench):
    found = ask_random_claims(tmp_path, fixtures, "planted", 1000, bench, digits=["A1", "A0"])
    assert found.supported > 100
    found.check()
