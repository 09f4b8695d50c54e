"""The transformer that is trained, against TransformerLens and against numpy: logits, gradients, where it starts."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import NamedTuple

import numpy as np
import numpy_model
import pytest
import tiny
import torch
from asking import answers
from paths import FIXTURES
from scipy import stats
from tiny import make_recipe, random_weights

from harness.engines import transformer
from harness.engines.transformer import answer_logits, initial_weights, sizes_of
from harness.models.bridge import build_model, check_tensors, expected_tensors
from harness.specs.fixtures.recipe import load_recipe
from harness.tasks.addition.sampling import sample_uniform
from harness.tasks.answers import answer_loss

CPU = torch.device("cpu")
SHIPPED = load_recipe(FIXTURES / "tiny" / "recipe.yaml")


pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def any_tokens(recipe, n, seed=0):
    """Return tokens of all kinds at all steps, most of them no question at all."""
    return torch.randint(recipe.task.d_vocab, (n, recipe.task.n_ctx), generator=seeded(seed))


def double(weights):
    return {name: weight.double() for name, weight in weights.items()}


# It computes what TransformerLens computes.


def random_recipe(seed):
    draw = random.Random(seed)
    n_heads = draw.choice([1, 2, 3, 4])
    return make_recipe(
        n_layers=1 + seed % 3, act_fn=["relu", "gelu"][seed % 2], n_digits=1 + seed // 2 % 4, n_heads=n_heads,
        d_model=n_heads * draw.choice([1, 2, 3, 4]) + (n_heads == 1) * 3, d_mlp=draw.choice([1, 5, 16]),
        equals=["=", "equals"][seed // 6 % 2],
    )  # fmt: skip


RECIPES = {seed: random_recipe(seed) for seed in range(24)}


def test_the_random_shapes_are_of_all_kinds():
    for name, kinds in {
        "n_layers": {1, 2, 3}, "n_heads": {1, 2, 3, 4}, "act_fn": {"relu", "gelu"}, "n_digits": {1, 2, 3, 4},
        "equals": {"=", "equals"},
    }.items():  # fmt: skip
        parts = (recipe.keys if name in ("n_digits", "equals") else recipe.model for recipe in RECIPES.values())
        assert {getattr(part, name) for part in parts} == kinds
    assert len({(r.model.n_layers, r.model.act_fn, r.keys.equals) for r in RECIPES.values()}) == 12


@pytest.mark.parametrize("seed", RECIPES)
def test_the_logits_are_those_of_transformerlens_and_of_numpy(seed):
    recipe = RECIPES[seed]
    weights = random_weights(recipe, seed)
    tokens = any_tokens(recipe, 1 + seed % 7, seed)
    found = answer_logits(weights, tokens, sizes_of(recipe))
    predicting = slice(recipe.task.answer_start - 1, -1)

    assert found.dtype == torch.float32
    lens = build_model(recipe, weights, CPU)(tokens)[:, predicting]
    torch.testing.assert_close(found, lens, atol=1e-4, rtol=0)
    expected = numpy_model.forward(weights, tokens, recipe.model.act_fn).logits[:, predicting]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(
        answer_logits(double(weights), tokens, sizes_of(recipe)).numpy(), expected, atol=1e-10, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("act_fn", ["relu", "gelu"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_compiler_traces_all_of_it_forwards_and_backwards(n_layers, act_fn):
    """What a GPU trains by is one captured graph: what cannot be traced would fall out of it, and nobody be told."""
    recipe = make_recipe(n_layers=n_layers, act_fn=act_fn)
    weights = {name: weight.requires_grad_() for name, weight in random_weights(recipe).items()}
    torch.compiler.reset()
    traced = torch.compile(answer_logits, backend="aot_eager", fullgraph=True, dynamic=False)
    for n in (5, 11):  # of two sizes, as the hardest questions are sought among more
        tokens = any_tokens(recipe, n)
        with torch.no_grad():
            assert torch.equal(
                traced(weights, tokens, sizes_of(recipe)), answer_logits(weights, tokens, sizes_of(recipe))
            )
        gradients = []
        for run in (traced, answer_logits):
            loss = answer_loss(run(weights, tokens, sizes_of(recipe)), answers(tokens, recipe.task)).mean()
            gradients.append(torch.autograd.grad(loss, weights.values(), allow_unused=True))
        assert sum(gradient is not None for gradient in gradients[0]) == len(weights)
        for one, other in zip(*gradients, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_only_the_last_token_has_no_influence_and_none_on_what_stands_before_it(n_layers):
    recipe = make_recipe(n_layers=n_layers)
    weights, layout = double(random_weights(recipe)), recipe.task
    tokens = any_tokens(recipe, 5)
    before = answer_logits(weights, tokens, sizes_of(recipe))
    for step in range(layout.n_ctx):
        changed = tokens.clone()
        changed[:, step] = (tokens[:, step] + 1) % layout.d_vocab
        moved = (answer_logits(weights, changed, sizes_of(recipe)) - before).abs().amax((0, 2)) > 1e-9
        at = torch.arange(layout.answer_start - 1, layout.n_ctx - 1)  # the steps that predict
        assert moved.tolist() == (at >= step).tolist()
        assert bool(moved.any()) == (step < layout.n_ctx - 1)


def test_neurons_that_never_fire_add_nothing_however_large_their_bias_is():
    recipe = make_recipe()
    weights = random_weights(recipe)
    block = {**transformer.block_of(weights, 0), "mlp.b_in": torch.full((recipe.model.d_mlp,), -1e6)}
    resid = torch.randn(7, 3, recipe.model.d_model, generator=seeded(0))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert torch.equal(transformer.mlp(resid, block, sizes_of(recipe)), block["mlp.b_out"].expand_as(resid))


def test_the_last_token_is_not_even_looked_at():
    recipe = make_recipe()
    weights, tokens = random_weights(recipe), any_tokens(recipe, 5)
    unknown = tokens.clone()
    unknown[:, -1] = 10**6
    assert torch.equal(
        answer_logits(weights, tokens, sizes_of(recipe)), answer_logits(weights, unknown, sizes_of(recipe))
    )
    with pytest.raises(IndexError):
        answer_logits(weights, unknown.roll(-1, 1), sizes_of(recipe))


# It has the gradients that TransformerLens has.


GRADIENT_RECIPES = {
    "the shipped recipe": SHIPPED,
    "one layer": make_recipe(n_layers=1, n_heads=4, n_digits=3),
    "three layers": make_recipe(n_layers=3, n_heads=1, act_fn="gelu", equals="equals"),
}
NO_GRADIENT = "attn.b_K"  # the same for all keys, so softmax takes it away: exactly 0, were it not for rounding


class Case(NamedTuple):
    recipe: object
    weights: dict[str, torch.Tensor]  # float64
    tokens: torch.Tensor
    expected: dict[str, torch.Tensor]  # TransformerLens's gradients, under its names
    config: object


def lens_gradients(recipe, weights, tokens):
    """Return the gradients of the mean answer loss by TransformerLens's own autograd, in float64, and its config."""
    model = build_model(recipe, {name: weight.float() for name, weight in weights.items()}, CPU).double()
    parameters = model.state_dict(keep_vars=True)  # also b_U, which is a buffer there
    for parameter in parameters.values():
        parameter.requires_grad_()
    logits = model(tokens)[:, recipe.task.answer_start - 1 : -1]
    assert logits.dtype == torch.float64
    loss = -logits.log_softmax(-1).gather(-1, answers(tokens, recipe.task)[..., None]).mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)), model.cfg


