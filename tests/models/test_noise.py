"""Embeddings, and noise on them or on any other value, as plain PyTorch hooks on the source model give it."""

from __future__ import annotations

import pytest
import tiny_lm
import torch
from tiny import read_claim, refusal
from tiny_lm import asked, by_length, metrics

from harness.base.errors import HarnessError, SpecError
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.methods import replacement
from harness.judging.movement import spreads
from harness.judging.requests import ablation_of
from harness.judging.worth.coverage import map_nodes
from harness.judging.worth.mutants import mutants_of
from harness.specs.nodes import read_nodes
from harness.specs.siblings import write_nodes
from harness.tasks.questions import Counterparts

pytestmark = pytest.mark.usefixtures("one_thread")
EXPECT = "prompts: {n: 200, seed: 1, stratify: template}\ngate: 0\nexpect: {logit_diff: {median_at_most: 3}, prob: %s}"
TEXT = "ablate: %s\nmethod: %s\n" + EXPECT % "{median_at_most: 1}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("lm") / "fixtures"
    return root, {kind: tiny_lm.write_lm(root, kind)[2] for kind in tiny_lm.KINDS}


def claim_of(tmp_path, made, kind, nodes, method):
    return read_claim(tmp_path, TEXT % (nodes, method), made[0], f"{kind}\ntask: ioi")


@pytest.mark.parametrize("method", ["{corrupt: abc}", "zero", "{noise: 3}"])
@pytest.mark.parametrize("kind", tiny_lm.KINDS)
def test_it_is_what_plain_hooks_on_the_source_model_give(tmp_path, made, kind, method):
    model, bench = made[1][kind], Workbench("cpu")
    for nodes in ("[E@S1, E@S2]", "E", "[E@IO, L0M@S2]", "L0H1@S2"):
        claim = claim_of(tmp_path, made, kind, nodes, method)
        ablation = ablation_of(claim)
        found, batch = bench.measure(ablation).measurement.metrics, bench.prompts(claim.ref, claim.questions)
        others = bench.prompts(claim.ref, Counterparts(claim.questions, "abc", claim.seed)).tokens
        noisy = replacement(ablation, bench, batch)(ablation.nodes).values if "noise" in method else {}
        for length, rows in by_length(batch).items():
            tokens, io, s = batch.tokens[rows, :length], batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            where = {name: at[rows, 0] for name, at in batch.positions.items()}
            cuts = [
                (node.layer, node.component.removeprefix(f"L{node.layer}"), where.get(node.at)) for node in claim.nodes
            ]
            clean, own = asked(kind, model, tokens, cuts)
            new = [0.0] * len(cuts)
            if "corrupt" in method:
                new = asked(kind, model, others[rows, :length], cuts)[1]
            elif noisy:
                new = [
                    noisy[node][rows, : one[0].numel()].view(one.shape)
                    for node, one in zip(claim.nodes, own, strict=True)
                ]
                for one, changed in zip(own, new, strict=True):  # its own value, and something else
                    assert 0.1 < float((changed - one).std()) < 100
            after = asked(kind, model, tokens, cuts, new)[0]
            for name, expected in metrics(after, clean, io, s).items():
                if name in found:
                    torch.testing.assert_close(found[name].after[rows], expected, atol=1e-5, rtol=1e-5, msg=nodes)


def test_noise_is_as_large_as_it_says_and_drawn_for_each_prompt(tmp_path, made):
    bench = Workbench("cpu")
    claim = claim_of(tmp_path, made, "gpt2", "E@S2", "{noise: 3}")
    ablation = ablation_of(claim)
    batch = bench.prompts(claim.ref, claim.questions)
    (node,) = claim.nodes
    clean = bench.values(claim.ref, claim.questions, [node])[node]
    added = replacement(ablation, bench, batch)([node]).values[node] - clean
    weight = made[1]["gpt2"].get_input_embeddings().weight
    torch.testing.assert_close(clean, weight[batch.tokens[torch.arange(200), batch.positions["S2"][:, 0]]])
    spread = spreads(claim.ref, (node,), bench)[node] / clean.shape[1] ** 0.5
    names = (clean - clean.mean(0)).double().square().mean().sqrt()  # of these 200; `spread` is of other prompts
    assert float(added.std()) == pytest.approx(3 * spread, rel=0.05)
    assert spread == pytest.approx(float(names), rel=0.1)
    assert abs(float(added.mean())) < 4 * 3 * spread / added.numel() ** 0.5
    assert len(torch.unique(added[:, 0])) == 200
    other = ablation_of(claim_of(tmp_path, made, "gpt2", "E@S2", "{noise: 3}\nseed: 1"))
    assert not torch.equal(replacement(other, bench, batch)([node]).values[node] - clean, added)


def test_noise_at_every_position_is_as_large_whatever_the_lengths(tmp_path, made):
    bench = Workbench("cpu")
    claim = claim_of(tmp_path, made, "gpt2", "E", "{noise: 2}")
    batch = bench.prompts(claim.ref, claim.questions)
    (node,) = claim.nodes
    clean = bench.values(claim.ref, claim.questions, [node])[node]
    assert bool(clean.isnan().any())  # the templates differ in length
    added = replacement(ablation_of(claim), bench, batch)([node]).values[node] - clean
    spread = (clean - clean.nanmean(0)).square().nanmean().sqrt()
    assert float(added[~added.isnan()].std()) == pytest.approx(2 * float(spread), rel=0.1)


def test_a_claim_by_noise_is_judged_and_told(tmp_path, made):
    claim = claim_of(tmp_path, made, "llama", "[E@S1, E@S2]", "{noise: 3}")
    found = judge(claim, Workbench("cpu"), controls=True)
    assert (claim.how, claim.target) == ("noise 3", "E@S1, E@S2")
    assert {row.subject for row in found.controls.left_out} <= {"E@S1", "E@S2"}
    acting = EXPECT.replace("median_at_most: 3", "median_at_most: -1") % "{median_at_least: 0.5}"
    moved = read_claim(
        tmp_path, f"ablate: [E@S1, L0H1@S2]\nmethod: {{noise: 3}}\n{acting}", made[0], "llama\ntask: ioi"
    )
    names = {mutant.kind for mutant in mutants_of(moved)}
    assert names == {"without E@S1", "without L0H1@S2", "no-op"}
    assert "a language model by reference" in refusal(HarnessError, map_nodes, claim.ref, Workbench("cpu"))
    assert read_nodes(write_nodes(claim.nodes).split(", "), claim.shape) == claim.nodes


@pytest.mark.parametrize(
    ("nodes", "method", "said"),
    [
        ("E@S3", "zero", "expected a position IO, S1, S2, END, found S3"),
        ("E@S2", "{noise: 0}", "expected a number more than 0"),
        ("E@S2", "{noise: 1, corrupt: abc}", "expected a known key, found corrupt"),
    ],
)
def test_what_is_none_is_refused(tmp_path, made, nodes, method, said):
    text = TEXT % (nodes, method)
    assert said in refusal(SpecError, read_claim, tmp_path, text, made[0], "llama\ntask: ioi")
