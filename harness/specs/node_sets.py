"""Every node of a model: at its steps, at named positions, or at every position. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.specs.nodes import EVERYWHERE, SOMEWHERE, Node, Shape


def all_nodes(shape: Shape) -> Iterator[Node]:
    """Yield every node of a model: each head, the MLP and the residual stream, at each layer and step.

    Where prompts differ in length, a step means nothing: then at each position that the task names.
    """
    yield from _nodes_at([Node(step, 0, "head") for step in range(len(shape.task.names))] or named_places(shape), shape)


def whole_model(shape: Shape) -> Iterator[Node]:
    """Yield nodes that are the whole model together: at each step, or where prompts differ in length, everywhere."""
    yield from _nodes_at([Node(step, 0, "head") for step in range(len(shape.task.names))] or everywhere(shape), shape)


def nodes_with_means(shape: Shape, steps: int) -> Iterator[Node]:
    """Yield every node of a model: at each of the first `steps`, at each position that the task names, at all."""
    places = [Node(step, 0, "head") for step in range(steps)] + named_places(shape) + everywhere(shape)
    yield from _nodes_at(places, shape)
    yield from embeddings(shape)


def named_places(shape: Shape) -> list[Node]:
    """Return a node at each position that the task names."""
    return [Node(SOMEWHERE, 0, "head", at=name) for name in shape.task.positions]


def everywhere(shape: Shape) -> list[Node]:
    """Return a node at every position, where prompts differ in length; else none, for then each step has its own."""
    return [] if shape.task.names else [Node(SOMEWHERE, 0, "head", at=EVERYWHERE)]


def _nodes_at(places: Iterable[Node], shape: Shape) -> Iterator[Node]:
    for place in places:
        for layer in range(shape.n_layers):
            for head in range(shape.n_heads):
                yield Node(place.step, layer, "head", head, place.at)
            yield Node(place.step, layer, "mlp", at=place.at)
            yield Node(place.step, layer, "resid", at=place.at)


def embeddings(shape: Shape) -> list[Node]:
    """Return the embedding at each named position and at every one; none but of a model by reference."""
    places = named_places(shape) + everywhere(shape) if shape.asks else []
    return [replace(place, kind="embed") for place in places]
