"""Every count of an independent program on the same weights: 1,314 ablations, integers exact."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict

import pytest
import torch
from paths import FIXTURES, ROOT

from harness.engines import cone, interventions
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN
from harness.judging.measurement import pattern
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.specs.nodes import reach, read_nodes
from harness.tasks.addition.question_sets import NAMES, named_set

ORACLE = json.loads((ROOT / "tests" / "data" / "oracle.json").read_text("utf-8"))
ENGINES = [pytest.param(engine, id=engine.__name__.removeprefix("harness.")) for engine in (cone, hooked)]


@pytest.fixture(scope="module")
def fixture():
    return load_fixture("add_d5_l2_h3", FIXTURES, "cpu")


def test_same_weights_and_same_questions(fixture):
    assert read_pin(FixtureRef("add_d5_l2_h3", FIXTURES)).provenance.source_sha256 == ORACLE["checkpoint_sha256"]
    assert set(ORACLE["question_sets"]) == set(NAMES)
    for name, texts in ORACLE["question_sets"].items():
        assert [fixture.task.write_question(q) for q in named_set(name, fixture.task)] == texts


def counts(outcome, truth):
    patterns = Counter(pattern(row) for row in (outcome.predicted != truth).tolist())
    return dict(patterns), float(outcome.loss.mean())


def assert_same(entry, found):
    patterns, loss = found
    assert patterns == entry["patterns"], f"{entry['node']} {entry['method']} on {entry['set']}"
    assert loss == pytest.approx(entry["loss"], abs=1e-5), f"{entry['node']} {entry['method']} on {entry['set']}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "varied" else []) for name in NAMES]
)
def test_clean_run(fixture, name, engine):
    prompts = fixture.task.encode(named_set(name, fixture.task))
    assert_same(
        {**ORACLE["clean"][name], "node": "none", "method": "clean", "set": name},
        counts(*engine.run(fixture, prompts, [CLEAN]), prompts.answers),
    )


def kind(node, method):
    """Return what is cut and how, whatever the numbers of steps, layers and heads."""
    return re.sub(r"\d+", "", node), method


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_ablation(fixture, engine):
    """`varied` is 64 random questions and then all other sets in order, so one run serves all six sets."""
    layout = fixture.task
    varied = layout.encode(named_set("varied", layout))
    truth = varied.answers
    rows, start = {"varied": slice(None)}, 64
    for name in ("ba", "uc1", "simple_us9", "cascade_us9", "steps"):
        size = len(ORACLE["question_sets"][name])
        assert torch.equal(varied[start : start + size].tokens, layout.encode(named_set(name, layout)).tokens)
        rows[name] = slice(start, start + size)
        start += size
    assert start == len(varied)

    assert ORACLE["reference_set"] == "varied"
    means = engine.capture_means(fixture, varied)
    entries = defaultdict(list)
    for entry in ORACLE["entries"]:
        entries[entry["node"], entry["method"]].append(entry)
    # The reference engine takes minutes for all of them, which the other does in seconds.
    if engine is hooked:
        *single, one, two, three = entries  # the last three are of ranges of steps
        entries = {key: entries[key] for key in (*single[::7], one, two, three)}
        assert {kind(*key) for key in entries} == {kind(entry["node"], entry["method"]) for entry in ORACLE["entries"]}
    changes = []
    for text, method in entries:
        live = [node for node in read_nodes(text, fixture.shape) if reach([node], fixture.shape)]
        widths = {node: fixture.width(node) for node in live}
        changes.append(interventions.mean(live, means) if method == "mean" else interventions.zero(widths))
    compared = 0
    for group, outcome in zip(entries.values(), engine.run(fixture, varied, changes), strict=True):
        for entry in group:
            part = rows[entry["set"]]
            assert_same(entry, counts(outcome.at(part), truth[part]))
            compared += 1
    assert len(ORACLE["entries"]) == 1314
    assert compared == sum(map(len, entries.values())) > 1314 / 8
