"""SmolLM2, where it was fetched: ten of the claims that ship, measured again by plain hooks, and what its prompts are.

The plain hooks are PyTorch's, on the model that transformers loads; no code is shared but the prompts' tokens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from paths import ROOT
from tiny_lm import asked, by_length, metrics, places

from harness.judging.bench import Workbench
from harness.judging.requests import ablation_of
from harness.specs.fixtures.files import FixtureRef, recipe_of
from harness.specs.spec_files import load_hypotheses
from harness.tasks.questions import Counterparts, Sample

REF = FixtureRef("smollm2_135m", ROOT / "fixtures", "ioi")
MODEL = recipe_of(REF).model
D_HEAD, N = 64, 6
TEN = (
    "S-inhibition-L23H3", "S-inhibition-L20H0", "L25H2-looks-and-is-not-needed", "L23H0-is-needed",
    "L29H1-moves-the-name", "writes-against-IO-L29H0", "induction-head-at-S2", "the-place-of-IO-is-carried-at-S2",
    "at-END-in-layer-25", "not-yet-at-END-in-layer-20",
)  # fmt: skip
fetched = pytest.mark.skipif(MODEL.location(REF.directory) is None, reason="harness fetch smollm2_135m")


@cache
def source(double):
    """The model as transformers loads it, in float32 or in float64."""
    from transformers import AutoModelForCausalLM

    where = str(MODEL.location(REF.directory))
    model = AutoModelForCausalLM.from_pretrained(
        where, gguf_file=MODEL.gguf, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.double() if double else model


@fetched
@pytest.mark.slow
def test_ten_claims_are_what_plain_hooks_give():
    """The error against a run in float64 is at most four times that of plain hooks in float32."""
    known = {claim.id: claim for claim in load_hypotheses(ROOT / "hypotheses" / "smollm2", ROOT / "fixtures")}
    bench, checked = Workbench("cpu"), 0
    claims = [replace(known[name], questions=replace(known[name].questions, n=N)) for name in TEN]
    bench.gather([ablation_of(claim) for claim in claims])
    for claim in claims:
        found = bench.measure(ablation_of(claim)).measurement.metrics
        batch = bench.prompts(claim.ref, claim.questions)
        others = bench.prompts(claim.ref, Counterparts(claim.questions, claim.counterpart, claim.seed)).tokens
        for length, rows in by_length(batch).items():
            tokens, io, s = batch.tokens[rows, :length], batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            where = places(tokens, io, s)
            assert all(torch.equal(where[name], batch.positions[name][rows, 0]) for name in where)
            cuts = [(node.layer, node.component.removeprefix(f"L{node.layer}"), where[node.at]) for node in claim.nodes]
            told = {}
            for double in (False, True):
                clean = asked("llama", source(double), tokens, [], None, D_HEAD)[0]
                new = asked("llama", source(double), others[rows, :length], cuts, None, D_HEAD)[1]
                after = asked("llama", source(double), tokens, cuts, new, D_HEAD)[0]
                told[double] = metrics(after, clean, io, s)
            for name, exact in told[True].items():
                if name in found:
                    plain, ours = ((one - exact).abs() for one in (told[False][name], found[name].after[rows]))
                    assert float(ours.max()) <= 4 * float(plain.max()) + 1e-6, f"{claim.id}: {name}"
                    checked += 1
    assert checked >= len(TEN)


@fetched
def test_what_the_paper_says_of_the_prompts_holds_of_these_tokens():
    """Ten facts of Wang et al. 2022, section 2: templates, positions, corruption and metric, in this tokenizer."""
    task = recipe_of(REF).task
    sample = Sample(400, 5, task.strata(None, "template"))
    batch = task.batch_for(sample)
    tokens, at = batch.tokens, {name: where[:, 0] for name, where in batch.positions.items()}
    io, s, rows = batch.right.ids[:, 0, 0], batch.wrong.ids[:, 0, 0], torch.arange(len(batch))
    abba = torch.tensor([case == "ABBA" for case in batch.cases()])
    abc, swap = (task.counterparts_of(batch, name, 3) for name in ("abc", "swap"))
    read = lambda other, name: other.tokens[rows, at[name]]  # noqa: E731 - the same place in another prompt
    names = torch.stack([read(abc, name) for name in ("IO", "S1", "S2")])

    assert set(batch.positions) == {"IO", "S1", "S1+1", "S2", "END"}  # 1: the five positions
    assert bool(((tokens == io[:, None]).sum(1) == 2).all())  # 2: IO once, and as the answer that is read behind it
    assert bool(((tokens == s[:, None]).sum(1) == 2).all())  # 3: S twice
    assert bool((read(batch, "S1") == read(batch, "S2")).all() & (read(batch, "IO") == io).all())  # 4: by name
    assert bool((abba == (at["IO"] < at["S1"])).all())  # 5: ABBA or BABA by which name is first
    assert int(abba.sum()) == 200  # 6: both as often
    assert bool((at["S1+1"] == at["S1"] + 1).all() & (at["END"] == batch.places[:, 0] - 1).all())  # 7: the end predicts
    assert bool((names[0] != names[1]).all() & (names[0] != names[2]).all() & (names[1] != names[2]).all())
    assert not bool(((names == io) | (names == s)).any())  # 8: ABC, three names of no relation to IO and S
    same = abc.tokens == tokens
    same[rows, at["IO"]] = same[rows, at["S1"]] = same[rows, at["S2"]] = same[rows, batch.places[:, 0]] = True
    assert bool(same.all())  # 9: and nothing else changes
    assert bool(
        (swap.right.ids[:, 0, 0] == s).all() & (swap.wrong.ids[:, 0, 0] == io).all()
    )  # 10: logit(IO) - logit(S)
