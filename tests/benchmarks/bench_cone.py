"""The fast engine against the notebook's way of sweeping, and what it costs as the work grows."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tabulate import tabulate
from tiny import recipe_of_fields
from torch.utils.flop_counter import FlopCounterMode

from harness.engines import cone, interventions
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN
from harness.engines.transformer import initial_weights
from harness.models.fixtures import fixture_of, load_fixture
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach
from harness.tasks.questions import Sample

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
NAME = "add_d5_l2_h3"
ASKED_SINGLY = 2  # of the questions, where the notebook asks them one by one


@dataclasses.dataclass
class Swept:
    """The notebook's Part 11B: every head at every step, each cut to its mean on its own."""

    def __post_init__(self):
        self.fixture = load_fixture(NAME, FIXTURES, "cpu")
        self.batch = self.fixture.task.encode(self.fixture.task.question_set("varied"))
        means = hooked.capture_means(self.fixture, self.batch)
        heads = [node for node in all_nodes(self.fixture.shape) if node.kind == "head"]
        self.changes = [interventions.mean([node], means) for node in heads]
        self.live = sum(bool(reach([node], self.fixture.shape)) for node in heads)

    def fast(self):
        return cone.run(self.fixture, self.batch, self.changes)

    def batched(self):
        return hooked.run(self.fixture, self.batch, self.changes, len(self.batch))

    def singly(self):
        return hooked.run(self.fixture, self.batch[:ASKED_SINGLY], self.changes, 1)


@pytest.fixture(scope="module")
def swept():
    return Swept()


@pytest.fixture(scope="module")
def flops(swept):
    with FlopCounterMode(display=False) as counter:
        swept.fast()
    return counter.get_total_flops()


def test_the_fast_sweep_gives_the_digits_of_the_batched_one(swept):
    for fast, batched in zip(swept.fast(), swept.batched(), strict=True):
        assert torch.equal(fast.predicted, batched.predicted)


def test_head_sweep_against_batched_hooks(paired, add, swept, flops, gemm_rate, benchmark):
    about = f"{len(swept.changes)} nodes, {swept.live} of them live, × {len(swept.batch)} questions"
    paired(swept.fast, swept.batched, rounds=3, target="≥ 16", note=about, warmup=1)
    rate = flops / benchmark.stats.stats.median
    add(None, None, f"{rate / gemm_rate:.0%} of GEMM's {gemm_rate / 1e9:.0f} GFLOP/s", "≥ 70%",
        f"{flops / 1e9:.0f} GFLOP counted by torch, the clean run included")  # fmt: skip


def test_head_sweep_against_one_question_at_a_time(add, swept, benchmark):
    benchmark.pedantic(swept.fast, rounds=3, warmup_rounds=1)
    start = time.perf_counter()
    swept.singly()
    scale = len(swept.batch) / ASKED_SINGLY
    baseline = (time.perf_counter() - start) * scale
    ours = benchmark.stats.stats.median
    add(ours, baseline, f"{baseline / ours:.0f} × faster", "≥ 50", f"{ASKED_SINGLY} questions timed, × {scale:.0f}")


def test_head_sweep_against_nnsight(add, swept, benchmark):
    """The same sweep by another library, on the same TransformerBridge: a tenth of the nodes timed."""
    nnsight = pytest.importorskip("nnsight", reason="pip install -c constraints.txt -e '.[bench]'")
    model, d = nnsight.NNsight(swept.fixture.model), swept.fixture.recipe.model.d_head
    some = swept.changes[::10]

    def cut(change):
        ((node, value),) = change.values.items()
        with model.trace(swept.batch.tokens):
            z = model.blocks[node.layer].attn.hook_z.output  # heads side by side
            z[:, node.step, node.head * d : (node.head + 1) * d] = value
            logits = model.output.save()
        return logits[:, swept.fixture.task.answer_start - 1 : -1].argmax(-1)

    cut(some[0])
    benchmark.pedantic(swept.fast, rounds=3, warmup_rounds=1)
    start = time.perf_counter()
    predicted = [cut(change) for change in some]
    baseline = (time.perf_counter() - start) * len(swept.changes) / len(some)
    ours = benchmark.stats.stats.median
    add(
        ours, baseline, f"{baseline / ours:.1f} × faster", "", f"nnsight {nnsight.__version__}, {len(some)} nodes timed"
    )
    for found, outcome in zip(predicted, cone.run(swept.fixture, swept.batch, some), strict=True):
        assert torch.equal(found, outcome.predicted)


