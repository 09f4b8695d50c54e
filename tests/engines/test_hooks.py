"""The reference engine against a second, independent model, on every kind of node, method and shape."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_model import forward
from paths import FIXTURE, FIXTURES
from tiny import make_recipe, random_weights

from harness.base.errors import MeasurementError
from harness.engines import hooks as hooked
from harness.engines import interventions
from harness.engines.interventions import CLEAN, Intervention
from harness.models.fixtures import fixture_of, load_fixture
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Node, reach, read_nodes
from harness.tasks.addition.question_sets import named_set
from harness.tasks.questions import NamedSet, Sample

CPU = torch.device("cpu")


def tiny(**fields):
    recipe = make_recipe(**fields)
    weights = random_weights(recipe)
    return fixture_of("tiny", recipe, "0" * 64, weights, CPU), weights


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def two_layers():
    return tiny()


def oracle(fixture, weights, prompts, change):
    """Return what the second model answers, with the values of `change` put in."""
    everything = slice(0, len(prompts))
    replaced = {dataclasses.astuple(node)[:4]: change.at(node, everything).double().numpy() for node in change.nodes}
    logits = forward(weights, prompts.tokens.numpy(), fixture.recipe.model.act_fn, replaced).logits
    start = fixture.task.answer_start
    return logits[:, start - 1 : -1]


def assert_agrees(fixture, weights, prompts, change, chunk=None):
    (outcome,) = hooked.run(fixture, prompts, [change], chunk)
    logits = oracle(fixture, weights, prompts, change)
    truth = prompts.answers.numpy()
    top = np.sort(logits, -1)
    clear = top[..., -1] - top[..., -2] > 1e-4  # where float32 and float64 must agree on the largest
    assert clear.mean() > 0.9
    assert (outcome.predicted.numpy() == logits.argmax(-1))[clear].all()
    true_logit = np.take_along_axis(logits, truth[..., None], -1)[..., 0]
    np.testing.assert_allclose(outcome.right_logit.numpy(), true_logit, atol=1e-4)
    log_sum = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    np.testing.assert_allclose(outcome.loss.numpy(), log_sum - true_logit, atol=1e-4)


NODE_TEXTS = [
    "S3L0H1", "S5L0H0+H1", "S5L0", "S4L0M", "S4L0R", "S2-S5L0H0", "L0H1", "S5L1H0", "S6L1M", "S7L1R", "S0-S8L1M", "S6",
    "S3", "S5H0", "L1",
]  # fmt: skip


@pytest.mark.parametrize("text", NODE_TEXTS)
@pytest.mark.parametrize("method", ["mean", "zero", "resample"])
def test_every_node_kind_and_method_agrees_with_the_second_model(two_layers, text, method):
    fixture, weights = two_layers
    prompts = fixture.task.batch_for(Sample(40, 1))
    reference = fixture.task.batch_for(Sample(30, 2))
    nodes = read_nodes(text, fixture.shape)
    clean = forward(weights, reference.tokens.numpy(), "relu").values
    if method == "zero":
        change = interventions.zero({node: fixture.width(node) for node in nodes})
    elif method == "mean":
        change = interventions.mean(nodes, hooked.capture_means(fixture, reference))
        for node in nodes:
            expected = clean[dataclasses.astuple(node)[:4]].mean(0)
            np.testing.assert_allclose(change.values[node][0].numpy(), expected, atol=1e-5)
    else:
        donors = torch.randint(len(reference), (len(prompts),), generator=torch.Generator().manual_seed(3))
        change = interventions.resample(hooked.capture(fixture, reference, nodes)[1], donors)
        for node in nodes:
            expected = clean[dataclasses.astuple(node)[:4]][donors.numpy()]
            np.testing.assert_allclose(change.at(node, slice(None)).numpy(), expected, atol=1e-5)
    assert_agrees(fixture, weights, prompts, change, chunk=16)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_shapes_and_node_lists_agree_with_the_second_model(data):
    n_heads = data.draw(st.sampled_from([1, 2, 3]))
    fixture, weights = tiny(
        n_digits=data.draw(st.integers(1, 4)), n_layers=data.draw(st.integers(1, 3)), n_heads=n_heads,
        d_model=4 * n_heads, act_fn=data.draw(st.sampled_from(["relu", "gelu"])),
        equals=data.draw(st.sampled_from(["=", "equals"])),
    )  # fmt: skip
    nodes = data.draw(st.lists(st.sampled_from(list(all_nodes(fixture.shape))), min_size=1, max_size=6, unique=True))
    prompts = fixture.task.batch_for(Sample(12, data.draw(st.integers(0, 99))))
    values = {node: torch.randn(1, fixture.width(node)) for node in nodes}
    assert_agrees(fixture, weights, prompts, Intervention(values))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_exactly_the_digits_in_reach_can_change(data):
    fixture, _ = tiny(n_layers=data.draw(st.integers(1, 3)))
    node = data.draw(st.sampled_from(list(all_nodes(fixture.shape))))
    prompts = fixture.task.batch_for(Sample(20, 5))
    change = Intervention({node: 3 * torch.ones(1, fixture.width(node)) * torch.linspace(-1, 1, fixture.width(node))})
    before, after = hooked.run(fixture, prompts, [CLEAN, change])
    moved = (before.loss != after.loss).any(0).tolist()
    assert {d for d, changed in zip(fixture.task.answer_tokens, moved, strict=True) if changed} == reach(
        [node], fixture.shape
    )


def test_putting_a_nodes_own_values_back_changes_nothing(two_layers):
    fixture, _ = two_layers
    prompts = fixture.task.batch_for(Sample(50, 1))
    _, own = hooked.capture(fixture, prompts, all_nodes(fixture.shape))
    clean, again = hooked.run(fixture, prompts, [CLEAN, interventions.resample(own, torch.arange(50))])
    assert torch.equal(again.loss, clean.loss)


def test_a_mean_belongs_to_its_own_layer_and_step(two_layers):
    """The notebook wrote layer 0's means into layer 1."""
    fixture, _ = two_layers
    means = hooked.capture_means(fixture, fixture.task.batch_for(Sample(50, 1)))
    assert not torch.allclose(means[Node(5, 0, "head", 0)], means[Node(5, 1, "head", 0)], atol=1e-3)
    assert not torch.allclose(means[Node(5, 0, "head", 0)], means[Node(4, 0, "head", 0)], atol=1e-3)


