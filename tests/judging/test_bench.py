"""What claims share: measured together or alone, in any order and in chunks of any size, they come out the same."""

from __future__ import annotations

import itertools
import time

import pytest
from tiny import read_claim, write_tiny
from torch.utils.flop_counter import FlopCounterMode

from harness.base.errors import FixtureError, MeasurementError
from harness.engines import hooks as hooked
from harness.judging import bench as workbench
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.requests import Ablation, ablation_of
from harness.specs.fixtures.files import FixtureRef, recipe_of
from harness.specs.nodes import read_nodes
from harness.tasks.addition.layout import Question
from harness.tasks.questions import NamedSet, QuestionList, Sample

ASKED, REFERENCE = Sample(50, 1), Sample(40, 2)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path)
    return path


@pytest.fixture(scope="module")
def ask(fixtures):
    shape = recipe_of(FixtureRef("tiny", fixtures)).shape

    def make(nodes, questions=ASKED, method="mean", reference=REFERENCE, **more):
        return Ablation(FixtureRef("tiny", fixtures), read_nodes(nodes, shape), method, reference, questions, **more)

    return make


@pytest.fixture(scope="module")
def several(ask):
    return [
        ask("S3L0H1"), ask("S4L0M", method="zero"), ask("L0H1", method="resample", seed=4), ask("S5L0R"),
        ask("S0-S7H0+H1", one_at_a_time=True), ask("S6", Sample(50, 9)), ask("S6", NamedSet("varied")),
        ask("S3L0H1", reference=Sample(40, 3)),
    ]  # fmt: skip


def integers(measured):
    m = measured.measurement
    return [(d.token, d.asked, d.wrong) for d in m.tokens], m.patterns, m.by_node, m.cases


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cone", "hooks"])
def test_grouping_order_and_chunks_change_no_integer(several, engine):
    alone = [Workbench("cpu", engine).measure(ablation) for ablation in several]
    assert len({str(integers(measured)) for measured in alone}) > 4
    for seed, chunk in enumerate((None, 1, 7, 50)):
        bench = Workbench("cpu", engine, chunk)
        order = [*several[seed:], *several[:seed]]
        bench.gather(order if seed % 2 else reversed(order))
        for ablation in order:
            found, expected = bench.measure(ablation), alone[several.index(ablation)]
            assert integers(found) == integers(expected)
            assert found.measurement.loss == pytest.approx(expected.measurement.loss, abs=1e-5)


def test_both_engines_count_the_same(several):
    for ablation in several:
        cone, hooks = (Workbench("cpu", engine).measure(ablation) for engine in ("cone", "hooks"))
        assert integers(cone) == integers(hooks)


def test_what_is_planned_on_the_same_questions_shares_its_clean_run(ask):
    together, alone = ([ask(f"S{step}L0H{head}") for step in range(6) for head in range(2)] for _ in range(2))

    def flops(bench, ablations):
        with FlopCounterMode(display=False) as counter:
            for ablation in ablations:
                bench.measure(ablation)
        return counter.get_total_flops()

    planned = Workbench("cpu")
    planned.gather(together)
    assert flops(planned, together[:1]) > 0
    assert flops(planned, together) == 0  # measured already, all of them
    first, both = Workbench("cpu"), Workbench("cpu")
    one = flops(first, alone[:1])
    both.gather(alone[:2])
    assert flops(both, alone[:2]) < one + flops(first, alone[1:2])


def test_trouble_with_one_claim_is_not_the_others(ask):
    only = QuestionList((Question(12, 34),))
    fine, bad = ask("S3L0H1", only, "zero"), ask("S3L0H1", only, "resample", only)
    for order in itertools.permutations([fine, bad]):
        bench = Workbench("cpu")
        bench.gather(order)
        assert bench.measure(fine).measurement.n == 1
        for _ in range(2):
            with pytest.raises(MeasurementError, match="expected a donor other than the question itself"):
                bench.measure(bad)


def test_a_hook_that_does_not_fire_is_the_trouble_of_its_own_claim(ask, monkeypatch):
    real = hooked.hook_point
    nowhere = "blocks.0.attn.hook_hidden_states"  # exists, and the forward pass does not go through it
    monkeypatch.setattr(hooked, "hook_point", lambda node: nowhere if node.kind == "mlp" else real(node))
    fine, bad, also_fine = ask("S3L0H1", method="zero"), ask("S4L0M", method="zero"), ask("S5L0H0", method="zero")
    bench = Workbench("cpu", "hooks")
    bench.gather([fine, bad, also_fine])
    alone = Workbench("cpu", "hooks")
    assert integers(bench.measure(fine)) == integers(alone.measure(fine))
    with pytest.raises(MeasurementError, match="to fire once, found 0 times"):
        bench.measure(bad)
    assert integers(bench.measure(also_fine)) == integers(alone.measure(also_fine))


def test_what_was_measured_is_not_measured_again_when_more_is_planned(ask):
    bench, first, later = Workbench("cpu"), ask("S3L0H1", method="zero"), ask("S4L0H1", method="zero")
    bench.gather([first])
    before = bench.measure(first)
    bench.gather([first, later])
    bench.measure(later)
    assert bench.measure(first) is before


def test_however_few_outcomes_fit_into_memory_the_counts_are_the_same(several, monkeypatch):
    whole = Workbench("cpu")
    whole.gather(several)
    monkeypatch.setattr(workbench, "OUTCOMES_AT_ONCE", 120)  # of 50 questions each: two interventions
    split = Workbench("cpu")
    split.gather(several)
    for ablation in several:
        assert integers(split.measure(ablation)) == integers(whole.measure(ablation))


def test_a_model_that_cannot_be_loaded_is_each_claims_own_error(ask, fixtures):
    def broken(ref):
        raise FixtureError.of("weights", "none", "train them")

    bench = Workbench("cpu", before_loading=broken)
    ablations = [ask("S3L0H1"), ask("S4L0H1")]
    bench.gather(ablations)
    for ablation in ablations:
        with pytest.raises(FixtureError, match="expected weights, found none; train them"):
            bench.measure(ablation)


def test_seconds_are_shares_of_the_time_it_took(several):
    alike = [ablation for ablation in several if ablation.questions == several[0].questions]
    assert len(alike) > 3
    bench = Workbench("cpu")
    bench.gather(alike)
    start = time.perf_counter()
    seconds = [bench.measure(ablation).seconds for ablation in alike]
    took = time.perf_counter() - start
    assert all(second > 0 for second in seconds)
    assert sum(seconds) < took  # what is left is loading the model


def test_a_claims_seconds_are_its_share_of_what_was_run_together(tmp_path, fixtures):
    text = "ablate: {}\nmethod: zero\nquestions: {{n: 50, seed: 1}}\ngate: 0\nexpect: {{fails: [], may_fail: [A2, A1, A0], loss_above: 1.0e-9}}"
    claims = [read_claim(tmp_path, text.format(node), fixtures, "tiny") for node in ("S3L0H1", "S4L0M")]
    bench = Workbench("cpu")
    gather(claims, bench)
    for claim in claims:
        assert judge(claim, bench).seconds == bench.measure(ablation_of(claim)).seconds
