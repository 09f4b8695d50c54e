"""Random weights: models that have learned nothing

Claims about models with random weights. Whatever one of these is said to be able to do is false. The claims that ship
are asked as they are, but of random weights of each fixture's shape: their gates should refuse them. Then claims are
made of every node of small models, with `gate: 0`, as somebody would who has not looked at the accuracy: that a node is
not needed, that a few suffice, that it carries a variable, that a head looks at a step. *As it should* counts those
that are not supported.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace

import pytest
from chance import Wrong
from paths import FIXTURES, HYPOTHESES
from tiny import make_recipe, random_weights, read_claim, write_tiny

from harness.base.errors import HarnessError
from harness.base.intervals import ERROR
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, gather, judge
from harness.judging.records import record_of
from harness.models.storage import serialise, write_fixture
from harness.reporting.summary import shown_verdict
from harness.specs.fixtures.files import RECIPE, FixtureRef, list_fixtures, recipe_of
from harness.specs.fixtures.pins import Pin, Provenance, recipe_hash
from harness.specs.fixtures.recipe import OwnModel
from harness.specs.spec_files import load_file
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.addition.task import Addition
from harness.tasks.questions import QuestionList

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

KINDS = ("large weights", "small weights that say 0")
SHAPES = [{"n_layers": 1, "n_heads": 2}, {"n_layers": 2, "n_heads": 2}, {"n_layers": 2, "n_heads": 3}]
SIZES = {"n_digits": 2, "d_model": 12, "d_mlp": 24}
# Two digits: S0-S4 the question, S5, S6 and S7 the steps that predict A2, A1 and A0.
DIGITS = {"A2": 5, "A1": 6, "A0": 7}
VARIABLES = {"A2": "D1.T2", "A1": "D0.carry", "A0": "D0.base_add"}
ASKED = "questions: {n: 8000, seed: 4}\ngate: 0\n"
EVERY = QuestionList(tuple(make_recipe(**SIZES).task.read_question(f"{a}+{b}") for a in range(100) for b in range(100)))


def texts(n_layers, n_heads):
    """Yield claims about every head and MLP that reaches an answer, as pairs of a kind and a text."""
    parts = [*(f"H{head}" for head in range(n_heads)), "M"]
    for layer in range(n_layers):
        for step in range(8):
            reached = [digit for digit, at in DIGITS.items() if at == step or (at > step and layer < n_layers - 1)]
            for node in (f"S{step}L{layer}{part}" for part in parts if reached):
                for digit in reached:
                    others = ", ".join(other for other in DIGITS if other != digit)
                    yield "is not needed", f"ablate: {node}\n{ASKED}expect: {{fails: [], may_fail: [{others}]}}"
                    yield "breaks a digit", f"ablate: {node}\n{ASKED}expect: {{fails: [{digit}], may_fail: [{others}]}}"
                    carried = f"{{node: {node}, variable: {VARIABLES[digit]}, digits: [{digit}]}}"
                    yield "carries a variable", f"patch: {carried}\npairs: {{n: 800}}\ngate: 0"
                if not node.endswith("M") and step in DIGITS.values():
                    for to in range(step + 1):
                        expect = "expect: {mass_at_least: 0.5}"
                        yield "looks at a step", f"attend: {{node: {node}, to: [S{to}]}}\n{ASKED}{expect}"
        for kept in (f"S5-S7L{layer}", f"L{layer}H0", f"S5L{layer}", f"S7L{layer}H0"):
            yield "suffices", f"keep: {{heads: {kept}, digits: [A0]}}\n{ASKED}"


def is_false(kind, claim, bench):
    """Return whether a supported claim is false: the model can do nothing, and the rest all 10,000 questions tell."""
    if kind not in ("breaks a digit", "looks at a step"):
        return True
    census = replace(claim, questions=EVERY)
    if isinstance(census, Hypothesis):
        census = replace(census, reference=EVERY)
    return judge(census, bench).verdict != "supported"


def in_words(verdicts):
    """Return how often each verdict came out."""
    return ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())


def weights_of(kind, seed, fields):
    """Return random weights; small ones are those of a model that has hardly begun, and says 0 whatever it is asked."""
    found = random_weights(make_recipe(**fields), seed)
    if kind.startswith("small"):
        found = {name: 0.05 * tensor for name, tensor in found.items()}
        found["unembed.b_U"][0] += 1
    return found


@pytest.mark.parametrize("weights", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "{n_layers} layers of {n_heads} heads".format(**shape))
def test_claims_about_every_node(tmp_path, many, figure, shape, weights):
    """A claim that is supported is false, unless it says what these weights do where they are right by chance."""
    seen, false, untold, told, fields = Counter(), 0, [], [], SIZES | shape
    for seed in range(many(2, 1)):
        write_tiny(tmp_path / str(seed), "random", weights=weights_of(weights, seed, fields), **fields)
        made = list(texts(**shape))
        made = many(made, random.Random(seed).sample(made, 40))
        claims = [(kind, read_claim(tmp_path, text, tmp_path / str(seed), "random")) for kind, text in made]
        bench = Workbench("cpu")
        gather([claim for _, claim in claims], bench)
        for kind, claim in claims:
            try:
                result = judge(claim, bench)
                untold.append(kind == "is not needed" and experiment(claim, bench, mutant=True).verdict == "supported")
            except HarnessError:
                seen["an error"] += 1
                continue
            seen[result.verdict] += 1
            if result.verdict == "supported" and is_false(kind, claim, bench):
                false += 1
            elif result.verdict == "supported":
                told.append(shown_verdict(record_of(result)))
    found = Wrong(false, seen.total())
    what = f"claims about every node, {'{n_layers} layers of {n_heads} heads'.format(**shape)}, {weights}"
    figure(what, *found.counts, f"{found.note(ERROR)}; {in_words(seen)}")
    assert found.within(ERROR)
    assert all("clean" in verdict for verdict in told)  # that the model is mostly wrong stands beside it
    if weights.startswith("small"):  # if nobody asked whether they were tested, many of these would be supported
        assert not Wrong(sum(untold), len(untold)).within(ERROR)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The fixtures that ship, with random weights in place of their own; only those whose shape a recipe says."""
    path = tmp_path_factory.mktemp("fixtures")
    for seed, name in enumerate(name for name in list_fixtures(FIXTURES) if (FIXTURES / name / RECIPE).exists()):
        recipe = recipe_of(FixtureRef(name, FIXTURES))
        if isinstance(recipe.model, OwnModel) or not isinstance(recipe.task, Addition):
            continue
        text = (FIXTURES / name / RECIPE).read_text("utf-8")
        weights = random_weights(recipe, seed)
        pin = Pin(
            version=1, name=name, weights_sha256=hashlib.sha256(serialise(weights)).hexdigest(),
            recipe_sha256=recipe_hash(recipe), provenance=Provenance(source="random", source_sha256="0" * 64),
            measured=[],
        )  # fmt: skip
        write_fixture(path / name, text, weights, pin, "# random\n")
        if (roles := FIXTURES / name / "roles.yaml").exists():
            lines = roles.read_text("utf-8").splitlines(keepends=True)
            kept = "".join(line for line in lines if not line.startswith("weights_sha256"))
            (path / name / "roles.yaml").write_text(kept, "utf-8")
    return path


def test_claims_that_ship(untrained, many, figure):
    """The claims about addition, of models that never saw any: their gates, or nothing, should hold."""
    claims, bench = [], Workbench("cpu")
    for path in sorted(HYPOTHESES.rglob("*.yaml")):
        if f"/{path.parent.name}/" not in "/signed_mixed_s0/signed_subtraction_s0/induction_gpt2_s0/smollm2/":
            claims += [claim for claim in load_file(path, untrained) if claim.verb != "learn"]
    narrow = [
        part for claim in claims for part in claim.parts if not any(name.startswith("add_") for name in part.models)
    ]
    seen = Counter()
    for claim in many(claims, random.Random(0).sample(narrow, 25)):
        try:
            seen[judge(claim, bench).verdict] += 1
        except HarnessError:
            seen["an error"] += 1
    found = Wrong(seen["supported"], seen.total())
    figure("claims that ship", *found.counts, f"{found.note(ERROR)}; {in_words(seen)}")
    assert found.within(ERROR)