def test_no_questions_is_an_error(two_layers):
    fixture, _ = two_layers
    with pytest.raises(MeasurementError, match="expected at least one question, found none; ask some"):
        hooked.run(fixture, fixture.task.encode([]), [CLEAN])


def test_a_hook_that_does_not_fire_is_an_error(two_layers, monkeypatch):
    fixture, _ = two_layers
    # A hook point that exists and that the forward pass does not go through.
    monkeypatch.setattr(hooked, "hook_point", lambda node: f"blocks.{node.layer}.attn.hook_hidden_states")
    with pytest.raises(
        MeasurementError, match=r"hook at blocks\.0\.attn\.hook_hidden_states to fire once, found 0 times"
    ):
        hooked.run(fixture, fixture.task.batch_for(Sample(4, 0)), [interventions.zero({Node(5, 0, "mlp"): 8})])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["S12L0H0+H1", "S10L0M", "S0-S7", "S11L1"])
def test_the_chunk_size_changes_no_digit_on_the_real_model(text):
    fixture = load_fixture(FIXTURE, FIXTURES, "cpu")
    prompts = fixture.task.batch_for(NamedSet("varied"))
    assert len(prompts) == len(named_set("varied", fixture.task))
    prompts = prompts[::4]
    outcomes = []
    for chunk in (1, 7, len(prompts)):
        means = hooked.capture_means(fixture, prompts, chunk)
        outcomes.append(
            *hooked.run(fixture, prompts, [interventions.mean(read_nodes(text, fixture.shape), means)], chunk)
        )
    assert not torch.equal(outcomes[0].predicted, prompts.answers)
    for other in outcomes[1:]:
        assert torch.equal(outcomes[0].predicted, other.predicted)
        torch.testing.assert_close(outcomes[0].loss, other.loss, atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_digits_and_losses():
    prompts = None
    outcomes = []
    for device in ("cpu", "cuda"):
        fixture = load_fixture(FIXTURE, FIXTURES, device)
        prompts = fixture.task.batch_for(NamedSet("varied"))
        means = hooked.capture_means(fixture, prompts)
        outcomes += hooked.run(fixture, prompts, [interventions.mean(read_nodes("S10L0M", fixture.shape), means)])
    assert torch.equal(outcomes[0].predicted, outcomes[1].predicted)
    torch.testing.assert_close(outcomes[0].loss, outcomes[1].loss, atol=1e-4, rtol=0)
