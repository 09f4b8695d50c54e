"""Groups of a batch's prompts that are alike: of one length, with answers and named positions at the same steps.

Engines run one group at a time. Within a group nothing is filled up, every name stands for a step, and an intervention
is the same for all prompts; so an engine need not know that prompts differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.base.errors import MeasurementError, Problem
from harness.engines.cuts import decides
from harness.engines.interventions import Intervention
from harness.models.fixtures import Fixture
from harness.specs.nodes import EVERYWHERE, Node, Shape
from harness.tasks.batch import Batch


@dataclass(frozen=True)
class Group:
    """Prompts of a batch that are alike."""

    fixture: Fixture
    rows: Int[Tensor, " prompt"] | None  # which prompts of the batch; None: all of them
    batch: Batch  # these prompts, without filling
    asked: tuple[int, ...]  # the steps that predict the answers
    steps: Mapping[str, tuple[int, ...]]  # of each named position that is asked for

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def tokens(self) -> Int[Tensor, "prompt pos"]:
        """The tokens of the prompts."""
        return self.batch.tokens

    def nodes(self, node: Node) -> tuple[Node, ...]:
        """Return a node at the steps at which it is in these prompts; one at every position, at each that is read.

        Raises:
            MeasurementError: the prompts have no such step.
        """
        if node.at:
            steps = range(self.asked[-1] + 1) if node.everywhere else self.steps[node.at]
            return tuple(replace(node, step=step, at="") for step in steps)
        if node.step >= self.tokens.shape[1]:
            found = f"{self.fixture.task.nouns.prompts} of {self.tokens.shape[1]} tokens"
            raise MeasurementError(Problem(f"S{node.step} in each of them", found, "name the position", str(node)))
        return (node,)

    def reaches(self, node: Node) -> bool:
        """Return whether a change of `node`, at a step, can change an answer in these prompts."""
        if node.is_last(self.fixture.shape.n_layers):
            return node.step in self.asked
        return node.step <= self.asked[-1]

    def bound(self, change: Intervention) -> Intervention:
        """Return an intervention on the whole batch as one on these prompts, its nodes at steps.

        Raises:
            MeasurementError: the prompts have no such step, or two nodes are one here, and get different values.
        """
        donors = change.donors if change.donors is None or self.rows is None else change.donors[self.rows]
        if not any(node.at for node in change.values):
            for node in change.values:
                self.nodes(node)  # refuses a step that is not there
            return change if donors is change.donors else Intervention(change.values, donors)
        values: dict[Node, Tensor] = {}
        for node, rows in sorted(change.values.items()):
            there = self.nodes(node)
            for at, value in zip(there, _split(rows, len(there), self.fixture.width(node), node), strict=True):
                if at in values and not torch.equal(values[at], value):
                    expected = f"one value for {at}, which {node} is in some {self.fixture.task.nouns.prompts}"
                    raise MeasurementError(Problem(expected, "two", "name each position once"))
                values[at] = value
        return Intervention(values, donors)


def summed(node: Node, sums: Sequence[Float[Tensor, " d"]]) -> Float[Tensor, " d"]:
    """Return the sum of a node's values at its steps: of one at every position that of all, of others side by side."""
    return torch.stack(list(sums)).sum(0) if node.everywhere else torch.cat(list(sums))


def _split(rows: Float[Tensor, "row d"], n: int, width: int, node: Node) -> Sequence[Float[Tensor, "row width"]]:
    """Return the value for each of `n` positions; one value serves all of them."""
    if rows.shape[-1] == width:
        return [rows] * n
    if node.everywhere:  # longer prompts have further values, and the others are filled up
        rows = rows[..., : n * width]
    if rows.shape[-1] != n * width:
        found = f"{rows.shape[-1] // width} in the reference"
        raise MeasurementError(Problem(f"as many positions of a name everywhere, {n}", found, "name another reference"))
    return torch.split(rows, width, dim=-1)


