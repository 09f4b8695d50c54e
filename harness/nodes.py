"""Text ↔ nodes, and what a node can reach. Imports no torch.

Grammar: ``[S8 or S0-S7][L0][H0, H0+H1, M or R]``. What is left out means all of it, a list means all at once::

    S11L0H2     one head at one step            S11L0       all heads and the MLP of layer 0 at S11
    S12L0H0+H1  two heads at one step           L0H1        head 1 of layer 0 at every step
    S0-S10L1M   the MLP of layer 1, 11 steps    S8L0R       the residual stream after layer 0 at S8
    S8          what the notebook cuts when it ablates "a step": S8L0R (models of at most two layers)

In place of the last part may stand a role, whose nodes each model has elsewhere (``roles.py``)::

    [base_add.A4]   all nodes of that role       S12L0[carry]   those of any ``carry.…`` that are at S12, layer 0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import HarnessError, did_you_mean, shorten
from harness.positions import Positions

Kind = Literal["head", "mlp", "resid"]
_INDEX = "(0|[1-9][0-9]{0,5})"
_NODES = re.compile(rf"(?:S{_INDEX}(?:-S{_INDEX})?)?(?:L{_INDEX})?((?:H{_INDEX})(?:\+H{_INDEX})*|M|R)?")
_ROLE = re.compile(rf"(?:S{_INDEX}(?:-S{_INDEX})?)?(?:L{_INDEX})?\[([^\[\]]*)\]")
_GRAMMAR = "nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1"
_SPELLING = "write a step S8 or S0-S7, a layer L0, and H0, H0+H1, M or R"


@dataclass(frozen=True)
class Shape:
    """What nodes exist: the sizes of a model and the layout of its task; and what some of them are called."""

    n_layers: int
    n_heads: int
    layout: Positions
    # Role, like "base_add.A4" → its nodes; none where they were sought in vain. No part of what a shape is: two models
    # of one shape have their roles in other nodes.
    roles: Mapping[str, tuple[Node, ...]] = field(default_factory=dict, compare=False, repr=False)


class NoSuchRoleError(HarnessError):
    """A role that is not among those of the model."""


class RoleNotFoundError(NoSuchRoleError):
    """A role that was sought in the model, and that no nodes were found to have."""


class RoleElsewhereError(NoSuchRoleError):
    """A role that the model has, but not at the steps or in the layer that are named."""


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
    if isinstance(text, str) and (role := _ROLE.fullmatch(text)):
        return _read_role(text, role, shape)
    match = _NODES.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(text, str) or not text or match is None:
        if isinstance(text, str) and text in shape.roles:
            raise HarnessError.of(_GRAMMAR, f"the role {text}", f'write "[{text}]", in quotes')
        near = text.upper().replace(" ", "") if isinstance(text, str) else ""
        fix = f"did you mean {near}?" if near != text and near and _NODES.fullmatch(near) else _SPELLING
        raise HarnessError.of(_GRAMMAR, shorten(text), fix)
    layer, part = match[3], match[4]
    steps, layers = _places(match, text, shape)

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


def _places(match: re.Match[str], text: str, shape: Shape) -> tuple[Sequence[int], Sequence[int]]:
    """Return the steps and the layers that the first three groups of a match name."""
    first, last, layer = match[1], match[2], match[3]
    steps = range(shape.layout.n_ctx)
    if first is not None:
        low, high = int(first), int(last if last is not None else first)
        if high < low:
            raise HarnessError.of("a step range that ascends", f"S{low}-S{high} in {text}", f"write S{high}-S{low}")
        _check("step", high, shape.layout.n_ctx, text)
        steps = range(low, high + 1)
    if layer is not None:
        _check("layer", int(layer), shape.n_layers, text)
    return steps, range(shape.n_layers) if layer is None else [int(layer)]


def _read_role(text: str, match: re.Match[str], shape: Shape) -> Iterable[Node]:
    """Return the nodes of a role that are at the named steps and layers.

    Raises:
        NoSuchRoleError: the model has no such role, or none is known to have it, or not there.
    """
    steps, layers = _places(match, text, shape)
    found = [role for role in shape.roles if match[4] in (role, role.partition(".")[0])]
    if not found:
        kinds = {role.partition(".")[0] for role in shape.roles}
        fix = did_you_mean(match[4], {*shape.roles, *kinds}) if kinds else "find its roles: harness locate --help"
        raise NoSuchRoleError.of("a role that the fixture's roles.yaml has", shorten(match[4]), fix)
    bound = sorted({node for role in found for node in shape.roles[role]})
    if not bound:
        raise RoleNotFoundError.of(
            f"nodes that have the role {match[4]}", "none", "claim another; its roles.yaml says why"
        )
    there = [node for node in bound if node.step in steps and node.layer in layers]
    if not there:
        elsewhere = ", ".join(map(str, bound))
        raise RoleElsewhereError.of(f"nodes of {match[4]} there", f"{elsewhere} in {text}", f"write [{match[4]}]")
    return there


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
