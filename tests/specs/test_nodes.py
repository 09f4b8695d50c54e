"""Texts against the nodes they name, and reach against a walk over the graph of steps and layers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.base.errors import HarnessError
from harness.specs import node_sets
from harness.specs.nodes import Node, NoSuchRoleError, RoleElsewhereError, RoleNotFoundError, Shape, reach, read_nodes
from harness.tasks.addition.task import Addition

TWO = Shape(2, 3, Addition(5))
STEPS = range(18)
shapes = st.builds(
    Shape,
    st.integers(1, 3),
    st.integers(1, 3),
    st.builds(Addition, st.integers(1, 6), st.sampled_from(["=", "equals"])),
)


def shape_of(n_layers, n_heads=3, n_digits=5):
    return Shape(n_layers, n_heads, Addition(n_digits))


def all_nodes(shape):
    kinds = [*(("head", head) for head in range(shape.n_heads)), ("mlp", 0), ("resid", 0)]
    return [Node(s, lay, *kind) for s in range(shape.task.n_ctx) for lay in range(shape.n_layers) for kind in kinds]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("S11L0H2", "S11L0H2"),
        ("S12L0H0+H1", "S12L0H0 S12L0H1"),
        ("S12L0H2+H0", "S12L0H0 S12L0H2"),
        ("S12L0H0+H1+H2", "S12L0H0 S12L0H1 S12L0H2"),
        ("S0L1M", "S0L1M"),
        ("S17L1R", "S17L1R"),
        ("S11L0", "S11L0H0 S11L0H1 S11L0H2 S11L0M"),
        ("S8H1", "S8L0H1 S8L1H1"),
        ("S8M", "S8L0M S8L1M"),
        ("S8R", "S8L0R S8L1R"),
        ("S8", "S8L0R"),
        ("S0-S2", "S0L0R S1L0R S2L0R"),
        ("S3-S3L1M", "S3L1M"),
        ("S3L0-L1M", "S3L0M S3L1M"),
        ("S3-S4L0-L1H1", "S3L0H1 S3L1H1 S4L0H1 S4L1H1"),
        ("S3L1-L1", "S3L1H0 S3L1H1 S3L1H2 S3L1M"),
        ("S9-S10L1", "S9L1H0 S9L1H1 S9L1H2 S9L1M S10L1H0 S10L1H1 S10L1H2 S10L1M"),
        ("S9-S10H0+H2", "S9L0H0 S9L0H2 S9L1H0 S9L1H2 S10L0H0 S10L0H2 S10L1H0 S10L1H2"),
        ("L0H1", [f"S{s}L0H1" for s in STEPS]),
        ("L1M", [f"S{s}L1M" for s in STEPS]),
        ("S0-S10L1M", [f"S{s}L1M" for s in range(11)]),
        ("S0-S7L0R", [f"S{s}L0R" for s in range(8)]),
        ("L0", [f"S{s}L0{part}" for s in STEPS for part in ("H0", "H1", "H2", "M")]),
        ("H2", [f"S{s}L{layer}H2" for s in STEPS for layer in (0, 1)]),
        ("M", [f"S{s}L{layer}M" for s in STEPS for layer in (0, 1)]),
        ("R", [f"S{s}L{layer}R" for s in STEPS for layer in (0, 1)]),
        (["S9L1M", "S8L0H1"], "S8L0H1 S9L1M"),
        (("S8", "S8L0R", "S8-S9L0R"), "S8L0R S9L0R"),
    ],
    ids=str,
)
def test_a_text_names_these_nodes_in_order(text, nodes):
    expected = nodes.split() if isinstance(nodes, str) else nodes
    assert [str(node) for node in read_nodes(text, TWO)] == expected


@settings(deadline=None)
@given(shapes, st.data())
def test_what_is_left_out_means_all_of_it(shape, data):
    """Any text of the grammar names exactly the nodes that agree with every part written."""
    n = shape.task.n_ctx
    steps = data.draw(st.one_of(st.none(), st.lists(st.integers(0, n - 1), min_size=1, max_size=2).map(sorted)))
    layer = data.draw(st.one_of(st.none(), st.integers(0, shape.n_layers - 1)))
    heads = st.lists(st.integers(0, shape.n_heads - 1), min_size=1, unique=True)
    part = data.draw(st.one_of(st.none(), st.sampled_from("MR"), heads))
    assume(layer is not None or part is not None)  # a bare step has a meaning of its own
    text = "" if steps is None else "-".join(f"S{s}" for s in steps)
    text += "" if layer is None else f"L{layer}"
    text += "" if part is None else part if isinstance(part, str) else "+".join(f"H{h}" for h in part)

    def named(node):
        kinds = {"M": node.kind == "mlp", "R": node.kind == "resid", None: node.kind in ("head", "mlp")}
        return (
            (steps is None or steps[0] <= node.step <= steps[-1])
            and (layer is None or node.layer == layer)
            and (node.kind == "head" and node.head in part if isinstance(part, list) else kinds[part])
        )

    assert read_nodes(text, shape) == tuple(node for node in all_nodes(shape) if named(node))


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_every_node_survives_being_written_and_read(shape):
    for node in all_nodes(shape):
        assert read_nodes(str(node), shape) == (node,)
    assert read_nodes([str(node) for node in reversed(all_nodes(shape))], shape) == tuple(all_nodes(shape))


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_bare_step_is_the_residual_stream_after_layer_0(n_layers):
    shape = shape_of(n_layers)
    assert read_nodes("S8", shape) == read_nodes("S8L0R", shape) == (Node(8, 0, "resid"),)


GRAMMAR = "nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1"
SPELLING = "write a step S8 or S0-S7, a layer L0 or L0-L1, and H0, H0+H1, M or R"
MODEL_HAS = "name one that the model has"


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("", TWO, f"{GRAMMAR}, found ''; {SPELLING}"),
        ([], TWO, f"{GRAMMAR}, found an empty list; name at least one node"),
        ((), TWO, f"{GRAMMAR}, found an empty list; name at least one node"),
        (None, TWO, f"{GRAMMAR}, found nothing; {SPELLING}"),
        (8, TWO, f"{GRAMMAR}, found 8; {SPELLING}"),
        (["S8", 8], TWO, f"{GRAMMAR}, found 8; {SPELLING}"),
        ("D4", TWO, f"{GRAMMAR}, found D4; {SPELLING}"),
        ("S", TWO, f"{GRAMMAR}, found S; {SPELLING}"),
        ("S08", TWO, f"{GRAMMAR}, found S08; {SPELLING}"),
        ("S8-9", TWO, f"{GRAMMAR}, found S8-9; {SPELLING}"),
        ("S8H0L0", TWO, f"{GRAMMAR}, found S8H0L0; {SPELLING}"),
        ("S8L0H0+M", TWO, f"{GRAMMAR}, found S8L0H0+M; {SPELLING}"),
        ("S8L0+S9L0", TWO, f"{GRAMMAR}, found S8L0+S9L0; {SPELLING}"),
        ("S1234567L0M", TWO, f"{GRAMMAR}, found S1234567L0M; {SPELLING}"),
        ("s11l0h2", TWO, f"{GRAMMAR}, found s11l0h2; did you mean S11L0H2?"),
        ("S0 - S7 L0R", TWO, f"{GRAMMAR}, found S0 - S7 L0R; did you mean S0-S7L0R?"),
        ("S8\n", TWO, rf"{GRAMMAR}, found 'S8\n'; {SPELLING}"),
        ("S7L1-L0M", TWO, "a layer range that ascends, found L1-L0 in S7L1-L0M; write L0-L1"),
        ("S7L0-L2M", TWO, "a layer L0 to L1, found L2 in S7L0-L2M; name one that the model has"),
        ("S7-S0", TWO, "a step range that ascends, found S7-S0 in S7-S0; write S0-S7"),
        ("S18", TWO, f"a step S0 to S17, found S18 in S18; {MODEL_HAS}"),
        ("S0-S18L0M", TWO, f"a step S0 to S17, found S18 in S0-S18L0M; {MODEL_HAS}"),
        ("S8L2M", TWO, f"a layer L0 to L1, found L2 in S8L2M; {MODEL_HAS}"),
        ("S8L1M", shape_of(1), f"L0, the only layer, found L1 in S8L1M; {MODEL_HAS}"),
        ("S8L0H3", TWO, f"a head H0 to H2, found H3 in S8L0H3; {MODEL_HAS}"),
        ("S8L0H0+H3", TWO, f"a head H0 to H2, found H3 in S8L0H0+H3; {MODEL_HAS}"),
        ("L0H1", shape_of(2, n_heads=1), f"H0, the only head, found H1 in L0H1; {MODEL_HAS}"),
        ("S8L0H1+H0+H1", TWO, "each head once, found a head twice in S8L0H1+H0+H1; drop one"),
        (
            "S8",
            shape_of(3),
            "a layer, in a model of more than two, found the bare step S8; write S8L0R, or another layer",
        ),
        (
            "S0-S7",
            shape_of(3),
            "a layer, in a model of more than two, found the bare step S0-S7; write S0-S7L0R, or another layer",
        ),
    ],
)
def test_what_is_no_node_is_refused(text, shape, message):
    with pytest.raises(HarnessError) as caught:
        read_nodes(text, shape)
    assert str(caught.value) == f"expected {message}"


@pytest.mark.parametrize(
    ("n_layers", "text", "digits"),
    [
        (1, "S8L0R", ""),
        (1, "S8", ""),
        (1, "S0-S10", ""),
        (1, "S11", "A5"),
        (1, "S12L0H0", "A4"),
        (1, "S16L0M", "A0"),
        (1, "S17", ""),
        (1, "L0H1", "A5 A4 A3 A2 A1 A0"),
        (1, ["S11L0H0", "S16L0H2"], "A5 A0"),
        (2, "S0L0H0", "A5 A4 A3 A2 A1 A0"),
        (2, "S8", "A5 A4 A3 A2 A1 A0"),
        (2, "S11L0H2", "A5 A4 A3 A2 A1 A0"),
        (2, "S12L0H0", "A4 A3 A2 A1 A0"),
        (2, "S12L0M", "A4 A3 A2 A1 A0"),
        (2, "S12L0R", "A4 A3 A2 A1 A0"),
        (2, "S16L0R", "A0"),
        (2, "S12L1H0", "A4"),
        (2, "S12L1M", "A4"),
        (2, "S12L1R", "A4"),
        (2, "S10L1M", ""),
        (2, "S0-S10L1R", ""),
        (2, "S17", ""),
        (2, "S17L1H0", ""),
        (2, "L1", "A5 A4 A3 A2 A1 A0"),
        (2, ["S11L1M", "S15L0H0"], "A5 A1 A0"),
        (3, "S14L0M", "A2 A1 A0"),
        (3, "S14L1H2", "A2 A1 A0"),
        (3, "S14L2R", "A2"),
        (3, "S10L1M", "A5 A4 A3 A2 A1 A0"),
        (3, "S10L2M", ""),
        (3, "S17L0R", ""),
    ],
    ids=str,
)
def test_nodes_reach_these_digits(n_layers, text, digits):
    shape = shape_of(n_layers)
    assert reach(read_nodes(text, shape), shape) == set(digits.split())


def test_no_nodes_reach_nothing():
    assert reach([], TWO) == frozenset()


@settings(deadline=None)
@given(shapes, st.data())
def test_reach_is_what_causal_attention_lets_through(shape, data):
    """Walk the graph: each later layer copies a touched step to every step from it on."""
    nodes = data.draw(st.lists(st.sampled_from(all_nodes(shape)), max_size=3))
    touched = set()
    for layer in range(shape.n_layers):
        touched = {t for s in touched for t in range(s, shape.task.n_ctx)}
        touched |= {node.step for node in nodes if node.layer == layer}
    names = shape.task.names
    assert reach(nodes, shape) == {names[s + 1] for s in touched if names[s + 1 : s + 2] and names[s + 1][0] == "A"}


@pytest.mark.parametrize("shape", [TWO, Shape(1, 1, Addition(1)), Shape(3, 2, Addition(2))], ids=str)
def test_all_nodes_are_each_there_once_in_the_order_of_computation(shape):
    found = list(node_sets.all_nodes(shape))
    assert sorted(found) == sorted(all_nodes(shape))
    assert [(node.step, node.layer) for node in found] == sorted((node.step, node.layer) for node in found)


A, B, C = Node(11, 0, "head", 1), Node(12, 0, "head", 1), Node(12, 1, "mlp")
WITH_ROLES = Shape(2, 3, Addition(5), {"carry.A5": (B, A), "carry.A4": (C, B), "carries": (C,), "sum9.A3": ()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[carry.A5]", (A, B)), ("[carry]", (A, B, C)), ("[carries]", (C,)), ("S12[carry]", (B, C)),
        ("S12L0[carry]", (B,)), ("L1[carry]", (C,)), ("S0-S11[carry]", (A,)), (["[carries]", "[carry.A5]"], (A, B, C)),
    ],
)  # fmt: skip
def test_a_role_is_its_nodes(text, expected):
    assert read_nodes(text, WITH_ROLES) == expected


@pytest.mark.parametrize(
    ("text", "shape", "error", "told"),
    [
        (
            "[cary]", WITH_ROLES, NoSuchRoleError,
            "expected a role that the fixture's roles.yaml has, found cary; did you mean 'carry'?",
        ),
        (
            "[x]", WITH_ROLES, NoSuchRoleError,
            "expected a role that the fixture's roles.yaml has, found x; "
            "write one of carries, carry, carry.A4, carry.A5, sum9, sum9.A3",
        ),
        (
            "[carry]", TWO, NoSuchRoleError,
            "expected a role that the fixture's roles.yaml has, found carry; find its roles: harness locate --help",
        ),
        (
            "[sum9]", WITH_ROLES, RoleNotFoundError,
            "expected nodes that have the role sum9, found none; claim another; its roles.yaml says why",
        ),
        (
            "S13[carry]", WITH_ROLES, RoleElsewhereError,
            "expected nodes of carry there, found S11L0H1, S12L0H1, S12L1M in S13[carry]; write [carry]",
        ),
        ("S18[carry]", WITH_ROLES, HarnessError, "expected a step S0 to S17, found S18 in S18[carry]"),
        ("L2[carry]", WITH_ROLES, HarnessError, "expected a layer L0 to L1, found L2 in L2[carry]"),
    ],
)  # fmt: skip
def test_a_role_that_is_not_there_is_refused(text, shape, error, told):
    with pytest.raises(HarnessError) as caught:
        read_nodes(text, shape)
    assert type(caught.value) is error
    assert str(caught.value).startswith(told)
    assert "None" not in str(caught.value)


def test_a_role_without_its_brackets_is_told_of_them():
    with pytest.raises(
        HarnessError,
        match=r'^expected nodes like S11L0H2.*, found the role carry\.A5; write "\[carry\.A5\]", in quotes$',
    ):
        read_nodes("carry.A5", WITH_ROLES)