@pytest.fixture(scope="module", params=GRADIENT_RECIPES)
def case(request):
    recipe = GRADIENT_RECIPES[request.param]
    # Weights as large as at the start, so that no attention is saturated, and nothing is zero.
    start = initial_weights(
        dataclasses.replace(recipe, model=recipe.model.model_copy(update={"init": "notebook"})), seeded(1)
    )
    weights = double({name: start[name] + noise / 8 for name, noise in random_weights(recipe, 2).items()})
    tokens = sample_uniform(recipe.task, 40, seeded(3))
    return Case(recipe, weights, tokens, *lens_gradients(recipe, weights, tokens))


def differences(case, weights):
    """Return how far the gradients at `weights` are from TransformerLens's at the case's: relative, but for b_K."""
    from transformer_lens.conversion_utils import convert_tl_checkpoint

    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    loss = answer_loss(
        answer_logits(own, case.tokens, sizes_of(case.recipe)), answers(case.tokens, case.recipe.task)
    ).mean()
    gradients = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    # Conversion only renames and moves numbers about, so it does to gradients what it does to weights.
    converted = {name: convert_tl_checkpoint({name: gradient}, case.config) for name, gradient in gradients.items()}
    assert {key for pair in converted.values() for key in pair} == case.expected.keys()
    found = {}
    for name, pair in converted.items():
        ((key, gradient),) = pair.items()
        size = 1.0 if name.endswith(NO_GRADIENT) else float(case.expected[key].norm())
        assert size > 1e-6
        found[name] = float((gradient - case.expected[key]).norm()) / size
    return found


def test_the_gradient_of_every_weight_is_that_of_transformerlens(case):
    found = differences(case, case.weights)
    assert found.keys() == expected_tensors(case.recipe).keys()
    assert {name: value for name, value in found.items() if not value < 1e-9} == {}
    for layer in range(case.recipe.model.n_layers):
        assert float(case.expected[f"blocks.{layer}.attn.k.bias"].norm()) < 1e-12


def test_the_comparison_of_gradients_notices_a_small_change_of_any_weight(case):
    for name, weight in case.weights.items():
        changed = weight.clone()
        changed.view(-1)[0] += 1e-4
        worst = max(differences(case, case.weights | {name: changed}).values())
        # W_E's first row is of the digit 0, which every batch has.
        assert (worst > 1e-9) == (not name.endswith(NO_GRADIENT)), name


