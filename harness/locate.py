"""``harness locate``: which nodes of a model have which role? A search on one sample, confirmed on another.

The roles that are sought, of an addition of n digits:

    base_add.Ak    carries ``Dk.base_add`` to Ak
    carry.Ak       carries ``D(k-1).tricase``, of the column below, to Ak: whether it makes a carry, or hands one on
    tricase.Dk     carries ``Dk.tricase`` up a cascade, to all of A(k+2) and the digits above

A node is a candidate for a role if mean-ablating it alone, or another node of its step and layer, breaks one of the
role's digits on some question: of two heads that do the same, neither may be missed alone. Each candidate's value, and
then that of sets, is carried over from another question (``patching.py``); the smallest set with which the whole
answer, the digits that should follow and those that should stay, comes out as the causal model says in :data:`ENOUGH`
of the pairs is proposed, or else the best: one head, heads of one step, the best few with each other one, up to
:data:`MOST` nodes. MLPs are looked at only where no heads do, and in smaller sets. What is proposed is then asked once
of other pairs, with intervals that hold for all roles together: the search itself is thus not counted as evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from jaxtyping import Bool
from tabulate import tabulate
from torch import Tensor

from harness.errors import HarnessError
from harness.hypothesis import Patch
from harness.intervals import ERROR, exact_interval
from harness.intervention_reader import FOLLOW_RATE, INTACT_RATE
from harness.nodemap import map_nodes
from harness.nodes import Node, reach
from harness.patching import measure_patch
from harness.records import percent
from harness.roles import Evidence, RolesFile
from harness.selection import PairSample
from harness.variables import Variable
from harness.variants import Nodes, write_nodes
from harness.workbench import Workbench

ENOUGH = 0.95  # of the pairs of the search, for larger sets not to be tried; confirmed, it must be above FOLLOW_RATE
MOST = 3  # nodes in a set
RANKED = 2  # sets of one size that the next size starts from; and rivals that are told
SWEEP_N = 1_000  # questions on which each node alone is cut, to see which digits it matters to


@dataclass(frozen=True)
class Sought:
    """A role, and what nodes that have it do."""

    role: str
    place: str
    variable: Variable
    digits: tuple[str, ...]

    @property
    def name(self) -> str:
        """The role's full name: ``base_add.A4``."""
        return f"{self.role}.{self.place}"


@dataclass
class Found:
    """What the search for one role came to."""

    sought: Sought
    tried: dict[Nodes, float] = field(default_factory=dict)  # set → share of the pairs that come out as they should
    nodes: Nodes = ()  # the set that is proposed; none: no set is good enough
    evidence: Evidence | None = None  # of what was confirmed
    why: str = ""  # it could not be placed

    @property
    def ranked(self) -> list[tuple[Nodes, float]]:
        """The sets that were tried, the best first; of equals the smaller."""
        return sorted(self.tried.items(), key=lambda item: (-item[1], len(item[0]), item[0]))

    @property
    def rivals(self) -> list[tuple[Nodes, float]]:
        """The sets that have none of the proposed nodes, and no more of them, the best first."""
        mine = set(self.nodes)
        return [item for item in self.ranked if not mine & set(item[0]) and len(item[0]) <= len(mine)]


def sought_roles(n_digits: int) -> Iterator[Sought]:
    """Yield the roles that are sought in a model that adds numbers of `n_digits` digits."""
    for k in range(n_digits - 1, -1, -1):
        yield Sought("base_add", f"A{k}", Variable(k, "base_add"), (f"A{k}",))
    for k in range(n_digits, 0, -1):
        yield Sought("carry", f"A{k}", Variable(k - 1, "tricase"), (f"A{k}",))
    for k in range(n_digits - 2, -1, -1):
        digits = tuple(f"A{digit}" for digit in range(n_digits, k + 1, -1))
        yield Sought("tricase", f"D{k}", Variable(k, "tricase"), digits)


def locate(
    name: str, fixtures: Path, bench: Workbench, *, n: int = 100, confirm: int = 1000, seed: int = 0
) -> list[Found]:
    """Return what was found of each role in the fixture `name`: searched on `n` pairs, confirmed on `confirm`.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: what was measured means nothing.
    """
    layout = bench.fixture(name, fixtures).layout
    if not layout.columns:
        fix = "look for its nodes with harness sweep"
        raise HarnessError.of("a model of addition, whose roles these are", f"one of {layout.title}", fix)
    counts = map_nodes(name, fixtures, bench, SWEEP_N).counts
    broken = {node: frozenset(digit.digit for digit in digits if digit.wrong) for node, digits in counts.items()}
    roles = list(sought_roles(len(layout.columns)))
    found = [_search(sought, name, fixtures, bench, broken, PairSample(n, seed)) for sought in roles]
    proposed = sum(bool(row.nodes) for row in found)
    for row in found:
        if row.nodes:
            _confirm(row, name, fixtures, bench, PairSample(confirm, seed + 1), ERROR / proposed)
    return found


def roles_file(found: Sequence[Found], weights_sha256: str) -> RolesFile:
    """Return what `harness locate` writes."""
    roles: dict[str, dict[str, str | list[str]]] = {}
    for row in found:
        if row.evidence is not None:
            roles.setdefault(row.sought.role, {})[row.sought.place] = _as_written(row.nodes)
    return RolesFile(
        version=1, weights_sha256=weights_sha256, roles=roles,
        evidence={row.sought.name: row.evidence for row in found if row.evidence is not None},
        unplaced={row.sought.name: row.why for row in found if row.evidence is None},
    )  # fmt: skip