def groups(fixture: Fixture, batch: Batch, names: Collection[str] = ()) -> Iterator[Group]:
    """Yield the groups of a batch; prompts differ also if one of the positions `names` is elsewhere.

    Raises:
        MeasurementError: there are no prompts, or they do not have one of the positions.
    """
    if not len(batch):
        raise MeasurementError(Problem(f"at least one {fixture.task.nouns.prompt}", "none", "ask some"))
    names = sorted(set(names) - {EVERYWHERE})
    if missing := [name for name in names if name not in batch.positions]:
        raise MeasurementError(Problem(f"the position {missing[0]} in each of them", "none", "name another"))
    where = [batch.positions[name] for name in names]
    key = torch.cat([batch.lengths[:, None], batch.places, *where], dim=1)
    if bool((key == key[0]).all()):
        yield _group(fixture, None, batch, key[0], names)
        return
    kinds, kind = torch.unique(key, dim=0, return_inverse=True)
    for i, one in enumerate(kinds):
        rows = (kind == i).nonzero().squeeze(1)
        yield _group(fixture, rows, batch[rows], one, names)


def _group(fixture: Fixture, rows: Tensor | None, batch: Batch, key: Tensor, names: Iterable[str]) -> Group:
    length, *rest = key.tolist()
    n_answer = batch.places.shape[1]
    asked, rest = rest[:n_answer], rest[n_answer:]
    steps = {}
    for name in names:
        size = batch.positions[name].shape[1]
        steps[name], rest = tuple(rest[:size]), rest[size:]
    trimmed = batch if batch.tokens.shape[1] == length else replace(batch, tokens=batch.tokens[:, :length])
    return Group(fixture, rows, trimmed, tuple(place - 1 for place in asked), steps)


def reaches_an_answer(nodes: Iterable[Node], batch: Batch, shape: Shape) -> bool:
    """Return whether a change of some of `nodes` can change an answer of some prompt.

    Where all prompts of the task are alike, that follows from the nodes alone, and is known when a claim is read.
    """
    asked = batch.places - 1
    for node in nodes:
        if node.everywhere or (not node.at and shape.task.answer_steps):
            return True
        at = batch.positions[node.at] if node.at else torch.full_like(asked[:, :1], node.step)
        last = node.is_last(shape.n_layers)
        if bool(((at[:, :, None] == asked[:, None, :]) if last else at <= asked[:, -1:]).any()):
            return True
    return False


def decided_answers(
    sets: Sequence[Sequence[Node]], fixture: Fixture, batch: Batch, fixed: Collection[int] = ()
) -> frozenset[str]:
    """Return the answer tokens to which, in every prompt, one of these sets of nodes is the only way.

    `fixed` are the steps at which all prompts of the task have the same token.
    """
    found = set(fixture.task.answer_tokens)
    if not fixed and not any(node.kind in ("embed", "resid") for nodes in sets for node in nodes):
        return frozenset()  # the embedding goes by
    for group in groups(fixture, batch, names_in(node for nodes in sets for node in nodes)):
        bound = [[at for node in nodes for at in group.nodes(node)] for nodes in sets]
        for token, step in zip(fixture.task.answer_tokens, group.asked, strict=True):
            if token in found and not any(decides(nodes, step, fixture.shape, fixed) for nodes in bound):
                found.remove(token)
    return frozenset(found)


def fixed_steps(batch: Batch) -> frozenset[int]:
    """Return the steps at which all prompts have the same token; none where prompts differ in length."""
    if not len(batch) or int(batch.lengths.min()) != int(batch.lengths.max()):
        return frozenset()
    same = (batch.tokens == batch.tokens[:1]).all(0)
    return frozenset(same.nonzero().squeeze(1).tolist())


def shared_steps(batch: Batch) -> int:
    """Return how many steps every prompt has."""
    return int(batch.lengths.min()) if len(batch) else 0


def names_in(nodes: Iterable[Node]) -> set[str]:
    """Return the names of the positions at which `nodes` are."""
    return {node.at for node in nodes if node.at}


def order_of(rows: Sequence[Tensor | None]) -> Int[Tensor, " prompt"] | None:
    """Return which prompt of the batch each of the groups' prompts is; None if they are in its order."""
    return None if any(part is None for part in rows) else torch.cat([part for part in rows if part is not None])


def in_order_of(parts: Sequence[Tensor], order: Int[Tensor, " prompt"] | None) -> Tensor:
    """Return the values of all groups' prompts in the order of the batch; `order` is that of :func:`order_of`.

    Rows of shorter prompts are filled up with NaN.
    """
    widest = max(part.shape[-1] for part in parts)
    if any(part.shape[-1] < widest for part in parts):  # of nodes at every position
        parts = [functional.pad(part, (0, widest - part.shape[-1]), value=torch.nan) for part in parts]
    whole = torch.cat(list(parts))
    return whole if order is None else torch.empty_like(whole).index_copy_(0, order.to(whole.device), whole)
