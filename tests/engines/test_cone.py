"""The fast engine against the reference engine: the same digits, logits within 1e-4, whatever is cut and in what model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import FIXTURE, FIXTURES
from tiny import make_recipe, random_weights
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from harness.base.errors import HarnessError, MeasurementError
from harness.engines import cone, interventions, propagation, reattention
from harness.engines import hooks as hooked
from harness.engines.engine import engine_for
from harness.engines.groups import Group
from harness.engines.interventions import CLEAN, Intervention
from harness.engines.transformer import sizes_of
from harness.models.fixtures import fixture_of, load_fixture
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach, read_nodes
from harness.tasks.questions import NamedSet, Sample

CPU = torch.device("cpu")
CLEAR = 1e-4  # two logits nearer to each other than this may change places


pytestmark = pytest.mark.usefixtures("one_thread")


def make(seed=0, **fields):
    recipe = make_recipe(**fields)
    return fixture_of("tiny", recipe, "0" * 64, random_weights(recipe, seed), CPU)


def assert_same(found, expected):
    """Assert that two outcomes are the same: digits, true logits, losses."""
    torch.testing.assert_close(found.right_logit, expected.right_logit, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.margin, expected.margin, atol=1e-4, rtol=0)
    differ = found.predicted != expected.predicted
    # A digit may differ only where the two largest logits are as good as equal; then both give the truth the same loss.
    assert differ.double().mean() < 0.01
    assert (found.near_tie | expected.near_tie)[differ].all()
    assert (found.loss - expected.loss)[differ].abs().sum() < CLEAR


def clean_run(fixture, prompts):
    """Return the clean run of addition questions, which are all alike."""
    return propagation.CleanRun(fixture, prompts, sizes_of(fixture.recipe))


def both(fixture, prompts, changes, chunk=None):
    found, expected = cone.run(fixture, prompts, changes, chunk), hooked.run(fixture, prompts, changes)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


ACTS = ["relu", "gelu"]
KINDS = ["head", "mlp", "resid"]


@st.composite
def cases(draw):
    """Draw a model, questions and interventions, which go together, of nodes that reach something, or may not."""
    n_heads = draw(st.sampled_from([1, 2, 3, 4]))
    fixture = make(
        seed=draw(st.integers(0, 9)), n_digits=draw(st.integers(1, 4)), n_layers=draw(st.integers(1, 4)),
        n_heads=n_heads, d_model=draw(st.sampled_from([1, 2, 4])) * 2 * n_heads, d_mlp=draw(st.sampled_from([1, 6, 16])),
        act_fn=draw(st.sampled_from(ACTS)), equals=draw(st.sampled_from(["=", "equals"])),
    )  # fmt: skip
    every = list(all_nodes(fixture.shape))
    kind = draw(st.sampled_from([*KINDS, "any", "layer", "column"]))
    pool = [node for node in every if kind in (node.kind, "any", "layer", "column")]
    if kind == "layer":
        layer = draw(st.integers(0, fixture.recipe.model.n_layers - 1))
        pool = [node for node in every if node.layer == layer]
    if kind == "column":
        head = draw(st.integers(0, n_heads - 1))
        pool = [node for node in every if node.kind == "head" and node.head == head]
    size = draw(st.sampled_from([1, 2, 3, len(pool)]))
    nodes = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=size, unique=True)) if size < len(pool) else pool
    n = draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    changes = []
    for member in range(draw(st.integers(1, 3))):
        rows = draw(st.sampled_from([1, n + 2]))
        turned = [dataclasses.replace(node, head=(node.head + member) % n_heads) if node.kind == "head" else node
                  for node in nodes[: len(nodes) - member * draw(st.integers(0, 1))] or nodes]  # fmt: skip
        values = {node: torch.randn(rows, fixture.width(node), generator=generator) for node in turned}
        changes.append(Intervention(values, None if rows == 1 else torch.randint(rows, (n,), generator=generator)))
    prompts = fixture.task.batch_for(Sample(n, draw(st.integers(0, 99))))
    return fixture, prompts, changes, draw(st.sampled_from([None, 1, 2]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)  # the same models each time: no run is red by chance
@given(case=cases())
def test_any_nodes_of_any_small_model_give_what_the_reference_engine_gives(case):
    both(*case)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["mean", "zero", "resample"])
def test_every_single_node_and_method(n_layers, method):
    fixture = make(n_layers=n_layers, n_digits=1 if n_layers > 2 else 2)
    prompts = fixture.task.batch_for(Sample(6, 1))
    reference = fixture.task.batch_for(Sample(5, 2))
    nodes = [node for node in all_nodes(fixture.shape) if reach([node], fixture.shape)]
    if method == "mean":
        means = hooked.capture_means(fixture, reference)
        changes = [interventions.mean([node], means) for node in nodes]
    elif method == "zero":
        changes = [interventions.zero({node: fixture.width(node)}) for node in nodes]
    else:
        donors = torch.randint(len(reference), (len(prompts),), generator=torch.Generator().manual_seed(3))
        _, values = hooked.capture(fixture, reference, nodes)
        changes = [interventions.resample({node: values[node]}, donors) for node in nodes]
    clean, *outcomes = cone.run(fixture, prompts, [CLEAN, *changes])
    moved = 0
    for found, expected in zip(outcomes, hooked.run(fixture, prompts, changes), strict=True):
        assert_same(found, expected)
        moved += not torch.equal(found.loss, clean.loss)
    assert moved == len(nodes)  # the comparison is of something


GRAMMAR = [
    "S3L0H1", "S5L0H0+H1", "S5L0", "S4L0M", "S4L0R", "S2-S5L0H0", "L0H1", "S5L1H0", "S6L1M", "S7L1R", "S0-S8L1M", "S6",
    "S3", "S5H0", "L1", "L0", "S0-S8", "L0M",
]  # fmt: skip


@pytest.mark.parametrize("text", GRAMMAR)
@pytest.mark.parametrize("act_fn", ACTS)
def test_everything_that_can_be_written(text, act_fn):
    fixture = make(act_fn=act_fn)
    prompts = fixture.task.batch_for(Sample(30, 1))
    means = hooked.capture_means(fixture, fixture.task.batch_for(Sample(30, 2)))
    both(fixture, prompts, [interventions.mean(read_nodes(text, fixture.shape), means)])


def test_the_values_it_captures_are_the_reference_engines():
    fixture = make(n_layers=3)
    prompts = fixture.task.batch_for(Sample(11, 1))
    nodes = list(all_nodes(fixture.shape))
    live = {node for node in nodes if reach([node], fixture.shape)}
    (clean, found), (same, expected) = cone.capture(fixture, prompts, nodes, 4), hooked.capture(fixture, prompts, nodes)
    assert_same(clean, same)
    means, expected_means = cone.capture_means(fixture, prompts, 3), hooked.capture_means(fixture, prompts)
    assert set(found) == set(means) == live
    for node in live:
        torch.testing.assert_close(found[node], expected[node], atol=1e-5, rtol=0)
        torch.testing.assert_close(means[node], expected_means[node], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_where_heads_look_is_where_they_look_in_the_reference_engine(n_layers):
    fixture = make(n_layers=n_layers)
    prompts = fixture.task.batch_for(Sample(11, 1))
    heads = [node for node in all_nodes(fixture.shape) if node.kind == "head" and reach([node], fixture.shape)]
    (clean, found), (same, expected) = (engine.attention(fixture, prompts, heads, 4) for engine in (cone, hooked))
    assert_same(clean, same)
    assert list(found) == sorted(expected) == heads
    for node in heads:
        assert found[node].shape == (11, 1, fixture.task.n_ctx)
        torch.testing.assert_close(found[node], expected[node], atol=1e-6, rtol=0)


def test_what_it_says_on_its_own_is_what_the_reference_engine_says():
    fixture = make(n_layers=2, n_digits=3)
    prompts = fixture.task.batch_for(Sample(40, 1))
    asked = prompts.tokens.clone()
    assert torch.equal(cone.generate(fixture, prompts, 7), hooked.generate(fixture, prompts))
    assert torch.equal(prompts.tokens, asked)  # it writes its answers into a copy


def test_a_nodes_own_values_put_back_change_nothing():
    fixture = make(n_layers=3)
    prompts = fixture.task.batch_for(Sample(20, 1))
    _, own = cone.capture(fixture, prompts, all_nodes(fixture.shape))
    changes = [interventions.resample({node: value}, torch.arange(20)) for node, value in own.items()]
    clean, *outcomes = cone.run(fixture, prompts, [CLEAN, *changes, interventions.resample(own, torch.arange(20))])
    for outcome in outcomes:
        torch.testing.assert_close(outcome.loss, clean.loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("bytes_", "groups"), [(propagation.GROUP_BYTES, 1), (60_000, 3), (1, 5)])
def test_interventions_that_differ_only_in_their_heads_go_together_and_stay_apart(monkeypatch, bytes_, groups):
    """Also where they cut several heads at a step, and where one of them spoils its own outcome."""
    monkeypatch.setattr(propagation, "GROUP_BYTES", bytes_)
    fixture = make(n_layers=3, n_heads=4)
    prompts = fixture.task.batch_for(Sample(5, 1))
    generator = torch.Generator().manual_seed(0)
    texts = ["S2L0H0 S6L1H3", "S2L0H1+H2 S6L1H0", "S2L0H3 S6L1H1+H2+H3", "S2L0H2 S6L1H2"]
    changes = [
        Intervention({node: torch.randn(1, 2, generator=generator) for part in text.split() for node in
                      read_nodes(part, fixture.shape)})
        for text in texts
    ]  # fmt: skip
    (spoilt,) = read_nodes("S2L0H0", fixture.shape)
    spoiling = Intervention({**changes[-1].values, spoilt: torch.full((1, 2), torch.nan)})
    every = [changes[0], spoiling, *changes[1:]]
    assert len(list(clean_run(fixture, prompts)._alike(every))) == groups
    first, nan, *rest = cone.run(fixture, prompts, every)
    for outcome, expected in zip([first, *rest], hooked.run(fixture, prompts, changes), strict=True):
        assert_same(outcome, expected)
    assert nan.loss.isnan().any()


def test_what_reaches_nothing_costs_nothing():
    fixture = make()
    prompts = fixture.task.batch_for(Sample(3, 1))
    dead = [node for node in all_nodes(fixture.shape) if not reach([node], fixture.shape)]
    assert dead
    changes = {
        "clean": [CLEAN],
        "dead": [CLEAN, interventions.zero({node: fixture.width(node) for node in dead})],
        "live": [CLEAN, interventions.zero({node: fixture.width(node) for node in all_nodes(fixture.shape)})],
    }
    flops = {}
    for name, some in changes.items():
        with FlopCounterMode(display=False) as counter:
            outcomes = cone.run(fixture, prompts, some)
        flops[name] = counter.get_total_flops()
        assert torch.equal(outcomes[-1].loss, outcomes[0].loss) == (name != "live")
    assert flops["dead"] == flops["clean"] < flops["live"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["S12L0H0+H1", "S10L0M", "S0-S7", "S11L1", "L0H1"])
def test_chunks_and_company_change_no_digit_on_the_real_model(text):
    fixture = load_fixture(FIXTURE, FIXTURES, "cpu")
    prompts = fixture.task.batch_for(NamedSet("varied"))
    means = cone.capture_means(fixture, prompts)
    change = interventions.mean([node for node in read_nodes(text, fixture.shape) if node in means], means)
    other = interventions.zero({node: fixture.width(node) for node in read_nodes("S3", fixture.shape)})
    (expected,) = hooked.run(fixture, prompts, [change])
    for chunk in (7, 100, len(prompts)):
        for company in ([change], [other, change], [CLEAN, other, other, change]):
            found = cone.run(fixture, prompts, company, chunk)[-1]
            assert torch.equal(found.predicted, expected.predicted)
            assert_same(found, expected)


def test_a_chunk_is_what_fits_into_memory():
    assert cone.chunk_of(make().recipe) == cone.CHUNK
    large = make(n_layers=4, n_digits=10, d_model=128, d_mlp=512)
    layers = clean_run(large, large.task.batch_for(Sample(2, 0))).layers
    kept = sum(value.nbytes for layer in layers for value in layer) / 2  # bytes, of a question
    assert cone.CHUNK_BYTES / 3 < cone.chunk_of(large.recipe) * kept < cone.CHUNK_BYTES
    assert cone.chunk_of(large.recipe) < cone.CHUNK
    heads = [
        {n: large.width(n) for n in all_nodes(large.shape) if n.head == head and n.kind == "head"} for head in (0, 1)
    ]
    columns = [interventions.zero(some) for some in heads]  # of every step and layer, so they take much
    clean = clean_run(large, large.task.batch_for(Sample(cone.chunk_of(large.recipe), 0)))
    assert list(clean._alike(columns)) == [[0], [1]]


def test_no_questions_is_an_error():
    fixture = make()
    nothing = fixture.task.encode([])
    for call in (
        lambda: cone.run(fixture, nothing, [CLEAN]),
        lambda: cone.capture_means(fixture, nothing),
        lambda: cone.capture(fixture, nothing, all_nodes(fixture.shape)),
        lambda: cone.attention(fixture, nothing, read_nodes("S5L0H0", fixture.shape)),
        lambda: cone.generate(fixture, nothing),
    ):
        with pytest.raises(MeasurementError, match="expected at least one question, found none"):
            call()


def test_nan_spoils_its_own_outcome_and_no_other():
    fixture = make()
    prompts = fixture.task.batch_for(Sample(4, 0))
    (node,) = read_nodes("S5L0M", fixture.shape)
    bad, good = (Intervention({node: torch.full((1, 8), value)}) for value in (torch.nan, 1.0))
    clean, spoilt, fine = cone.run(fixture, prompts, [CLEAN, bad, good])
    with pytest.raises(MeasurementError, match="expected finite logits, found nan or infinity; check the weights of x"):
        spoilt.check("x")
    assert clean.check("x") is clean
    assert fine.check("x") is fine


def silu():
    """Return a real model that the fast engine does not know."""
    fixture = make()
    return dataclasses.replace(
        fixture,
        recipe=dataclasses.replace(fixture.recipe, model=fixture.recipe.model.model_copy(update={"act_fn": "silu"})),
    )


def test_a_model_that_it_cannot_run_goes_to_the_reference_engine_with_a_note():
    fixture = silu()
    engine, name = engine_for(fixture)
    assert engine is hooked
    assert name == "hooks (the cone engine cannot run the activation silu)"
    prompts = fixture.task.batch_for(Sample(5, 0))
    (outcome,) = engine.run(fixture, prompts, [CLEAN])
    (as_relu,) = hooked.run(make(), prompts, [CLEAN])
    assert not torch.allclose(outcome.loss, as_relu.loss)
    with pytest.raises(HarnessError, match="expected a model that the cone engine can run, found the activation silu"):
        engine_for(fixture, "cone")


def test_a_model_without_layer_norm_goes_to_the_reference_engine_too():
    fixture = make()
    plain = dataclasses.replace(
        fixture,
        recipe=dataclasses.replace(
            fixture.recipe, model=fixture.recipe.model.model_copy(update={"normalisation": "RMS"})
        ),
    )
    assert cone.refusal(plain) == "the normalisation RMS"
    assert cone.refusal(fixture) is None
    assert cone.refusal(make(act_fn="gelu")) is None


def test_the_engine_can_be_chosen():
    fixture = make()
    assert engine_for(fixture) == (cone, "cone")
    assert engine_for(fixture, "cone") == (cone, "cone")
    assert engine_for(fixture, "hooks") == (hooked, "hooks")
    assert engine_for(silu(), "hooks") == (hooked, "hooks")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_digits_and_losses():
    outcomes = []
    for device in ("cpu", "cuda"):
        fixture = load_fixture(FIXTURE, FIXTURES, device)
        prompts = fixture.task.batch_for(NamedSet("varied"))
        means = cone.capture_means(fixture, prompts)
        changes = [interventions.mean(read_nodes(text, fixture.shape), means) for text in ("S10L0M", "S11L0", "S8L0H1")]
        outcomes.append(cone.run(fixture, prompts, changes))
    for here, there in zip(*outcomes, strict=True):
        assert torch.equal(here.predicted, there.predicted)
        torch.testing.assert_close(here.loss, there.loss, atol=5e-4, rtol=0)


@pytest.mark.slow
def test_a_sweep_never_waits_for_the_device(request, monkeypatch):
    """Run on tensors that know their shapes and no values: whatever asks for a value, and so would wait, fails."""
    real = make(n_layers=2, n_digits=1)
    for cached in (reattention._index, reattention._later):
        cached.cache_clear()  # what is made up must not get into it, nor be met by what is real
        request.addfinalizer(cached.cache_clear)
    shape, layout = real.shape, real.task
    with FakeTensorMode():
        device = CPU
        weights = {name: torch.empty(weight.shape, device=device) for name, weight in real.weights.items()}
        fixture = dataclasses.replace(real, weights=weights, device=device)
        # Which prompts are alike is found on the CPU, where the task makes them.
        prompts = layout.batch_of(torch.empty(5, layout.n_ctx, dtype=torch.int64, device=device))
        group = Group(fixture, None, prompts, tuple(step - 1 for step in layout.answer_steps), {})
        monkeypatch.setattr(cone, "groups", lambda *of: iter([group]))
        live = [node for node in all_nodes(shape) if reach([node], shape)]
        values = {node: torch.empty(1, real.width(node), device=device) for node in live}
        resampled = {node: torch.empty(4, real.width(node), device=device) for node in live}
        donors = torch.empty(5, dtype=torch.int64, device=device)
        changes = [
            CLEAN, *(Intervention({node: value}) for node, value in values.items()),
            *(Intervention({node: value}, donors) for node, value in resampled.items()),
            *(Intervention({n: v for n, v in values.items() if n.kind == "head" and n.head == head}) for head in (0, 1)),
            Intervention(values),
        ]  # fmt: skip
        outcomes = cone.run(fixture, prompts, changes, 2)
        assert len(outcomes) == 2 * len(live) + 4
        assert outcomes[-1].loss.shape == (5, layout.n_answer)
        with pytest.raises(DataDependentOutputException):  # as it would
            bool(outcomes[-1].loss.isfinite().all())