def _search(
    sought: Sought, name: str, fixtures: Path, bench: Workbench, broken: dict[Node, frozenset[str]], pairs: PairSample
) -> Found:
    """Return the sets that were tried for a role, and the smallest that is good enough."""
    found, shape = Found(sought), bench.fixture(name, fixtures).shape
    places = {(node.step, node.layer) for node, digits in broken.items() if digits & set(sought.digits)}
    for kinds, most in ((("head",), MOST), (("head", "mlp"), MOST - 1)):
        nodes = [node for node in broken if node.kind in kinds and (node.step, node.layer) in places]
        for size in range(1, most + 1):
            sets = [chosen for chosen in _sets(nodes, size, found) if set(sought.digits) <= reach(chosen, shape)]
            new = {write_nodes(chosen): chosen for chosen in sets if chosen not in found.tried}
            if new:
                claim = _claim(sought, next(iter(new.values())), name, fixtures, bench, pairs)
                try:
                    measured, others = measure_patch(claim, bench, new)
                except HarnessError as error:  # no pairs
                    found.why = f"{error.problems[0].expected}: {error.problems[0].found}"
                    return found
                if not len(measured.as_expected):
                    found.why = "the clean model answers none of the pairs"
                    return found
                found.tried |= {chosen: _share(others[text]) for text, chosen in new.items()}
            if found.ranked and found.ranked[0][1] >= ENOUGH:
                break
        if found.ranked and found.ranked[0][1] > FOLLOW_RATE:  # not all of it, perhaps, but what a claim asks of nodes
            found.nodes = found.ranked[0][0]
            return found
    best = found.ranked[:1]
    found.why = (
        f"best {write_nodes(best[0][0])}: {best[0][1]:.0%} of the pairs come out as they should"
        if best
        else "no node that reaches them all breaks one"
    )
    return found


def _sets(nodes: Sequence[Node], size: int, found: Found) -> Iterator[Nodes]:
    """Yield the sets of this size: of one step and layer all, and the best of one fewer with each other node."""
    places: dict[tuple[int, int, str], list[Node]] = {}
    for node in nodes:
        places.setdefault((node.step, node.layer, node.kind), []).append(node)
    for here in places.values():
        yield from combinations(here, size)
    smaller = [chosen for chosen, _ in found.ranked if len(chosen) == size - 1 and set(chosen) <= set(nodes)]
    for base in smaller[:RANKED]:
        yield from (tuple(sorted((*base, node))) for node in nodes if node not in base)


def _confirm(row: Found, name: str, fixtures: Path, bench: Workbench, pairs: PairSample, error: float) -> None:
    """Ask the proposed set once, of other pairs, and keep what came out."""
    claim = _claim(row.sought, row.nodes, name, fixtures, bench, pairs, error)
    measured, _ = measure_patch(claim, bench)
    right = measured.as_expected.all(1)
    follow, (low, high) = _share(measured.as_expected), exact_interval(int(right.sum()), len(right), 1 - error)
    if low <= FOLLOW_RATE:
        row.why = f"best {write_nodes(row.nodes)}: {follow:.0%} of other pairs ({low:.0%} to {high:.0%})"
        return
    row.evidence = Evidence(
        variable=str(row.sought.variable), digits=list(row.sought.digits), pairs=len(right), follow=follow, low=low,
        high=high, agreeing_change=1 - float(measured.unchanged.double().mean()),
        searched_follow=row.tried[row.nodes], next=_as_written(row.rivals[0][0]) if row.rivals else None,
        next_follow=row.rivals[0][1] if row.rivals else None,
    )  # fmt: skip


def _share(as_expected: Bool[Tensor, "pair digit"]) -> float:
    """Return the share of the pairs whose whole answer came out as the causal model says."""
    return float(as_expected.all(1).double().mean())


def _as_written(nodes: Nodes) -> str | list[str]:
    parts = write_nodes(nodes).split(", ")
    return parts[0] if len(parts) == 1 else parts


def _claim(
    sought: Sought, nodes: Nodes, name: str, fixtures: Path, bench: Workbench, pairs: PairSample, error: float = ERROR
) -> Patch:
    """Return the claim that these nodes have the role."""
    return Patch(
        id=sought.name, claim=f"{write_nodes(nodes)} is {sought.name}", source="", fixture=name, questions=pairs,
        gate=0.0, xfail=None, tags=(), shape=bench.fixture(name, fixtures).shape, fixtures=fixtures, path="", line=0,
        index=0, key="", error=error, node_text=write_nodes(nodes), nodes=nodes, variable=sought.variable,
        digits=sought.digits, may_change=(), follow_rate=FOLLOW_RATE, intact_rate=INTACT_RATE,
    )  # fmt: skip


def to_markdown(name: str, found: Sequence[Found]) -> str:
    """Return the table of what was found, with what came next in the search, and what could not be placed."""
    rows = []
    for row in found:
        e, rivals = row.evidence, row.rivals[:RANKED] if row.evidence else []
        place = f"`{write_nodes(row.nodes)}`" if e else "not placed"
        seen = f"{percent(e.follow)} of {e.pairs} ({percent(e.low)} to {percent(e.high)})" if e else row.why
        after = ", ".join(f"`{write_nodes(nodes)}` {share:.0%}" for nodes, share in rivals)
        margin = f"{row.tried[row.nodes] - rivals[0][1]:.0%}" if rivals else ""
        carries = f"{row.sought.variable} to {', '.join(row.sought.digits)}"
        rows.append((row.sought.name, place, carries, seen, after, margin))
    heads = ["role", "nodes", "carries", "pairs that come out as they should", "next in the search", "margin there"]
    placed = sum(row.evidence is not None for row in found)
    return f"# Roles of {name}\n\n{placed} of {len(rows)} placed.\n\n" + tabulate(
        rows, heads, tablefmt="github", disable_numparse=True
    )