@pytest.mark.parametrize("what", ["epsilon", "scale", "mask"])
def test_the_comparison_of_gradients_notices_another_formula(case, monkeypatch, what):
    attention = transformer.functional.scaled_dot_product_attention
    if what == "epsilon":
        monkeypatch.setattr(transformer, "EPSILON", 1.01e-5)
    elif what == "scale":
        monkeypatch.setattr(
            transformer.functional, "scaled_dot_product_attention",
            lambda q, k, v, attn_mask: attention(q * 1.001, k, v, attn_mask=attn_mask),
        )  # fmt: skip
    else:
        monkeypatch.setattr(
            transformer.functional, "scaled_dot_product_attention",
            lambda q, k, v, attn_mask: attention(q, k, v, attn_mask=attn_mask.roll(1, 1)),
        )  # fmt: skip
    assert max(differences(case, case.weights).values()) > 1e-9


# Where training starts.


def large(**fields):
    return make_recipe(n_layers=3, n_heads=4, d_model=64, d_mlp=128, **fields)


def assert_spread(weight, std):
    """Within five standard errors of mean 0 and of the standard deviation `std`."""
    n = weight.numel()
    assert abs(float(weight.double().mean())) < 5 * std / math.sqrt(n)
    assert abs(float(weight.double().std()) / std - 1) < 5 / math.sqrt(2 * n)


@pytest.mark.parametrize("init", ["notebook", "transformer_lens"])
def test_training_starts_from_normal_weights_without_biases(init):
    recipe = large(init=init)
    weights = initial_weights(recipe, seeded(0))
    check_tensors(weights, recipe, "here")
    std = 0.8 / math.sqrt(64)
    standardised = []
    for name, weight in weights.items():
        if name.split(".")[-1].startswith("W_"):
            smaller = init == "transformer_lens" and name.endswith((".W_O", ".W_out"))
            scale = std / math.sqrt(6) if smaller else std
            assert_spread(weight, scale)
            standardised.append(weight.flatten() / scale)
        else:
            assert weight.unique().tolist() == [float(name.endswith(".w"))], name
    values = torch.cat(standardised).numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert stats.kstest(values * 1.01, "norm").pvalue < 0.05  # so many that little would show


def test_the_two_starts_differ_only_in_what_writes_to_the_residual_stream():
    notebook = initial_weights(large(init="notebook"), seeded(0))
    lens = initial_weights(large(init="transformer_lens"), seeded(0))
    assert list(notebook) == list(lens)
    for name, weight in notebook.items():
        if name.endswith((".W_O", ".W_out")):
            torch.testing.assert_close(lens[name] * math.sqrt(2 * 3), weight)
        else:
            assert torch.equal(lens[name], weight), name


def test_a_recipe_that_does_not_say_starts_as_the_notebook_did():
    assert "init" not in tiny.FIELDS
    found, expected = (initial_weights(recipe, seeded(0)) for recipe in (large(), large(init="notebook")))
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())


def test_one_of_the_starts_is_that_of_the_installed_transformerlens():
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.conversion_utils import convert_tl_checkpoint
    from transformer_lens.model_bridge import TransformerBridge

    recipe = large()
    config = TransformerBridgeConfig(
        d_model=64, d_head=16, n_layers=3, n_heads=4, n_ctx=recipe.task.n_ctx, d_mlp=128,
        d_vocab=recipe.task.d_vocab, act_fn="relu", normalization_type="LN", seed=5,
    )  # fmt: skip
    theirs = TransformerBridge.boot_native(config).state_dict()
    unlike = {}
    for init in ("notebook", "transformer_lens"):
        ours = convert_tl_checkpoint(initial_weights(large(init=init), seeded(0)), config)
        assert ours.keys() == theirs.keys()
        unlike[init] = set()
        for name, weight in ours.items():
            if weight.unique().numel() == 1:  # a bias or a layer norm's scale
                assert torch.equal(weight, theirs[name]), name
            elif abs(float(weight.std() / theirs[name].std()) - 1) > 5 / math.sqrt(weight.numel()):
                unlike[init].add(name)
    outputs = {f"blocks.{layer}.{name}.weight" for layer in range(3) for name in ("attn.o", "mlp.out")}
    assert unlike == {"notebook": outputs, "transformer_lens": set()}


def test_the_seed_decides_the_start_and_nothing_else_does():
    before = torch.get_rng_state()
    first, again, other = (initial_weights(SHIPPED, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert torch.equal(weight, other[name]) == (not name.split(".")[-1].startswith("W_")), name
    drawn = [weight for name, weight in first.items() if name.split(".")[-1].startswith("W_")]
    assert len({float(weight.flatten()[0]) for weight in drawn}) == len(drawn)
