"""A toy task whose prompts differ: two lengths, named positions, a set of right answers, wrong ones, counterparts.

All of it is written here, in the few lines that a user would write; nothing else knows of it. What comes out is compared
with a second model, in numpy, that gets one prompt at a time, without anything filled up.
"""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch
from numpy_model import forward
from own import pin_random
from paths import ROOT
from tiny import read_claim, refusal

from harness.base.errors import FixtureError, MeasurementError, SpecError
from harness.base.own_code import allow_code
from harness.cli import main
from harness.engines import cone, interventions
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.measurement import Tally
from harness.judging.records import record_of
from harness.judging.verbs.pair_counts import came_out_as_expected
from harness.judging.verbs.patch import interchange_of
from harness.judging.worth.mutants import mutants_of
from harness.models.fixtures import load_fixture
from harness.reporting.failure import failure_text
from harness.reporting.report import markdown
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.recipe import load_recipe
from harness.specs.node_sets import all_nodes, nodes_with_means
from harness.specs.nodes import read_nodes
from harness.specs.siblings import siblings, write_nodes
from harness.specs.spec_files import load_file
from harness.tasks.batch import PAD, joined
from harness.tasks.questions import Sample
from harness.training.loop import Training
from harness.training.runs import train_fixture

pytestmark = pytest.mark.usefixtures("one_thread", "code_allowed")

TASK = '''
import torch

from harness import Task


class Echo(Task):
    """Letters with a name among them, then `>`: the name is said again, in small or as it is; R only in small."""

    vocabulary = (*"abcdPQRpqr>",)
    longest = 7
    answer_names = ("said",)
    positions = ("NAME", "END", "REST")
    counterparts = ("next", "other")
    cases = ("short", "long")
    question_sets = {"two": ["aPb>", "abcdR>"]}
    variables = {"who": ["said"]}

    def sample(self, n, generator, case=None):
        rows = torch.randint(0, 4, (n, 6), generator=generator)
        long = torch.rand(n, generator=generator) < 0.5
        if case is not None:
            long[:] = case == "long"
        length = torch.where(long, 6, 4)
        at = (torch.rand(n, generator=generator) * (length - 1)).long()
        rows.scatter_(1, at[:, None], torch.randint(4, 7, (n, 1), generator=generator))
        rows.scatter_(1, length[:, None] - 1, 10)
        rows[~long, 4:] = -1
        return rows

    def _name(self, questions):
        return ((questions >= 4) & (questions <= 6)).long().argmax(1, keepdim=True)

    def value_of(self, variable, questions):
        return questions.gather(1, self._name(questions))[:, 0] - 4

    def answer(self, questions):
        return self.value_of("who", questions)[:, None] + 7

    def answers_with(self, variable, values, questions):
        return values[:, None] + 7

    def right_tokens(self, questions):
        small = self.answer(questions)
        return torch.stack([torch.where(small == 9, -1, small - 3), small], dim=-1)

    def wrong_tokens(self, questions):
        small = self.answer(questions)
        return torch.stack([7 + (small - 6) % 3, 7 + (small - 5) % 3], dim=-1)

    def positions_of(self, questions):
        name, end = self._name(questions), (questions >= 0).sum(1) - 1
        first = torch.where(name > 0, 0, 1)
        return {"NAME": name[:, 0], "END": end, "REST": torch.cat([first, torch.where(name > 1, 1, 2)], dim=1)}

    def counterpart(self, name, questions, generator):
        who = self.value_of("who", questions)
        by = 1 if name == "next" else torch.randint(1, 3, who.shape, generator=generator)
        return questions.scatter(1, self._name(questions), 4 + ((who + by) % 3)[:, None])

    def cases_of(self, questions):
        return ["long" if length == 6 else "short" for length in (questions >= 0).sum(1).tolist()]


task = Echo()
'''
RECIPE = """
version: 1
task: echo:task
n_layers: 2
n_heads: 2
d_model: 16
d_mlp: 32
seed: 0
batch_size: 64
steps: 400
optimiser: {lr: 1.0e-2, weight_decay: 0.0, betas: [0.9, 0.95]}
"""


def write(fixtures, name="echo_s0", task=TASK, recipe=RECIPE):
    (fixtures / name).mkdir(parents=True, exist_ok=True)
    (fixtures / name / "echo.py").write_text(task, "utf-8")
    (fixtures / name / "recipe.yaml").write_text(recipe, "utf-8")
    return fixtures / name


def allowed(do):
    before = allow_code()
    try:
        return do()
    finally:
        allow_code(before)


