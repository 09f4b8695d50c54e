"""The reference engine: interventions at TransformerLens's hook points, on any model that TransformerLens can boot.

It is deliberately simple: the whole model runs for every prompt and every intervention. So other engines are
compared with this one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness.base.errors import MeasurementError, Problem
from harness.engines.groups import Group, groups, in_order_of, names_in, order_of, shared_steps, summed
from harness.engines.interventions import Intervention
from harness.engines.predictions import Outcome, batches, join, log_probs_of, outcome_of
from harness.models.fixtures import Fixture
from harness.specs.node_sets import nodes_with_means
from harness.specs.nodes import Node
from harness.tasks.batch import Batch

CHUNK = 128  # prompts per forward pass; about the fastest size on two CPU cores
Hook = Callable[[Tensor], Tensor | None]


def hook_point(node: Node) -> str:
    """Return the name of the hook point whose value contains the node's value."""
    if node.kind == "embed":
        return "hook_embed"
    return (
        f"blocks.{node.layer}." + {"head": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}[node.kind]
    )


def index_of(node: Node) -> tuple[slice, int] | tuple[slice, int, int]:
    """Return the index of the node in the value of its hook point, whose axes are (prompt, pos, …)."""
    return (slice(None), node.step, node.head) if node.kind == "head" else (slice(None), node.step)


def refusal(fixture: Fixture) -> str | None:
    """Return None: this engine runs any model that TransformerLens can boot."""
    return None


@torch.inference_mode()
def run(
    fixture: Fixture,
    batch: Batch,
    interventions: Sequence[Intervention],
    chunk: int | None = None,
    *,
    kl: bool = False,
) -> list[Outcome]:
    """Return the outcome of each intervention on all prompts; an intervention without nodes is the clean run.

    Results are on the CPU. Each forward pass has at most `chunk` prompts.

    Raises:
        MeasurementError: there are no prompts, they lack a position, or a hook did not fire exactly once.
    """
    parts: list[list[Outcome]] = [[] for _ in interventions]
    rows = []
    for group in groups(fixture, batch, names_in(node for change in interventions for node in change.values)):
        rows.append(group.rows)
        bound = [group.bound(change) for change in interventions]
        for prompts in batches(len(group), chunk or CHUNK):
            clean = log_probs_of(_answer_logits(group, prompts, {})) if kl else None
            for change, found in zip(bound, parts, strict=True):
                begun = time.perf_counter()
                outcome = _outcome(group, prompts, _replacing(change, prompts), clean)
                found.append(replace(outcome, seconds=time.perf_counter() - begun))
    order = order_of(rows)
    return [join(found, order) for found in parts]


@torch.inference_mode()
def log_probs(
    fixture: Fixture, batch: Batch, interventions: Sequence[Intervention]
) -> list[Float[Tensor, "prompt answer vocab"]]:
    """Return under each intervention the log of every token's probability as an answer, on the CPU; for a few prompts.

    Raises:
        MeasurementError: there are no prompts, they lack a position, or a hook did not fire exactly once.
    """
    parts: list[list[Tensor]] = [[] for _ in interventions]
    rows = []
    for group in groups(fixture, batch, names_in(node for change in interventions for node in change.values)):
        rows.append(group.rows)
        every = slice(0, len(group))
        for change, found in zip(interventions, parts, strict=True):
            logits = _answer_logits(group, every, _replacing(group.bound(change), every))
            found.append(log_probs_of(logits).cpu())
    order = order_of(rows)
    return [in_order_of(found, order) for found in parts]


