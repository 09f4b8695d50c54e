"""``keep``: these nodes suffice; every other node of their kind is ablated, and the claim's tokens stay right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.judging.verb import Mutant
from harness.judging.verbs.ablating import AblatingVerb
from harness.judging.worth.mutants import moves, without_each
from harness.specs.node_sets import whole_model
from harness.specs.siblings import Nodes, write_nodes
from harness.specs.verbs.keep import Keep
from harness.tasks.questions import Questions, Sample


class KeepVerb(AblatingVerb[Keep]):
    """``keep``; its siblings are the kept nodes, each ablated besides: can it be spared?"""

    keeps = True

    def control_questions(self, claim: Keep) -> Questions:
        """Return the claim's own questions: fewer could not show that a node can be spared."""
        asked = claim.questions
        return replace(asked, auto=False) if isinstance(asked, Sample) else asked

    def mutants(self, claim: Keep) -> Iterator[Mutant]:
        """Yield the claim with other nodes kept, one less or none, and with one more token that stays right."""
        kinds, tokens = {node.kind for node in claim.kept}, claim.shape.task.answer_tokens
        every = [node for node in whole_model(claim.shape) if node.kind in kinds]

        def keeping(kind: str, kept: Nodes) -> Mutant:
            cut = tuple(node for node in every if node not in kept)
            return Mutant(kind, replace(claim, kept=kept, nodes=cut, ablate=(write_nodes(kept) or "nothing",)))

        changed = (*moves(claim.kept, claim.shape), *without_each(claim.kept))
        yield from (keeping(kind, nodes) for kind, nodes in changed)
        yield keeping("keep nothing", ())
        for token in tokens if claim.expect.counts else ():
            if token not in claim.tokens:
                named = tuple(d for d in tokens if d in (*claim.tokens, token))
                expect = replace(claim.expect, may_fail=tuple(d for d in tokens if d not in named))
                yield Mutant(f"add {token}", replace(claim, tokens=named, expect=expect))


VERB = KeepVerb()
