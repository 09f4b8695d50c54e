"""What stands beside a set of nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.specs.node_sets import all_nodes
from harness.specs.nodes import Shape, reach, read_nodes
from harness.specs.siblings import moved, siblings, write_nodes
from harness.tasks.addition.task import Addition

SHAPE = Shape(2, 3, Addition(2))
NODES = st.lists(st.sampled_from(list(all_nodes(SHAPE))), min_size=1, max_size=12, unique=True)


@given(NODES)
def test_what_is_written_reads_back(nodes):
    assert read_nodes(write_nodes(nodes).split(", "), SHAPE) == tuple(sorted(nodes))


def test_heads_and_steps_are_written_together():
    for text in ("S3L0H0+H1", "S0-S4L0R", "S1-S3L1H2, S5L1M", "S2L0H0, S4L0H0"):
        assert write_nodes(read_nodes(text.split(", "), SHAPE)) == text


@given(NODES, st.sampled_from(["step", "layer", "head"]), st.sampled_from([-1, 1]))
def test_a_move_can_be_undone_or_leaves_the_model(nodes, what, by):
    there = moved(nodes, SHAPE, **{what: by})
    if there is None:
        inside = {"step": SHAPE.task.n_ctx, "layer": SHAPE.n_layers, "head": SHAPE.n_heads}[what]
        assert any(
            not 0 <= getattr(node, what) + by < inside or (what == "head" and node.kind != "head") for node in nodes
        )
    else:
        assert moved(there, SHAPE, **{what: -by}) == tuple(sorted(nodes))


@given(NODES)
def test_siblings_are_other_sets_of_the_same_kinds(nodes):
    nodes = tuple(sorted(nodes))
    found = siblings(nodes, SHAPE)
    assert len(set(found)) == len(found)
    for other in found:
        assert other != nodes
        assert sorted((n.layer, n.kind) for n in other) == sorted((n.layer, n.kind) for n in nodes)
        steps = {n.step for n in other}
        assert steps == {n.step for n in nodes} or not set(other) & set(nodes)


def test_the_siblings_of_a_head_are_its_neighbours_and_itself_at_other_steps():
    names = {write_nodes(other) for other in siblings(read_nodes("S5L0H0", SHAPE), SHAPE)}
    at_other_steps = {
        f"S{step}L0H0" for step in range(9) if step != 5 and reach(read_nodes(f"S{step}L0H0", SHAPE), SHAPE)
    }
    assert names == {"S5L0H1", "S5L0H2"} | at_other_steps
    assert {write_nodes(other) for other in siblings(read_nodes("L0H0+H1", SHAPE), SHAPE)} == {
        "S0-S8L0H0+H2", "S0-S8L0H1+H2",
    }  # fmt: skip
    assert siblings(read_nodes("L0", SHAPE), SHAPE) == ()
