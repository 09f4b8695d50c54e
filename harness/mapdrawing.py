"""A model's node map → a picture: steps across, heads and MLPs down, as in the notebook's drawings.

A cell says which answer digit fails most when that node alone is cut, and how often. Nodes that can reach no digit are
hatched; nodes that a supported claim names are outlined, with dashes where all such claims name many at once, or say
that nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.drawing import STEPS, colour_class
from harness.records import Record, percent, runs_of

if TYPE_CHECKING:
    from harness.nodemap import NodeMap
    from harness.nodes import Node

CELL, ROW, GAP, BETWEEN_LAYERS, HEADER = 40, 32, 2, 10, 34  # pixels
MATTERS = STEPS[1]  # a rate up to this gets no digit's colour
CLAIMS_SHOWN = 3  # of those that name a node
FEW = 4  # a claim that names more nodes than these is of none of them in particular


@dataclass(frozen=True)
class Step:
    """What stands above a column: its step and token, and what is told of its residual streams if they are claimed."""

    x: int
    name: str
    token: str
    told: str
    loosely: bool


@dataclass(frozen=True)
class Cell:
    """One node: where it stands, and what is told of it."""

    node: str
    x: int
    y: int
    reaches: bool
    claimed: bool
    loosely: bool  # claimed, but only among many, or to do nothing
    colour: int  # class of the failure rate
    digit: str  # the digit that fails most; empty: none fails
    hue: int | None  # that digit's colour, degrees; None: it hardly fails
    rate: str
    told: str


@dataclass(frozen=True)
class MapDrawing:
    """The picture of one model."""

    fixture: str
    weights_sha256: str
    about: str
    steps: tuple[Step, ...]
    rows: tuple[tuple[int, str], ...]  # y, name
    cells: tuple[Cell, ...]  # row by row
    digits: tuple[tuple[str, int], ...]  # answer digits and their hues
    width: int
    height: int

    @property
    def columns(self) -> int:
        """How many cells a row has."""
        return len(self.steps)

    @property
    def claimed(self) -> int:
        """How many nodes supported claims name."""
        return sum(cell.claimed for cell in self.cells)

    @property
    def summary(self) -> str:
        """What the picture shows, in a line."""
        live = [cell for cell in self.cells if cell.reaches]
        matter = sum(cell.colour > 1 for cell in live)
        return (
            f"{len(live)} of {len(self.cells)} nodes reach a digit; cut alone, {matter} of them break some digit on "
            f"more than {percent(MATTERS)} of the questions; supported claims name {self.claimed} nodes"
        )


def draw_map(found: NodeMap, records: Iterable[Record]) -> MapDrawing:
    """Return the picture of a model, with the nodes outlined that its supported claims name."""
    layout, claimed = found.shape.layout, _claims_by_node(found.fixture, records)
    hues = {digit: round(330 * i / len(layout.answer_digits)) for i, digit in enumerate(layout.answer_digits)}
    nodes = sorted(found.nodes, key=lambda node: (node.layer, node.kind, node.head, node.step))
    names = list(dict.fromkeys(_row_name(node) for node in nodes))
    tall = {name: HEADER + i * (ROW + GAP) + BETWEEN_LAYERS * int(name[1 : name.index("·")]) for i, name in
            enumerate(names)}  # fmt: skip
    cells = tuple(
        _cell(found, node, node.step * (CELL + GAP), tall[_row_name(node)], claimed.get(str(node), {}), hues)
        for node in nodes
    )
    steps = tuple(_step(found, step, name, claimed) for step, name in enumerate(layout.names))
    about = f"mean-ablated, one node at a time (reference {found.reference}), on {found.questions}"
    about += f"; engine {found.engine} on {found.device}"
    return MapDrawing(
        found.fixture, found.weights_sha256, about, steps, tuple((y, name) for name, y in tall.items()), cells,
        tuple(hues.items()), layout.n_ctx * (CELL + GAP), max(tall.values()) + ROW + GAP,
    )  # fmt: skip


def _cell(found: NodeMap, node: Node, x: int, y: int, claims: dict[str, bool], hues: dict[str, int]) -> Cell:
    worst = found.worst(node)
    rate = worst.wrong / worst.asked if worst and worst.asked else 0.0
    digit = worst.digit if worst and rate else ""
    if node not in found.counts:
        told = "reaches no digit"
    else:
        failing = sorted((c for c in found.counts[node] if c.wrong), key=lambda count: -count.wrong)
        told = "\n".join(f"{c.digit} fails {c.wrong}/{c.asked} ({percent(c.wrong / c.asked)})" for c in failing)
    told = f"{node} ({found.shape.layout.names[node.step]})\n{told or 'no digit fails'}{_claims(claims)}"
    loosely = bool(claims) and not any(claims.values())
    return Cell(
        str(node), x, y, node in found.counts, bool(claims), loosely, colour_class(rate), digit,
        hues[digit] if rate > MATTERS else None, percent(rate) if rate else "", told,
    )  # fmt: skip


def _step(found: NodeMap, step: int, token: str, claimed: dict[str, dict[str, bool]]) -> Step:
    names = [f"S{step}L{layer}R" for layer in range(found.shape.n_layers)]
    streams = {name: claimed[name] for name in names if name in claimed}
    told = "\n".join(f"{name}{_claims(claims)}" for name, claims in streams.items())
    return Step(step * (CELL + GAP), f"S{step}", token, told, not any(any(c.values()) for c in streams.values()))


def _row_name(node: Node) -> str:
    return f"L{node.layer}·{'MLP' if node.kind == 'mlp' else f'H{node.head}'}"


def _claims_by_node(fixture: str, records: Iterable[Record]) -> dict[str, dict[str, bool]]:
    """Return each node that supported claims about `fixture` name, with their ids; true: they are of few."""
    found: dict[str, dict[str, bool]] = {}
    for run, held in (one for record in records for one in runs_of(record)):
        if held and run["fixture"] == fixture:
            closely = len(run["named"]) <= FEW and (run["verb"] != "ablate" or bool(run["fails"]))
            for node in run["named"]:
                found.setdefault(node, {})[run["id"]] = closely
    return found


def _claims(claims: dict[str, bool]) -> str:
    """Return which claims name a node, those first that are of it closely."""
    if not claims:
        return ""
    ids = sorted(claims, key=lambda name: not claims[name])
    more = f" and {len(ids) - CLAIMS_SHOWN} more" if len(ids) > CLAIMS_SHOWN else ""
    return f"\nnamed by {', '.join(ids[:CLAIMS_SHOWN])}{more}"