@torch.inference_mode()
def capture(
    fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt d"]]]:
    """Return the clean outcome, and the clean values of `nodes` on every prompt, on the CPU.

    Raises:
        MeasurementError: there are no prompts, they lack a position, or a hook did not fire exactly once.
    """
    wanted = sorted(set(nodes))
    outcomes, rows = [], []
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    for group in groups(fixture, batch, names_in(wanted)):
        rows.append(group.rows)
        there = {node: group.nodes(node) for node in wanted}
        values: dict[Node, list[Tensor]] = {node: [] for nodes in there.values() for node in nodes}
        hooks = _recording(list(values), lambda node, value, values=values: values[node].append(value.cpu()))  # type: ignore[misc]
        outcomes.append(_watched(group, hooks, chunk))
        for node in wanted:
            found[node].append(torch.cat([torch.cat(values[at]) for at in there[node]], dim=-1))
    order = order_of(rows)
    return join(outcomes, order), {node: in_order_of(values, order) for node, values in found.items()}


@torch.inference_mode()
def capture_means(fixture: Fixture, batch: Batch, chunk: int | None = None) -> dict[Node, Float[Tensor, " d"]]:
    """Return the mean clean value over the prompts, for every node of the model, on the CPU.

    Sums are in float64, so that the mean does not depend on how the prompts are split into batches.

    Raises:
        MeasurementError: there are no prompts, or a hook did not fire exactly once.
    """
    every = list(nodes_with_means(fixture.shape, shared_steps(batch)))
    totals: dict[Node, Tensor] = {}
    places = 0  # of all prompts together
    for group in groups(fixture, batch, names_in(every)):
        there = {node: group.nodes(node) for node in every}
        sums: dict[Node, Tensor] = {}

        def add(node: Node, value: Tensor, sums: dict[Node, Tensor] = sums) -> None:
            total = value.double().sum(0)
            sums[node] = sums[node] + total if node in sums else total

        hooks = _recording(list(dict.fromkeys(node for nodes in there.values() for node in nodes)), add)
        for prompts in batches(len(group), chunk or CHUNK):
            _forward(fixture, group.tokens[prompts], hooks)
        for node, nodes in there.items():
            total = summed(node, [sums[at] for at in nodes])
            totals[node] = totals[node] + total if node in totals else total
        places += len(group) * (group.asked[-1] + 1)
    return {node: (total / (places if node.everywhere else len(batch))).float().cpu() for node, total in totals.items()}


@torch.inference_mode()
def attention(
    fixture: Fixture, batch: Batch, nodes: Iterable[Node], chunk: int | None = None
) -> tuple[Outcome, dict[Node, Float[Tensor, "prompt index key"]]]:
    """Return the clean outcome, and each head's attention pattern at its positions: one weight per prompt and key.

    Both are on the CPU. Where prompts differ in length, the weights of keys that are not there are 0.

    Raises:
        MeasurementError: there are no prompts, they lack a position, or a hook did not fire exactly once.
    """
    wanted = sorted(set(nodes))
    outcomes, rows = [], []
    found: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    for group in groups(fixture, batch, names_in(wanted)):
        rows.append(group.rows)
        patterns: dict[Node, list[Tensor]] = {node: [] for node in wanted}

        def recording(layer: int, group: Group = group, patterns: dict[Node, list[Tensor]] = patterns) -> Hook:
            def record(pattern: Tensor) -> None:
                for node, kept in patterns.items():
                    if node.layer == layer:
                        kept.append(pattern[:, node.head, [at.step for at in group.nodes(node)]].cpu())

            return record

        hooks = {f"blocks.{layer}.attn.hook_pattern": recording(layer) for layer in {node.layer for node in wanted}}
        outcomes.append(_watched(group, hooks, chunk))
        missing = batch.tokens.shape[1] - group.tokens.shape[1]
        for node, kept in patterns.items():
            found[node].append(functional.pad(torch.cat(kept), (0, missing)))
    order = order_of(rows)
    return join(outcomes, order), {node: in_order_of(values, order) for node, values in found.items()}


@torch.inference_mode()
def generate(fixture: Fixture, batch: Batch, chunk: int | None = None) -> Int[Tensor, "prompt answer"]:
    """Return the answers of the free-running model: each token that it predicts becomes its next input token."""
    parts, rows = [], []
    for group in groups(fixture, batch):
        rows.append(group.rows)
        for prompts in batches(len(group), chunk or CHUNK):
            context = functional.pad(group.tokens[prompts], (0, 1))  # an answer may stand just behind the end
            for step in group.asked:
                logits = _forward(fixture, context[:, : group.tokens.shape[1]], {})
                context[:, step + 1] = logits[:, step].argmax(-1).cpu()
            parts.append(context[:, [step + 1 for step in group.asked]])
    return in_order_of(parts, order_of(rows))


def _watched(group: Group, hooks: dict[str, Hook], chunk: int | None) -> Outcome:
    """Return the clean outcome on a group's prompts, while hooks that change nothing look on."""
    return join([_outcome(group, prompts, hooks) for prompts in batches(len(group), chunk or CHUNK)])


def _outcome(group: Group, prompts: slice, hooks: dict[str, Hook], clean: Tensor | None = None) -> Outcome:
    """Return the outcome on some of a group's prompts with these hooks."""
    part, device = group.batch[prompts], group.fixture.device
    wrong = None if part.wrong is None else part.wrong.to(device)
    return outcome_of(_answer_logits(group, prompts, hooks), part.right.to(device), wrong, clean)


def _answer_logits(group: Group, prompts: slice, hooks: dict[str, Hook]) -> Float[Tensor, "prompt answer vocab"]:
    """Return the logits that predict the answers."""
    logits = _forward(group.fixture, group.tokens[prompts], hooks)
    first, last = group.asked[0], group.asked[-1]
    if last - first + 1 == len(group.asked):  # answers in a row: no copy is needed
        return logits[:, first : last + 1]
    return logits[:, list(group.asked)]


def _forward(fixture: Fixture, tokens: Tensor, hooks: dict[str, Hook]) -> Float[Tensor, "prompt pos vocab"]:
    """Return the logits of a run with these hooks, one per hook point; check that each fired exactly once."""
    fired: Counter[str] = Counter()

    def counting(name: str, change: Hook) -> Callable[..., Tensor | None]:
        def call(value: Tensor, hook: object) -> Tensor | None:  # TransformerLens passes `hook` by name
            fired[name] += 1
            return change(value)

        return call

    logits: Tensor = fixture.model.run_with_hooks(
        tokens.to(fixture.device), fwd_hooks=[(name, counting(name, hook)) for name, hook in hooks.items()]
    )
    for name in hooks:
        if fired[name] != 1:
            raise MeasurementError(
                Problem(
                    f"the hook at {name} to fire once",
                    f"{fired[name]} times",
                    "check the model's hook points",
                    fixture.name,
                )
            )
    return logits


def _by_hook_point(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    grouped: dict[str, list[Node]] = {}
    for node in nodes:
        grouped.setdefault(hook_point(node), []).append(node)
    return grouped


def _replacing(change: Intervention, prompts: slice) -> dict[str, Hook]:
    def hook_for(nodes: list[Node]) -> Hook:
        def hook(value: Tensor) -> Tensor:
            changed = value.clone()
            for node in nodes:
                changed[index_of(node)] = change.at(node, prompts).to(value.device)
            return changed

        return hook

    return {name: hook_for(nodes) for name, nodes in _by_hook_point(change.nodes).items()}


def _recording(nodes: list[Node], record: Callable[[Node, Tensor], None]) -> dict[str, Hook]:
    def hook_for(nodes: list[Node]) -> Hook:
        def hook(value: Tensor) -> None:
            for node in nodes:
                record(node, value[index_of(node)])

        return hook

    return {name: hook_for(group) for name, group in _by_hook_point(nodes).items()}
