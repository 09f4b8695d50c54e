"""``harness locate``: finds the nodes that have each role. It searches on one sample and confirms on another.

The task names the roles to look for: which variable their nodes carry, and which answer tokens follow it. A node is a
candidate for a role if mean ablation of one node at its step and layer breaks one of the role's tokens on some prompt.
The node itself need not break a token: if two heads do the same work, neither breaks anything alone.

The search patches candidates, first single nodes and then sets, with their values on another prompt
(``harness/judging/verbs/patch.py``). A set of nodes scores the share of pairs whose whole answer comes out as the
causal model says: both the tokens that should follow and those that should stay. A set has one head, heads of one step
and layer, or one of the best smaller sets with one more node, up to :data:`MOST` nodes. Larger sets are not tried once
a set scores :data:`ENOUGH`. The best set is proposed if it scores above ``FOLLOW_RATE``. MLPs are tried only if no set
of heads does, and in smaller sets.

Each proposed set is then measured once on other pairs, with intervals that hold for all roles together. So the search
itself does not count as evidence. Neither asks the pairs that a claim asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from jaxtyping import Bool
from torch import Tensor

from harness.base.errors import HarnessError
from harness.base.intervals import ERROR, exact_interval
from harness.base.seeds import seed_for
from harness.base.text import markdown_table, percent
from harness.judging.bench import Workbench
from harness.judging.verbs.pair_counts import counted
from harness.judging.verbs.patch import interchange_of
from harness.judging.verdict import placed_at
from harness.judging.worth.coverage import map_nodes
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.roles import Evidence, RolesFile
from harness.specs.nodes import Node, reach
from harness.specs.parsing import FOLLOW_RATE, INTACT_RATE
from harness.specs.siblings import Nodes, write_nodes
from harness.specs.verbs.patch import Patch
from harness.tasks.contract import RoleQuery
from harness.tasks.questions import PairSample

ENOUGH = 0.95  # share of the search's pairs at which no larger set is tried
MOST = 3  # nodes in a set
RANKED = 2  # sets of one size that the next size extends; also the number of rivals shown
SWEEP_N = 1_000  # prompts on which each node is ablated alone, to see which tokens it breaks


@dataclass
class RoleResult:
    """The result of the search for one role."""

    sought: RoleQuery
    tried: dict[Nodes, float] = field(default_factory=dict)  # set → share of pairs with the expected answer
    nodes: Nodes = ()  # the proposed set; empty: no set is good enough
    evidence: Evidence | None = None  # from the confirmation; None: not confirmed
    why: str = ""  # the reason why no nodes were placed

    @property
    def ranked(self) -> list[tuple[Nodes, float]]:
        """The tried sets, best first; of equally good sets, the smaller first."""
        return sorted(self.tried.items(), key=lambda item: (-item[1], len(item[0]), item[0]))

    @property
    def rivals(self) -> list[tuple[Nodes, float]]:
        """The tried sets that share no node with the proposed set and are not larger, best first."""
        mine = set(self.nodes)
        return [item for item in self.ranked if not mine & set(item[0]) and len(item[0]) <= len(mine)]


def locate(ref: FixtureRef, bench: Workbench, *, n: int = 100, confirm: int = 1000, seed: int = 0) -> list[RoleResult]:
    """Return the result for each role in a fixture: searched on `n` pairs, confirmed on `confirm` pairs.

    Raises:
        FixtureError: the model cannot be loaded.
        MeasurementError: the measurement is invalid.
    """
    task = bench.fixture(ref).task
    counts = map_nodes(ref, bench, SWEEP_N).counts
    broken = {node: frozenset(token.token for token in tokens if token.wrong) for node, tokens in counts.items()}
    found = [_search(sought, ref, bench, broken, PairSample(n, seed_for("role search", seed))) for sought in task.roles]
    proposed = sum(bool(row.nodes) for row in found)
    for row in found:
        if row.nodes:
            _confirm(row, ref, bench, PairSample(confirm, seed_for("role confirmation", seed)), ERROR / proposed)
    return found


def roles_file(found: Sequence[RoleResult], weights_sha256: str) -> RolesFile:
    """Return the roles file that `harness locate` writes."""
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
    sought: RoleQuery,
    ref: FixtureRef,
    bench: Workbench,
    broken: dict[Node, frozenset[str]],
    pairs: PairSample,
) -> RoleResult:
    """Return the sets tried for a role; `nodes` is the best set, if it is good enough."""
    found, shape = RoleResult(sought), bench.fixture(ref).shape
    places = {(node.position, node.layer) for node, tokens in broken.items() if tokens & set(sought.tokens)}
    for kinds, most in ((("head",), MOST), (("head", "mlp"), MOST - 1)):
        nodes = [node for node in broken if node.kind in kinds and (node.position, node.layer) in places]
        for size in range(1, most + 1):
            sets = [chosen for chosen in _sets(nodes, size, found) if set(sought.tokens) <= reach(chosen, shape)]
            new = {write_nodes(chosen): chosen for chosen in sets if chosen not in found.tried}
            if new:
                claim = _claim(sought, next(iter(new.values())), ref, bench, pairs)
                try:
                    (answer,) = bench.answer([interchange_of(claim, new.values())])
                    measured, others = counted(claim, answer)
                except HarnessError as error:  # no pairs
                    found.why = f"{error.problems[0].expected}: {error.problems[0].found}"
                    return found
                if not len(measured.as_expected):
                    found.why = "the clean model answers none of the pairs"
                    return found
                found.tried |= {chosen: _share(right) for chosen, right in zip(new.values(), others, strict=True)}
            if found.ranked and found.ranked[0][1] >= ENOUGH:
                break
        if found.ranked and found.ranked[0][1] > FOLLOW_RATE:  # perhaps below ENOUGH, but all that a claim asks
            found.nodes = found.ranked[0][0]
            return found
    best = found.ranked[:1]
    found.why = (
        f"best {write_nodes(best[0][0])}: {best[0][1]:.0%} of the pairs come out as they should"
        if best
        else "no node that reaches them all breaks one"
    )
    return found


def _sets(nodes: Sequence[Node], size: int, found: RoleResult) -> Iterator[Nodes]:
    """Yield sets of `size` nodes: all within one step and layer, then each of the best smaller sets plus one node."""
    places: dict[tuple[str, int, str], list[Node]] = {}
    for node in nodes:
        places.setdefault((node.position, node.layer, node.kind), []).append(node)
    for here in places.values():
        yield from combinations(here, size)
    smaller = [chosen for chosen, _ in found.ranked if len(chosen) == size - 1 and set(chosen) <= set(nodes)]
    for base in smaller[:RANKED]:
        yield from (tuple(sorted((*base, node))) for node in nodes if node not in base)


def _confirm(row: RoleResult, ref: FixtureRef, bench: Workbench, pairs: PairSample, error: float) -> None:
    """Measure the proposed set once, on other pairs, and store the evidence or the reason for rejecting it."""
    claim = _claim(row.sought, row.nodes, ref, bench, pairs, error)
    with placed_at(claim):
        (answer,) = bench.answer([interchange_of(claim)])
    measured, _ = counted(claim, answer)
    right = measured.as_expected.all(1)
    follow, (low, high) = _share(measured.as_expected), exact_interval(int(right.sum()), len(right), 1 - error)
    if low <= FOLLOW_RATE:
        row.why = f"best {write_nodes(row.nodes)}: {follow:.0%} of other pairs ({low:.0%} to {high:.0%})"
        return
    row.evidence = Evidence(
        variable=str(row.sought.variable), tokens=list(row.sought.tokens), pairs=len(right), follow=follow, low=low,
        high=high, agreeing_change=1 - float(measured.unchanged.double().mean()),
        searched_follow=row.tried[row.nodes], next=_as_written(row.rivals[0][0]) if row.rivals else None,
        next_follow=row.rivals[0][1] if row.rivals else None,
    )  # fmt: skip


def _share(as_expected: Bool[Tensor, "pair answer"]) -> float:
    """Return the share of pairs whose whole answer is as the causal model says."""
    return float(as_expected.all(1).double().mean())


def _as_written(nodes: Nodes) -> str | list[str]:
    parts = write_nodes(nodes).split(", ")
    return parts[0] if len(parts) == 1 else parts


def _claim(
    sought: RoleQuery,
    nodes: Nodes,
    ref: FixtureRef,
    bench: Workbench,
    pairs: PairSample,
    error: float = ERROR,
) -> Patch:
    """Return the patch claim that `nodes` have the role."""
    return Patch(
        id=sought.name, claim=f"{write_nodes(nodes)} is {sought.name}", source="", fixture=ref.name, questions=pairs,
        gate=0.0, xfail=None, tags=(), shape=bench.fixture(ref).shape, fixtures=ref.root, path="", line=0,
        index=0, key="", error=error, node_text=write_nodes(nodes), nodes=nodes, variable=sought.variable,
        tokens=sought.tokens, may_change=(), follow_rate=FOLLOW_RATE, intact_rate=INTACT_RATE,
    )  # fmt: skip


def to_markdown(name: str, found: Sequence[RoleResult]) -> str:
    """Return the results as a Markdown table: nodes, evidence, runners-up in the search, and roles not placed."""
    rows = []
    for row in found:
        e, rivals = row.evidence, row.rivals[:RANKED] if row.evidence else []
        place = f"`{write_nodes(row.nodes)}`" if e else "not placed"
        seen = f"{percent(e.follow)} of {e.pairs} ({percent(e.low)} to {percent(e.high)})" if e else row.why
        after = ", ".join(f"`{write_nodes(nodes)}` {share:.0%}" for nodes, share in rivals)
        margin = f"{row.tried[row.nodes] - rivals[0][1]:.0%}" if rivals else ""
        carries = f"{row.sought.variable} to {', '.join(row.sought.tokens)}"
        rows.append((row.sought.name, place, carries, seen, after, margin))
    heads = ["role", "nodes", "carries", "pairs that come out as they should", "next in the search", "margin there"]
    placed = sum(row.evidence is not None for row in found)
    return f"# Roles of {name}\n\n{placed} of {len(rows)} placed.\n\n" + markdown_table(rows, heads)
