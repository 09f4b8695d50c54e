"""Recipes: what is refused, where, in which words; and what makes a recipe another one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ROOT
from tiny import FIELDS, make_recipe, recipe_text, refusal

from harness import __version__
from harness.base.errors import SpecError
from harness.specs.fixtures.pins import recipe_hash
from harness.specs.fixtures.recipe import TrainingRun, Transformer, load_recipe
from harness.tasks.addition.layout import MAX_DIGITS


def with_line(line):
    """Return the tiny recipe with this line in the place of the field's, or else as its tenth."""
    field = line.split(":")[0]
    lines = recipe_text().splitlines()
    at = list(FIELDS).index(field) if field in FIELDS else len(lines)
    return "\n".join([*lines[:at], line, *lines[at + 1 :]]) + "\n"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, "utf-8")
        return load_recipe(path, "r.yaml")

    return read


def test_what_is_written_is_what_is_read(read):
    recipe = read(recipe_text(n_heads=4, equals="equals", act_fn="gelu", optimiser={"lr": 0.5}, enrichment=None))
    assert recipe == make_recipe(n_heads=4, equals="equals", act_fn="gelu", optimiser={"lr": 0.5}, enrichment=None)
    assert (recipe.model.d_head, recipe.task.n_ctx, recipe.task.d_vocab) == (2, 14, 19)
    assert (recipe.shape.n_layers, recipe.shape.n_heads) == (2, 4)
    assert (recipe.run.optimiser.lr, recipe.run.optimiser.betas, recipe.enrichment.enrichment) == (
        0.5,
        [0.9, 0.98],
        None,
    )


@pytest.mark.parametrize("n_digits", [1, MAX_DIGITS])
def test_the_digits_may_go_to_both_bounds(read, n_digits):
    assert read(recipe_text(n_digits=n_digits)).task.n_ctx == 3 * n_digits + 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("batch_sise: 64", "10:1: expected a known key, found batch_sise; did you mean 'batch_size'?"),
        ("hardest: {of: 1, last_share: 0.5}", "10:15: expected a number of at least 2, found 1; correct `of`"),
        ("hardest: {of: 2, last_share: 0}", "10:30: expected a number more than 0, found 0; correct `last_share`"),
        ("hardest: {of: 2}", "10:10: expected the key `last_share`, found none; add `last_share: …`"),
        ("n_heads: 3", "6:10: expected a multiple of n_heads (3), found 8; write 6"),
        ("n_heads: 9", "6:10: expected a multiple of n_heads (9), found 8; write 9"),
        ("steps: true", "9:8: expected a whole number, found true; correct `steps`"),
        ("optimiser: {lr: nan}", "10:17: expected a number, found nan; correct `lr`"),
        ("n_digits: two", "3:11: expected a whole number, found two; correct `n_digits`"),
        ('n_digits: "2"', "3:11: expected a whole number, found '2'; correct `n_digits`"),
        ("version: 1.0", "1:10: expected 1, found 1.0; correct `version`"),
        ("version: true", "1:10: expected 1, found true; correct `version`"),
        ("act_fn: gelu_new", "10:9: expected relu or gelu, found gelu_new; correct `act_fn`"),
        (
            "n_layers: 2\nn_layers: 2",
            "5:1: expected each key once, found n_layers again (first in line 4); keep one of them",
        ),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line_that_says_where(read, line, problem):
    assert refusal(SpecError, read, with_line(line)) == f"r.yaml:{problem}"


def test_of_a_recipe_of_a_newer_format_only_that_is_told(read):
    problem = f"r.yaml:1:10: expected version 1, the newest that harness {__version__} reads, found 2; install a newer harness"
    assert refusal(SpecError, read, recipe_text(version=2, n_digits="many", colour="red")) == problem


@pytest.mark.parametrize("seed", [2**64, 10**30])
def test_a_seed_that_torch_cannot_take_is_refused(read, seed):
    assert refusal(SpecError, read, recipe_text(seed=seed)).startswith("r.yaml:8:7: expected a ")


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + recipe_text().replace("\n", "   # another\n\n"),
        "".join(reversed(recipe_text().splitlines(keepends=True))),
        recipe_text().replace("\n", "\r\n"),
        "{" + ", ".join(recipe_text().splitlines()) + "}",
        recipe_text(batch_size=64, equals="=", optimiser={"weight_decay": 0.1, "lr": 8e-5}),
        with_line("seed: 0_0"),
    ],
    ids=["comments", "order", "line ends", "flow style", "defaults written out", "spelling"],
)
def test_how_a_recipe_is_written_does_not_change_its_hash(read, text):
    assert recipe_hash(read(text)) == recipe_hash(make_recipe())


# A second value for every field there is.
OTHER = {
    "n_digits": 3, "equals": "equals", "n_layers": 1, "n_heads": 4, "d_model": 16, "d_mlp": 8, "act_fn": "gelu",
    "init": "transformer_lens", "seed": 1, "batch_size": 32, "steps": 2, "optimiser": {"lr": 1e-3}, "enrichment": None,
    "hardest": {"of": 2, "last_share": 0.5},
}  # fmt: skip


def test_every_field_of_a_recipe_is_in_its_hash():
    family = make_recipe().family
    parts = (family.keys, Transformer, TrainingRun, family.training)
    # The others have one value, or are no part of how it is made.
    assert OTHER.keys() == {name for part in parts for name in part.model_fields} - {"task", "normalisation"}
    optimisers = [{"weight_decay": 0.0}, {"betas": [0.9, 0.99]}, {"warmup_steps": 0}]
    enrichments = [{"batch_share": 0.5}, {"digit_share": 0.5}, {"question_share": 0.5},
                   {"cascade_share": 0.5}, {"near_share": 0.5}, {"double_share": 0.5}]  # fmt: skip
    hardest = [{"of": 3, "last_share": 0.5}, {"of": 2, "last_share": 0.25}]
    recipes = [
        make_recipe(),
        *(make_recipe(**{name: value}) for name, value in OTHER.items()),
        *(make_recipe(optimiser=optimiser) for optimiser in optimisers),
        *(make_recipe(enrichment=enrichment) for enrichment in enrichments),
        *(make_recipe(hardest=choice) for choice in hardest),
    ]
    assert len({recipe_hash(recipe) for recipe in recipes}) == len(recipes)


def test_recipes_and_pins_are_read_without_torch():
    code = "import sys, harness.specs.fixtures.recipe, harness.specs.fixtures.pins; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
