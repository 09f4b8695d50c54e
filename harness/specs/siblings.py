"""Siblings of a set of nodes, which controls compare it with, and shifted copies of a set. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import combinations

from harness.specs.nodes import EVERYWHERE, Node, Shape, reach

Nodes = tuple[Node, ...]
MOST_LEFT_OUT = 32  # of more nodes, none is left out in its turn: that is as many runs


def moved(nodes: Iterable[Node], shape: Shape, *, step: int = 0, layer: int = 0, head: int = 0) -> Nodes | None:
    """Return the nodes shifted by these offsets; None if one does not exist or `head` would shift a non-head."""
    found = []
    for node in nodes:
        if layer and node.kind == "embed":
            return None
        if step and (node.at or not shape.task.names):  # neither a name nor a step of unlike prompts has a next one
            return None
        there = replace(node, step=node.step + step, layer=node.layer + layer, head=node.head + head)
        inside = (node.at or 0 <= there.step < shape.task.n_ctx) and 0 <= there.layer < shape.n_layers
        if not inside or (head and (node.kind != "head" or not 0 <= there.head < shape.n_heads)):
            return None
        found.append(there)
    return tuple(sorted(found))


def siblings(nodes: Nodes, shape: Shape) -> tuple[Nodes, ...]:
    """Return the sibling sets: similar nodes, for which a claim about `nodes` might hold too.

    There are two kinds. If `nodes` are the same heads at every place: each other choice of as many heads at the same
    steps and layers. For any nodes: the same nodes at other steps, if the two sets do not overlap and the shifted
    one reaches an answer token; for nodes at one named position, the same nodes at each other one.
    """
    found: list[Nodes] = []
    places: dict[tuple[int, int, str], set[int]] = {}
    for node in nodes:
        places.setdefault((node.step, node.layer, node.at), set()).add(node.head if node.kind == "head" else -1)
    heads = next(iter(places.values()), set())
    if -1 not in heads and all(theirs == heads for theirs in places.values()):
        for others in combinations(range(shape.n_heads), len(heads)):
            if set(others) != heads:
                found.append(tuple(sorted(Node(s, lay, "head", head, at) for s, lay, at in places for head in others)))
    for offset in range(-shape.task.n_ctx, shape.task.n_ctx):
        there = moved(nodes, shape, step=offset) if offset else None
        if there and reach(there, shape) and not set(there) & set(nodes):
            found.append(there)
    here = {node.at for node in nodes}
    if len(here) == 1 and not here & {"", EVERYWHERE}:
        elsewhere = (name for name in shape.task.positions if name not in here)
        found += [tuple(sorted(replace(node, at=name) for node in nodes)) for name in elsewhere]
    return tuple(found)


def named_siblings(nodes: Nodes, tokens: Collection[str], shape: Shape) -> dict[str, Nodes]:
    """Return the siblings that reach all of `tokens`, by their text in the node grammar."""
    found = (others for others in siblings(nodes, shape) if set(tokens) <= reach(others, shape))
    return {write_nodes(others): others for others in found}


def each_left_out(nodes: Nodes) -> dict[Node, Nodes]:
    """Return, for each of 2 to :data:`MOST_LEFT_OUT` nodes, all the others; empty for another number of nodes."""
    if not 2 <= len(nodes) <= MOST_LEFT_OUT:
        return {}
    return {node: tuple(other for other in nodes if other != node) for node in nodes}


def can_matter(nodes: Nodes, tokens: Collection[str], shape: Shape) -> bool:
    """Return whether an intervention on these nodes alone can change all of `tokens`, or any token if none is given."""
    reached = reach(nodes, shape)
    return bool(reached) and set(tokens) <= reached


def write_nodes(nodes: Iterable[Node]) -> str:
    """Return text that :func:`harness.specs.nodes.read_nodes` reads; heads and consecutive steps are joined."""
    parts: dict[tuple[int, int, str], list[Node]] = {}
    for node in sorted(set(nodes)):
        parts.setdefault((node.layer, node.step, node.at), []).append(node)
    runs: dict[tuple[int, int, str, str], int] = {}  # (layer, last step, position's name, part) → first step
    for (layer, step, at), here in sorted(parts.items()):
        heads = "+".join(f"H{node.head}" for node in here if node.kind == "head")
        parts_of = ({"mlp": "M", "resid": "R", "embed": "E"}.get(node.kind, "") for node in here)
        for what in filter(None, [heads, *parts_of]):
            runs[layer, step, at, what] = step if at else runs.pop((layer, step - 1, at, what), step)
    return ", ".join(
        f"{'' if what == 'E' else f'L{layer}'}{what}{'' if at == EVERYWHERE else f'@{at}'}"
        if at
        else f"S{first}{f'-S{last}' if last > first else ''}L{layer}{what}"
        for (layer, last, at, what), first in runs.items()
    )
