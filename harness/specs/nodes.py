"""Nodes: parsed from text, written as text, and which answer tokens they can reach. Imports no torch.

Grammar: ``[S8 or S0-S7][L0 or L0-L3][H0, H0+H1, M or R]``, or the same with ``@POSITION`` behind it and no step. A part
left out means all of that part. A list means all its nodes at once::

    S11L0H2     one head at one step            S11L0       all heads and the MLP of layer 0 at S11
    S12L0H0+H1  two heads at one step           L0H1        head 1 of layer 0 at every step
    S0-S10L1M   the MLP of layer 1, 11 steps    S8L0R       the residual stream after layer 0 at S8
    S8          short for S8L0R, as the notebook ablates "a step" (models of at most two layers)
    L9H9@END    one head at a position that the task names; each prompt says where that is
    L2-L5@END   all heads and MLPs of four layers there

The last part may be a role, which each model binds to its own nodes (``harness/specs/fixtures/roles.py``)::

    [mover.A4]      all nodes of that role       S12L0[mover]   nodes of any ``mover.…`` role at S12, layer 0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean, shorten
from harness.tasks.contract import AnyTask
from harness.tasks.positions import POSITION

Kind = Literal["embed", "head", "mlp", "resid"]  # in the order of computation
_INDEX = "(?:0|[1-9][0-9]{0,5})"
_STEPS = rf"(?:S(?P<step>{_INDEX})(?:-S(?P<last_step>{_INDEX}))?)?"
_LAYERS = rf"(?:L(?P<layer>{_INDEX})(?:-L(?P<last_layer>{_INDEX}))?)?"
_PART = rf"(?P<part>H{_INDEX}(?:\+H{_INDEX})*|M|R)?"
_NODES = re.compile(_STEPS + _LAYERS + _PART)
_NAMED = re.compile(rf"{_LAYERS}{_PART}@(?P<at>{POSITION})")
_EMBEDDING = re.compile(rf"E(?:@(?P<at>{POSITION}))?")  # of language models
_ROLE = re.compile(rf"{_STEPS}{_LAYERS}\[(?P<role>[^\[\]]*)\]")
_GRAMMAR = "nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1"
_SPELLING = "write a step S8 or S0-S7, a layer L0 or L0-L1, and H0, H0+H1, M or R"


@dataclass(frozen=True)
class Shape:
    """The model sizes and the task's positions, which say which nodes exist; and the model's named roles."""

    n_layers: int
    n_heads: int
    task: AnyTask
    # Role, like "mover.A4" → its nodes; empty if the search found none. Left out of comparison: two models of
    # the same shape may have their roles at different nodes.
    roles: Mapping[str, tuple[Node, ...]] = field(default_factory=dict, compare=False, repr=False)
    asks: str = ""  # of a model by reference: the name of the prompts that it is asked


SOMEWHERE = -1
EVERYWHERE = "*"  # the name of every position; no task has a position of this name


class NoSuchRoleError(HarnessError):
    """The model has no such role."""


class RoleNotFoundError(NoSuchRoleError):
    """The role was searched for in the model, and no nodes were found for it."""


class RoleElsewhereError(NoSuchRoleError):
    """The model has the role, but not at the named steps or layer."""


@dataclass(frozen=True, order=True)
class Node:
    """One hook point at one position: a head's ``z``, an MLP's output or the residual stream after a layer."""

    step: int  # SOMEWHERE for a position that goes by a name
    layer: int
    kind: Kind
    head: int = 0  # meaningless unless kind is "head"
    at: str = ""  # the position's name

    @property
    def component(self) -> str:
        """The part of the model, wherever: ``L0H2``; ``E``, the embedding of a token."""
        part = {"embed": "", "head": f"H{self.head}", "mlp": "M", "resid": "R"}[self.kind]
        return f"L{self.layer}{part}" if part else "E"

    def is_last(self, n_layers: int) -> bool:
        """Whether nothing after it moves information between positions."""
        return self.layer == n_layers - 1 and self.kind != "embed"

    @property
    def everywhere(self) -> bool:
        """Whether it is the component at every position, in prompts that differ in length."""
        return self.at == EVERYWHERE

    @property
    def position(self) -> str:
        """The step, ``S11``, or the position's name."""
        return "every position" if self.everywhere else self.at or f"S{self.step}"

    def __str__(self) -> str:
        if self.everywhere:
            return self.component
        return f"{self.component}@{self.at}" if self.at else f"S{self.step}{self.component}"


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
    if isinstance(text, str) and (embedding := _EMBEDDING.fullmatch(text)) and shape.asks:
        return [Node(SOMEWHERE, 0, "embed", at=_known_position(embedding["at"], text, shape) or EVERYWHERE)]
    if isinstance(text, str) and (named := _NAMED.fullmatch(text)):
        return _read_named(text, named, shape)
    match = _NODES.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(text, str) or not text or match is None:
        if isinstance(text, str) and text in shape.roles:
            raise HarnessError.of(_GRAMMAR, f"the role {text}", f'write "[{text}]", in quotes')
        near = text.upper().replace(" ", "") if isinstance(text, str) else ""
        places = shape.task.positions
        grammar = f"nodes like L0H1@{places[0]} or S11L0H2" if places else _GRAMMAR
        spelling = f"{_SPELLING}; or a position after @: {', '.join(places)}" if places else _SPELLING
        fix = f"did you mean {near}?" if near != text and near and _NODES.fullmatch(near) else spelling
        raise HarnessError.of(grammar, shorten(text), fix)
    layer, part = match["layer"], match["part"]
    if match["step"] is None and not shape.task.names:  # prompts that differ in length have no steps in common
        every_layer = _range("layer", match, shape.n_layers, text)
        return _parts(part, text, [Node(SOMEWHERE, lay, "head", at=EVERYWHERE) for lay in every_layer], shape)
    steps, layers = _places(match, text, shape)

    if part is None and layer is None:  # a bare step means what the notebook calls "ablate a step"
        if shape.n_layers > 2:
            raise HarnessError.of(
                "a layer, in a model of more than two",
                f"the bare step {text}",
                f"write {text}L0R, or another layer",
            )
        layers, part = [0], "R"
    return _parts(part, text, [Node(s, lay, "head") for s in steps for lay in layers], shape)


