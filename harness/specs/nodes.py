"""Nodes: parsed from text, written as text, and which answer digits they can reach. Imports no torch.

Grammar: ``[S8 or S0-S7][L0][H0, H0+H1, M or R]``. A part left out means all of that part. A list means all its nodes
at once::

    S11L0H2     one head at one step            S11L0       all heads and the MLP of layer 0 at S11
    S12L0H0+H1  two heads at one step           L0H1        head 1 of layer 0 at every step
    S0-S10L1M   the MLP of layer 1, 11 steps    S8L0R       the residual stream after layer 0 at S8
    S8          short for S8L0R, as the notebook ablates "a step" (models of at most two layers)

The last part may be a role, which each model binds to its own nodes (``harness/specs/roles.py``)::

    [base_add.A4]   all nodes of that role       S12L0[carry]   nodes of any ``carry.…`` role at S12, layer 0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean, shorten
from harness.tasks.positions import Positions

Kind = Literal["head", "mlp", "resid"]
_INDEX = "(0|[1-9][0-9]{0,5})"
_NODES = re.compile(rf"(?:S{_INDEX}(?:-S{_INDEX})?)?(?:L{_INDEX})?((?:H{_INDEX})(?:\+H{_INDEX})*|M|R)?")
_ROLE = re.compile(rf"(?:S{_INDEX}(?:-S{_INDEX})?)?(?:L{_INDEX})?\[([^\[\]]*)\]")
_GRAMMAR = "nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1"
_SPELLING = "write a step S8 or S0-S7, a layer L0, and H0, H0+H1, M or R"


@dataclass(frozen=True)
class Shape:
    """The model sizes and the token layout, which say which nodes exist; and the model's named roles."""

    n_layers: int
    n_heads: int
    layout: Positions
    # Role, like "base_add.A4" → its nodes; empty if the search found none. Left out of comparison: two models of
    # the same shape may have their roles at different nodes.
    roles: Mapping[str, tuple[Node, ...]] = field(default_factory=dict, compare=False, repr=False)


class NoSuchRoleError(HarnessError):
    """The model has no such role."""


class RoleNotFoundError(NoSuchRoleError):
    """The role was searched for in the model, and no nodes were found for it."""


class RoleElsewhereError(NoSuchRoleError):
    """The model has the role, but not at the named steps or layer."""


@dataclass(frozen=True, order=True)
class Node:
    """One hook point at one step: a head's ``z``, an MLP's output or the residual stream after a layer."""

    step: int
    layer: int
    kind: Kind
    head: int = 0  # meaningless unless kind is "head"

    def __str__(self) -> str:
        part = {"head": f"H{self.head}", "mlp": "M", "resid": "R"}[self.kind]
        return f"S{self.step}L{self.layer}{part}"


def read_nodes(text: str | Sequence[str], shape: Shape) -> tuple[Node, ...]:
    """Return the nodes that `text` names, without duplicates, sorted by step, layer, kind and head.

    Raises:
        HarnessError: the text is not a node, or names a step, layer or head that does not exist in `shape`.
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

    if part is None and layer is None:  # a bare step means what the notebook calls "ablate a step"
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
    """Return the steps and layers that the first three groups of `match` name; all of them where a group is empty."""
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
    """Return the nodes of a role at the named steps and layers.

    Raises:
        NoSuchRoleError: the model has no such role, or no nodes were found for it, or none at these places.
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
    """Yield every node of a model: each head, the MLP and the residual stream, at each layer and step."""
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
    """Return the answer digits that an intervention on `nodes` could change at all.

    Attention is causal, so a change at a step affects only this step and later ones. After the last layer's attention
    no information moves between steps. That any other digit stays unchanged is true by construction.
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
