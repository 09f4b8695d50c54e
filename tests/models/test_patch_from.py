"""``patch`` with ``from``: the answer of a counterpart, carried over by nodes, as plain PyTorch hooks carry it."""

from __future__ import annotations

import re

import pytest
import tiny_lm
import torch
from tiny import read_claim, refusal
from tiny_lm import asked, by_length, metrics, places

from harness.base.errors import MeasurementError, SpecError
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, judge
from harness.judging.records import record_of
from harness.judging.worth.mutants import mutants_of
from harness.reporting.failure import failure_text
from harness.tasks.questions import Counterparts

pytestmark = pytest.mark.usefixtures("one_thread")

NODES = ["L1R@END", "L0R@END, L1H2@END", "L0R@S2", "L1H0+H1+H2+H3@END", "L1M@END"]
TEXT = "patch: {node: [%s], from: %s}\nprompts: {n: 200, seed: 1, stratify: template}\ngate: 0\nexpect: {%s}"
METRICS = "follow_rate: 0.5, logit_diff: {above: {value: 1, on: 0.3}, median_at_most: 3}, prob: {median_at_least: 0.1}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("lm") / "fixtures"
    return root, {kind: tiny_lm.write_lm(root, kind)[2] for kind in tiny_lm.KINDS}


@pytest.mark.parametrize("counterpart", ["swap", "abc"])
@pytest.mark.parametrize("kind", tiny_lm.KINDS)
def test_it_is_what_plain_hooks_on_the_source_model_give(tmp_path, made, kind, counterpart):
    root, models = made
    bench = Workbench("cpu")
    for nodes in NODES:
        claim = read_claim(tmp_path, TEXT % (nodes, counterpart, METRICS), root, f"{kind}\ntask: ioi")
        found = judge(claim, bench)
        cut = []
        for layer, parts, at in re.findall(r"L(\d)([HM R\d+]+)@(\w+)", nodes):
            cut += [(layer, part, at) for part in parts.split("+")]
        batch = bench.prompts(claim.ref, claim.questions)
        others = bench.prompts(claim.ref, Counterparts(claim.questions, counterpart, claim.seed))
        values = {}
        for length, rows in by_length(batch).items():
            io, s = batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            where = places(batch.tokens[rows, :length], io, s)
            at = [(layer, part, where[name]) for layer, part, name in cut]
            theirs, new = asked(kind, models[kind], others.tokens[rows, :length], at)
            after = asked(kind, models[kind], batch.tokens[rows, :length], at, new)[0]
            if nodes == NODES[0]:  # the last stream at the last token is the whole way to the answer
                torch.testing.assert_close(after, theirs, atol=1e-5, rtol=1e-5)
            for name, value in metrics(after, after, others.right.ids[rows, 0, 0], io).items():
                values.setdefault(name, []).append(value)
        diff, prob = (torch.cat(values[name]) for name in ("logit_diff", "prob"))
        rows = {row.subject: row for row in found.comparisons}
        assert rows["follows"].k == int((diff > 0).sum())
        assert rows["logit_diff > 1"].k == int((diff > 1).sum())
        assert rows["logit_diff median"].value == pytest.approx(float(diff.median()), abs=1e-5)
        assert rows["prob median"].value == pytest.approx(float(prob.median()), abs=1e-5)
        assert rows["follows"].n == 200


def test_the_last_stream_at_the_end_is_the_only_way(tmp_path, made):
    """A random model prefers either name on half of the prompts, so that a low rate is met before anything is patched."""
    for nodes, whys in (("L1R@END", {"only way", "already"}), ("E", {"only way", "already"}), ("L0R@END", {"already"})):
        claim = read_claim(tmp_path, TEXT % (nodes, "swap", "follow_rate: 0.05"), made[0], "gpt2\ntask: ioi")
        found = judge(claim, Workbench("cpu"))
        assert (found.verdict, {reason.why for reason in found.untested}) == ("vacuous", whys)
        assert "before anything is carried over" in failure_text(record_of(found))
    claim = read_claim(tmp_path, TEXT % ("L1R@END", "swap", "follow_rate: 0.7"), made[0], "gpt2\ntask: ioi")
    assert "already" not in {reason.why for reason in judge(claim, Workbench("cpu")).untested}


def test_its_words_controls_and_mutants(tmp_path, made):
    root, _ = made
    claim = read_claim(tmp_path, TEXT % ("L0R@END, L1H2@END", "swap", ""), root, "llama\ntask: ioi")
    found = judge(claim, Workbench("cpu"), controls=True)
    assert (claim.how, claim.expected) == ("patch from swap", "follows on > 90%")
    record = record_of(found)
    assert {row["subject"] for row in record["controls"]["left_out"]} <= {"L0R@END", "L1H2@END"}
    assert len(record["controls"]["left_out"]) == 2
    assert "follows" in failure_text(record)
    names = {mutant.kind for mutant in mutants_of(claim)}
    assert names >= {"without L0R@END", "without L1H2@END", "no-op"}
    still = next(mutant.claim for mutant in mutants_of(claim) if mutant.kind == "no-op")
    assert experiment(still, Workbench("cpu"), mutant=True).verdict == "refuted"


def test_the_model_must_do_what_is_studied_on_both(tmp_path, made):
    root, _ = made
    text = TEXT.replace("gate: 0", "gate: 0.9") % ("L0R@END", "swap", "")
    claim = read_claim(tmp_path, text, root, "llama\ntask: ioi")
    assert "a clean rate of `prefers` of at least 0.9" in refusal(MeasurementError, judge, claim, Workbench("cpu"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT % ("L0R@END", "other", ""), "expected abc or swap, found other"),
        (TEXT % ("L0R@END", "swap", "prefers: {at_least: 0.5}"), "expected follow_rate, which says the same"),
        (TEXT % ("L0R@END", "swap", "kl: {median_at_least: 0.5}"), "expected what may be said of the other answer"),
        (TEXT % ("L0R@END", "swap", "right: {fails_on: 0.5}"), "expected what may be said of the other answer"),
        (
            TEXT.replace("gate: 0\n", "").replace("n: 200", "n: 20") % ("L0R@END", "swap", ""),
            "expected n of at least 24, or no model can show that it prefers the right one on 0.8, found 20",
        ),
        (TEXT % ("L0R@END, variable: x", "swap", ""), "expected"),
    ],
)
def test_what_it_cannot_say_is_refused(tmp_path, made, text, said):
    assert said in refusal(SpecError, read_claim, tmp_path, text, made[0], "llama\ntask: ioi")