def _read_named(text: str, match: re.Match[str], shape: Shape) -> Iterable[Node]:
    """Return the nodes at a position that goes by a name."""
    layer, part, name = match["layer"], match["part"], _known_position(match["at"], text, shape)
    if layer is None and part is None:
        raise HarnessError.of("a layer, a head, M or R before @", shorten(text), f"write L0R@{name}, or another")
    layers = _range("layer", match, shape.n_layers, text)
    return _parts(part, text, [Node(SOMEWHERE, lay, "head", at=name) for lay in layers], shape)


def _known_position(name: str | None, text: str, shape: Shape) -> str:
    """Return the position's name, or an empty text where none is named; refuse one that the task does not name."""
    known = shape.task.positions
    if name is None or name in known:
        return name or ""
    if not known:
        fix = "name a step" if shape.task.names else "give the task `positions`"
        raise HarnessError.of("a step, for the task names no positions", shorten(text), fix)
    raise HarnessError.of(f"a position {', '.join(known)}", shorten(name), did_you_mean(name, known))


def _parts(part: str | None, text: str, places: Sequence[Node], shape: Shape) -> list[Node]:
    """Return the nodes of one part, or of every head and the MLP if `part` is None, at each of `places`."""
    if part in ("M", "R"):
        kind: Kind = "mlp" if part == "M" else "resid"
        return [replace(place, kind=kind) for place in places]
    if part is None:
        heads = list(range(shape.n_heads))
    else:
        heads = [int(head[1:]) for head in part.split("+")]
        _check("head", max(heads), shape.n_heads, text)
        if len(set(heads)) < len(heads):
            raise HarnessError.of("each head once", f"a head twice in {shorten(text)}", "drop one")
    found = [replace(place, head=head) for place in places for head in heads]
    return found if part else found + [replace(place, kind="mlp") for place in places]


