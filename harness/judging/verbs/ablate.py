"""``ablate``: these answer tokens fail if these nodes are ablated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.judging.verb import Mutant
from harness.judging.verbs.ablating import AblatingVerb
from harness.judging.worth.mutants import moves, other_tokens, without_each
from harness.specs.nodes import Node, reach
from harness.specs.siblings import Nodes, write_nodes
from harness.specs.verbs.ablating import Hypothesis


class Ablate(AblatingVerb[Hypothesis]):
    """``ablate``: these answer tokens fail if these nodes are ablated."""

    def mutants(self, claim: Hypothesis) -> Iterator[Mutant]:
        """Yield the claim with other nodes, with nothing or more ablated, and with other tokens."""
        expect, task = claim.expect, claim.shape.task
        if claim.acts:
            for kind, nodes in (*moves(claim.nodes, claim.shape), *without_each(claim.nodes)):
                if set(expect.fails) <= reach(nodes, claim.shape):
                    yield Mutant(kind, replace(claim, nodes=nodes, ablate=(write_nodes(nodes),)))
            yield Mutant("no-op", replace(claim, method="itself"))
        else:
            wide = tuple(sorted({*claim.nodes, *_wider(claim)}))
            if wide != claim.nodes:
                yield Mutant("wider", replace(claim, nodes=wide, ablate=(write_nodes(wide),)))
        for kind, fails in other_tokens(expect.fails, task) if expect.counts else ():
            if set(fails) <= claim.reach:
                may = tuple(token for token in expect.may_fail if token not in fails)
                ordered = tuple(token for token in task.answer_tokens if token in fails)
                yield Mutant(kind, replace(claim, expect=replace(expect, fails=ordered, may_fail=may)))


VERB = Ablate()


def _wider(h: Hypothesis) -> Nodes:
    """Return what is ablated besides: the stream where the nodes are, or where they are streams, at the next step.

    Of streams at a named position: those at the other ones.
    """
    task = h.shape.task
    streams = [Node(node.step, node.layer, "resid", at=node.at) for node in h.nodes if node.kind != "resid"]
    of_streams = [node for node in h.nodes if node.kind == "resid"]
    following = [replace(n, step=n.step + 1) for n in of_streams if not n.at and n.step < task.n_ctx - 1]
    elsewhere = [replace(n, at=name) for n in of_streams if n.at and not n.everywhere for name in task.positions]
    return (*streams, *following, *elsewhere)
