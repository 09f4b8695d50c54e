"""Cuts: whether nodes are the only way from the prompt to an answer. Imports no torch.

If they are, the answer changes with them in any model: the residual stream after the last layer, at the step that
predicts the answer, carries everything. A claim that finds no more than that says nothing of the model.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from harness.specs.nodes import Node, Shape


def decides(nodes: Collection[Node], step: int, shape: Shape, fixed: Collection[int] = ()) -> bool:
    """Return whether what is predicted at `step` depends on the prompt through `nodes`, all at steps, alone.

    `fixed` are the steps at which all prompts of the task have the same token, as an equals sign.
    """
    there = {(node.step, node.layer, node.kind, node.head if node.kind == "head" else 0) for node in nodes}

    @cache
    def stream(step: int, layer: int) -> bool:
        """Return whether the residual stream after `layer` depends on the prompt through the nodes alone."""
        if layer < 0:  # the embedding of the prompt's own token
            return step in fixed or (step, 0, "embed", 0) in there
        if (step, layer, "resid", 0) in there:
            return True
        if not stream(step, layer - 1):  # what the layer adds does not take it away
            return False
        seen = all(stream(earlier, layer - 1) for earlier in range(step))
        # The MLP reads the stream and the heads of its step. Where these are decided, it is.
        return seen or all((step, layer, "head", head) in there for head in range(shape.n_heads))

    return stream(step, shape.n_layers - 1)