def test_claims_from_cold(add, benchmark, tmp_path):
    def judge():
        subprocess.run(
            [sys.executable, "-m", "pytest", "hypotheses", "-q", "-p", "no:cacheprovider", "--harness-report",
             str(tmp_path / "r")],
            cwd=ROOT, capture_output=True, check=False,
        )  # fmt: skip

    def imports():
        code = "import pytest, torch, harness.judging.evaluation, harness.reporting.report, scipy.special"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

    benchmark.pedantic(judge, rounds=1)  # minutes long, so once is enough
    start = time.perf_counter()
    imports()
    importing = time.perf_counter() - start
    judged = [claim for claim in json.loads((tmp_path / "r.json").read_text("utf-8"))["claims"] if "seconds" in claim]
    models = {name for claim in judged for name in claim["weights"]}
    add(
        benchmark.stats.stats.median, None, "", "≤ 20 s",
        f"{len(judged)} claims about {len(models)} models; measuring {sum(claim['seconds'] for claim in judged):.0f} s, "
        f"imports {importing:.1f} s",
    )  # fmt: skip


def grown(n_digits=5, n_layers=2):
    """Return a model of the notebook's width with random weights: what it costs does not depend on what it knows."""
    recipe = recipe_of_fields(
        {"version": 1, "task": "addition", "n_digits": n_digits, "n_layers": n_layers, "n_heads": 3, "d_model": 510,
         "d_mlp": 2040, "seed": 0, "steps": 1}
    )  # fmt: skip
    weights = initial_weights(recipe, torch.Generator().manual_seed(0))
    return fixture_of("grown", recipe, "0" * 64, weights, torch.device("cpu"))


def cost(fixture, n, nodes):
    """Return counted FLOP and seconds of cutting each of `nodes` to zero on `n` questions."""
    batch = fixture.task.batch_for(Sample(n, 1))
    changes = [interventions.zero({node: fixture.width(node)}) for node in nodes]
    with FlopCounterMode(display=False) as counter:
        cone.run(fixture, batch[:64], [CLEAN, *changes])
    cone.run(fixture, batch[:64], [CLEAN, *changes])
    start = time.perf_counter()
    cone.run(fixture, batch, [CLEAN, *changes])
    return counter.get_total_flops() * n / min(n, 64), time.perf_counter() - start


def test_growth(record_table):
    """Print what a run costs as each of its sizes grows, beside the work: seconds must grow no faster than FLOP."""
    model = grown()
    heads = [node for node in all_nodes(model.shape) if node.kind == "head" and reach([node], model.shape)]
    some = heads[8::20]
    rows = [(f"{n:,} questions", *cost(model, n, some[:1])) for n in (100, 1000, 10_000, 100_000)]
    rows += [(f"{len(part)} nodes", *cost(model, 500, part)) for part in (heads[:1], heads[:10], heads)]
    for digits in (5, 10, 15):
        fixture = grown(n_digits=digits)
        nodes = [node for node in all_nodes(fixture.shape) if node.kind == "mlp" and reach([node], fixture.shape)]
        rows.append((f"{digits} digits, all MLPs", *cost(fixture, 200, nodes)))
    for layers in (1, 2, 3, 4):
        fixture = grown(n_layers=layers)
        nodes = [node for node in all_nodes(fixture.shape) if node.kind == "mlp" and reach([node], fixture.shape)]
        rows.append((f"{layers} layers, all MLPs", *cost(fixture, 200, nodes)))
    record_table(
        tabulate(
            [(name, f"{flop / 1e9:,.1f}", f"{seconds:.2f}", f"{flop / seconds / 1e9:.0f}") for name, flop, seconds in rows],
            ["size", "GFLOP", "seconds", "GFLOP/s"], disable_numparse=True,
        )
    )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_head_sweep_on_a_gpu(paired):
    swept = Swept()
    swept.fixture = load_fixture(NAME, FIXTURES, "cuda")
    paired(swept.fast, swept.batched, rounds=5, target="")