def _places(match: re.Match[str], text: str, shape: Shape) -> tuple[Sequence[int], Sequence[int]]:
    """Return the steps and layers that a match names; all of them where it names none."""
    return _range("step", match, shape.task.n_ctx, text), _range("layer", match, shape.n_layers, text)


def _range(what: str, match: re.Match[str], size: int, text: str) -> range:
    """Return the steps, or the layers, from the first to the last that a match names; all of them if it names none."""
    first, last = match[what], match[f"last_{what}"]
    if first is None:
        return range(size)
    low, high, letter = int(first), int(last or first), what[0].upper()
    if high < low:
        found, fix = f"{letter}{low}-{letter}{high} in {text}", f"write {letter}{high}-{letter}{low}"
        raise HarnessError.of(f"a {what} range that ascends", found, fix)
    _check(what, high, size, text)
    return range(low, high + 1)


def _read_role(text: str, match: re.Match[str], shape: Shape) -> Iterable[Node]:
    """Return the nodes of a role at the named steps and layers.

    Raises:
        NoSuchRoleError: the model has no such role, or no nodes were found for it, or none at these places.
    """
    steps, layers = _places(match, text, shape)
    found = [role for role in shape.roles if match["role"] in (role, role.partition(".")[0])]
    if not found:
        kinds = {role.partition(".")[0] for role in shape.roles}
        fix = did_you_mean(match["role"], {*shape.roles, *kinds}) if kinds else "find its roles: harness locate --help"
        raise NoSuchRoleError.of("a role that the fixture's roles.yaml has", shorten(match["role"]), fix)
    bound = sorted({node for role in found for node in shape.roles[role]})
    if not bound:
        raise RoleNotFoundError.of(
            f"nodes that have the role {match['role']}", "none", "claim another; its roles.yaml says why"
        )
    there = [node for node in bound if (match["step"] is None or node.step in steps) and node.layer in layers]
    if not there:
        elsewhere = ", ".join(map(str, bound))
        role = match["role"]
        raise RoleElsewhereError.of(f"nodes of {role} there", f"{elsewhere} in {text}", f"write [{role}]")
    return there


def roles_in(text: str, shape: Shape) -> tuple[str, ...]:
    """Return the roles that valid nodes name: of ``S12L0[mover]`` each ``mover.…`` that has nodes there."""
    match = _ROLE.fullmatch(text)
    if match is None:
        return ()
    there = set(_read_role(text, match, shape))
    named = (role for role in shape.roles if match["role"] in (role, role.partition(".")[0]))
    return tuple(role for role in named if there & set(shape.roles[role]))


def _check(what: str, index: int, size: int, text: str) -> None:
    if index >= size:
        letter = what[0].upper()
        expected = f"a {what} {letter}0 to {letter}{size - 1}" if size > 1 else f"{letter}0, the only {what}"
        raise HarnessError.of(expected, f"{letter}{index} in {shorten(text)}", "name one that the model has")


def reach(nodes: Iterable[Node], shape: Shape) -> frozenset[str]:
    """Return the answer tokens that an intervention on `nodes` could change at all.

    Attention is causal, so a change at a step affects only this step and later ones. After the last layer's attention
    no information moves between steps. That any other token stays unchanged is true by construction. Where a position
    or an answer is elsewhere in each prompt, any token may be reached.
    """
    task = shape.task
    found: set[str] = set()
    for node in nodes:
        if node.at:
            return frozenset(task.answer_tokens)
        later = task.predicted_from(node.step)
        if node.is_last(shape.n_layers):
            found.update(token for token in later if task.predicted_at(token) in (None, node.step))
        else:
            found.update(later)
    return frozenset(found)
