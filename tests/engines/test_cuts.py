"""Whether nodes are the only way to an answer, compared with what is so: they take the whole answer with them."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from tiny import write_tiny

from harness.engines import hooks
from harness.engines.groups import decided_answers, fixed_steps
from harness.engines.interventions import resample
from harness.models.fixtures import load_fixture
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Node, read_nodes
from harness.tasks.questions import Sample


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_nodes_that_decide_an_answer_take_it_from_the_source(tmp_path, n_layers):
    """Random models: the logits are those of the source, whatever the base, just where the nodes decide the answer."""
    write_tiny(tmp_path, "tiny", n_layers=n_layers, n_heads=2)
    fixture = load_fixture("tiny", tmp_path, "cpu")
    task, draw = fixture.task, random.Random(n_layers)
    bases, sources = (task.batch_for(Sample(6, seed)) for seed in (1, 2))
    keep = (bases.tokens != sources.tokens).sum(1) > 3
    bases, sources = bases[keep], sources[keep]
    every = list(all_nodes(fixture.shape))
    streams = [node for node in every if node.kind == "resid"]
    sets = [draw.sample(every, draw.randint(1, len(every))) for _ in range(40)]
    sets += [sorted({*draw.sample(streams, draw.randint(1, len(streams))), *draw.sample(every, 8)}) for _ in range(120)]
    places = itertools.product(range(task.n_ctx), range(n_layers))
    sets += [read_nodes(f"S{step}L{layer}R", fixture.shape) for step, layer in places]
    source, values = hooks.capture(fixture, sources, every)
    own = torch.arange(len(bases))
    fixed, seen = fixed_steps(task.batch_for(Sample(50, 3))), set()
    assert fixed == {2, 5}  # + and =
    for nodes in sets:
        (found,) = hooks.run(fixture, bases, [resample({node: values[node] for node in nodes}, own)])
        # The logits of the right tokens differ, as these do; how the loss is normalised tells as much.
        same = torch.isclose(found.log_normaliser, source.log_normaliser, atol=1e-9, rtol=0).all(0)
        followed = frozenset(token for token, took in zip(task.answer_tokens, same.tolist(), strict=True) if took)
        assert decided_answers([nodes], fixture, bases, fixed) == followed, nodes
        seen.add(followed)
    assert len(seen) > 3


def test_one_of_several_sets_suffices(tmp_path):
    write_tiny(tmp_path, "tiny")
    fixture = load_fixture("tiny", tmp_path, "cpu")
    batch = fixture.task.batch_for(Sample(3, 1))
    at = fixture.task.predicted_at("A1")
    last = Node(at, 1, "resid")
    assert decided_answers([[last]], fixture, batch) == {"A1"}
    assert decided_answers([[Node(0, 0, "resid")], [last]], fixture, batch) == {"A1"}
    assert decided_answers([[Node(at, 0, "resid")]], fixture, batch) == frozenset()