@pytest.fixture(scope="module")
def random(tmp_path_factory):
    """A model with random weights, which answers differently from prompt to prompt."""
    fixtures = tmp_path_factory.mktemp("random")
    allowed(lambda: pin_random(write(fixtures), seed=3))
    return allowed(lambda: load_fixture("echo_s0", fixtures, "cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The fixtures' directory, with a model that was trained on prompts of both lengths."""
    fixtures = tmp_path_factory.mktemp("trained")
    write(fixtures)
    allowed(lambda: train_fixture(FixtureRef("echo_s0", fixtures), device="cpu"))
    return fixtures


@pytest.fixture(scope="module")
def prompts(random):
    return allowed(lambda: random.task.batch_for(Sample(40, 1)))


ENGINES = pytest.mark.parametrize("engine", [cone, hooked], ids=["cone", "hooks"])


# what a batch is


def test_each_prompt_is_what_its_text_says(random, prompts):
    assert set(prompts.lengths.tolist()) == {5, 7}
    for i, text in enumerate(prompts.texts()):
        name = next(letter for letter in text if letter in "PQR")
        where = text.index(name)
        assert prompts.tokens[i].tolist() == [
            *("abcdPQRpqr>".index(letter) for letter in text + name.lower()), *[PAD] * (6 - len(text)),
        ]  # fmt: skip
        assert prompts.places[i].tolist() == [len(text)]
        right = {"abcdPQRpqr>"[t] for t in prompts.right.ids[i, 0].tolist() if t != PAD}
        assert right == ({"r"} if name == "R" else {name, name.lower()})
        assert random.task.write_answer(prompts.answers[i].tolist()) == name.lower()
        assert {"abcdPQRpqr>"[t] for t in prompts.wrong.ids[i, 0].tolist()} == set("pqr") - {name.lower()}
        rest = [at for at in range(len(text)) if at != where][:2]
        assert [prompts.positions[name][i].tolist() for name in ("NAME", "END", "REST")] == [
            [where],
            [len(text) - 1],
            rest,
        ]
        assert prompts.cases()[i] == ("long" if len(text) == 6 else "short")


def test_counterparts_are_the_same_prompts_with_another_name(random, prompts):
    for name, seed in (("next", 0), ("other", 0), ("other", 1)):
        others = prompts.counterparts(name, seed)
        for text, other in zip(prompts.texts(), others.texts(), strict=True):
            (at,) = [i for i, (one, two) in enumerate(zip(text, other, strict=True)) if one != two]
            assert {text[at], other[at]} < set("PQR")
            assert name == "other" or other[at] == {"P": "Q", "Q": "R", "R": "P"}[text[at]]
    drawn = [prompts.counterparts("other", seed).tokens for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_batches_are_joined_and_taken_apart(random, prompts):
    short = random.task.encode([random.task.read_question("aPb>")])
    both = joined([short, prompts])
    assert both.texts() == ["aPb>", *prompts.texts()]
    rows = torch.tensor([3, 0])
    assert both[rows].texts() == [prompts.texts()[2], "aPb>"]
    assert torch.equal(both[1:].positions["REST"], prompts.positions["REST"])


# what the engines answer, against one prompt at a time


def alone(fixture, prompts, i, replaced=None):
    """Return the logits that predict the answer of prompt `i`, and all values, from the second model."""
    length = int(prompts.lengths[i])
    weights = dict(fixture.weights) | {"pos_embed.W_pos": fixture.weights["pos_embed.W_pos"][:length]}
    found = forward(weights, prompts.tokens[i : i + 1, :length].numpy(), "relu", replaced)
    return found.logits[0, length - 2], found.values


def at_steps(node, prompts, i):
    """Return the second model's names of a node in prompt `i`."""
    steps = prompts.positions[node.at][i].tolist() if node.at else [node.step]
    return [(step, node.layer, node.kind, node.head) for step in steps]


def value_alone(fixture, prompts, i, node):
    """Return the value of a node in prompt `i`, those of several positions side by side."""
    values = alone(fixture, prompts, i)[1]
    return np.concatenate([values[key][0] for key in at_steps(node, prompts, i)])


def expected(logits, prompts, i, clean):
    """Return what an outcome should hold of prompt `i`, by the plain formulas."""
    right, wrong = (
        [t for t in sets.ids[i, 0].tolist() if t != PAD] for sets in (prompts.right, prompts.wrong)
    )  # fmt: skip
    probabilities, before = (np.exp(one - one.max()) / np.exp(one - one.max()).sum() for one in (logits, clean))
    return {
        "predicted": logits.argmax(), "right_logit": logits[right].max(), "wrong": sorted(logits[wrong]),
        "loss": -np.log(probabilities[right].sum()), "log_normaliser": np.log(np.exp(logits).sum()),
        "kl": (before * np.log(before / probabilities)).sum(), "margin": np.diff(np.sort(logits)[-2:])[0],
    }  # fmt: skip


def assert_same(outcome, i, want):
    assert int(outcome.predicted[i, 0]) == want["predicted"]
    assert sorted(outcome.wrong_logits[i, 0].tolist()) == pytest.approx(want["wrong"], abs=1e-4)
    for name in ("right_logit", "loss", "log_normaliser", "kl", "margin"):
        assert float(getattr(outcome, name)[i, 0]) == pytest.approx(want[name], abs=1e-4), name


TEXTS = [
    "L0H1@NAME",
    "L1H0+H1@END",
    "L0M@NAME",
    "L0R@END",
    "L1R@END",
    "L0H0@REST",
    "L0@REST",
    "S1L0H1",
    "L1M@NAME",
    "H1@END",
]


def changed(engine, fixture, prompts, text, method):
    """Return an intervention on the named nodes, and a function from a prompt's index to what it puts where."""
    nodes, others = read_nodes(text, fixture.shape), fixture.task.batch_for(Sample(30, 2))
    if method == "zero":
        return interventions.zero({node: fixture.width(node) for node in nodes}), lambda node, i: 0.0
    if method == "mean":
        means = {node: np.mean([value_alone(fixture, others, j, node) for j in range(30)], axis=0) for node in nodes}
        found = engine.capture_means(fixture, others)
        return interventions.mean([node for node in nodes if node in found], found), lambda node, i: means[node]
    donors = torch.randint(len(others), (len(prompts),), generator=torch.Generator().manual_seed(5))
    source = others if method == "resample" else prompts.counterparts("next")
    rows = donors if method == "resample" else torch.arange(len(prompts))
    values = engine.capture(fixture, source, nodes)[1]
    change = interventions.resample({node: values[node] for node in nodes if node in values}, rows)
    return change, lambda node, i: value_alone(fixture, source, int(rows[i]), node)


@ENGINES
@pytest.mark.parametrize("method", ["mean", "zero", "resample", "corrupt"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_node_and_method_gives_what_one_prompt_at_a_time_gives(random, prompts, engine, text, method):
    change, put = changed(engine, random, prompts, text, method)
    clean, outcome = engine.run(random, prompts, [CLEAN, change], 7, kl=True)
    moved = 0
    for i in range(len(prompts)):
        replaced = {}
        for node in read_nodes(text, random.shape):
            keys, value = at_steps(node, prompts, i), np.asarray(put(node, i))
            parts = (
                np.split(value, len(keys))
                if value.ndim and len(value) == len(keys) * random.width(node)
                else [value] * len(keys)
            )
            replaced |= dict(zip(keys, parts, strict=True))
        before, after = alone(random, prompts, i)[0], alone(random, prompts, i, replaced)[0]
        assert_same(clean, i, expected(before, prompts, i, before))
        assert_same(outcome, i, expected(after, prompts, i, before))
        moved += not np.allclose(before, after, atol=1e-6)
    assert moved > (0 if text == "L1M@NAME" else len(prompts) // 2) or text == "L1M@NAME"


def test_both_engines_capture_the_same_of_every_node(random, prompts):
    nodes = list(nodes_with_means(random.shape, 5))
    named = list(all_nodes(random.shape))  # where prompts differ in length, steps are none of its own
    everywhere = [node for node in nodes if node.everywhere]
    assert nodes[-len(named) - len(everywhere) :] == [*named, *everywhere]
    assert [node.component for node in everywhere] == [node.component for node in named[: len(everywhere)]]
    fast, slow = (engine.capture(random, prompts, nodes, 6)[1] for engine in (cone, hooked))
    means = [engine.capture_means(random, prompts, 6) for engine in (cone, hooked)]
    for node in nodes:
        torch.testing.assert_close(fast[node], slow[node], atol=1e-5, rtol=0, equal_nan=node.everywhere)
        torch.testing.assert_close(means[0][node], means[1][node], atol=1e-5, rtol=0)
        mean = slow[node].mean(0)
        if node.everywhere:  # over all positions; shorter prompts are filled up with NaN
            mean = slow[node].unflatten(-1, (-1, random.width(node))).flatten(0, 1).nanmean(0)
        torch.testing.assert_close(means[1][node], mean, atol=1e-5, rtol=0)


@ENGINES
def test_where_a_head_looks_is_where_it_looks_in_that_prompt_alone(random, prompts, engine):
    nodes = [node for text in ("L0H0+H1@END", "L1H0@END", "L0H1@REST") for node in read_nodes(text, random.shape)]
    _, patterns = engine.attention(random, prompts, nodes, 6)
    for i in range(0, len(prompts), 5):
        length = int(prompts.lengths[i])
        _, cache = random.model.run_with_cache(prompts.tokens[i : i + 1, :length])
        for node in nodes:
            whole = cache[f"blocks.{node.layer}.attn.hook_pattern"][0, node.head]
            for index, (step, *_) in enumerate(at_steps(node, prompts, i)):
                torch.testing.assert_close(patterns[node][i, index, :length], whole[step], atol=1e-5, rtol=0)
                assert not patterns[node][i, index, length:].any()


@ENGINES
def test_a_free_run_says_what_it_says_alone(random, prompts, engine):
    said = engine.generate(random, prompts, 6)
    assert said.tolist() == [[int(alone(random, prompts, i)[0].argmax())] for i in range(len(prompts))]


@ENGINES
def test_a_step_that_a_prompt_does_not_have_is_an_error(random, prompts, engine):
    (node,) = read_nodes("S5L0M", random.shape)
    change = interventions.zero({node: random.width(node)})
    with pytest.raises(MeasurementError, match=r"^S5L0M: expected S5 in each of them, found prompts of 5 tokens; name"):
        engine.run(random, prompts, [change])


# the grammar of nodes


def test_named_nodes_are_read_and_written_and_have_siblings(random):
    shape = random.shape
    for text in ("L0H1@NAME", "L1H0+H1@END", "L0M@REST", "L1R@NAME"):
        assert write_nodes(read_nodes(text, shape)) == text
    assert len(read_nodes("H1@END", shape)) == 2
    assert len(read_nodes("L0@END", shape)) == 3
    assert read_nodes("L0-L1H1@END", shape) == read_nodes(["L0H1@END", "L1H1@END"], shape)
    found = {write_nodes(nodes) for nodes in siblings(read_nodes("L0H1@NAME", shape), shape)}
    assert found == {"L0H0@NAME", "L0H1@END", "L0H1@REST"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("L0H1@NAM", "expected a position NAME, END, REST, found NAM; did you mean 'NAME'?"),
        ("'@END'", "expected a layer, a head, M or R before @, found @END; write L0R@END, or another"),
        ("L2H1@END", "expected a layer L0 to L1, found L2 in L2H1@END; name one that the model has"),
        ("L0H2@END", "expected a head H0 to H1, found H2 in L0H2@END; name one that the model has"),
    ],
)
def test_a_node_that_is_none_is_refused(tmp_path, text, said):
    write(tmp_path / "fixtures")
    whole = f"ablate: {text}\nquestions: {{n: 200}}\nexpect: {{fails: [said]}}"
    assert said in refusal(SpecError, read_claim, tmp_path, whole, tmp_path / "fixtures", "echo_s0")


# claims


CLAIMS = {
    "answers": ("answer: whole\nquestions: {n: 600, stratify: case}\nexpect: {accuracy_at_least: 0.97}", "supported"),
    # The stream after the last layer is the only way to an answer, and at S0 a counterpart has the same value.
    "another name is said": (
        "ablate: L1R@END\nmethod: {corrupt: next}\nquestions: {n: 400}\nexpect: {fails: [said], fail_rate: 0.9}\n"
        "gate: 0.95", "vacuous",
    ),
    "a counterpart has the same rest": (
        "ablate: S0L0H0\nmethod: {corrupt: other}\nquestions: ['aaPb>', 'abcdR>']\nexpect: {fails: []}\ngate: 0",
        "vacuous",
    ),
    "nor is a drawn one": (
        "ablate: L1R@END\nmethod: {corrupt: other}\nseed: 5\nquestions: two\nexpect: {fails: [said]}\ngate: 0.5", "vacuous",
    ),
    "END is where it is said": ("ablate: L1R@END\nquestions: {n: 400}\nexpect: {fails: [said]}\ngate: 0.95", "vacuous"),
    "who is carried": (
        "patch: {node: L1R@END, variable: who, digits: [said]}\npairs: {n: 600}\ngate: 0.95", "vacuous",
    ),
    "it looks back": (
        "attend: {node: L1H0+H1@END, to: [NAME, END]}\nquestions: {n: 600}\nexpect: {mass_at_least: 0.05}\ngate: 0.95",
        None,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_judged_and_by_both_engines_alike(trained, tmp_path, name):
    text, verdict = CLAIMS[name]
    claim = read_claim(tmp_path, text, trained, "echo_s0")
    fast, slow = (judge(claim, Workbench("cpu", engine), controls=True) for engine in ("cone", "hooks"))
    assert fast.verdict == slow.verdict
    assert verdict in (None, fast.verdict)
    assert [(row.subject, row.k, row.n, row.finding) for row in fast.comparisons] == [
        (row.subject, row.k, row.n, row.finding) for row in slow.comparisons
    ]
    record = record_of(fast) | {"options": []}
    for shown in (failure_text(record), markdown([record])):
        assert "digit" not in shown
        assert "question" not in shown


@pytest.mark.slow
def test_the_claims_of_the_docs_hold(trained, tmp_path):
    page = (ROOT / "docs" / "own-model.md").read_text("utf-8")
    (claims,) = re.findall(r"^```yaml\n(  - id: layer-0-brings.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "s.yaml").write_text(f"version: 1\nfixture: echo_s0\nhypotheses:\n{claims}", "utf-8")
    found = load_file(tmp_path / "s.yaml", trained)
    assert [judge(claim, Workbench("cpu")).verdict for claim in found] == ["supported"] * 2


@pytest.mark.slow
def test_a_look_ahead_is_an_error_of_the_claim(trained, tmp_path):
    text = "attend: {node: L1H0@NAME, to: [END]}\nquestions: {n: 600}\nexpect: {mass_at_least: 0.05}\ngate: 0.5"
    with pytest.raises(
        MeasurementError, match="expected positions that L1H0@NAME can see, found END, which comes later"
    ):
        judge(read_claim(tmp_path, text, trained, "echo_s0"), Workbench("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sweep", "new", "describe", "ask", "attention"])
def test_the_commands_that_look_know_its_positions(trained, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    arguments = {"new": ["L0R@NAME"], "ask": ["aPb>"], "attention": ["aPb>", "abcdR>"]}
    assert (
        main(
            [
                command,
                "echo_s0",
                *arguments.get(command, []),
                "--fixtures",
                str(trained),
                "--device=cpu",
                "--allow-code",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "digit" not in out
    if command == "sweep":
        assert "| NAME " in out
    if command == "ask":
        assert out.startswith("aPb>=p y loss ")


@pytest.mark.slow
def test_another_task_may_hold_its_answers_inside(tmp_path):
    """Random letters twice: every letter of the second half is an answer, predicted from the letter before it."""
    text = """
import torch

from harness import Task


class Twice(Task):
    vocabulary = (*"abcdefgh",)
    longest = 10
    answer_names = ("A1", "A2")
    positions = ("AGAIN", "BEFORE")

    def sample(self, n, generator, case=None):
        half = torch.where(torch.rand(n, generator=generator) < 0.5, 3, 5)
        rows = torch.randint(0, 8, (n, 10), generator=generator)
        place = torch.arange(10)
        twice = rows.gather(1, torch.where(place < half[:, None], place, place - half[:, None]).clamp(0))
        return torch.where(place < 2 * half[:, None], twice, -1)

    def answer_places(self, questions):
        half = (questions >= 0).sum(1, keepdim=True) // 2
        return torch.cat([half + 1, half + 2], dim=1)

    def answer(self, questions):
        return questions.gather(1, self.answer_places(questions))

    def positions_of(self, questions):
        half = (questions >= 0).sum(1, keepdim=True) // 2
        return {"AGAIN": torch.cat([half, half + 1], dim=1), "BEFORE": torch.tensor([[0, 1]]).expand(len(questions), 2)}


task = Twice()
"""
    directory = write(tmp_path, "twice_s0", text, RECIPE.replace("echo:task", "echo:task"))
    pin_random(directory, seed=1)
    fixture = load_fixture("twice_s0", tmp_path, "cpu")
    prompts = fixture.task.batch_for(Sample(30, 0))
    assert set(prompts.lengths.tolist()) == {6, 10}
    node, *_ = read_nodes("L0H0@AGAIN", fixture.shape)
    values = [engine.capture(fixture, prompts, [node])[1][node] for engine in (cone, hooked)]
    change = interventions.resample({node: values[1]}, torch.arange(29, -1, -1))
    fast, slow = (engine.run(fixture, prompts, [CLEAN, change], 7) for engine in (cone, hooked))
    for i, (one, other) in itertools.product(range(30), zip(fast, slow, strict=True)):
        length = int(prompts.lengths[i])
        weights = dict(fixture.weights) | {"pos_embed.W_pos": fixture.weights["pos_embed.W_pos"][:length]}
        donor = values[1][29 - i].split(fixture.width(node))
        steps = prompts.positions["AGAIN"][i].tolist()
        replaced = {} if one is fast[0] else {
            (step, 0, "head", 0): part.numpy() for step, part in zip(steps, donor, strict=True)
        }  # fmt: skip
        logits = forward(weights, prompts.tokens[i : i + 1, :length].numpy(), "relu", replaced).logits[0]
        said = [int(logits[place - 1].argmax()) for place in prompts.places[i].tolist()]
        assert one.predicted[i].tolist() == other.predicted[i].tolist() == said
    said = [engine.generate(fixture, prompts).tolist() for engine in (cone, hooked)]
    assert said[0] == said[1]


# what a claim may not be fooled by


@pytest.mark.slow
def test_a_step_of_another_claim_that_some_prompts_lack_is_no_error_of_this_one(trained, tmp_path):
    here, there = "L0M@END", "S5L0M"
    claims = [
        read_claim(
            tmp_path,
            f"ablate: {node}\nmethod: resample\nquestions: two\nexpect: {{fails: []}}\ngate: 0",
            trained,
            "echo_s0",
        )
        for node in (here, there)
    ]
    bench, alone_bench = Workbench("cpu"), Workbench("cpu")
    gather(claims, bench)
    assert judge(claims[0], bench).comparisons == judge(claims[0], alone_bench).comparisons
    with pytest.raises(MeasurementError, match="expected S5 in each of them, found prompts of 5 tokens"):
        judge(claims[1], bench)
    looks = [
        read_claim(
            tmp_path,
            f"attend: {{node: {node}, to: [S0]}}\nquestions: two\nexpect: {{mass_at_least: 0.001}}\ngate: 0",
            trained,
            "echo_s0",
        )
        for node in ("L0H0@END", "S5L0H0")
    ]
    gather(looks, bench)
    assert judge(looks[0], bench).comparisons
    with pytest.raises(MeasurementError, match="expected S5 in each of them"):
        judge(looks[1], bench)


def test_a_step_of_unlike_prompts_has_no_neighbours(random):
    assert {write_nodes(nodes) for nodes in siblings(read_nodes("S1L0H1", random.shape), random.shape)} == {"S1L0H0"}


@pytest.mark.slow
@pytest.mark.parametrize("node", ["L1H0@NAME", "S0L1M"])
def test_a_node_that_no_answer_can_read_is_an_error(trained, tmp_path, node):
    """The last layer's name is read by nothing: that an ablation there changes nothing says nothing."""
    claim = read_claim(
        tmp_path, f"ablate: {node}\nquestions: {{n: 600}}\nexpect: {{fails: []}}\ngate: 0", trained, "echo_s0"
    )
    said = f"expected a prompt in which {node} comes before an answer, found none; name a position"
    with pytest.raises(MeasurementError, match=said):
        judge(claim, Workbench("cpu"))


@pytest.mark.slow
def test_a_patch_counts_every_right_token(trained, tmp_path):
    """A source's name in capitals is as right as in small; a token that is right in the base follows nothing."""
    claim = read_claim(
        tmp_path, "patch: {node: L1R@END, variable: who, digits: [said]}\npairs: {n: 600}\ngate: 0", trained, "echo_s0"
    )
    found = Workbench("cpu").answer([interchange_of(claim)])[0]
    drawn = found.drawn
    expected = drawn.expected[:, 0]
    capital = torch.where(expected == 9, expected, expected - 3)
    base = drawn.bases.right.ids[:, 0].max(-1).values
    for predicted, follows in ((expected, True), (capital, True), (base, False), (torch.zeros_like(base), False)):
        assert came_out_as_expected(claim, drawn, predicted[:, None]).tolist() == [[follows]] * 600


def test_two_values_for_one_place_are_refused(random, prompts):
    node, again = read_nodes("L0H1@NAME", random.shape)[0], read_nodes("S0L0H1", random.shape)[0]
    width = random.width(node)
    same = interventions.Intervention({node: torch.ones(1, width), again: torch.ones(1, width)})
    other = interventions.Intervention({node: torch.ones(1, width), again: torch.zeros(1, width)})
    assert bool((prompts.positions["NAME"] == 0).any())
    hooked.run(random, prompts, [same])
    with pytest.raises(
        MeasurementError, match=r"expected one value for S0L0H1, which .* is in some prompts, found two"
    ):
        hooked.run(random, prompts, [other])


def test_a_role_may_be_at_a_named_position(random):
    node = read_nodes("L1H0@END", random.shape)
    shape = dataclasses.replace(random.shape, roles={"mover.said": node})
    assert read_nodes("[mover.said]", shape) == read_nodes("L1[mover]", shape) == node


@pytest.mark.parametrize("nodes", ["heads: L1@END", "mlps: S0L0M"])
def test_keep_is_refused_where_a_step_means_nothing(tmp_path, nodes):
    write(tmp_path / "fixtures")
    text = f"keep: {{{nodes}}}\nquestions: {{n: 400}}"
    said = refusal(SpecError, read_claim, tmp_path, text, tmp_path / "fixtures", "echo_s0")
    assert "at every position, for all others are cut, wherever they are, found" in said


def test_a_claim_about_every_position_has_no_wider_mutant(tmp_path):
    write(tmp_path / "fixtures")
    text = "ablate: [L0R@NAME, L0R@END, L0R@REST]\nquestions: {n: 600}\nexpect: {fails: []}"
    claim = read_claim(tmp_path, text, tmp_path / "fixtures", "echo_s0")
    assert "wider" not in {mutant.kind for mutant in mutants_of(claim)}


def test_empty_batches_are_left_out_of_a_join(random, prompts):
    none = random.task.encode([])
    assert joined([none, prompts]).tokens.tolist() == prompts.tokens.tolist()
    assert len(joined([none, none])) == 0


def test_training_counts_the_weight_of_a_single_right_token(tmp_path):
    """Half the weight is half the probability: ln 2 more loss, as the engines say of the same weights."""
    text = TASK.replace(
        "return torch.stack([torch.where(small == 9, -1, small - 3), small], dim=-1)",
        "return small[..., None], torch.full((len(small), 1, 1), WEIGHT)",
    )
    losses = {}
    for weight in (1.0, 0.5):
        directory = write(tmp_path, f"echo_{weight:g}", text.replace("WEIGHT", str(weight)))
        run = Training(load_recipe(directory / "recipe.yaml"), torch.device("cpu"))
        losses[weight] = run.losses(run.task.batch_for(Sample(20, 0)))[0]
    assert torch.allclose(losses[0.5], losses[1.0] + np.log(2))


# what is wrong with such a task is one line

WRONG = {
    "names and longest": ("    longest = 7\n", "    longest = 7\n    names = ('x', 'y')\n", "expected `names`, or `longest` of echo:task, found both; drop one"),
    "longest alone": ('    answer_names = ("said",)\n', "", "expected `names`, or `longest` and `answer_names` of echo:task, found `longest` alone; "),
    "a noun": ('    cases = ("short"', '    nouns = ("word", "head")\n    cases = ("short"', "expected two words of small letters in `nouns`, for a prompt and for a token, of echo:task, found"),
    "a token twice": ("small - 3), small]", "small - 3), small, small]", "expected each token once from right_tokens of echo:task, found one twice; correct it"),
    "three values": ("return torch.stack([torch.where(small == 9, -1, small - 3), small], dim=-1)", "return (small, small, small)", "expected tokens, or tokens and weights, from right_tokens of echo:task, found 3 values; return two"),
    "no weight": ("return torch.stack([torch.where(small == 9, -1, small - 3), small], dim=-1)", "return small[..., None], torch.zeros(len(small), 1, 1)", "expected weights above 0 from right_tokens of echo:task, found others; correct them"),
    "the same again": ("4 + ((who + by) % 3)[:, None])", "4 + who[:, None])", "expected other questions from counterpart next of echo:task, found the same; let it change a token that is read"),
    "another seed": ("torch.randint(1, 3, who.shape, generator=generator)", "torch.randint(1, 3, who.shape)", "expected the same counterparts other again, of a generator with the same seed, of echo:task, found others; draw from the generator alone"),
    "sometimes wrong": ("        small = self.answer(questions)\n        return torch.stack([7 + (small - 6)", "        small = self.answer(questions)\n        if len(small) > 5:\n            return None\n        return torch.stack([7 + (small - 6)", "expected wrong tokens from wrong_tokens always or never of echo:task, found another answer than before; correct it"),
    "no lengths": ("    longest = 7\n", "    longest = 1\n", "expected `longest` of at least 2 of echo:task, found 1; count the answer in"),
    "a position's name": ('"REST")', '"S1")', "expected names of positions like END or S1+1, which are no step and no token of echo:task, found S1; "),
    "a hole": ("rows[~long, 4:] = -1", "rows[~long, 3:5] = -1", "expected questions of one token or more, then -1, from sample of echo:task, found others; correct it"),
    "outside": ('"END": end', '"END": end + 2', "expected positions of END inside of each question of echo:task, found others; correct positions_of"),
    "another name": ('"END": end', '"ENDE": end', "expected the names in `positions` from positions_of of echo:task, found END, ENDE; give those, each once"),
    "not among the right": ("small - 3), small]", "small - 3), small - 4]", "expected the tokens of answer among those of right_tokens of echo:task, found others; correct one of them"),
    "right and wrong": ("[7 + (small - 6) % 3,", "[small,", "expected other tokens from wrong_tokens than from right_tokens of echo:task, found the same; correct one of them"),
    "nothing right": ("torch.stack([torch.where(small == 9, -1, small - 3), small], dim=-1)", "torch.full((len(small), 1, 2), -1)", "expected a token for each answer from right_tokens of echo:task, found none; correct it"),
    "another length": ("return questions.scatter(", "questions = questions.clone(); questions[:, 3] = -1; questions[:, 4:] = -1\n        return questions.scatter(", "expected questions as long, with the same positions, from counterpart next of echo:task, found others; let it change tokens alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_it_is_one_line(tmp_path, kind):
    good, bad, said = WRONG[kind]
    assert good in TASK
    write(tmp_path / "fixtures")
    pin_random(tmp_path / "fixtures" / "echo_s0")
    write(tmp_path / "fixtures", task=TASK.replace(good, bad))
    text = "ablate: L0R@NAME\nmethod: {corrupt: next}\nquestions: {n: 200}\nexpect: {fails: [said]}\ngate: 0"
    with pytest.raises((FixtureError, SpecError)) as caught:
        judge(read_claim(tmp_path, text, tmp_path / "fixtures", "echo_s0"), Workbench("cpu"))
    assert said in str(caught.value)
    assert "echo.py" in str(caught.value)


def test_a_large_vocabulary_is_counted_and_shown_as_it_is(tmp_path):
    """With 300 tokens, none of them may be taken for another 256 further down."""
    text = TASK.replace('(*"abcdPQRpqr>",)', '(*"abcdPQRpqr>", *(f"w{i}" for i in range(289)))')
    text = text.replace("[:, None] + 7\n", "[:, None] + 290\n").replace("values[:, None] + 7", "values[:, None] + 290")
    text = text.replace("torch.where(small == 9, -1, small - 3)", "small - 283").replace(
        "[7 + (small - 6) % 3, 7 + (small - 5) % 3]", "[small + 3, small + 6]"
    )
    pin_random(write(tmp_path, task=text), seed=4)
    fixture = load_fixture("echo_s0", tmp_path, "cpu")
    prompts = fixture.task.batch_for(Sample(300, 0))
    said = hooked.run(fixture, prompts, [CLEAN])[0]
    assert int(said.predicted.max()) > 255  # there is something to mistake
    forced = dataclasses.replace(prompts, right=dataclasses.replace(prompts.right, ids=said.predicted.unsqueeze(-1)))
    right = Tally(forced, fixture.task, said)
    right.add(said)
    assert right.finish().patterns == {"y": 300}
    wrong = Tally(prompts, fixture.task, dataclasses.replace(said, predicted=prompts.answers))
    wrong.add(said)
    shown = {example.prompt: example.tokens[0] for example in wrong.finish().examples["said"]}
    words = [fixture.task.vocabulary[token] for token in said.predicted[:, 0].tolist()]
    assert shown == {text: word for text, word in zip(prompts.texts(), words, strict=True) if text in shown}
    assert len(shown) > 1


def test_weights_count_where_the_probability_of_a_set_is_summed(random, prompts):
    sets = prompts.right
    weighted = dataclasses.replace(sets, weights=torch.where(sets.ids == sets.ids[..., :1], 0.25, 1.0).double())
    outcome = hooked.run(random, dataclasses.replace(prompts, right=weighted), [CLEAN])[0]
    for i in range(len(prompts)):
        logits = alone(random, prompts, i)[0]
        probabilities = np.exp(logits) / np.exp(logits).sum()
        pairs = zip(sets.ids[i, 0].tolist(), weighted.weights[i, 0].tolist(), strict=True)
        share = sum(weight * probabilities[token] for token, weight in pairs if token != PAD)
        assert float(outcome.loss[i, 0]) == pytest.approx(-np.log(share), abs=1e-4)
