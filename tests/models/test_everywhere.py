"""A component at every position, and claims that some suffice, as plain PyTorch hooks on the source model give them."""

from __future__ import annotations

import re

import pytest
import tiny_lm
import torch
from tiny import read_claim, refusal
from tiny_lm import asked, by_length, metrics

from harness.base.errors import SpecError
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.requests import ablation_of
from harness.reporting.failure import failure_text
from harness.specs.nodes import read_nodes
from harness.specs.siblings import write_nodes
from harness.tasks.questions import Counterparts

pytestmark = pytest.mark.usefixtures("one_thread")

ABC, ZERO, MEAN = "method: {corrupt: abc}", "method: zero", "method: mean\nreference: {n: 150, seed: 5}"
CUTS = ["ablate: [L1H2]", "ablate: [L0M, L1H0+H3]", "ablate: [L0R]", "ablate: [L0-L1H1]",
        "keep: {heads: [L0H1, L1H2]}", "keep: {mlps: L1M, heads: L0H0+H1+H2}"]  # fmt: skip
EXPECT = "prompts: {n: 200, seed: 1, stratify: template}\ngate: 0\nexpect: {prefers: {at_least: 0.1}, " + ", ".join(
    f"{metric}: {{median_at_most: 3}}" for metric in ("logit_diff", "prob", "kl")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("lm") / "fixtures"
    return root, {kind: tiny_lm.write_lm(root, kind)[2] for kind in tiny_lm.KINDS}


@pytest.mark.parametrize("method", [ABC, ZERO, MEAN])
@pytest.mark.parametrize("kind", tiny_lm.KINDS)
def test_it_is_what_plain_hooks_on_the_source_model_give(tmp_path, made, kind, method):
    root, models = made
    model, bench = models[kind], Workbench("cpu")
    for cut in CUTS:
        claim = read_claim(tmp_path, f"{cut}\n{method}\n{EXPECT}}}", root, f"{kind}\ntask: ioi")
        cuts = [(node.layer, node.component[2:], None) for node in claim.nodes]
        assert {node.at for node in claim.nodes} == {"*"}
        if cut.startswith("keep"):  # all heads or MLPs, less those that are kept
            of_kind = 8 * ("heads" in cut) + 2 * ("mlps" in cut)
            assert len(cuts) == of_kind - len(claim.kept)
        found = bench.measure(ablation_of(claim)).measurement.metrics
        means = None
        if method == MEAN:
            reference = bench.prompts(claim.ref, claim.reference)
            values = [[] for _ in cuts]
            for length, rows in by_length(reference).items():
                for one, seen in zip(values, asked(kind, model, reference.tokens[rows, :length], cuts)[1], strict=True):
                    one.append(seen.flatten(0, 1))
            means = [torch.cat(one).mean(0) for one in values]
        batch = bench.prompts(claim.ref, claim.questions)
        others = bench.prompts(claim.ref, Counterparts(claim.questions, "abc", claim.seed))
        for length, rows in by_length(batch).items():
            tokens, io, s = batch.tokens[rows, :length], batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            new = [0.0] * len(cuts) if means is None else means
            if method == ABC:
                new = asked(kind, model, others.tokens[rows, :length], cuts)[1]
            after, clean = asked(kind, model, tokens, cuts, new)[0], asked(kind, model, tokens, [])[0]
            assert (after - clean).abs().amax(1).min() > 1e-4
            for name, expected in metrics(after, clean, io, s).items():
                if name in found:
                    torch.testing.assert_close(found[name].after[rows], expected, atol=1e-5, rtol=1e-5, msg=cut)


def test_it_is_judged_with_controls(tmp_path, made):
    root, _ = made
    for text, spare in (("ablate: [L0H1, L1H2]", {"L0H1", "L1H2"}), ("keep: {heads: [L0H1, L1H2]}", None)):
        expect = "expect: {logit_diff: {median_at_most: 3}, kl: {median_at_least: 0.001}}"
        asks = f"{text}\n{ABC}\nprompts: {{n: 200, seed: 1}}\ngate: 0\n{expect}"
        claim = read_claim(tmp_path, asks, root, "llama\ntask: ioi")
        record = record_of(judge(claim, Workbench("cpu"), controls=True, credit=True))
        controls = record["controls"]
        rows = controls["left_out"] if spare else controls["siblings"]
        assert {row["subject"] for row in rows} == {"L0H1", "L1H2"}
        assert {row["expects"] for row in rows} == {"needed"}
        needed = {row["subject"] for row in rows if row["finding"] == "holds"}
        assert record["verdict"] != "supported" or set(record["credited"]) == needed
        assert "L0H1" in failure_text(record)


def test_it_is_written_as_it_is_read(tmp_path, made):
    claim = read_claim(tmp_path, f"ablate: [L0-L1H1+H2, L1M]\n{ZERO}\n{EXPECT}}}", made[0], "gpt2\ntask: ioi")
    assert write_nodes(claim.nodes) == "L0H1+H2, L1H1+H2, L1M"
    assert read_nodes(write_nodes(claim.nodes).split(", "), claim.shape) == claim.nodes
    assert {node.position for node in claim.nodes} == {"every position"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"ablate: L1H2\nmethod: resample\n{EXPECT}}}",
            "a position, as donors differ in length from the prompts, found",
        ),
        (f"keep: {{heads: L1H2@END}}\n{ZERO}\n{EXPECT}}}", "heads at every position, for all others are cut"),
        ("attend: {node: L1H2, to: [IO]}\nprompts: {n: 200}\nexpect: {mass_at_least: 0.5}", "write L1H2@NAME"),
        (f"keep: {{heads: L1H2}}\n{ZERO}\n{EXPECT}, only_here: true}}", "that stay right, for only_here"),
    ],
)
def test_what_it_cannot_mean_is_refused(tmp_path, made, text, said):
    assert re.search(re.escape(said), refusal(SpecError, read_claim, tmp_path, text, made[0], "gpt2\ntask: ioi"))
