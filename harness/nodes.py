"""Text ↔ nodes, and what a node can reach. Imports no torch.

Grammar: ``[S8 or S0-S7][L0][H0, H0+H1, M or R]``. What is left out means all of it, a list means all at once::

    S11L0H2     one head at one step            S11L0       all heads and the MLP of layer 0 at S11
    S12L0H0+H1  two heads at one step           L0H1        head 1 of layer 0 at every step
    S0-S10L1M   the MLP of layer 1, 11 steps    S8L0R       the residual stream after layer 0 at S8
    S8          what the notebook cuts when it ablates "a step": S8L0R (models of at most two layers)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import HarnessError, shorten
from harness.layout import Layout

Kind = Literal["head", "mlp", "resid"]
_INDEX = "(0|[1-9][0-9]{0,5})"
_NODES = re.compile(rf"(?:S{_INDEX}(?:-S{_INDEX})?)?(?:L{_INDEX})?((?:H{_INDEX})(?:\+H{_INDEX})*|M|R)?")
_GRAMMAR = "nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1"


@dataclass(frozen=True)
class Shape:
    """What nodes exist: the sizes of a model and the layout of its task."""

    n_layers: int
    n_heads: int
    layout: Layout


@dataclass(frozen=True, order=True)
class Node:
    """One place where a value is computed: a head's ``z``, an MLP's output or a residual stream, at one step."""

    step: int
    layer: int
    kind: Kind
    head: int = 0  # meaningless unless kind is "head"

    def __str__(self) -> str:
        part = {"head": f"H{self.head}", "mlp": "M", "resid": "R"}[self.kind]
        return f"S{self.step}L{self.layer}{part}"


def read_nodes(text: str | Sequence[str], shape: Shape) -> tuple[Node, ...]:
    """Return the nodes that `text` names, each once, in the order of computation.

    Raises:
        HarnessError: the text is no node, or names a step, layer or head that `shape` has not.
    """
    nodes: set[Node] = set()
    for item in text if isinstance(text, (list, tuple)) else [text]:
        nodes.update(_read_one(item, shape))
    if not nodes:
        raise HarnessError.of(_GRAMMAR, "an empty list", "name at least one node")
    return tuple(sorted(nodes))


def _read_one(text: object, shape: Shape) -> Iterable[Node]:
    match = _NODES.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(text, str) or not text or match is None:
        near = text.upper().replace(" ", "") if isinstance(text, str) else ""
        fix = f"did you mean {near}?" if near != text and near and _NODES.fullmatch(near) else "see the node grammar"
        raise HarnessError.of(_GRAMMAR, shorten(text), fix)
    first, last, layer, part = match[1], match[2], match[3], match[4]

    steps = range(shape.layout.n_ctx)
    if first is not None:
        low, high = int(first), int(last if last is not None else first)
        if high < low:
            raise HarnessError.of("a step range that ascends", f"S{low}-S{high} in {text}", f"write S{high}-S{low}")
        _check("step", high, shape.layout.n_ctx, text)
        steps = range(low, high + 1)
    if layer is not None:
        _check("layer", int(layer), shape.n_layers, text)
    layers = range(shape.n_layers) if layer is None else [int(layer)]

    if part is None and layer is None:  # a bare step is the notebook's "ablate a step"
        if shape.n_layers > 2:
            raise HarnessError.of(
                "a layer, in a model of more than two",
                f"the bare step {text}",
                f"write {text}L0R, or another layer",
            )
        layers, part = [0], "R"
    if part in ("M", "R"):
        kind: Kind = "mlp" if part == "M" else "resid"
        return [Node(s, lay, kind) for s in steps for lay in layers]
    if part is None:
        heads = list(range(shape.n_heads))
    else:
        heads = [int(head[1:]) for head in part.split("+")]
        _check("head", max(heads), shape.n_heads, text)
        if len(set(heads)) < len(heads):
            raise HarnessError.of("each head once", f"a head twice in {shorten(text)}", "drop one")
    found = [Node(s, lay, "head", head) for s in steps for lay in layers for head in heads]
    return found if part else found + [Node(s, lay, "mlp") for s in steps for lay in layers]


def all_nodes(shape: Shape) -> Iterator[Node]:
    """Yield every single node of a model: heads, MLP and residual stream of each layer and step."""
    for step in range(shape.layout.n_ctx):
        for layer in range(shape.n_layers):
            for head in range(shape.n_heads):
                yield Node(step, layer, "head", head)
            yield Node(step, layer, "mlp")
            yield Node(step, layer, "resid")


def _check(what: str, index: int, size: int, text: str) -> None:
    if index >= size:
        letter = what[0].upper()
        expected = f"a {what} {letter}0 to {letter}{size - 1}" if size > 1 else f"{letter}0, the only {what}"
        raise HarnessError.of(expected, f"{letter}{index} in {shorten(text)}", "name one that the model has")


def reach(nodes: Iterable[Node], shape: Shape) -> frozenset[str]:
    """Return the answer digits that changing `nodes` could change at all.

    Attention is causal, so what is changed at a step moves to the same or later steps, and in the last
    layer nothing moves between steps any more. Everything outside this set is true by construction.
    """
    layout = shape.layout
    found: set[str] = set()
    for node in nodes:
        later = layout.predicted_from(node.step)
        if node.layer < shape.n_layers - 1:
            found.update(later)
        else:
            found.update(digit for digit in later if layout.predicted_at(digit) == node.step)
    return frozenset(found)
