"""The picture of a model's node map: steps across, heads and MLPs down, as in the notebook's drawings.

A cell shows the answer token that fails most when that node is ablated alone, and its failure rate. Nodes that can
reach no token are hatched. Nodes that a supported claim names are outlined. The outline is dashed if each such claim
names many nodes, or says that nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.text import percent
from harness.judging.records import Record, runs_of
from harness.reporting.drawing import STEPS, colour_class
from harness.specs.node_sets import all_nodes
from harness.tasks.positions import Nouns

if TYPE_CHECKING:
    from harness.judging.worth.coverage import NodeMap
    from harness.specs.nodes import Node

CELL, ROW, GAP, BETWEEN_LAYERS, HEADER = 40, 32, 2, 10, 34  # pixels
MATTERS = STEPS[1]  # a cell gets the colour of its token only above this rate
CLAIMS_SHOWN = 3  # largest number of claims shown for one node
FEW = 4  # a claim that names more nodes than this is only loosely about each of them


@dataclass(frozen=True)
class Step:
    """A column heading: step, token, and a note on the residual streams at this step that claims name."""

    x: int
    name: str
    token: str
    told: str  # the note; empty: no claim names a residual stream here
    loosely: bool  # as for a cell


@dataclass(frozen=True)
class Cell:
    """One node: its position in the picture, and the texts and colours shown for it."""

    node: str
    x: int
    y: int
    reaches: bool
    claimed: bool
    loosely: bool  # claimed, but only among many nodes, or as having no effect
    colour: int  # class of the failure rate (`colour_class`)
    token: str  # the token that fails most; empty: none fails
    hue: int | None  # that token's colour, in degrees; None: at most `MATTERS`
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
    tokens: tuple[tuple[str, int], ...]  # answer tokens and their hues
    width: int
    height: int
    nouns: Nouns

    @property
    def columns(self) -> int:
        """The number of cells in a row."""
        return len(self.steps)

    @property
    def claimed(self) -> int:
        """The number of nodes that supported claims name."""
        return sum(cell.claimed for cell in self.cells)

    @property
    def summary(self) -> str:
        """One line that sums up the picture."""
        live = [cell for cell in self.cells if cell.reaches]
        matter = sum(cell.colour > 1 for cell in live)
        token, prompts = self.nouns.token, self.nouns.prompts
        return (
            f"{len(live)} of {len(self.cells)} nodes reach a {token}; cut alone, {matter} of them break some {token} "
            f"on more than {percent(MATTERS)} of the {prompts}; supported claims name {self.claimed} nodes"
        )


def draw_map(found: NodeMap, records: Iterable[Record]) -> MapDrawing:
    """Return the picture of a model; the nodes that its supported claims name are outlined."""
    task, claimed = found.shape.task, _claims_by_node(found.fixture, records)
    hues = {token: round(330 * i / len(task.answer_tokens)) for i, token in enumerate(task.answer_tokens)}
    columns = {position: i for i, position in enumerate(dict.fromkeys(node.position for node in found.nodes))}
    nodes = sorted(found.nodes, key=lambda node: (node.layer, node.kind, node.head, columns[node.position]))
    names = list(dict.fromkeys(_row_name(node) for node in nodes))
    tall = {name: HEADER + i * (ROW + GAP) + BETWEEN_LAYERS * int(name[1 : name.index("·")]) for i, name in
            enumerate(names)}  # fmt: skip
    across = {position: column * (CELL + GAP) for position, column in columns.items()}
    cells = tuple(
        _cell(found, node, across[node.position], tall[_row_name(node)], claimed.get(str(node), {}), hues)
        for node in nodes
    )
    tokens = task.names or ("",) * len(columns)
    steps = tuple(
        _step(found, i, position, token, claimed) for (position, i), token in zip(columns.items(), tokens, strict=True)
    )
    about = f"mean-ablated, one node at a time (reference {found.reference}), on {found.questions}"
    about += f"; engine {found.engine} on {found.device}"
    return MapDrawing(
        found.fixture, found.weights_sha256, about, steps, tuple((y, name) for name, y in tall.items()), cells,
        tuple(hues.items()), len(columns) * (CELL + GAP), max(tall.values()) + ROW + GAP, task.nouns,
    )  # fmt: skip


def _cell(found: NodeMap, node: Node, x: int, y: int, claims: dict[str, bool], hues: dict[str, int]) -> Cell:
    worst, task = found.worst(node), found.shape.task
    rate = worst.wrong / worst.asked if worst and worst.asked else 0.0
    token = worst.token if worst and rate else ""
    if node not in found.counts:
        told = f"reaches no {task.nouns.token}"
    else:
        failing = sorted((c for c in found.counts[node] if c.wrong), key=lambda count: -count.wrong)
        told = "\n".join(f"{c.token} fails {c.wrong}/{c.asked} ({percent(c.wrong / c.asked)})" for c in failing)
    named = f" ({task.names[node.step]})" if task.names else ""
    told = f"{node}{named}\n{told or f'no {task.nouns.token} fails'}{_claims(claims)}"
    loosely = bool(claims) and not any(claims.values())
    return Cell(
        str(node), x, y, node in found.counts, bool(claims), loosely, colour_class(rate), token,
        hues[token] if rate > MATTERS else None, percent(rate) if rate else "", told,
    )  # fmt: skip


def _step(found: NodeMap, column: int, position: str, token: str, claimed: dict[str, dict[str, bool]]) -> Step:
    streams_here = (node for node in all_nodes(found.shape) if node.kind == "resid" and node.position == position)
    names = list(map(str, streams_here))
    streams = {name: claimed[name] for name in names if name in claimed}
    told = "\n".join(f"{name}{_claims(claims)}" for name, claims in streams.items())
    return Step(column * (CELL + GAP), position, token, told, not any(any(c.values()) for c in streams.values()))


def _row_name(node: Node) -> str:
    return f"L{node.layer}·{'MLP' if node.kind == 'mlp' else f'H{node.head}'}"


def _claims_by_node(fixture: str, records: Iterable[Record]) -> dict[str, dict[str, bool]]:
    """Return node → claim id → whether that claim is about few nodes, for supported claims about `fixture`."""
    found: dict[str, dict[str, bool]] = {}
    for run, held in (one for record in records for one in runs_of(record)):
        if held and run["fixture"] == fixture:
            closely = len(run["named"]) <= FEW and (run["verb"] != "ablate" or bool(run["fails"]))
            for node in run["named"]:
                found.setdefault(node, {})[run["id"]] = closely
    return found


def _claims(claims: dict[str, bool]) -> str:
    """Return a line with the claims that name a node; claims about few nodes come first."""
    if not claims:
        return ""
    ids = sorted(claims, key=lambda name: not claims[name])
    more = f" and {len(ids) - CLAIMS_SHOWN} more" if len(ids) > CLAIMS_SHOWN else ""
    return f"\nnamed by {', '.join(ids[:CLAIMS_SHOWN])}{more}"
